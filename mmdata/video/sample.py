"""From a file to the frames that a strategy wants."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias

from mmdata._tools.limits import Limits, OnDamage, how_to_raise
from mmdata._tools.options import NonNegativeFloat, NonNegativeInt, checked
from mmdata.errors import UsageError, VideoError
from mmdata.video.clock import Clock, compare_times
from mmdata.video.folder import is_folder, pictures_in
from mmdata.video.frames import Frames
from mmdata.video.index import Index
from mmdata.video.pictures import Pictures, VideoSource, sample_pictures
from mmdata.video.pixels import Scaler, Size, scaler
from mmdata.video.plan import Plan, Snap, plan
from mmdata.video.reader import Reader, index_by_decoding, reading, seeking
from mmdata.video.sampling import Pad, Strategy
from mmdata.video.source import Source, name_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Backend", "OnDamage", "sample"]

Backend: TypeAlias = Literal["av", "decord"]
Planner: TypeAlias = Callable[[Index | Clock], Plan]


@checked
def sample(
    source: VideoSource,
    strategy: str | Strategy,
    *,
    size: Size = None,
    resize: str = "fast",
    backend: Backend = "av",
    pad: Pad = "none",
    snap: Snap = "exact",
    stream: NonNegativeInt | None = None,
    start: NonNegativeFloat | None = None,
    end: NonNegativeFloat | None = None,
    clock: Clock | None = None,
    told: tuple[NonNegativeFloat, ...] | None = None,
    on_damage: OnDamage = "raise",
    limits: Limits | None = None,
) -> Frames:
    """Return the frames that ``strategy`` takes of a video.

    ``source`` is the path of a file or of a folder of pictures, the bytes of a file, or
    :class:`Pictures`. ``size`` is the side of a square or (height, width); None keeps the size as
    presented. ``resize`` says how: ``"fast"`` (by swscale in the step that makes RGB, aspect not
    kept) or the name of a resizer of :mod:`mmdata.image.resizers`, such as ``"crop"``. ``start``,
    ``end``, ``pad`` and ``snap`` are those of :func:`plan`; ``stream`` is the index of a stream.
    ``clock`` is what is known of the file's times, such as :attr:`Frames.clock` of an earlier
    sample: frames are chosen by it, and where it says where keyframes are, only the packets that
    they need are read; that the file holds no damage elsewhere is then taken on trust. ``told`` are
    the times in seconds at which the wanted frames are said to be; before anything is
    decoded they are held against those of the file.

    A damaged video raises; ``on_damage="keep"`` samples instead from the frames that do decode.
    ``backend="decord"`` decodes the same frames by decord, where it is installed and can
    (:mod:`mmdata.video.decord_backend`). In a process that uses MindSpore too, import ``mindspore``
    first: imported after decord, it ends the interpreter.

    Raises:
        VideoError: with ``reason`` and ``frames_read``; missing, undecodable, damaged, beyond the
            ``limits``, or with other frames or times than the ``clock`` or ``told`` say.
        UsageError: an option or a strategy that does not exist.

    >>> sample("clip.mp4", "uniform:24", size=224)  # doctest: +SKIP
    Frames(pixels=(24, 224, 224, 3) uint8, times=0.000..4.967 s, times_source='stream')
    """
    limits = limits or Limits()
    planner = partial(
        plan, strategy=Strategy.parse(strategy), pad=pad, snap=snap, start=start, end=end
    )
    scale = scaler(size, resize)
    if isinstance(source, Pictures) or is_folder(source):
        pictures = source if isinstance(source, Pictures) else pictures_in(source)
        wanted = partial(_plan_for, planner, pictures.name, told)
        return sample_pictures(pictures, wanted, size, resize, limits)
    name = name_of(source)
    if clock is not None and (clock.keyframes is not None or not _needs_keyframes(strategy, snap)):
        planned = _plan_for(planner, name, told, clock)
        if backend == "av":
            found = _sample_known(source, stream, planned, clock, scale, limits)
            if found is not None:
                return found
        # The file itself is asked, and held against what was planned.
        planner = partial(plan, strategy=Strategy("frames", tuple(planned.numbers.tolist())))
        told = tuple(planned.times.tolist())
    wanted = partial(_plan_for, planner, name, told)
    if backend == "decord":
        from mmdata.video.decord_backend import sample_by_decord

        if stream is not None:
            raise UsageError(
                "decord takes the stream that FFmpeg holds to be the best; "
                "name another to backend='av'"
            )
        return sample_by_decord(source, wanted, size, resize, limits)
    found = _sample_promised(source, stream, wanted, scale, limits, on_damage)
    if found is None:
        found = _sample_decoded(source, stream, wanted, scale, limits, on_damage)
    return found


def _sample_known(
    source: Source,
    stream: int | None,
    planned: Plan,
    clock: Clock,
    scale: Scaler,
    limits: Limits,
) -> Frames | None:
    """Return frames by the packets that they need alone; None where the clock does not lead to
    them, or not to sound ones.
    """
    with seeking(source, stream, limits, clock, planned.numbers) as reader:
        if reader is None:
            return None
        pixels = _pixels(reader, planned, scale, limits)
        is_sound = pixels.complete and not reader.faults
        return pixels.frames(reader.index) if is_sound else None


def _sample_promised(
    source: Source,
    stream: int | None,
    wanted: Planner,
    scale: Scaler,
    limits: Limits,
    on_damage: OnDamage,
) -> Frames | None:
    """Return the frames that the packets of a file promise; None where these show damage, or do not
    give what they promise. The decoder is strict, to notice that.
    """
    with reading(source, stream, limits, strict=True) as reader:
        if reader.index.damage:
            return None
        try:
            planned = wanted(reader.index)
        except VideoError as error:
            # What was told of a damaged file is told of the frames that decode, which its packets
            # do not show.
            if on_damage == "raise" or error.reason != "clock_mismatch":
                raise
            return None
        pixels = _pixels(reader, planned, scale, limits)
        is_sound = pixels.complete and not reader.faults
        return pixels.frames(reader.index) if is_sound else None


def _sample_decoded(
    source: Source,
    stream: int | None,
    wanted: Planner,
    scale: Scaler,
    limits: Limits,
    on_damage: OnDamage,
) -> Frames:
    """Return frames of a file whose packets promise what there is not: decoding all of them tells
    what there is.

    Raises:
        VideoError: there is damage that is not to be kept, or other frames than were told.
    """
    found = index_by_decoding(source, stream=stream, limits=limits, strict=on_damage == "raise")
    name = name_of(source)
    if found.damage and on_damage == "raise":
        raise _damage_error(name, found.damage, found.num_frames)
    try:
        planned = wanted(found)
    except VideoError as error:
        if found.damage and error.reason == "clock_mismatch":
            raise _untold_error(name, found) from error
        raise
    with reading(source, stream, limits, thorough=True, known=found) as reader:
        pixels = _pixels(reader, planned, scale, limits)
    if not pixels.complete:
        damage = ("what decodes in one pass does not in another",)
        raise _damage_error(name, damage, len(pixels.found))
    return pixels.frames(found)


def _needs_keyframes(strategy: str | Strategy, snap: Snap) -> bool:
    return snap == "keyframe" or Strategy.parse(strategy).name == "keyframes"


def _plan_for(
    planner: Planner, name: str, told: tuple[float, ...] | None, found: Index | Clock
) -> Plan:
    """Plan, hold what was told of the times against the file's, and let an error name the file."""
    import numpy as np

    try:
        planned = planner(found)
    except VideoError as error:
        # Of a file whose times are known, frames are asked for that it has: else it is another.
        reason = error.reason if told is None else "clock_mismatch"
        raise VideoError(f"{name}: {error}", path=name, reason=reason) from error
    if told is not None:
        if len(told) != len(planned.times):
            raise UsageError(f"{name}: {len(told)} times are told of {len(planned.times)} frames")
        compare_times(planned.times, np.array(told), planned.numbers, name)
    return planned


