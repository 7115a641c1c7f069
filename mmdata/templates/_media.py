"""What a template has to know of media before any pixel is decoded:
when frames are, how large images are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

from mmdata.errors import TokenError, VideoError, as_media_error
from mmdata.schema import Conversation, Media
from mmdata.storage import MediaCache
from mmdata.storage._path import RemotePath
from mmdata.templates._encoded import PixelPlan

if TYPE_CHECKING:
    from mmdata._tools.limits import Limits
    from mmdata.templates._template import Template
    from mmdata.video import Clock
    from mmdata.video.clock import Numbers, Times

__all__ = [
    "Clip",
    "FrameClock",
    "ImageSize",
    "MediaFiles",
    "ReadsFiles",
    "plan_clip",
    "read_size",
    "with_limits",
]

Answer = TypeVar("Answer")

FrameClock: TypeAlias = Callable[[Media], "Clock"]
"""From a video to the presentation times of its frames."""
ImageSize: TypeAlias = Callable[[Media], tuple[int, int]]
"""From an image to its height and width as presented."""


@dataclass(frozen=True, slots=True)
class MediaFiles:
    """Opens media below ``root`` for what a store does not say of them:
    one pass over packets, or a header; under ``limits``. What is fetched of those in object storage
    is kept in ``cache``.
    """

    root: str = ""
    # They say what is refused, not what is read: not what a template is known by.
    limits: Limits | None = field(default=None, repr=False)
    cache: MediaCache | None = field(default=None, repr=False)

    def clock(self, media: Media) -> Clock:
        """Return when the frames of a video are: its packets are read and one frame is decoded.

        A damaged video is decoded whole, for which of its frames decode nothing else tells.

        Raises:
            VideoError: the file cannot be read.
        """
        from mmdata.video import index, source_of
        from mmdata.video.reader import index_by_decoding

        source = source_of(media, self.root, cache=self.cache)
        found = index(source, limits=self.limits)
        if found.damage or "damaged" in (media.oddities or ()):
            found = index_by_decoding(source, limits=self.limits)
        return found.clock

    def size(self, media: Media) -> tuple[int, int]:
        """Return height and width of an image from its header, of a video from its packets, or
        from the first frame of a frame cache.

        Raises:
            MediaError: the file cannot be read.
        """
        from mmdata.image import size_of
        from mmdata.video import index, source_of

        if media.type == "image":
            return size_of(self._source(media), limits=self.limits)
        if media.frames:
            return size_of(media.frames[0], limits=self.limits)
        source = source_of(media, self.root, cache=self.cache)
        found = index(source, limits=self.limits)
        return found.height, found.width

    def _source(self, media: Media) -> str | RemotePath | bytes:
        from mmdata.video.folder import reach_medium

        if media.bytes is not None:
            return media.bytes
        if media.path is None:
            raise TokenError(
                f"this {media.type} has neither path nor bytes, and its times are not in the store"
            )
        return reach_medium(media, self.root, self.cache)


@runtime_checkable
class ReadsFiles(Protocol):
    """A template that reads media files itself, for what a store does not say of them."""

    def with_limits(self, limits: Limits, *, cache: MediaCache | None = None) -> Template:
        """Return the template as it is, reading files under ``limits``, and those in object storage
        through ``cache``.
        """


def with_limits(template: Template, limits: Limits, *, cache: MediaCache | None = None) -> Template:
    """Return a template that reads files, if it reads any, under ``limits``, and those in object
    storage through ``cache``.
    """
    if not isinstance(template, ReadsFiles):
        return template
    # One of another package need not know of caches.
    known = {} if cache is None else {"cache": cache}
    return template.with_limits(limits, **known)


def read_size(conversation: Conversation, media: int, ask: ImageSize) -> tuple[int, int]:
    """Return height and width of an image, which ``ask`` is asked for where the store has none.

    Raises:
        MediaError: the file cannot be read; the message names the conversation and the file.
    """
    image = conversation.media[media]
    if image.height and image.width:
        return image.height, image.width
    return _ask(conversation, media, ask)


def _ask(conversation: Conversation, media: int, ask: Callable[[Media], Answer]) -> Answer:
    """Return what is found in the file of a medium; whatever reading it raises is the file's fault.

    Raises:
        MediaError: it cannot be read; the message names the conversation and the file.
    """
    medium = conversation.media[media]
    try:
        return ask(medium)
    except Exception as error:  # here whatever a decoder raises becomes the record's
        found = as_media_error(error, medium.path or f"medium {media}")
        raise type(found)(
            f"conversation {conversation.id!r}, {found}", path=found.path, reason=found.reason
        ) from error


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
        MediaError: the file cannot be read; likewise.
    """
    video = conversation.media[media]
    own = _read_clock(conversation, media, frames, clock)
    try:
        found = _plan_cached(video, frames) if own is None else _plan_file(video, frames, own)
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


def _read_clock(
    conversation: Conversation, media: int, frames: str, ask: FrameClock | None
) -> Clock | None:
    """Return the clock of a video's file, asked for where the store has none or not what the
    strategy goes by; None where its frames are read from a cache.
    """
    from mmdata.video.clock import stored_clock

    video = conversation.media[media]
    if video.frames:
        return None
    clock = _ask(conversation, media, stored_clock)
    if clock is None or (clock.keyframes is None and _goes_by_keyframes(frames)):
        clock = _ask(conversation, media, ask or MediaFiles().clock)
    return clock


def _plan_file(video: Media, frames: str, clock: Clock) -> _Taken:
    from mmdata.video import plan

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

    # A rule that goes by the rate of a clip has to see that of the cached frames; one that refuses
    # a clip of so few takes all of them.
    shown = times - begin
    rate = average_rate(0.0, shown, end - begin)
    among = Clock(shown, rate, None, end - begin)
    numbers = Strategy.parse(frames).numbers(among, few="all")
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
