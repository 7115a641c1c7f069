"""One conversation as text that a person reads."""

from __future__ import annotations

import json

from mmdata._tools.terminal import one_line, visible
from mmdata.schema import (
    Audio,
    Conversation,
    Image,
    Media,
    Message,
    Part,
    Reasoning,
    Region,
    Text,
    Time,
    ToolCall,
    Video,
)

__all__ = ["conversation_text"]


def conversation_text(conversation: Conversation) -> str:
    """Return a conversation as plain text:
    its id and media, then each turn with its parts spelled out.

    What would steer a terminal is shown as escapes; in the texts, newlines and tabs stay.
    """
    head = [one_line(f"{conversation.id}  ({conversation.source}, {conversation.split})")]
    media = [
        one_line(f"  [{number}] {_medium(medium)}")
        for number, medium in enumerate(conversation.media)
    ]
    turns = list(map(_turn, conversation.messages))
    rejected = (
        ["", "rejected:", *map(_turn, conversation.rejected)] if conversation.rejected else []
    )
    tools = [f"tools: {conversation.tools}"] if conversation.tools is not None else []
    judged = (
        []
        if conversation.desirable is None
        else [f"desirable: {'yes' if conversation.desirable else 'no'}"]
    )
    extra = (
        [f"extra: {json.dumps(dict(conversation.extra), ensure_ascii=False)}"]
        if conversation.extra
        else []
    )
    said = [*tools, *turns, *rejected, *judged]

    return visible("\n".join([*head, *media, "", *said, *extra, "", "* a training target"]))


def _turn(turn: Message) -> str:
    return f"{turn.role}{'*' if turn.train else ''}: {''.join(map(_part, turn.content))}"


def _medium(medium: Media) -> str:
    place = medium.path or f"{len(medium.bytes or b'')} embedded bytes"
    if medium.frame_paths:
        first, last = medium.frame_paths[0], medium.frame_paths[-1]
        place = f"{first} to {last} ({len(medium.frame_paths)} pictures)"
    size = f" {medium.width}x{medium.height}" if medium.width else ""
    length = f" {medium.duration:.2f} s" if medium.duration else ""
    return f"{medium.type} {place}{size}{length}"


def _part(part: Part) -> str:
    if part.train is None:
        return _said(part)
    return f"<{'trained' if part.train else 'not trained'}: {_said(part)}>"


def _said(part: Part) -> str:
    match part:
        case Text():
            return part.text
        case Image() | Video() | Audio():
            return f"<{type(part).__name__.lower()} {part.media}>\n"
        case Region():
            boxes = " ".join("(" + ", ".join(f"{x:.3f}" for x in box) + ")" for box in part.boxes)
            return f"<{part.text} {boxes}>"
        case Time():
            return (
                f"<{part.start:.2f} s>"
                if part.end is None
                else f"<{part.start:.2f} to {part.end:.2f} s>"
            )
        case Reasoning():
            return f"<thinks: {part.text}>\n"
        case ToolCall():
            called = f" as {part.call_id}" if part.call_id else ""
            return f"<calls {part.name}{called}: {part.arguments}>\n"
