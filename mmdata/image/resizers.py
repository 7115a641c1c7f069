"""Ways to bring a picture or a frame to the square that a model sees, by name and open to others.

Each is a function from (height, width, 3) uint8 pixels and a side to (side, side, 3) uint8;
normalisation comes after. A template names the one that its model wants. Another package adds its
own by :func:`register`, and by an entry point of the group ``mmdata.image.resizers`` makes it known
by name to every process:

>>> import numpy as np
>>> get("squeeze")(np.zeros((20, 40, 3), np.uint8), 8).shape
(8, 8, 3)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from mmdata._tools.options import PositiveInt, check_fields, checked
from mmdata._tools.registry import Registry
from mmdata.errors import UsageError
from mmdata.image.torchlike import resize_like_torch
from mmdata.image.transforms import (
    center_crop,
    pad_to_square,
    resize_bicubic,
    resize_bilinear_without_antialias,
    shorter_side_to,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.image.transforms import Pixels

__all__ = [
    "Resizer",
    "Shows",
    "crop",
    "crop_bilinear",
    "get",
    "names",
    "pad",
    "register",
    "resize_frames",
    "squeeze",
    "squeeze_torch",
]

Side: TypeAlias = PositiveInt | tuple[PositiveInt, PositiveInt]
"""The side of a square, or height and width."""
Resize: TypeAlias = "Callable[[Pixels, Any], Pixels]"
Shows: TypeAlias = Literal["all", "center", "other"]
"""What a square shows: ``all`` of the picture, squeezed;
its ``center`` in its own aspect; or something ``other``.

FFmpeg can do the first two by itself, which is how frames are resized fast.
"""

# int(255 * CLIP's mean), so that after normalisation the border is about zero.
_MEAN_COLOR: Final = (122, 116, 104)


@dataclass(frozen=True, slots=True)
class Resizer:
    """A way to resize: ``resize`` from pixels and a side to a square,
    and what of the picture that ``shows``. With ``rectangles`` the side may be (height, width).
    """

    resize: Resize
    shows: Shows = "other"
    rectangles: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_fields(self)

    def __call__(self, pixels: Pixels, size: Side) -> Pixels:
        """Return ``pixels`` as a square of ``size`` x ``size``, (size, size, 3) uint8, or of the
        height and width that ``size`` gives.

        Raises:
            UsageError: a height and a width for a resizer of squares.
            PluginError: the resizer is another package's, and at fault.
        """
        if not isinstance(size, int) and not self.rectangles:
            raise UsageError(
                f"this way to resize makes squares: size must be one number of pixels, found {size}"
            )
        height, width = (size, size) if isinstance(size, int) else size
        with _registry.blame_plugin(self):
            square = self.resize(pixels, size)

            if square.shape != (height, width, 3) or square.dtype != "uint8":
                raise ValueError(
                    f"a resizer must return ({height}, {width}, 3) uint8, "
                    f"found {square.shape} {square.dtype}"
                )
            return square


_registry: Registry[Resizer] = Registry(__name__, "way to resize")


@checked
def register(
    name: str, *, shows: Shows = "other", rectangles: bool = False
) -> Callable[[Resize], Resize]:
    """Return a decorator that makes a function known as the resizer ``name``;
    a name taken twice is a ``ValueError``.

    An entry point names a :class:`Resizer` instead.
    """

    def record(resize: Resize) -> Resize:
        _registry.register(name)(Resizer(resize, shows, rectangles))
        return resize

    return record


def get(name: str) -> Resizer:
    """Return the resizer of a name.

    Raises:
        UnknownNameError: no such name; the message lists those there are.
    """
    return _registry.get(name)


def names() -> list[str]:
    """Return the names of all resizers, ours and others', sorted."""
    return _registry.names()


@register("squeeze", shows="all", rectangles=True)
@checked
def squeeze(pixels: Pixels, size: Side) -> Pixels:
    """Return the whole picture squeezed to a square by Pillow's bicubic, aspect not kept; or to a
    height and width.
    """
    return resize_bicubic(pixels, (size, size) if isinstance(size, int) else size)


@register("squeeze_torch", shows="all", rectangles=True)
@checked
def squeeze_torch(pixels: Pixels, size: Side) -> Pixels:
    """Return the same by torch's bicubic of bytes, see :mod:`mmdata.image.torchlike`."""
    return resize_like_torch(pixels, (size, size) if isinstance(size, int) else size)


@register("crop", shows="center")
@checked
def crop(pixels: Pixels, size: PositiveInt) -> Pixels:
    """Return the central square after the shorter side came
    to ``size`` by Pillow's bicubic, as CLIP does.
    """
    height, width = pixels.shape[:2]
    return center_crop(resize_bicubic(pixels, shorter_side_to((height, width), size)), size)


@register("pad")
@checked
def pad(pixels: Pixels, size: PositiveInt) -> Pixels:
    """Return the whole picture in its own aspect,
    squared with CLIP's mean colour and then brought to ``size``.
    """
    return crop(pad_to_square(pixels, _MEAN_COLOR), size)


@register("crop_bilinear", shows="center")
@checked
def crop_bilinear(pixels: Pixels, size: PositiveInt) -> Pixels:
    """Return :func:`resize_frames` of one picture, rounded to uint8:
    that is half a grey level off at most.
    """
    import numpy as np

    rounded: Pixels = np.rint(resize_frames(pixels[None], size)[0]).astype(np.uint8)
    return rounded


@checked
def resize_frames(frames: NDArray[np.uint8], size: PositiveInt) -> NDArray[np.float32]:
    """Return frames (frames, height, width, 3) as squares,
    (frames, size, size, 3) float32, not rounded.

    Shorter side to ``size`` (the other one floored), bilinear without antialias, then the central
    square with its offset rounded half to even: torchvision's resize of tensors. Programs that
    normalise before they resize get the same, since both are affine.
    """
    height, width = frames.shape[1:3]
    rows = math.floor(height / width * size) if width < height else size
    columns = size if width < height else math.floor(width / height * size)
    top, left = round((rows - size) / 2), round((columns - size) / 2)

    return resize_bilinear_without_antialias(
        frames, (rows, columns), (slice(top, top + size), slice(left, left + size))
    )
