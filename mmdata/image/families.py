"""How each model family prepares a picture or a frame (image sections of the family specs).

``<family>(pixels, size)`` gives what the model reads, normalised float32 with channels first. :func:`resizer` gives the
part of it before normalisation as a function from uint8 to uint8, for those who keep frames.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from mmdata._tools.options import PositiveInt, checked
from mmdata.errors import UnknownNameError, nearest
from mmdata.image.transforms import (
    center_crop,
    normalize,
    pad_to_square,
    resize_bicubic,
    resize_bilinear_without_antialias,
    shorter_side_to,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.image.transforms import Pixels

__all__ = ["ResizeName", "Resizer", "cogvlm2_video", "llava_next", "llava_pad", "qwen_vl", "resizer", "visualglm"]

Resizer: TypeAlias = "Callable[[Pixels, int], Pixels]"
ResizeName: TypeAlias = Literal["fast", "cogvlm2_video", "llava_next_video", "llava_pad", "qwen_vl", "visualglm"]
"""How frames come to a size: by FFmpeg, or exactly as a family does it, see :func:`resizer`."""

_CLIP_MEAN_COLOR: Final = (122, 116, 104)  # int(mean * 255), with which LLaVA squares pictures


@checked
def qwen_vl(pixels: Pixels, size: PositiveInt = 448) -> NDArray[np.float32]:
    """Return (3, size, size): the whole picture squeezed to a square by Pillow's bicubic, aspect not kept."""
    return normalize(_squeezed(pixels, size))


@checked
def visualglm(pixels: Pixels, size: PositiveInt = 224) -> NDArray[np.float32]:
    """Return (3, size, size): as Qwen-VL."""
    return normalize(_squeezed(pixels, size))


@checked
def llava_next(pixels: Pixels, size: PositiveInt = 336) -> NDArray[np.float32]:
    """Return (3, size, size): CLIP's way, shorter side to ``size`` by Pillow's bicubic, then the central square.

    LLaVA-NeXT-Video prepares frames so; for pictures see :mod:`mmdata.image.anyres`.
    """
    return normalize(_cropped(pixels, size))


@checked
def llava_pad(pixels: Pixels, size: PositiveInt = 336) -> NDArray[np.float32]:
    """Return (3, size, size): LLaVA's "pad" way, squared with CLIP's mean colour before CLIP's way."""
    return normalize(_padded(pixels, size))


@checked
def cogvlm2_video(frames: NDArray[np.uint8], size: PositiveInt = 224) -> NDArray[np.float32]:
    """Return (frames, 3, size, size) of frames (frames, height, width, 3).

    Shorter side to ``size`` (the other one floored), bilinear without antialias and without rounding, then the central
    square with its offset rounded half to even. Upstream normalises first; both are affine, so the order is free.
    """
    return normalize(_cogvlm2(frames, size))


def resizer(family: str) -> Resizer:
    """Return the function from (height, width, 3) uint8 and a side to the square of uint8 that ``family`` looks at.

    It is exact for all but ``cogvlm2_video``, which itself does not round: that is half a grey level off at most.

    Raises:
        UnknownNameError: no family of that name.
    """
    if family not in _RESIZERS:
        raise UnknownNameError(
            f"no way to resize named {family!r}.{nearest(family, _RESIZERS)} There are: fast, {', '.join(_RESIZERS)}."
        )
    return _RESIZERS[family]


def _squeezed(pixels: Pixels, size: int) -> Pixels:
    return resize_bicubic(pixels, (size, size))


def _cropped(pixels: Pixels, size: int) -> Pixels:
    height, width = pixels.shape[:2]
    return center_crop(resize_bicubic(pixels, shorter_side_to((height, width), size)), size)


def _padded(pixels: Pixels, size: int) -> Pixels:
    return _cropped(pad_to_square(pixels, _CLIP_MEAN_COLOR), size)


def _cogvlm2(frames: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    height, width = frames.shape[1:3]
    rows = math.floor(height / width * size) if width < height else size
    columns = size if width < height else math.floor(width / height * size)
    top, left = round((rows - size) / 2), round((columns - size) / 2)
    return resize_bilinear_without_antialias(
        frames, (rows, columns), (slice(top, top + size), slice(left, left + size))
    )


def _cogvlm2_rounded(pixels: Pixels, size: int) -> Pixels:
    import numpy as np

    rounded: Pixels = np.rint(_cogvlm2(pixels[None], size)[0]).astype(np.uint8)
    return rounded


_RESIZERS: Final[dict[str, Resizer]] = {
    "cogvlm2_video": _cogvlm2_rounded,
    "llava_next_video": _cropped,
    "llava_pad": _padded,
    "qwen_vl": _squeezed,
    "visualglm": _squeezed,
}
