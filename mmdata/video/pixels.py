"""From a decoded frame to upright RGB pixels."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from mmdata._tools.options import PositiveInt, checked
from mmdata.errors import UsageError
from mmdata.image import resizers
from mmdata.video.colours import as_progressive, conversion_of
from mmdata.video.reformat import Reformatter

if TYPE_CHECKING:
    import numpy as np
    from av.video.frame import VideoFrame
    from numpy.typing import NDArray

__all__ = [
    "Orientation",
    "Scaler",
    "Size",
    "checked_size",
    "orientation_of",
    "presented_size",
    "rgb",
    "scaler",
]

Size: TypeAlias = PositiveInt | tuple[PositiveInt, PositiveInt] | None
Scaler: TypeAlias = Callable[["VideoFrame"], "NDArray[np.uint8]"]

_VECTOR_FORMATS: Final = frozenset({"yuv420p", "yuvj420p"})


class Orientation(NamedTuple):
    """How a coded frame becomes upright:
    first transposed, then flipped left-right, then top-bottom.
    """

    transpose: bool
    flip_x: bool
    flip_y: bool

    def apply(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a view of ``pixels`` (height, width, 3), turned."""
        turned = pixels.transpose(1, 0, 2) if self.transpose else pixels
        return turned[:: -1 if self.flip_y else 1, :: -1 if self.flip_x else 1]


def orientation_of(frame: VideoFrame) -> Orientation:
    """Return how ``frame`` is to be turned:
    the display matrix of its container, to the nearest quarter turn or flip.

    The matrix maps a coded point (x, y) to (a x + c y, b x + d y), in 16.16 fixed point (ISO
    14496-12, 8.3.2).
    """
    a, b, c, d = _matrix(frame)
    if abs(b) + abs(c) > abs(a) + abs(d):  # nearer to a quarter turn than to none
        return Orientation(True, c < 0, b < 0)
    return Orientation(False, a < 0, d < 0)


def _matrix(frame: VideoFrame) -> tuple[float, float, float, float]:
    from av.sidedata.sidedata import SideDataContainer

    try:
        # Not frame.side_data: the two would hold each other, and so the pixels, until the garbage
        # collector comes by.
        matrix = SideDataContainer(frame).get("DISPLAYMATRIX")  # type: ignore[call-arg]  # its stub is bare
    except ValueError:  # beside it is what PyAV has no name for, as the EXIF of a still
        angle = math.radians(frame.rotation)  # counterclockwise; all that is told then
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    if matrix is None:
        return 1, 0, 0, 1
    a, b, _, c, d, *_ = struct.unpack("<9i", bytes(matrix))
    return a, b, c, d


def presented_size(frame: VideoFrame) -> tuple[int, int]:
    """Return width and height of ``frame`` as presented."""
    if orientation_of(frame).transpose:
        return frame.height, frame.width
    return frame.width, frame.height


@checked
def scaler(size: Size = None, resize: str = "fast") -> Scaler:
    """Return the function from a decoded frame to its upright pixels (height, width, 3) uint8.

    The result may be a view of memory that lives as long as it does. It is for one thread, and best
    at frames of one size. ``resize`` is as in :func:`mmdata.video.sample`.

    Raises:
        UsageError: a size that is none, or no such way to resize.
    """
    convert = partial(_upright, Reformatter())
    exact = None if resize == "fast" else resizers.get(resize)
    if size is None:
        return convert
    if exact is None:
        return partial(_upright_scaled, Reformatter(), Reformatter(), checked_size(size))
    if not isinstance(size, int) and not exact.rectangles:
        raise UsageError(
            f"resize={resize!r} makes squares: size must be one number of pixels, found {size}"
        )
    return partial(_exact, convert, exact, size)


def _upright(reformatter: Reformatter, frame: VideoFrame) -> NDArray[np.uint8]:
    return orientation_of(frame).apply(rgb(reformatter, frame))


def _upright_scaled(
    scaler: Reformatter, converter: Reformatter, size: tuple[int, int], frame: VideoFrame
) -> NDArray[np.uint8]:
    """Scale, then make RGB.

    Where swscale has vector code for the second step, that is half the work of one step.
    Of swscale's ways, AREA is the cheapest, and as near Pillow's bicubic as the dear ones; but of
    interlaced frames it leaves combs.
    """
    turn = orientation_of(frame)
    height, width = reversed(size) if turn.transpose else size
    conversion = conversion_of(frame)
    two_steps = frame.format.name in _VECTOR_FORMATS and not conversion
    interlaced = frame.interlaced_frame

    scaled = scaler(
        as_progressive(frame) if interlaced else frame,
        width=width,
        height=height,
        format=frame.format.name if two_steps else "rgb24",
        interpolation="BICUBIC" if interlaced else "AREA",
        **conversion,
    )
    if two_steps:
        scaled = converter(scaled, format="rgb24")
    return turn.apply(_view(scaled))


def rgb(reformatter: Reformatter, frame: VideoFrame) -> NDArray[np.uint8]:
    """Return the pixels of ``frame`` as coded, (height, width, 3) uint8:
    a view of where swscale writes them.

    Of samples of 8 bits these are the pixels that FFmpeg's own program gives: it converts the lines
    of an interlaced frame as they stand, and makes smaller planes of colour larger by bicubic.

    Raises:
        VideoError: it cannot be converted; the message does not name the file.
    """
    conversion = conversion_of(frame)
    whole = as_progressive(frame) if frame.interlaced_frame else frame
    # Of deeper samples the program's pixels are out of reach either way; this one is cheaper.
    way = "BICUBIC" if frame.format.components[0].bits <= 8 else "BILINEAR"
    return _view(reformatter(whole, format="rgb24", interpolation=way, **conversion))


def _view(frame: VideoFrame) -> NDArray[np.uint8]:
    import numpy as np

    plane = frame.planes[0]  # whose rows may be padded to a width the machine likes
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    return rows[: frame.height, : 3 * frame.width].reshape(frame.height, frame.width, 3)


def _exact(
    convert: Scaler,
    resize: resizers.Resizer,
    size: int | tuple[int, int],
    frame: VideoFrame,
) -> NDArray[np.uint8]:
    return resize(convert(frame), size)


def checked_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a size given as a side or as both.

    Raises:
        UsageError: not a positive number of pixels.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if height < 1 or width < 1:
        raise UsageError(f"size must be one or two positive numbers of pixels, found {size}")
    return height, width
