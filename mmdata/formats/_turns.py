"""Turns with placeholders and a record's media, brought together into messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from mmdata.errors import RecordError, SchemaError
from mmdata.formats._sources import add_fields, json_type
from mmdata.schema import Image, Message, Part, Role, Video

__all__ = [
    "IMAGE",
    "MAPPED_FIELDS",
    "ROLES",
    "VIDEO",
    "MediaCursor",
    "add_turn_fields",
    "insert_before_question",
    "leftover_fields",
    "require_answer",
    "require_turns",
    "role_of",
]

MAPPED_FIELDS: Final = frozenset({"id", "image", "video", "conversations"})
"""The fields of LLaVA's records that become something of a conversation; all others go to
``extra``.
"""
IMAGE: Final = "<image>"
"""The placeholder of an image in a text."""
VIDEO: Final = "<video>"
"""The placeholder of a video in a text."""

ROLES: Final[dict[str, Role]] = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
}
"""The role of each name that sources give to speakers."""


def role_of(speaker: object) -> Role:
    """Return the role that a speaker's name stands for, whatever its case.

    >>> role_of("GPT")
    'assistant'

    Raises:
        RecordError: the name is none of those the formats know.
    """
    if isinstance(speaker, str):
        if role := ROLES.get(speaker) or ROLES.get(speaker.strip().lower()):
            return role
        raise RecordError(
            f"unknown speaker {speaker!r}: must be one of {', '.join(ROLES)}", reason="unknown_role"
        )
    raise RecordError(f"a turn's speaker must be a string, found {json_type(speaker)}")


def leftover_fields(turns: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the fields of turns besides ``from`` and ``value``, by the turn's number, for those
    that have any.

    >>> answer = {"from": "gpt", "value": "So.", "score": 3}
    >>> leftover_fields([{"from": "human", "value": "Why?"}, answer])
    {'1': {'score': 3}}
    """
    # One look at the lengths settles nearly every record; the fields are asked for by name only
    # where one is longer.
    if max(map(len, turns)) <= 2:
        return {}
    return {
        str(number): {key: field for key, field in turn.items() if key not in {"from", "value"}}
        for number, turn in enumerate(turns)
        if len(turn) > 2
    }


def add_turn_fields(extra: Mapping[str, Any], leftovers: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's unmapped fields, and those of its turns under ``turns``.

    >>> add_turn_fields({"license": "MIT"}, {"1": {"score": 3}})
    {'license': 'MIT', 'turns': {'1': {'score': 3}}}
    """
    return add_fields(extra, turns=leftovers) if leftovers else {**extra}


class MediaCursor:
    """The media of one record, its images and after them its videos, handed out in order to the
    placeholders.

    A placeholder of a kind that the record has none of takes the other: LLaVA-Video writes
    ``<image>`` for a video. ``surplus`` counts the placeholders for which no medium was left.

    >>> cursor = MediaCursor(images=1, videos=1)
    >>> cursor.take("<video>"), cursor.take("<video>"), cursor.surplus, cursor.left()
    (Video(media=1, train=None), None, 1, [Image(media=0, train=None)])
    """

    __slots__ = ("_image", "_images", "_media", "_video", "surplus")

    def __init__(self, images: int, videos: int) -> None:
        self.surplus = 0  # placeholders met when no medium was left
        self._image, self._images = 0, images
        self._video, self._media = images, images + videos

    def take(self, tag: str) -> Part | None:
        """Return the part for a placeholder; None when none is left for it."""
        videos_only, images_only = self._images == 0, self._images == self._media
        if (tag == VIDEO and not images_only) or videos_only:
            if self._video < self._media:
                self._video += 1
                return Video(self._video - 1)
        elif self._image < self._images:
            self._image += 1
            return Image(self._image - 1)
        self.surplus += 1
        return None

    def take_all(self, tag: str, count: int) -> list[Part]:
        """Return the parts for ``count`` placeholders, fewer where fewer are left."""
        return [part for _ in range(count) if (part := self.take(tag))]

    def left(self) -> list[Part]:
        """Return the parts that no placeholder has taken, images first."""
        if self._image == self._images and self._video == self._media:
            return []
        images, videos = range(self._image, self._images), range(self._video, self._media)
        return [*map(Image, images), *map(Video, videos)]


def insert_before_question(messages: list[Message], parts: list[Part]) -> None:
    """Put parts before what the first user says; where none speaks, as a picture's caption has it,
    they are a user's message of their own, before the first answer; the list is changed.
    """
    for index, message in enumerate(messages):
        if message.role == "user":
            messages[index] = Message("user", (*parts, *message.content), message.train)
            return
    first = next((n for n, message in enumerate(messages) if message.role == "assistant"), 0)
    messages.insert(first, Message("user", tuple(parts), False))


def require_answer(messages: list[Message]) -> None:
    """Raise a :class:`RecordError` unless an assistant speaks."""
    if messages[-1].role != "assistant" and all(
        message.role != "assistant" for message in messages
    ):
        raise RecordError(
            "the assistant has no turn: there is no answer to learn from", reason="no_conversation"
        )


def require_turns(messages: Iterable[Message], conversation: str) -> None:
    """Raise a :class:`SchemaError` where an assistant speaks before the first question: the answer
    would have nothing that it answers. Where no user speaks at all, it is a caption or a text.
    """
    roles = [message.role for message in messages]
    if "user" not in roles or "assistant" not in roles:
        return
    if (number := roles.index("assistant")) < roles.index("user"):
        raise SchemaError(
            f"conversation {conversation!r}: message {number} should be the user's, "
            "found the assistant's",
            reason="role_order",
        )
