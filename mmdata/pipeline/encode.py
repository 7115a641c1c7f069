"""From a place in the order to a sample: its conversation read and encoded, its pixels decoded."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, runtime_checkable

from mmdata.errors import DataError, MediaError, SampleError, as_media_error
from mmdata.pipeline.stopwatch import Stopwatch
from mmdata.schema import Conversation, Media
from mmdata.storage import MediaCache
from mmdata.templates import Encoded, PixelPlan, Template
from mmdata.templates._plugins import encode

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata._tools.limits import Limits
    from mmdata.image.resizers import Shows
    from mmdata.video import Frames
    from mmdata.video.sample import OnDamage

    Views: TypeAlias = NDArray[np.uint8]  # (views, size, size, 3), or (views, patches, row)

__all__ = [
    "Decode",
    "DrawsAnew",
    "Place",
    "Sample",
    "SampleReader",
    "Samples",
    "decode_views",
]

_log: Final = logging.getLogger("mmdata.pipeline")

Decode: TypeAlias = "Callable[[Media, PixelPlan, Views | None], Views]"
"""From a medium, what is wanted of it, and room for it,
to its pixels, which need not be in that room.
"""


class Samples(Protocol):
    """What a stream reads: a :class:`mmdata.store.Store` or a :class:`mmdata.mixture.Mixture`."""

    def __len__(self) -> int:
        """Return the number of samples of an epoch."""

    def located(self, index: int) -> Conversation:
        """Return a conversation whose media can be opened."""

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides which sample has which index."""


@runtime_checkable
class DrawsAnew(Protocol):
    """Samples of which each epoch may have others, as those of a mixture with weights."""

    def at_epoch(self, epoch: int) -> Samples:
        """Return those of an epoch; as many, and under the same fingerprint."""


@dataclass(frozen=True, slots=True)
class Place:
    """A sample's ``position`` in the order and its ``index`` in the mixture;
    ``encoded`` where planning had to look.

    ``room`` (views, size, size, 3) uint8 is where the batch wants its pixels, if that is known
    before they are decoded.
    """

    position: int
    index: int
    encoded: Encoded | None = None
    room: Views | None = field(default=None, compare=False, repr=False)

    @property
    def tokens(self) -> int:
        """The length of a sample that was looked at."""
        return len(self._known)

    @property
    def views(self) -> int:
        """The most pictures, tiles and frames that a sample that was looked at can have."""
        return sum(map(num_views, self._known.pixels))

    @property
    def modality(self) -> tuple[bool, bool]:
        """Whether a sample that was looked at shows clips, and pictures."""
        clips = [bool(plan.frames) for plan in self._known.pixels]
        return any(clips), not all(clips)

    @property
    def _known(self) -> Encoded:
        assert self.encoded is not None, "the plan has not looked at this sample"
        return self.encoded


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """What a batch is made of:
    ``views`` are the pixels of each of ``encoded.pixels``, ``sizes`` their media's sizes.

    A size is (height, width) in pixels as presented; of a video that has not been probed it is
    None.
    """

    id: str
    place: Place
    encoded: Encoded
    views: tuple[Views, ...]
    sizes: tuple[tuple[int, int] | None, ...]


