"""Anyres: a picture as one view of the whole and a grid of tiles, and the features that they make.

All but :func:`views` needs sizes alone, (height, width). The arithmetic is that of transformers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from mmdata._tools.options import PositiveInt, checked
from mmdata.image.fast import resize
from mmdata.image.transforms import bicubic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    from mmdata.image.transforms import Pixels

    Views: TypeAlias = NDArray[np.uint8]  # (views, side, side, 3)

__all__ = [
    "PINPOINTS",
    "FeatureGrid",
    "Size",
    "best_canvas",
    "feature_grid",
    "fit",
    "max_views",
    "views",
]

Size: TypeAlias = tuple[PositiveInt, PositiveInt]

PINPOINTS: Final[tuple[Size, ...]] = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
"""The canvases that were published with this way to cut pictures."""


@checked
def best_canvas(size: Size, pinpoints: Sequence[Size] = PINPOINTS) -> Size:
    """Return the canvas that keeps most of a picture's pixels;
    among equals the least waste, then the first.
    """
    return _best_canvas(size, pinpoints)


def _best_canvas(size: Size, pinpoints: Sequence[Size]) -> Size:
    height, width = size

    def merit(canvas: Size) -> tuple[int, int]:
        ratio = min(canvas[1] / width, canvas[0] / height)
        kept = min(int(width * ratio) * int(height * ratio), width * height)
        return kept, kept - canvas[0] * canvas[1]

    return max(pinpoints, key=merit)  # the first of equals


def fit(size: Size, canvas: Size) -> Size:
    """Return the size at which a picture fills its canvas
    in one direction and keeps its aspect, rounded up.
    """
    height, width = size
    across, down = canvas[1] / width, canvas[0] / height
    if across < down:
        return min(math.ceil(height * across), canvas[0]), canvas[1]
    return canvas[0], min(math.ceil(width * down), canvas[1])


@checked
def views(
    picture: Pixels | Image,
    side: PositiveInt = 336,
    pinpoints: Sequence[Size] = PINPOINTS,
    out: Views | None = None,
    *,
    fast: bool = False,
) -> Views:
    """Return the whole picture squeezed to a square, then its tiles row by row:
    (views, side, side, 3) uint8.

    The picture stands in the middle of its canvas, in black; an odd pixel of border goes below or
    to the right. The views are the first ones of ``out``, where that is given. ``fast`` resizes by
    FFmpeg, see :mod:`mmdata.image.fast`.
    """
    import numpy as np
    from PIL import Image

    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    size = image.height, image.width
    canvas = _best_canvas(size, pinpoints)
    columns = canvas[1] // side
    count = 1 + canvas[0] // side * columns
    out = np.empty((count, side, side, 3), np.uint8) if out is None else out[:count]
    resized = resize(np.asarray(image)) if fast else partial(bicubic, image)
    out[0] = resized((side, side))
    whole = resized(fit(size, canvas))
    top, left = (canvas[0] - len(whole)) // 2, (canvas[1] - whole.shape[1]) // 2
    for number, tile in enumerate(out[1:]):
        _cut(whole, number // columns * side - top, number % columns * side - left, tile)
    return out


@checked
def max_views(side: PositiveInt = 336, pinpoints: Sequence[Size] = PINPOINTS) -> int:
    """Return how many views a picture can have: the whole, and the tiles of the largest canvas."""
    return 1 + max((height // side) * (width // side) for height, width in pinpoints)


def _cut(pixels: Pixels, y: int, x: int, tile: Pixels) -> None:
    """Write to ``tile`` what of ``pixels`` is below ``y`` and right of ``x``;
    what is beyond them is black.
    """
    height, width = tile.shape[:2]
    part = pixels[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)]
    tile[...] = 0
    tile[max(-y, 0) :, max(-x, 0) :][: part.shape[0], : part.shape[1]] = part


@dataclass(frozen=True, slots=True)
class FeatureGrid:
    """The features of a canvas and the part of them that is the picture.

    ``rows`` and ``columns`` are those of the canvas; the picture is in ``top`` to ``bottom`` and
    ``left`` to ``right`` (ends not included), which may be empty for extreme shapes.
    """

    rows: int
    columns: int
    top: int
    bottom: int
    left: int
    right: int

    @property
    def kept(self) -> Size:
        """Rows and columns of features that the picture keeps."""
        return max(self.bottom - self.top, 0), max(self.right - self.left, 0)


@checked
def feature_grid(
    size: Size,
    *,
    side: PositiveInt = 336,
    patch: PositiveInt = 14,
    pinpoints: Sequence[Size] = PINPOINTS,
) -> FeatureGrid:
    """Return the grid of a picture of ``size`` before and after unpadding,
    in features of ``patch`` pixels.

    The rounding to 7 decimals is transformers' (since 4.49); without it common sizes lose two rows
    or columns.
    """
    return _feature_grid(size, side, patch, pinpoints)


def _feature_grid(size: Size, side: int, patch: int, pinpoints: Sequence[Size]) -> FeatureGrid:
    height, width = size
    canvas = _best_canvas(size, pinpoints)
    features = side // patch
    rows, columns = canvas[0] // side * features, canvas[1] // side * features
    if width / height > columns / rows:
        margin = (rows - int(round(height * (columns / width), 7))) // 2
        return FeatureGrid(rows, columns, margin, rows - margin, 0, columns)
    margin = (columns - int(round(width * (rows / height), 7))) // 2
    return FeatureGrid(rows, columns, 0, rows, margin, columns - margin)
