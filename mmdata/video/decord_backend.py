"""decord as the second decoder: it numbers frames as we do, or it is not used."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from mmdata._tools.requirements import load_optional
from mmdata.errors import UsageError, VideoError
from mmdata.image import resizers
from mmdata.video.frames import Frames
from mmdata.video.pixels import Size
from mmdata.video.reader import index
from mmdata.video.source import Source, name_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata._tools.limits import Limits
    from mmdata.video.index import Index
    from mmdata.video.plan import Plan

__all__ = ["sample_by_decord"]


def sample_by_decord(
    source: Source, wanted: Callable[[Index], Plan], size: Size, resize: str, limits: Limits
) -> Frames:
    """Return the frames that ``wanted`` plans;
    numbers and times are those of our index, pixels are decord's.

    Raises:
        VideoError: also for what decord gets wrong: containers that store no times (AVI: other
            frames than asked for), damaged files, files in which it counts other frames than there
            are (edit lists), and colours other than ordinary ones (odd matrices, HDR), which it
            takes for such.
        UsageError: decord is not installed.
    """
    found = index(source, limits=limits)
    _refuse_what_it_gets_wrong(found, name_of(source))
    planned = wanted(found)
    fast = size is None or resize == "fast"
    pixels = _decode(source, planned.numbers.tolist(), size if fast else None, found)
    if not fast:
        pixels = _resize(pixels, size, resize)
    return Frames(pixels, planned.times, planned.numbers, found.times_source, clock=found.clock)


def _refuse_what_it_gets_wrong(found: Index, name: str) -> None:
    if found.refusal:
        raise VideoError(f"{name}: {found.refusal}", path=name)
    what = None
    if found.times_source == "derived":
        what = "gets wrong the frames of files that store no presentation times"
    elif found.damage:
        what = f"is not used on damaged files: {'; '.join(found.damage)}"
    elif odd := {"odd_matrix", "hdr"}.intersection(found.oddities):
        what = f"gets wrong the colours of this file ({', '.join(sorted(odd))})"
    if what:
        raise VideoError(f"{name}: decord {what}; use backend='av'", path=name)


def _decode(source: Source, numbers: list[int], size: Size, found: Index) -> NDArray[np.uint8]:
    """(frames, height, width, 3) uint8."""
    decord = load_optional("decord", needed_by="backend='decord'")
    name = name_of(source)
    file = io.BytesIO(source) if isinstance(source, bytes) else name
    height, width = (-1, -1) if size is None else (size, size) if isinstance(size, int) else size

    try:
        reader: Any = decord.VideoReader(file, num_threads=1, height=height, width=width)
        if len(reader) != found.num_frames:
            raise VideoError(
                f"{name}: decord counts {len(reader)} of {found.num_frames} frames", path=name
            )
        pixels: NDArray[np.uint8] = reader.get_batch(numbers).asnumpy()
    except (RuntimeError, decord.DECORDError) as error:
        raise VideoError(
            f"{name}: decord cannot decode it; backend='av' may: {error}", path=name
        ) from error

    return pixels


def _resize(pixels: NDArray[np.uint8], size: Size, resize: str) -> NDArray[np.uint8]:
    import numpy as np

    way = resizers.get(resize)
    if size is None or not (isinstance(size, int) or way.rectangles):
        raise UsageError(
            f"resize={resize!r} makes squares: size must be one number of pixels, found {size}"
        )
    return np.stack([way(frame, size) for frame in pixels])