class SampleReader:
    """Reads samples of ``samples`` as ``template`` encodes them,
    refusing what has no room in a row of a batch.

    ``max_tokens`` and ``max_views`` (None for no limit) are that room; ``decode`` makes pixels of a
    medium, under ``limits`` where they are given, which hold for the headers that are read besides.
    What these take of object storage is kept in ``cache``.
    """

    def __init__(
        self,
        samples: Samples,
        template: Template,
        *,
        max_tokens: int,
        max_views: int | None,
        decode: Decode,
        watch: Stopwatch,
        limits: Limits | None = None,
        cache: MediaCache | None = None,
    ) -> None:
        self._samples = samples
        self._template = template
        self._max_tokens = max_tokens
        self._max_views = max_views
        self._decode = decode
        self._watch = watch
        self._limits = limits
        self._cache = cache

    def look(self, position: int, index: int) -> Place:
        """Return the place with the sample encoded; nothing is decoded.

        Raises:
            SampleError: the template cannot encode it, or it has no room.
        """
        conversation = self._conversation(index)
        return Place(position, index, self._encode(conversation, index))

    def read(self, place: Place) -> Sample:
        """Return the sample at ``place``.

        Raises:
            SampleError: with the sample's id and index, and what is wrong with it.
        """
        conversation = self._conversation(place.index)
        encoded = place.encoded or self._encode(conversation, place.index)
        room = place.room
        views, sizes = [], []
        with self._watch.stage("decode"):
            for plan in encoded.pixels:
                medium = conversation.media[plan.media]
                try:
                    found = self._decode(medium, plan, room)
                    sizes.append(_size(medium, self._limits, self._cache))
                except Exception as error:  # here whatever a decoder raises becomes the sample's
                    named = as_media_error(error, medium.path or "")
                    raise _sample_error(named, conversation, place.index) from error
                views.append(found)
                room = None if room is None else room[len(found) :]
        return Sample(conversation.id, place, encoded, tuple(views), tuple(sizes))

    def give_up(self, index: int, why: str, *, reason: str) -> SampleError:
        """Return the error of the sample at ``index``, which need not be readable, with its
        files.
        """
        try:
            conversation = self._conversation(index)
        except DataError:
            return SampleError(f"sample {index} {why}", reason=reason, row=index)
        paths = [medium.path for medium in conversation.media if medium.path is not None]
        files = f" ({', '.join(paths)})" if paths else ""
        return SampleError(
            f"{_name(conversation, index)}{files} {why}",
            reason=reason,
            row=index,
            id=conversation.id,
            path=paths[0] if len(paths) == 1 else "",
        )

    def _conversation(self, index: int) -> Conversation:
        try:
            with self._watch.stage("read"):
                return self._samples.located(index)
        except DataError as error:
            raise SampleError(f"sample {index} cannot be read: {error}", row=index) from error

    def _encode(self, conversation: Conversation, index: int) -> Encoded:
        try:
            with self._watch.stage("encode"):
                encoded = encode(self._template, conversation)
        except DataError as error:
            raise _sample_error(error, conversation, index) from error

        if len(encoded) > self._max_tokens:
            raise SampleError(
                f"{_name(conversation, index)} has {len(encoded)} tokens, "
                f"a row {self._max_tokens}; give the template max_length={self._max_tokens} "
                "and say by over_long what becomes of longer ones",
                reason="too_long",
                row=index,
                id=conversation.id,
            )

        views = sum(map(num_views, encoded.pixels))
        if self._max_views is not None and views > self._max_views:
            raise SampleError(
                f"{_name(conversation, index)} has {views} pictures, tiles and frames, "
                f"a row has room for max_views={self._max_views}",
                reason="too_many_views",
                row=index,
                id=conversation.id,
            )

        return encoded


def num_views(plan: PixelPlan) -> int:
    """Return how many square pictures the model sees of a medium: its frames, or what its tiling
    makes, or one; of one with a grid, how many features its patches become.

    Of a tiled plan it is the most that its canvases allow, for which one it is depends on the
    picture.
    """
    from mmdata.image import tilings

    if plan.grid is not None:
        return plan.grid.num_features
    if plan.tiled:
        return tilings.get(plan.resize).max_views(plan.size, plan.canvases)
    return len(plan.frames) or 1


def decode_views(
    medium: Media,
    plan: PixelPlan,
    out: Views | None = None,
    *,
    fast: bool = False,
    on_damage: OnDamage = "raise",
    limits: Limits | None = None,
    cache: MediaCache | None = None,
) -> Views:
    """Return the pixels that ``plan`` asks for, (views, size, size, 3) uint8 RGB:
    the first of ``out``, if it is given. Of a plan with a grid they are the patches of each
    feature, see :func:`mmdata.image.patches.cut`.

    ``fast`` lets FFmpeg resize the frames of a video whose size is known, in a third of the time:
    on real clips that is 1 to 3 grey levels off on average, and more at sharp edges of colour. Of
    pictures it makes anyres' views, in half of the time, a quarter of a grey level off on average.
    ``on_damage`` and ``limits`` are those of :func:`mmdata.video.sample`; what is kept of a damaged
    video is said in the log. What is fetched of media in object storage is kept in ``cache``.

    Raises:
        MediaError: the medium cannot be decoded, is beyond the limits, or its frames are not at the
            times of the plan.
    """
    from mmdata.image import decode, load, patches, resizers, tilings

    if plan.grid is not None:
        whole = _whole_frames(medium, plan, plan.grid.size, fast, on_damage, limits, cache)
        return patches.cut(whole, plan.grid, out)
    if medium.frames is not None:
        return _cached_frames(medium, medium.frames, plan, out, limits)
    if medium.type == "video":
        return _copy_to(_frames(medium, plan, fast, on_damage, limits, cache), out)
    if plan.tiled:
        tile = tilings.get(plan.resize)
        picture = load(_source(medium, cache), limits=limits)
        return tile(picture, plan.size, plan.canvases, out, fast=fast)
    pixels = decode(_source(medium, cache), limits=limits)
    return _copy_to(resizers.get(plan.resize)(pixels, plan.size)[None], out)


