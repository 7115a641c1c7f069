"""What a template has to know of media before any pixel is decoded:
when frames are, how large images are.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mmdata.errors import TokenError, VideoError
from mmdata.schema import Conversation, Media
from mmdata.templates._encoded import PixelPlan

if TYPE_CHECKING:
    from mmdata.video import Clock
    from mmdata.video.clock import Numbers, Times

__all__ = ["Clip", "FrameClock", "ImageSize", "MediaFiles", "plan_clip"]

FrameClock: TypeAlias = Callable[[Media], "Clock"]
"""From a video to the presentation times of its frames."""
ImageSize: TypeAlias = Callable[[Media], tuple[int, int]]
"""From an image to its height and width as presented."""


@dataclass(frozen=True, slots=True)
class MediaFiles:
    """Opens media below ``root`` for what a store does not say of them:
    one pass over packets, or a header.
    """

    root: str = ""

    def clock(self, media: Media) -> Clock:
        """Return when the frames of a video are: its packets are read and one frame is decoded.

        Raises:
            VideoError: the file cannot be read.
        """
        from mmdata.video import index, source_of

        return index(source_of(media, self.root)).clock

    def size(self, media: Media) -> tuple[int, int]:
        """Return height and width of an image from its header, of a video from its packets, or
        from the first frame of a frame cache.

        Raises:
            MediaError: the file cannot be read.
        """
        from mmdata.image import size_of
        from mmdata.video import index, source_of

        if media.type == "image":
            return size_of(self._source(media))
        if media.frames:
            return size_of(media.frames[0])
        found = index(source_of(media, self.root))
        return found.height, found.width

    def _source(self, media: Media) -> str | bytes:
        if media.bytes is not None:
            return media.bytes
        if media.path is None:
            raise TokenError(
                f"this {media.type} has neither path nor bytes, and its times are not in the store"
            )
        return posixpath.join(self.root, media.path)


@dataclass(frozen=True, slots=True)
class Clip:
    """The frames that a strategy takes,
    and the ``duration`` in seconds of what it took them from.
    """

    pixels: PixelPlan
    duration: float


def plan_clip(
    conversation: Conversation,
    media: int,
    frames: str,
    clock: FrameClock | None,
    *,
    resize: str,
    size: int,
) -> Clip:
    """Return the frames that the strategy ``frames`` takes of a video,
    between the bounds of its clip.

    Times are those of the clock that the store keeps; where it keeps none, or not what the strategy
    goes by, ``clock`` is asked where one is given, else the file. Of cached frames those are taken
    that the strategy takes of the file, where the cache has them all; else it chooses among them.

    Raises:
        VideoError: there is no frame to take; the message names the conversation and the file.
    """
    video = conversation.media[media]
    try:
        found = _plan_cached(video, frames) if video.frames else _plan_file(video, frames, clock)
    except VideoError as error:
        name = video.path or f"medium {media}"
        raise VideoError(
            f"conversation {conversation.id!r}, {name}: {error}", path=name, reason=error.reason
        ) from error
    times = tuple((found.times - found.begin).tolist())
    numbers = tuple(found.numbers.tolist())
    duration = found.end - found.begin
    pixels = PixelPlan(media, resize, size, numbers, times, origin=found.begin, duration=duration)
    return Clip(pixels, duration)


class _Taken(NamedTuple):
    """Frames by number, their ``times``, and ``begin`` and ``end`` of their clip, in seconds of the
    file's clock.
    """

    numbers: Numbers
    times: Times
    begin: float
    end: float


def _plan_file(video: Media, frames: str, ask: FrameClock | None) -> _Taken:
    from mmdata.video import plan
    from mmdata.video.clock import stored_clock

    clock = stored_clock(video)
    if clock is None or _goes_by_keyframes(frames):
        clock = (ask or MediaFiles().clock)(video)
    planned = plan(clock, frames, start=video.start, end=video.end)
    return _Taken(*planned, *clock.span(video.start, video.end))


def _plan_cached(video: Media, frames: str) -> _Taken:
    import numpy as np

    from mmdata.video import Clock, Strategy, plan
    from mmdata.video.clock import HAIR, average_rate, stored_clock

    times = np.asarray(video.frame_times, np.float64)  # (cached frames,) of the file's clock
    clock = stored_clock(video)
    if clock is None:
        begin, end = _guess_span(video, times)
    else:
        begin, end = clock.span(video.start, video.end)
        if not _goes_by_keyframes(frames):
            wanted = plan(clock, frames, start=video.start, end=video.end).times
            numbers = np.searchsorted(times, wanted - HAIR).clip(0, len(times) - 1)
            if (np.abs(times[numbers] - wanted) <= HAIR).all():
                return _Taken(numbers, times[numbers], begin, end)

    # A rule that goes by the rate of a clip has to see that of the cached frames.
    shown = times - begin
    rate = average_rate(0.0, shown, end - begin)
    numbers = Strategy.parse(frames).numbers(Clock(shown, rate, None, end - begin))
    return _Taken(numbers, times[numbers], begin, end)


def _goes_by_keyframes(frames: str) -> bool:
    from mmdata.video import Strategy

    return Strategy.parse(frames).name == "keyframes"


def _guess_span(video: Media, times: Times) -> tuple[float, float]:
    """Return when a clip begins and ends of whose file no clock is known, but cached frames alone.

    They keep the times that they have in the file. The first of them is the clip's first where it
    is less than a frame after the bound; else the bound is the nearest to know. How long the last
    is shown is what it is on average.
    """
    first, last = float(times[0]), float(times[-1])
    mean = (last - first) / max(len(times) - 1, 1)
    end = video.duration or last + (1 / video.fps if video.fps else mean)
    if video.end is not None:
        end = min(video.end, end)

    # The latter holds in caches whose times begin with the clip.
    if video.start is None or first < video.start - 1e-3:
        return 0.0, end
    is_first = video.fps is not None and (first - video.start) * video.fps < 1
    return (first if is_first else video.start), end
