"""What shapes a template gives to batches, learnt by having it encode a picture or a frame."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass, replace
from typing import Any, cast

from mmdata.errors import DataError
from mmdata.schema import Conversation, Image, Media, Video, assistant, user
from mmdata.templates import Encoded, Template

__all__ = ["Family", "family"]


@dataclass(frozen=True, slots=True)
class Family:
    """``axes`` of position ids before the last one; the ``size`` of a view in pixels and the ``positions`` it takes.

    Size and positions are 0 for a template that reads neither pictures nor clips.
    """

    axes: tuple[int, ...]
    size: int
    positions: int


def family(template: Template) -> Family:
    """Return what is known of a template's shapes before any sample has been read."""
    template = _unlimited(template)
    for conversation in _examples():
        try:
            encoded = template.encode(conversation)
        except DataError:
            continue
        return _seen(encoded)
    return Family((), 0, 0)


def _unlimited(template: Any) -> Template:
    limited = is_dataclass(template) and hasattr(template, "max_length")
    return cast(Template, replace(cast(Any, template), max_length=None) if limited else template)


def _seen(encoded: Encoded) -> Family:
    axes = encoded.position_ids.shape[:-1]
    if not encoded.pixels:
        return Family(axes, 0, 0)
    taken = sum(slot.length for slot in encoded.slots)
    return Family(axes, encoded.pixels[0].size, taken // max(len(encoded.pixels[0].frames), 1))


def _examples() -> Iterator[Conversation]:
    picture = Media("image", "picture", width=336, height=336)
    clip = Media("video", "clip", num_frames=1, fps=1.0, duration=1.0, width=336, height=336)
    yield Conversation("picture", (user(Image(0), "a"), assistant("a")), (picture,))
    yield Conversation("clip", (user(Video(0), "a"), assistant("a")), (clip,))
    yield Conversation("text", (user("a"), assistant("a")))
