"""What a template has to know of media before any pixel is decoded:
when frames are, how large images are.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mmdata.errors import TokenError, VideoError
from mmdata.schema import Conversation, Media
from mmdata.templates._encoded import PixelPlan

if TYPE_CHECKING:
    from mmdata.video import Index

__all__ = ["Clip", "FrameClock", "ImageSize", "MediaFiles", "plan_clip"]

FrameClock: TypeAlias = Callable[[Media], "Index"]
"""From a video to the presentation times of its frames."""
ImageSize: TypeAlias = Callable[[Media], tuple[int, int]]
"""From an image to its height and width as presented."""


@dataclass(frozen=True, slots=True)
class MediaFiles:
    """Opens media below ``root`` for what a store does not say of them:
    one pass over packets, or a header.
    """

    root: str = ""

    def index(self, media: Media) -> Index:
        """Return when the frames of a video are; packets are read, nothing is decoded.

        Raises:
            VideoError: the file cannot be read.
        """
        from mmdata.video import index, source_of

        return index(source_of(media, self.root))

    def size(self, media: Media) -> tuple[int, int]:
        """Return height and width of an image from its header.

        Raises:
            ImageError: the file cannot be read.
        """
        from mmdata.image import size_of

        return size_of(self._source(media))

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

    Presentation times are the store's ``frame_times`` or ``clock`` where it has them, else what
    ``clock`` says, where one is given; else they are derived from ``num_frames`` and ``fps``, and
    where these have not been probed the file is opened.

    Raises:
        VideoError: there is no frame to take; the message names the conversation and the file.
    """
    from mmdata.video import plan

    video = conversation.media[media]
    whole = video.frames is not None  # cached frames are a clip's already
    try:
        index = _index(video, clock)
        start, end = (None, None) if whole else (video.start, video.end)
        taken = plan(index, frames, start=start, end=end)
        first = _first_cached(index, video) if whole else _first(index, start)
    except VideoError as error:
        name = video.path or f"medium {media}"
        raise VideoError(
            f"conversation {conversation.id!r}, {name}: {error}", path=name, reason=error.reason
        ) from error
    last = index.duration if video.end is None else min(video.end, index.duration)
    times = tuple((taken.times - first).tolist())
    return Clip(PixelPlan(media, resize, size, tuple(taken.numbers.tolist()), times), last - first)


def _index(video: Media, clock: FrameClock | None) -> Index:
    if video.frame_times is not None:
        return _derive_index(video, video.frame_times)
    if video.clock is not None and (count := video.num_frames or len(video.frame_paths or ())):
        from mmdata.video.pictures import times_of

        return _derive_index(video, times_of(video.clock, count).tolist())
    if clock is not None:
        return clock(video)
    if video.num_frames and video.fps:
        return _derive_index(video, [number / video.fps for number in range(video.num_frames)])
    return MediaFiles().index(video)


def _derive_index(video: Media, times: tuple[float, ...] | list[float]) -> Index:
    import numpy as np

    from mmdata.video import Index

    fps = video.fps or (
        (len(times) - 1) / (times[-1] - times[0])
        if len(times) > 1 and times[-1] > times[0]
        else 0.0
    )
    return Index(
        times=np.asarray(times, np.float64),
        keyframes=np.zeros(0, np.int64),
        width=video.width or 0,
        height=video.height or 0,
        fps=fps,
        duration=video.duration or times[-1] + (1 / fps if fps else 0.0),
        codec="",
        times_source=video.times or "derived",
        stream=0,
    )


def _first(index: Index, start: float | None) -> float:
    """Return the time of a clip's first frame."""
    from mmdata.video.plan import first_at

    return 0.0 if start is None else float(index.times[first_at(index, start)])


def _first_cached(index: Index, video: Media) -> float:
    """Return the time of a clip's first frame, of which a cache may hold only later ones.

    Cached frames keep the times that they have in the file. The first of them is the clip's first
    where it is less than a frame after the bound; else the bound is the nearest to know.
    """
    first = float(index.times[0])
    # The latter holds in caches whose times begin with the clip.
    if video.start is None or first < video.start - 1e-3:
        return 0.0
    return first if video.fps and (first - video.start) * video.fps < 1 else video.start
