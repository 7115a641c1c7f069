"""Pictures and clips as models read them that take any size: resized within limits of pixels, and
cut into patches, several frames deep, in blocks that become one feature each.

Sizes are (height, width) in pixels; a grid is layers of frames, rows and columns of patches. The
arithmetic is that of the processors that are published with such models, rounding included.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from mmdata._tools.options import PositiveInt, check_fields, checked
from mmdata.errors import TokenError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Blocks: TypeAlias = NDArray[np.uint8]  # (blocks, merge * merge, row)

__all__ = [
    "PatchGrid",
    "Patches",
    "PixelLimits",
    "Size",
    "cut",
    "normalize_rows",
    "resize_clip",
    "resize_frame",
    "resize_picture",
    "smart_resize",
]

Size: TypeAlias = tuple[PositiveInt, PositiveInt]

_AT_A_TIME: Final = 128
"""How many patches are normalised in one go."""
_LONGEST: Final = 200
"""How many times longer than wide a picture may be."""


@dataclass(frozen=True, slots=True)
class PixelLimits:
    """The fewest and the most pixels that a picture, a frame or a clip may have."""

    fewest: PositiveInt
    most: PositiveInt

    def __post_init__(self) -> None:
        """Check the options."""
        check_fields(self)


@dataclass(frozen=True, slots=True)
class Patches:
    """How a model cuts what it sees.

    A patch is ``side`` x ``side`` pixels of ``depth`` frames; ``merge`` x ``merge`` of them become
    one feature. ``mean`` and ``std`` are those of the colours, of 0..1.
    """

    side: PositiveInt
    depth: PositiveInt
    merge: PositiveInt
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Check the options."""
        check_fields(self)

    @property
    def factor(self) -> int:
        """What height and width in pixels are whole multiples of."""
        return self.side * self.merge

    @property
    def row(self) -> int:
        """How many numbers a patch has: colours x depth x side x side."""
        return 3 * self.depth * self.side * self.side

    @property
    def view_shape(self) -> tuple[int, int]:
        """The shape of the patches that become one feature."""
        return self.merge * self.merge, self.row

    def grid(self, frames: int, size: tuple[int, int]) -> PatchGrid:
        """Return the grid of so many frames of a size, which is a multiple of ``factor``."""
        height, width = size
        return PatchGrid(self, -(-frames // self.depth), height // self.side, width // self.side)


@dataclass(frozen=True, slots=True)
class PatchGrid:
    """The patches of one medium: ``layers`` of frames, ``rows`` and ``columns``."""

    patches: Patches
    layers: int
    rows: int
    columns: int

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the frames that are cut."""
        return self.rows * self.patches.side, self.columns * self.patches.side

    @property
    def merged(self) -> tuple[int, int, int]:
        """Layers, rows and columns of features."""
        merge = self.patches.merge
        return self.layers, self.rows // merge, self.columns // merge

    @property
    def num_features(self) -> int:
        """How many features, and so positions, the medium takes."""
        return math.prod(self.merged)


@checked
def smart_resize(
    size: Size, *, factor: PositiveInt, fewest: PositiveInt, most: PositiveInt
) -> tuple[int, int]:
    """Return the size at which a model sees a picture: multiples of ``factor``, between ``fewest``
    and ``most`` pixels, the aspect kept as nearly as that allows. Halves round to even.

    Raises:
        TokenError: the picture is more than 200 times as long as wide.
    """
    height, width = size
    _check_aspect(size)
    rows, columns = round(height / factor) * factor, round(width / factor) * factor
    return _within(size, (rows, columns), rows * columns, height * width, factor, fewest, most)


def _check_aspect(size: tuple[int, int]) -> None:
    if max(size) / min(size) > _LONGEST:
        raise TokenError(
            f"a picture of {size[1]}x{size[0]} pixels is more than {_LONGEST} times as long as "
            "wide, which the model does not read"
        )


def _within(
    size: tuple[int, int],
    rounded: tuple[int, int],
    pixels: int,
    exact: int,
    factor: int,
    fewest: int,
    most: int,
) -> tuple[int, int]:
    """Return ``rounded``, or the size at which it has no more than ``most`` and no fewer than
    ``fewest`` pixels; ``pixels`` it has as rounded, ``exact`` before.
    """
    height, width = size
    if pixels > most:
        shrink = math.sqrt(exact / most)
        rows = max(factor, math.floor(height / shrink / factor) * factor)
        return rows, max(factor, math.floor(width / shrink / factor) * factor)
    if pixels < fewest:
        grow = math.sqrt(fewest / exact)
        rows = math.ceil(height * grow / factor) * factor
        return rows, math.ceil(width * grow / factor) * factor
    return rounded


@checked
def resize_clip(
    frames: PositiveInt,
    size: Size,
    *,
    factor: PositiveInt,
    depth: PositiveInt,
    fewest: PositiveInt,
    most: PositiveInt,
) -> tuple[int, int]:
    """Return the size of the frames of a clip whose limits are of all its frames together.

    A frame that is smaller than ``factor`` is brought to it first.

    Raises:
        TokenError: fewer than ``depth`` frames, or more than 200 times as long as wide.
    """
    if frames < depth:
        raise TokenError(f"a clip of {frames} frame; the model reads {depth} at least")
    height, width = size
    if min(height, width) < factor:
        scale = max(factor / height, factor / width)
        height, width = int(height * scale), int(width * scale)
    _check_aspect((height, width))
    rows, columns = round(height / factor) * factor, round(width / factor) * factor

    # The published code rounds the number of frames half to even too: 5 frames count as 4, 7 as 8.
    counted = round(frames / depth) * depth
    pixels, exact = counted * rows * columns, frames * height * width
    return _within((height, width), (rows, columns), pixels, exact, factor, fewest, most)


_PICTURE: Final = (4, 16384)
_FRAME: Final = (128, 768)
"""The fewest and the most features of a picture and of a frame in Qwen's published utilities."""
_CONTEXT: Final = 128000
_SHARE: Final = 0.9
"""How much of a context, in features, a clip may fill there."""


@checked
def resize_picture(
    size: Size,
    *,
    factor: PositiveInt,
    fewest: PositiveInt | None = None,
    most: PositiveInt | None = None,
) -> tuple[int, int]:
    """Return the size of a picture as Qwen's published utilities resize it before a processor
    does: as :func:`smart_resize`, but to ``factor`` at least before the limits are held against
    it.

    Raises:
        TokenError: the limits exclude each other, or more than 200 times as long as wide.
    """
    fewest = _PICTURE[0] * factor**2 if fewest is None else fewest
    most = _PICTURE[1] * factor**2 if most is None else most
    return _resize_by_utilities(size, factor, fewest, most)


@checked
def resize_frame(
    frames: PositiveInt,
    size: Size,
    *,
    factor: PositiveInt,
    fewest: PositiveInt | None = None,
    most: PositiveInt | None = None,
    total: PositiveInt | None = None,
) -> tuple[int, int]:
    """Return the size of the frames of a clip as Qwen's published utilities resize them; ``fewest``
    and ``most`` are of a frame, ``total`` of the clip.

    Raises:
        TokenError: as :func:`resize_picture`.
    """
    fewest = _FRAME[0] * factor**2 if fewest is None else fewest
    whole = _CONTEXT * factor**2 * _SHARE if total is None else total
    share = max(min(_FRAME[1] * factor**2, whole / frames * 2), int(fewest * 1.05))
    return _resize_by_utilities(size, factor, fewest, share if most is None else min(most, share))


def _resize_by_utilities(
    size: tuple[int, int], factor: int, fewest: int, most: float
) -> tuple[int, int]:
    if most < fewest:
        raise TokenError(f"limits of {fewest} to {most:g} pixels leave no size")
    _check_aspect(size)
    height, width = size
    rows = max(factor, round(height / factor) * factor)
    columns = max(factor, round(width / factor) * factor)
    if rows * columns > most:
        shrink = math.sqrt(height * width / most)
        rows = math.floor(height / shrink / factor) * factor
        columns = math.floor(width / shrink / factor) * factor
    elif rows * columns < fewest:
        grow = math.sqrt(fewest / (height * width))
        rows = math.ceil(height * grow / factor) * factor
        columns = math.ceil(width * grow / factor) * factor
    return rows, columns


def cut(frames: NDArray[np.uint8], grid: PatchGrid, out: Blocks | None = None) -> Blocks:
    """Return the patches of frames (frames, height, width, 3) uint8 of the size of ``grid``:
    (features, merge * merge, row) uint8, in the first of ``out`` where that is given.

    Features go by layers, then rows, then columns; their patches by row and column in the block;
    a patch by colour, frame, row and column. The last frame is repeated until the last layer is
    full, and a picture is all the frames of its layer.
    """
    import numpy as np

    patches = grid.patches
    side, depth, merge = patches.side, patches.depth, patches.merge
    layers, rows, columns = grid.merged
    blocks = (
        np.empty((grid.num_features, *patches.view_shape), np.uint8)
        if out is None
        else out[: grid.num_features]
    )

    # A line of a patch is one element, so that numpy moves it whole: a fifth of the time. Layer by
    # layer, the colours that are taken apart stay in the processor's cache.
    line = np.dtype((np.void, side))
    target = blocks.view(line).reshape(layers, rows, columns, merge, merge, 3, depth, side)
    planes = np.empty((depth, 3, *frames.shape[1:3]), np.uint8)
    split = planes.view(line).reshape(depth, 3, rows, merge, side, columns, merge)
    for layer in range(layers):
        shown = frames[layer * depth : (layer + 1) * depth]
        planes[: len(shown)] = np.moveaxis(shown, 3, 1)
        planes[len(shown) :] = planes[len(shown) - 1]
        target[layer] = split.transpose(2, 5, 3, 6, 1, 0, 4)
    return blocks


def normalize_rows(
    blocks: NDArray[np.uint8], patches: Patches, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Return blocks (..., row) uint8 as the model reads them: (patches, row) float32,
    (pixel / 255 - mean) / std; in ``out`` where that is given.
    """
    import numpy as np

    # Colours come first in a row, so that one factor and one term serve a third of it each.
    colours = blocks.reshape(-1, 3, patches.row // 3)
    mean, std = np.array(patches.mean), np.array(patches.std)
    scale = (1 / (255 * std)).astype(np.float32)[:, None]
    shift = (-mean / std).astype(np.float32)[:, None]
    rows = np.empty(colours.shape, np.float32) if out is None else out.reshape(colours.shape)

    # So many patches at a time are still in the processor's cache for the second step.
    for first in range(0, len(rows), _AT_A_TIME):
        part = rows[first : first + _AT_A_TIME]
        np.multiply(colours[first : first + _AT_A_TIME], scale, out=part, dtype=np.float32)
        part += shift
    return rows.reshape(-1, patches.row)