def _whole_frames(
    medium: Media,
    plan: PixelPlan,
    size: tuple[int, int],
    fast: bool,
    on_damage: OnDamage,
    limits: Limits | None,
    cache: MediaCache | None,
) -> NDArray[np.uint8]:
    """Return the frames of a clip, or a picture as one, (frames, height, width, 3)."""
    import numpy as np

    from mmdata.image import decode, resizers

    resize = resizers.get(plan.resize)
    if medium.frames is not None:
        _check_cached_times(medium, plan)
        cached = {
            number: resize(decode(medium.frames[number], limits=limits), size)
            for number in set(plan.frames)
        }
        return np.stack([cached[number] for number in plan.frames])
    if medium.type == "video":
        way = "fast" if fast and resize.shows == "all" else plan.resize
        found = _sampler(medium, plan, on_damage, limits, cache)(size=size, resize=way)
        _say_damage(medium, found)
        return found.pixels
    return resize(decode(_source(medium, cache), alpha=plan.alpha, limits=limits), size)[None]


def _copy_to(views: Views, out: Views | None) -> Views:
    import numpy as np

    if out is None:
        return np.ascontiguousarray(views)
    out[: len(views)] = views
    return out[: len(views)]


def _frames(
    medium: Media,
    plan: PixelPlan,
    fast: bool,
    on_damage: OnDamage,
    limits: Limits | None,
    cache: MediaCache | None,
) -> Views:
    from mmdata.image import resizers

    assert not plan.tiled, "tiles are of pictures"
    take = _sampler(medium, plan, on_damage, limits, cache)
    shows = resizers.get(plan.resize).shows
    if fast and shows != "other" and medium.height and medium.width:
        found, pixels = _fast_frames(take, (medium.height, medium.width), plan.size, shows)
    else:
        found = take(size=plan.size, resize=plan.resize)
        pixels = found.pixels
    _say_damage(medium, found)
    return pixels


def _fast_frames(
    take: Callable[..., Frames], size: tuple[int, int], side: int, shows: Shows
) -> tuple[Frames, Views]:
    from mmdata.image.transforms import shorter_side_to

    height, width = (side, side) if shows == "all" else shorter_side_to(size, side)
    top, left = (height - side) // 2, (width - side) // 2
    found = take(size=(height, width))
    return found, found.pixels[:, top : top + side, left : left + side]


def _sampler(
    medium: Media,
    plan: PixelPlan,
    on_damage: OnDamage,
    limits: Limits | None,
    cache: MediaCache | None,
) -> Callable[..., Frames]:
    """Return what takes the frames of a plan from a video, given their size."""
    from mmdata.video import Strategy, sample, source_of
    from mmdata.video.clock import stored_clock

    return partial(
        sample,
        source_of(medium, cache=cache),
        Strategy("frames", plan.frames),
        clock=stored_clock(medium),
        told=plan.told,
        on_damage=on_damage,
        limits=limits,
    )


def _say_damage(medium: Media, found: Frames) -> None:
    if found.damage:
        _log.warning("kept: %s: damaged: %s", medium.path or "a video", "; ".join(found.damage))


def _cached_frames(
    medium: Media,
    frames: tuple[bytes, ...],
    plan: PixelPlan,
    out: Views | None,
    limits: Limits | None,
) -> Views:
    import numpy as np

    from mmdata.image import decode, resizers

    _check_cached_times(medium, plan)
    resize, count = resizers.get(plan.resize), len(plan.frames)
    views = np.empty((count, plan.size, plan.size, 3), np.uint8) if out is None else out[:count]
    for view, number in enumerate(plan.frames):
        first = plan.frames.index(number)
        views[view] = (
            views[first]
            if first < view
            else resize(decode(frames[number], limits=limits), plan.size)
        )
    return views


def _check_cached_times(medium: Media, plan: PixelPlan) -> None:
    import numpy as np

    from mmdata.video.clock import compare_times

    if plan.told is not None and medium.frame_times is not None:
        numbers = np.array(plan.frames)
        times = np.array(medium.frame_times)[numbers]
        compare_times(times, np.array(plan.told), numbers, medium.path or "cached frames")


def _source(medium: Media, cache: MediaCache | None) -> Any:
    from mmdata.video.folder import reach_medium

    if medium.bytes is None and medium.path is None:
        raise MediaError(
            f"this {medium.type} has neither path nor bytes, which nothing can read yet"
        )
    if medium.bytes is not None or medium.path is None:
        return medium.bytes
    return reach_medium(medium, "", cache)


def _size(medium: Media, limits: Limits | None, cache: MediaCache | None) -> tuple[int, int] | None:
    from mmdata.image import size_of

    if medium.height and medium.width:
        return medium.height, medium.width
    is_image = medium.type == "image"
    return size_of(_source(medium, cache), limits=limits) if is_image else None


def _name(conversation: Conversation, index: int) -> str:
    source = f" of {conversation.source}" if conversation.source else ""
    return f"sample {conversation.id!r}{source} (row {index})"


def _sample_error(error: DataError, conversation: Conversation, index: int) -> SampleError:
    return SampleError(
        f"{_name(conversation, index)}: {error}",
        reason=getattr(error, "reason", "not_encodable"),
        row=index,
        id=conversation.id,
        path=error.path if isinstance(error, MediaError) else "",
    )
