"""One conversation as text that a person reads."""

from __future__ import annotations

import json

from mmdata._tools.terminal import one_line, visible
from mmdata.schema import Conversation, Image, Media, Part, Region, Text, Time, Video

__all__ = ["conversation_text"]


def conversation_text(conversation: Conversation) -> str:
    """Return a conversation as plain text: its id and media, then each turn with its parts spelled out.

    What would steer a terminal is shown as escapes; in the texts, newlines and tabs stay.
    """
    head = [one_line(f"{conversation.id}  ({conversation.source}, {conversation.split})")]
    media = [one_line(f"  [{number}] {_medium(medium)}") for number, medium in enumerate(conversation.media)]
    turns = [
        f"{turn.role}{'*' if turn.train else ''}: {''.join(map(_part, turn.content))}" for turn in conversation.messages
    ]
    extra = [f"extra: {json.dumps(dict(conversation.extra), ensure_ascii=False)}"] if conversation.extra else []
    return visible("\n".join([*head, *media, "", *turns, *extra, "", "* a training target"]))


def _medium(medium: Media) -> str:
    place = medium.path or f"{len(medium.bytes or b'')} embedded bytes"
    size = f" {medium.width}x{medium.height}" if medium.width else ""
    length = f" {medium.duration:.2f} s" if medium.duration else ""
    return f"{medium.type} {place}{size}{length}"


def _part(part: Part) -> str:
    match part:
        case Text():
            return part.text
        case Image() | Video():
            return f"<{type(part).__name__.lower()} {part.media}>\n"
        case Region():
            boxes = " ".join("(" + ", ".join(f"{x:.3f}" for x in box) + ")" for box in part.boxes)
            return f"<{part.text} {boxes}>"
        case Time():
            return f"<{part.start:.2f} s>" if part.end is None else f"<{part.start:.2f} to {part.end:.2f} s>"
