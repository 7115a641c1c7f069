"""A video that is given as pictures, one a frame: listed by a record, or the files of a folder.

When each of them is shown is what its clock says. Where nobody says it, pictures are two to the
second, which is what those take them to be who train on such videos (docs/sources.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from mmdata._tools.options import check_fields, checked
from mmdata._tools.paths import join_path
from mmdata.errors import ImageError, UsageError, VideoError
from mmdata.image import decode, resizers, size_of
from mmdata.image.transforms import resize_bicubic
from mmdata.schema import CompactTimes
from mmdata.storage import Access
from mmdata.storage._media import reach
from mmdata.storage._path import RemotePath
from mmdata.video.clock import average_rate, times_of
from mmdata.video.frames import Frames
from mmdata.video.index import Index
from mmdata.video.pixels import Size, checked_size
from mmdata.video.source import Source

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata._tools.limits import Limits
    from mmdata.video.plan import Plan

__all__ = [
    "UNSAID",
    "Pictures",
    "VideoSource",
    "decode_pictures",
    "index_pictures",
    "sample_pictures",
]

UNSAID: Final = CompactTimes(step=0.5)
"""When pictures are of which nobody says it."""


@dataclass(frozen=True, slots=True)
class Pictures:
    """The pictures that a video is given as.

    ``paths`` are their files in the order in which they are shown, ``clock`` says when, in seconds,
    and ``name`` is how messages call them.

    >>> Pictures(("a/1.jpg", "a/2.jpg", "a/3.jpg")).name
    'a/1.jpg to a/3.jpg'
    """

    paths: tuple[str | RemotePath, ...]
    clock: CompactTimes = UNSAID
    name: str = ""

    def __post_init__(self) -> None:
        """Check that there are pictures, and name them where nobody has."""
        check_fields(self)
        if not self.paths:
            raise UsageError("a video given as pictures needs one at least")
        if not self.name:
            first, last = str(self.paths[0]), str(self.paths[-1])
            object.__setattr__(self, "name", first if first == last else f"{first} to {last}")

    @checked
    def below(self, root: str, access: Access | None = None) -> Pictures:
        """Return the pictures with relative paths taken from ``root``; those behind URLs are read
        under ``access``.

        Raises:
            MediaError: one of them may not be read.
        """
        paths = (join_path(root, str(path)) for path in self.paths)
        return Pictures(tuple(reach(path, access) for path in paths), self.clock)


VideoSource: TypeAlias = Source | Pictures
"""What a video can be read from: the path of a file or of a folder of pictures, the bytes of a
file, or pictures.
"""


def index_pictures(pictures: Pictures, limits: Limits) -> Index:
    """Return the index of pictures; only the first is looked into, and their times are derived.

    Raises:
        VideoError: the first picture is none, or the clock is not theirs.
    """
    import numpy as np

    count = len(pictures.paths)
    try:
        height, width = size_of(pictures.paths[0], limits=limits)
        times = times_of(pictures.clock, count)
    except ImageError as error:
        raise VideoError(str(error), path=error.path, reason=error.reason) from error
    except VideoError as error:
        raise VideoError(f"{pictures.name}: {error}", path=pictures.name) from error

    # The last frame is shown as long as the mean of the others.
    step = pictures.clock.step or float(times[-1] - times[0]) / max(count - 1, 1)
    duration = float(times[-1]) + step
    return Index(
        times=times,
        keyframes=np.arange(count),
        width=width,
        height=height,
        fps=average_rate(1 / step if step else 0.0, times, duration),
        duration=duration,
        codec="pictures",
        times_source="derived",
        stream=0,
        stored=pictures.clock,
    )


def decode_pictures(pictures: Pictures, limits: Limits) -> Index:
    """Return the index of pictures all of which can be decoded.

    Raises:
        VideoError: one of them cannot; the message names it.
    """
    found = index_pictures(pictures, limits)
    for path in pictures.paths:
        _decode(path, limits)
    return found


def sample_pictures(
    pictures: Pictures,
    wanted: Callable[[Index], Plan],
    size: Size,
    resize: str,
    limits: Limits,
) -> Frames:
    """Return the pictures that ``wanted`` plans, as frames, all of the size of the first.

    Raises:
        VideoError: one of them cannot be decoded; the message names it.
    """
    import numpy as np

    found = index_pictures(pictures, limits)
    planned = wanted(found)
    scale = _scaler(size, resize, found)
    pixels = np.stack(
        [scale(_decode(pictures.paths[number], limits)) for number in planned.numbers.tolist()]
    )
    return Frames(pixels, planned.times, planned.numbers, "derived", clock=found.clock)


def _decode(path: str | RemotePath, limits: Limits) -> NDArray[np.uint8]:
    try:
        return decode(path, limits=limits)
    except ImageError as error:
        raise VideoError(str(error), path=error.path, reason=error.reason) from error


def _scaler(
    size: Size, resize: str, found: Index
) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    if size is not None and resize != "fast":
        way, side = resizers.get(resize), size
        return lambda pixels: way(pixels, side)
    height, width = (found.height, found.width) if size is None else checked_size(size)
    return lambda pixels: resize_bicubic(pixels, (height, width))
