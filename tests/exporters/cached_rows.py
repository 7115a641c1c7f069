"""Rows with videos whose frames are cached."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mmdata.schema import Conversation, Image, Media, Part, Video, assistant, user

__all__ = ["JPEG", "cached", "row"]

JPEG: Final = b"\xff\xd8\xff"


def cached(times: Sequence[float], first: bytes = b"", **facts: Any) -> Media:
    """A video with a cached frame at each of some seconds; all of them begin with the same."""
    frames = tuple(JPEG + first + bytes([number]) for number in range(len(times)))
    return Media("video", frames=frames, frame_times=tuple(times), **facts)


def row(*media: Media, name: str = "1") -> Conversation:
    """A row that shows some media in their order."""
    places: list[Part] = [
        Image(number) if medium.type == "image" else Video(number)
        for number, medium in enumerate(media)
    ]
    return Conversation(name, (user(*places, "And?"), assistant("So.")), media)
