"""Pictures small enough for a page: as data, within so many bytes."""

from __future__ import annotations

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Thumbnail", "make_thumbnail", "make_thumbnails"]

_SIDES: Final = (360, 240, 160, 120, 80, 48)
_QUALITY: Final = 70
_LONGER: Final = 4 / 3
"""By how much base64 is longer than what it spells."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """A picture as a data URL, and its size in pixels."""

    url: str
    width: int
    height: int


def make_thumbnail(picture: Image, room: int) -> Thumbnail:
    """Return ``picture`` as WebP, as large as goes into ``room`` bytes of a page, 48 pixels a side
    at least.
    """
    for side in _SIDES:
        small = picture.copy()
        small.thumbnail((side, side))
        out = io.BytesIO()
        small.save(out, "WEBP", quality=_QUALITY, method=2)
        if len(out.getvalue()) * _LONGER <= room:
            break
    url = f"data:image/webp;base64,{b64encode(out.getvalue()).decode()}"
    return Thumbnail(url, small.width, small.height)


def make_thumbnails(pictures: Sequence[Image], room: int) -> list[Thumbnail]:
    """Return ``pictures`` within ``room`` bytes together."""
    return [make_thumbnail(picture, room // len(pictures)) for picture in pictures]
