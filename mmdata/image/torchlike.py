"""Bicubic resizing as torch resizes bytes with antialias, which is what processors do that resize
by torchvision: weights of 16 bits, so that now and then a pixel is a level off Pillow's.

The arithmetic is that of torch's ``upsample_bicubic2d_aa`` for uint8
(``aten/src/ATen/native/cpu/UpSampleKernel.cpp``): columns first, then rows, each rounded to bytes.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.image.transforms import Pixels

__all__ = ["resize_like_torch"]

_SHARPNESS: Final = -0.5
"""The parameter of the cubic, with antialias; without it torch takes -0.75."""
_MOST_BITS: Final = 22


def resize_like_torch(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return ``pixels`` at ``size`` (height, width), (height, width, 3) uint8."""
    height, width = size
    if pixels.shape[1] != width:
        pixels = _resize_rows(pixels.swapaxes(0, 1), width).swapaxes(0, 1)
    if pixels.shape[0] != height:
        pixels = _resize_rows(pixels, height)
    return pixels


def _resize_rows(pixels: Pixels, count: int) -> Pixels:
    """Return ``pixels`` with ``count`` rows; the first axis is that of rows."""
    import numpy as np

    taken, weights, bits = _taps(len(pixels), count)
    total = np.full((count, *pixels.shape[1:]), 1 << (bits - 1), np.int32)
    for tap in range(weights.shape[1]):
        total += weights[:, tap, None, None] * pixels[taken[:, tap]]
    return (total >> bits).clip(0, 255).astype(np.uint8)


def _taps(old: int, new: int) -> tuple[NDArray[np.int64], NDArray[np.int32], int]:
    """Return which rows each new one is made of and their whole weights, (new, taps), and how many
    bits of these are behind the point. Weights are 0 where there are fewer.
    """
    import numpy as np

    scale = old / new
    stretch = max(scale, 1.0)
    support = 2 * stretch
    taps = math.ceil(support) * 2 + 1
    centre = scale * (np.arange(new) + 0.5)
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    stop = np.minimum((centre + support + 0.5).astype(np.int64), old)

    index = first[:, None] + np.arange(taps)  # (new, taps)
    weights = _cubic((index - centre[:, None] + 0.5) / stretch)
    weights[index >= stop[:, None]] = 0
    weights /= weights.sum(1, keepdims=True)

    # As many bits as leave the largest weight below 2**15.
    bits = 0
    while bits < _MOST_BITS and int(0.5 + weights.max() * (1 << (bits + 1))) < 1 << 15:
        bits += 1
    scaled = weights * (1 << bits)
    whole = np.trunc(scaled + np.where(scaled < 0, -0.5, 0.5)).astype(np.int32)
    return index.clip(0, old - 1), whole, bits


def _cubic(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    import numpy as np

    x = np.abs(distance)
    near = ((_SHARPNESS + 2) * x - (_SHARPNESS + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * _SHARPNESS
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