def _pixels(reader: Reader, planned: Plan, scale: Scaler, limits: Limits) -> _Pixels:
    pixels = _Pixels(planned, limits, reader.name)
    for number, frame in reader.frames(pixels.places.keys()):
        try:
            scaled = scale(frame)
        except VideoError as error:  # which does not know the file
            raise VideoError(
                f"{reader.name}: {error}", path=reader.name, reason=error.reason
            ) from error
        pixels.add(number, scaled)
    return pixels


class _Pixels:
    """The planned frames as they are decoded, in one array of the size of the first;
    ``found`` are their numbers.
    """

    def __init__(self, planned: Plan, limits: Limits, name: str) -> None:
        self._planned = planned
        self._limits = limits
        self._name = name
        self._array: NDArray[np.uint8] | None = None
        self.places = {
            number: place for place, number in enumerate(dict.fromkeys(planned.numbers.tolist()))
        }
        self.found: set[int] = set()

    def add(self, number: int, pixels: NDArray[np.uint8]) -> None:
        """Keep the pixels of a frame, (height, width, 3) uint8."""
        if self._array is None:
            self._array = self._allocate(pixels)
        if pixels.shape != self._array.shape[1:]:
            raise VideoError(
                f"{self._name}: the size of frames changes at frame {number}; give a size",
                path=self._name,
            )
        self._array[self.places[number]] = pixels
        self.found.add(number)

    @property
    def complete(self) -> bool:
        """Whether every planned frame is there."""
        return len(self.found) == len(self.places)

    def frames(self, found: Index) -> Frames:
        """Return the result; frames that were planned twice stand in it twice."""
        import numpy as np

        assert self._array is not None
        numbers, times = self._planned
        pixels = self._array  # (different frames, height, width, 3) uint8
        if len(numbers) > len(pixels):
            pixels = pixels[np.array([self.places[number] for number in numbers.tolist()])]
        return Frames(pixels, times, numbers, found.times_source, found.damage, found.clock)

    def _allocate(self, first: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import numpy as np

        count, most = len(self._planned.numbers), self._limits.output_bytes
        if first.nbytes * count > most:
            raise VideoError(
                f"{self._name}: {count} frames of {first.shape[1]}x{first.shape[0]} are beyond "
                f"the limit of {most} bytes; ask for fewer or smaller ones, "
                f"or {how_to_raise('output_bytes')}",
                path=self._name,
                reason="media_limit",
            )
        return np.empty((len(self.places), *first.shape), np.uint8)


def _untold_error(name: str, found: Index) -> VideoError:
    return VideoError(
        f"{name}: damaged: {'; '.join(found.damage)}; what was told of its times is not told of "
        f"the {found.num_frames} frames that decode; convert it anew with --check decode "
        "--on-damage keep",
        path=name,
        reason="damaged_media",
        frames_read=found.num_frames,
    )


def _damage_error(name: str, damage: tuple[str, ...], frames_read: int) -> VideoError:
    return VideoError(
        f"{name}: damaged: {'; '.join(damage)}; "
        f"{frames_read} frames could be read, on_damage=keep (--on-damage keep) takes them",
        path=name,
        reason="damaged_media",
        frames_read=frames_read,
    )
