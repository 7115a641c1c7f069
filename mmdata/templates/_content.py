"""The content of a message as the pieces that families have in common:
strings, control tokens, media.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import TypeAlias

from mmdata.errors import TokenError
from mmdata.schema import (
    Audio,
    Conversation,
    Image,
    Message,
    Part,
    Reasoning,
    Region,
    Text,
    Time,
    ToolCall,
    Video,
)
from mmdata.templates._times import time_text

__all__ = [
    "Mark",
    "Piece",
    "cut_at_stop",
    "media_of",
    "merge_texts",
    "refuse_region",
    "refuse_system",
    "render_content",
    "require_answer",
    "require_plain",
    "require_question",
]


@dataclass(frozen=True, slots=True)
class Mark:
    """A control token by its name."""

    name: str


Piece: TypeAlias = str | Mark | Image | Video


def render_content(
    content: Iterable[Part], region: Callable[[Region], Iterable[Piece]]
) -> list[Piece]:
    """Return the content in pieces; ``region`` writes phrases with boxes.
    Times are written as ``12.00s``.

    Raises:
        TokenError: there is a part that no family has a way to write yet.
    """
    found: list[Piece] = []
    for part in content:
        if isinstance(part, Text):
            found.append(part.text)
        elif isinstance(part, Time):
            found.append(time_text(part))
        elif isinstance(part, Region):
            if part.unit != "fraction":
                raise TokenError(
                    f"the boxes of {part.text!r} are in pixels; a template reads fractions of the "
                    "picture, which a conversion makes of them"
                )
            found += region(part)
        elif isinstance(part, (Image, Video)):
            found.append(part)
        else:
            raise TokenError(f"this model family has no way to say {_name_of(part)}")
    return found


def require_plain(conversation: Conversation) -> None:
    """Refuse what a family has no way to say that reads plain turns alone,
    so that nothing is dropped in silence.

    Plain are a system message, if any, and then the user's and the assistant's by turns; of parts
    all but sounds, reasoning and tool calls, each trained on as its message is. An ending that was
    rejected is no part of a sample.

    Raises:
        TokenError: with the first of what is not plain.
    """
    if fault := _not_plain(conversation):
        raise TokenError(
            f"conversation {conversation.id!r} has {fault}, "
            "which this model family has no way to say"
        )


def _not_plain(conversation: Conversation) -> str:
    """Return the first of what is not plain in a conversation, or nothing."""
    if conversation.tools is not None:
        return "tools that were declared"

    before = "assistant"  # the first is the user's
    for number, message in enumerate(conversation.messages):
        role = message.role
        if role == "tool":
            return f"a message of a tool (number {number})"
        if role == "system":
            if number:
                return f"a later system message (number {number})"
        elif role == before:
            where = f"(number {number})"
            return (
                f"two messages of the {role} in a row {where}"
                if number
                else f"an answer that comes first {where}"
            )
        else:
            before = role
        trained = role == "assistant" and message.train
        for part in message.content:
            if isinstance(part, (Audio, Reasoning, ToolCall)):
                return f"{_name_of(part)} (in message {number})"
            if part.train is not None and part.train != trained:
                return f"a part with a 'train' of its own (in message {number})"

    return ""


def _name_of(part: Part) -> str:
    """Return what a part that is not plain is called."""
    if isinstance(part, ToolCall):
        return f"a call of the tool {part.name!r}"
    return "audio" if isinstance(part, Audio) else "reasoning"


def merge_texts(sequence: Iterable[Piece]) -> list[Piece]:
    """Return the pieces with neighbouring strings made one,
    as they are tokenized, and empty ones left out.
    """
    result: list[Piece] = []
    for is_text, group in groupby(sequence, lambda piece: isinstance(piece, str)):
        if not is_text:
            result += group
        elif text := "".join(map(str, group)):
            result.append(text)
    return result


def refuse_region(region: Region) -> Iterable[Piece]:
    """Refuse a region, for families that have no way to write boxes.

    Raises:
        TokenError: always.
    """
    raise TokenError(
        f"this model family has no way to write the boxes of {region.text!r}; use a family that has"
    )


def media_of(content: Iterable[Part]) -> list[Image | Video]:
    """Return the images and videos of a message in order."""
    return [part for part in content if isinstance(part, (Image, Video))]


def require_answer(conversation: Conversation) -> Sequence[Message]:
    """Return the messages up to the last answer; a question without one teaches nothing.

    Raises:
        TokenError: there is no answer, or not all is plain, see :func:`require_plain`.
    """
    require_plain(conversation)
    messages = conversation.messages
    messages = messages[:-1] if messages[-1].role == "user" else messages
    if not messages or messages[-1].role != "assistant":
        raise TokenError(
            f"conversation {conversation.id!r} has no answer to train on; "
            "a prompt can be made of it"
        )
    return messages


def require_question(conversation: Conversation) -> Sequence[Message]:
    """Return the messages up to the last question;
    the answer to it, where there is one, is left off.

    Raises:
        TokenError: there is no question, or not all is plain, see :func:`require_plain`.
    """
    require_plain(conversation)
    messages = conversation.messages
    messages = messages[:-1] if messages[-1].role == "assistant" else messages
    if not messages or messages[-1].role != "user":
        raise TokenError(
            f"conversation {conversation.id!r} asks nothing; a prompt needs a message of the user"
        )
    return messages


def refuse_system(messages: Sequence[Message], conversation: str) -> Sequence[Message]:
    """Return the messages of a family that knows no system message.

    Raises:
        TokenError: there is one.
    """
    if messages and messages[0].role == "system":
        raise TokenError(
            f"conversation {conversation!r} has a system message, "
            "for which this model family has no place"
        )
    return messages


def cut_at_stop(ids: Sequence[int], stops: Collection[int]) -> list[int]:
    """Return the ids of an answer up to the first that ends it."""
    return [int(token) for token in takewhile(lambda token: token not in stops, ids)]
