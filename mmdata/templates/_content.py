"""The content of a message as the pieces that families have in common: strings, control tokens, media."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from typing import TypeAlias

from mmdata.errors import TokenError
from mmdata.schema import Conversation, Image, Message, Part, Region, Text, Time, Video
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
    "require_question",
]


@dataclass(frozen=True, slots=True)
class Mark:
    """A control token by its name."""

    name: str


Piece: TypeAlias = "str | Mark | Image | Video"


def render_content(content: Iterable[Part], region: Callable[[Region], Iterable[Piece]]) -> list[Piece]:
    """Return the content in pieces; ``region`` writes phrases with boxes. Times are written as ``12.00s``."""
    found: list[Piece] = []
    for part in content:
        if isinstance(part, Text):
            found.append(part.text)
        elif isinstance(part, Time):
            found.append(time_text(part))
        elif isinstance(part, Region):
            found += region(part)
        else:
            found.append(part)
    return found


def merge_texts(sequence: Iterable[Piece]) -> list[Piece]:
    """Return the pieces with neighbouring strings made one, as they are tokenized, and empty ones left out."""
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
    raise TokenError(f"this model family has no way to write the boxes of {region.text!r}; use a family that has")


def media_of(content: Iterable[Part]) -> list[Image | Video]:
    """Return the images and videos of a message in order."""
    return [part for part in content if isinstance(part, (Image, Video))]


def require_answer(conversation: Conversation) -> Sequence[Message]:
    """Return the messages up to the last answer; a question without one teaches nothing.

    Raises:
        TokenError: there is no answer.
    """
    messages = conversation.messages
    messages = messages[:-1] if messages[-1].role == "user" else messages
    if not messages or messages[-1].role != "assistant":
        raise TokenError(f"conversation {conversation.id!r} has no answer to train on; a prompt can be made of it")
    return messages


def require_question(conversation: Conversation) -> Sequence[Message]:
    """Return the messages up to the last question; the answer to it, where there is one, is left off.

    Raises:
        TokenError: there is no question.
    """
    messages = conversation.messages
    messages = messages[:-1] if messages[-1].role == "assistant" else messages
    if not messages or messages[-1].role != "user":
        raise TokenError(f"conversation {conversation.id!r} asks nothing; a prompt needs a message of the user")
    return messages


def refuse_system(messages: Sequence[Message], conversation: str) -> Sequence[Message]:
    """Return the messages of a family that knows no system message.

    Raises:
        TokenError: there is one.
    """
    if messages and messages[0].role == "system":
        raise TokenError(
            f"conversation {conversation!r} has a system message, for which this model family has no place"
        )
    return messages


def cut_at_stop(ids: Sequence[int], stops: Collection[int]) -> list[int]:
    """Return the ids of an answer up to the first that ends it."""
    return [int(token) for token in takewhile(lambda token: token not in stops, ids)]
