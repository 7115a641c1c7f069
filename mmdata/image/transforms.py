"""What models want done to pictures, step by step:
small functions on (height, width, 3) uint8 RGB pixels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, TypeAlias

from mmdata._tools.options import checked

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Pixels: TypeAlias = NDArray[np.uint8]  # (height, width, 3) RGB

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "bicubic",
    "center_crop",
    "normalize",
    "pad_to_square",
    "resize_bicubic",
    "resize_bilinear_without_antialias",
    "shorter_side_to",
]

# OpenAI CLIP's statistics, which most models with its encoder or a copy of it use.
CLIP_MEAN: Final = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: Final = (0.26862954, 0.26130258, 0.27577711)


def resize_bicubic(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return ``pixels`` at ``size`` (height, width):
    Pillow's bicubic, antialiased, rounded to uint8.
    """
    from PIL.Image import fromarray

    return pixels if pixels.shape[:2] == size else bicubic(fromarray(pixels), size)


def bicubic(picture: Image, size: tuple[int, int]) -> Pixels:
    """Return the same as :func:`resize_bicubic` of a picture that is in Pillow's hands.

    A picture that loses more than twice as much height as width loses its height first, as in
    Pillow 13, which takes the order that costs less; Pillow before it took width first always, and
    the pixels differ.
    """
    import numpy as np
    from PIL.Image import Resampling

    height, width = size
    lost = picture.height - height
    if lost > 0 and lost > 2 * (picture.width - width):
        picture = picture.resize((picture.width, height), Resampling.BICUBIC)
    return np.asarray(picture.resize((width, height), Resampling.BICUBIC))


def shorter_side_to(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return (height, width) scaled so that the shorter one is ``side``
    and the longer one is cut to a whole number.
    """
    height, width = size
    if height <= width:
        return side, int(side * width / height)
    return int(side * height / width), side


def center_crop(pixels: Pixels, side: int) -> Pixels:
    """Return the central square of ``pixels``, (side, side, 3);
    what is smaller gets a black border.

    An odd margin leaves its larger half below and to the right.
    """
    import numpy as np

    height, width = pixels.shape[:2]
    if height < side or width < side:
        canvas = np.zeros((max(height, side), max(width, side), 3), np.uint8)
        top, left = math.ceil((len(canvas) - height) / 2), math.ceil((canvas.shape[1] - width) / 2)
        canvas[top : top + height, left : left + width] = pixels
        pixels, (height, width) = canvas, canvas.shape[:2]
    top, left = (height - side) // 2, (width - side) // 2
    return pixels[top : top + side, left : left + side]


def pad_to_square(pixels: Pixels, color: tuple[int, int, int]) -> Pixels:
    """Return ``pixels`` in the middle of a square of ``color``;
    an odd pixel of border goes below or to the right.
    """
    import numpy as np

    height, width = pixels.shape[:2]
    side = max(height, width)
    canvas = np.empty((side, side, 3), np.uint8)
    canvas[:] = color
    top, left = (side - height) // 2, (side - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    return canvas


@checked
def normalize(
    pixels: NDArray[np.uint8] | NDArray[np.float32],
    mean: tuple[float, float, float] = CLIP_MEAN,
    std: tuple[float, float, float] = CLIP_STD,
) -> NDArray[np.float32]:
    """Return (pixels / 255 - mean) / std with channels first:
    (..., height, width, 3) to (..., 3, height, width).
    """
    import numpy as np

    # In float64; one multiplication and one addition a sample in float32.
    scale = 1 / (255 * np.asarray(std))
    shift = -np.asarray(mean) / np.asarray(std)
    # (..., 3, height, width)
    out = np.empty((*pixels.shape[:-3], 3, *pixels.shape[-3:-1]), np.float32)
    for channel in range(3):
        np.multiply(
            pixels[..., channel],
            np.float32(scale[channel]),
            out=out[..., channel, :, :],
            dtype=np.float32,
        )
        out[..., channel, :, :] += np.float32(shift[channel])
    return out


@checked
def resize_bilinear_without_antialias(
    pixels: NDArray[np.uint8],
    size: tuple[int, int],
    window: tuple[slice, slice] = (slice(None), slice(None)),
) -> NDArray[np.float32]:
    """Return frames (frames, height, width, 3) at ``size`` (height, width) as float32, not rounded.

    Half-pixel centres and two samples an axis, as
    ``torch.nn.functional.interpolate(mode="bilinear")`` takes them without antialias. Only the
    ``window`` of rows and columns of the result is computed.
    """
    import numpy as np

    above, below, down = _taps(pixels.shape[1], size[0], window[0])
    left, right, along = _taps(pixels.shape[2], size[1], window[1])
    columns = np.concatenate([left, right])
    upper, lower = pixels[:, above][:, :, columns], pixels[:, below][:, :, columns]
    down, along = down[:, None, None], along[:, None]
    rows: NDArray[np.float32] = np.multiply(upper, 1 - down) + np.multiply(lower, down)
    west, east = rows[:, :, : len(left)], rows[:, :, len(left) :]
    return west + (east - west) * along


def _taps(
    old: int, new: int, window: slice
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The two samples that each new one lies between, and how far it is from the first."""
    import numpy as np

    centre = ((np.arange(new)[window] + 0.5) * (old / new) - 0.5).clip(0)
    first = centre.astype(np.int64)
    return first, np.minimum(first + 1, old - 1), (centre - first).astype(np.float32)
