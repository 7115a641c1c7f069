"""A folder of pictures as a video: LLaVA-Hound keeps its clips so,
two frames to the second, in the order of names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmdata.errors import ImageError, VideoError
from mmdata.image import decode, resizers, size_of
from mmdata.image.transforms import resize_bicubic
from mmdata.video.frames import Frames
from mmdata.video.index import Index
from mmdata.video.pixels import Size, checked_size
from mmdata.video.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata._tools.limits import Limits
    from mmdata.video.plan import Plan

__all__ = ["FOLDER_RATE", "decode_folder", "index_folder", "is_folder", "sample_folder"]

FOLDER_RATE: Final = 2.0
"""Frames a second."""

_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def is_folder(source: Source) -> bool:
    """Return whether ``source`` is the path of a folder."""
    return not isinstance(source, bytes) and os.path.isdir(source)  # noqa: PTH112 - once a sample, and cheaper


def index_folder(source: Source, limits: Limits) -> Index:
    """Return the index of a folder of pictures; its times are derived.

    Raises:
        VideoError: there is no picture in it, or the first one is none.
    """
    import numpy as np

    pictures = _pictures(source)
    try:
        height, width = size_of(pictures[0], limits=limits)
    except ImageError as error:
        raise VideoError(str(error), path=error.path, reason=error.reason) from error
    numbers = np.arange(len(pictures))
    return Index(
        times=numbers / FOLDER_RATE,
        keyframes=numbers,
        width=width,
        height=height,
        fps=FOLDER_RATE,
        duration=len(pictures) / FOLDER_RATE,
        codec="pictures",
        times_source="derived",
        stream=0,
    )


def decode_folder(source: Source, limits: Limits) -> Index:
    """Return the index of a folder all of whose pictures can be decoded.

    Raises:
        VideoError: one of them cannot; the message names it.
    """
    found = index_folder(source, limits)
    for picture in _pictures(source):
        _decode(picture, limits)
    return found


def sample_folder(
    source: Source, wanted: Callable[[Index], Plan], size: Size, resize: str, limits: Limits
) -> Frames:
    """Return the pictures that ``wanted`` plans, as frames.

    Raises:
        VideoError: one of them cannot be decoded; the message names it.
    """
    import numpy as np

    found = index_folder(source, limits)
    planned = wanted(found)
    pictures = _pictures(source)
    scale = _scaler(size, resize, found)
    pixels = np.stack(
        [scale(_decode(pictures[number], limits)) for number in planned.numbers.tolist()]
    )
    return Frames(pixels, planned.times, planned.numbers, "derived")


def _decode(picture: Path, limits: Limits) -> NDArray[np.uint8]:
    try:
        return decode(picture, limits=limits)
    except ImageError as error:
        raise VideoError(str(error), path=error.path, reason=error.reason) from error


def _scaler(
    size: Size, resize: str, found: Index
) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    if isinstance(size, int) and resize != "fast":
        way, side = resizers.get(resize), size
        return lambda pixels: way(pixels, side)
    height, width = (found.height, found.width) if size is None else checked_size(size)
    return lambda pixels: resize_bicubic(pixels, (height, width))


def _pictures(source: Source) -> list[Path]:
    folder = Path(os.fsdecode(source))
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not pictures:
        raise VideoError(f"{folder}: no picture is in this folder", path=str(folder))
    return pictures
