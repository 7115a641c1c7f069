"""When the frames of a video are presented: one clock a file, found once.

An index of a file makes it, a store keeps it in its ``clock`` column, and whatever chooses frames
or speaks of their times reads it: sampling, templates, frame caches and the pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from mmdata.errors import VideoError
from mmdata.schema import CompactTimes, Media, TimeSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Numbers: TypeAlias = NDArray[np.int64]  # (frames,)
    Ticks: TypeAlias = NDArray[np.int64]  # (frames,)
    Times: TypeAlias = NDArray[np.float64]  # (frames,) seconds

__all__ = [
    "HAIR",
    "TOLERANCE",
    "Clock",
    "Cut",
    "average_rate",
    "compact",
    "compare_times",
    "stored_clock",
    "times_of",
]

HAIR: Final = 1e-9  # seconds; what floats may put between times that are equal
TOLERANCE: Final = 1e-3
"""Seconds that a frame may be off the time that was told of it; containers round to as much."""

# Seconds: bounds are often the times of frames, written with four decimals; Matroska keeps times in
# milliseconds.
_ROUNDED_BOUND: Final = 0.5e-4 + 0.5e-3
_ROUNDED_TIME: Final = 1e-3  # seconds; Matroska keeps times in whole milliseconds
_MOST_TICKS: Final = (1 << 31) - 1  # from frame to frame, as int32 holds them


class Cut(NamedTuple):
    """A clip of a clock: the number of its ``first`` frame, and its own clock."""

    first: int
    clock: Clock


@dataclass(frozen=True, slots=True, eq=False)
class Clock:
    """When the frames of a video, or of a clip of one, are presented.

    ``times`` (frames,) float64 are seconds since the first presented frame, ascending; ``fps`` is
    their average rate; ``keyframes`` (keyframes,) int64 the numbers of frames that decode by
    themselves, None where that is not known. ``duration`` is the end of the last frame in seconds;
    None where nobody knows how long it is shown. ``source`` is "derived" where the container stores
    no presentation times. ``stored`` is what a store keeps, from which ``times`` are exactly
    computed; None where they were not.
    """

    times: Times
    fps: float
    keyframes: Numbers | None = None
    duration: float | None = None
    source: TimeSource = "stream"
    stored: CompactTimes | None = None

    def __len__(self) -> int:
        return len(self.times)

    @property
    def end(self) -> float:
        """The end of the last frame in seconds; where nobody knows it, a frame's mean length after
        its beginning.
        """
        if self.duration is not None:
            return self.duration
        last = float(self.times[-1]) if len(self.times) else 0.0
        return last + (1 / self.fps if self.fps else 0.0)

    @property
    def is_constant(self) -> bool:
        """Whether each frame is where ``fps`` puts it, but for the rounding of its time."""
        import numpy as np

        if not self.fps:
            return False
        late = np.abs(self.times - np.arange(len(self)) / self.fps)  # (frames,) seconds
        return bool(len(late) == 0 or late.max() <= _ROUNDED_TIME)

    def first_at(self, moment: float) -> int:
        """Return the number of the first frame at or after ``moment`` in seconds; the number of
        frames if there is none.

        A frame that is before it by no more than the rounding of its time, or of the moment, is at
        it.
        """
        import numpy as np

        tolerance = min(_ROUNDED_BOUND, 0.5 / self.fps) if self.fps else _ROUNDED_BOUND
        return int(np.searchsorted(self.times, moment - tolerance))

    def cut(self, start: float | None, end: float | None) -> Cut:
        """Return the clip from ``start`` to ``end`` seconds, the end not included, with the clock
        that a file of these frames alone would have.

        Raises:
            VideoError: no frame is between the bounds.
        """
        first = 0 if start is None else self.first_at(start)
        stop = len(self) if end is None else self.first_at(end)
        if first >= stop:
            raise VideoError(f"no frame from {start} to {end} s; the video lasts {self.end:.3f} s")
        if first == 0 and stop == len(self):
            return Cut(0, self)

        begin = float(self.times[first])
        times = self.times[first:stop] - begin
        length = (self.end if stop == len(self) else float(self.times[stop])) - begin
        keyframes = self.keyframes
        if keyframes is not None:
            keyframes = keyframes[(keyframes >= first) & (keyframes < stop)] - first
        rate = average_rate(self.fps, times, length)
        return Cut(first, Clock(times, rate, keyframes, length, self.source))

    def span(self, start: float | None, end: float | None) -> tuple[float, float]:
        """Return when a clip's first frame is, and when the clip ends, both in the file's seconds.

        A clip that is said to end after its file ends with it.
        """
        begin = 0.0 if start is None else float(self.times[self.first_at(start)])
        return begin, self.end if end is None else min(end, self.end)


def average_rate(stated: float, times: Times, duration: float) -> float:
    """Return the rate that a container states where the times
    of frames bear it out, else frames over ``duration``.

    What FFmpeg calls the average is a guess for clips of variable rate: in Matroska the default
    duration of a frame, in MP4 with B-frames a length on the clock of decoding. Where it is right
    it is exact, which a quotient is not.
    """
    import numpy as np

    count = len(times)
    if stated:
        # (frames,) seconds from where a constant rate puts a frame
        late = np.abs(times - np.arange(count) / stated)
        is_constant = count > 1 and late.max() <= _ROUNDED_TIME
        if is_constant or abs(count / stated - duration) <= _ROUNDED_TIME:
            return stated
    return count / duration if duration else stated


def compact(ticks: Ticks, unit: float, rate: float = 0.0) -> CompactTimes:
    """Return the times of frames at whole ``ticks`` of ``unit`` seconds, ascending from 0, as a
    store keeps them: a step where one tells them all, else the deltas.

    ``rate`` is that of the container, for containers that round the times of a constant rate.
    """
    import numpy as np

    deltas = np.diff(ticks)
    if len(deltas) and deltas.max() > _MOST_TICKS:
        # Longer ticks: hours from frame to frame are to be told, nanoseconds are not.
        longer = int(deltas.max()) // _MOST_TICKS + 2
        ticks, unit = ticks // longer, unit * longer
        deltas = np.diff(ticks)

    steps = [float(deltas[0]) * unit if len(deltas) else 0.0, 1 / rate if rate else 0.0]
    if len(deltas) > 1:
        steps.append(float(ticks[-1]) * unit / len(deltas))
    for step in steps:
        if step > 0 and np.array_equal(_round_steps(step, unit, len(ticks)), ticks):
            return CompactTimes(step=step, unit=unit)
    return CompactTimes(deltas=tuple(deltas.tolist()), unit=unit)


def times_of(stored: CompactTimes, count: int) -> Times:
    """Return the times of ``count`` frames, (count,) float64 seconds.

    Raises:
        VideoError: the times are those of another number of frames, or begin before 0.
    """
    import numpy as np

    if stored.start < 0:
        raise VideoError(f"the first frame is at {stored.start} s, before 0")
    if stored.deltas is None and stored.unit is None:
        return stored.start + np.arange(count) * (stored.step or 0.0)
    # Whole ticks, which are exact, are made seconds once.
    unit = stored.unit or 0.0
    if stored.deltas is None:
        return stored.start + _round_steps(stored.step or 0.0, unit, count) * unit
    if len(stored.deltas) != count - 1:
        raise VideoError(f"the times of {len(stored.deltas) + 1} frames are given, of {count}")
    ticks = np.zeros(count, np.int64)
    np.cumsum(stored.deltas, out=ticks[1:])
    return stored.start + ticks * unit


def _round_steps(step: float, unit: float, count: int) -> Ticks:
    """Return (count,) int64: 0, 1, 2 ... steps in whole ticks, halves up as muxers round them."""
    import numpy as np

    # The quotient of floats may be a hair below a half: 15 frames at 30000/1001 are 500.5 ms.
    ticks: Ticks = np.floor(np.arange(count) * (step / unit) + (0.5 + 1e-6)).astype(np.int64)
    return ticks


def stored_clock(video: Media) -> Clock | None:
    """Return the clock of a video's file as far as a store keeps it; None where it keeps none.

    Raises:
        VideoError: the clock is that of another number of frames.
    """
    import numpy as np

    count = video.num_frames or len(video.frame_paths or ())
    if video.clock is not None and count:
        times = times_of(video.clock, count)
    elif video.frames is None and video.frame_times:
        times = np.asarray(video.frame_times, np.float64)
    else:
        return None
    fps = video.fps or _mean_rate(times)
    source = video.times or "derived"
    keyframes = None
    if video.clock is not None and video.clock.keyframes is not None:
        keyframes = np.array(video.clock.keyframes, np.int64)
    return Clock(times, fps, keyframes, video.duration, source, video.clock)


def _mean_rate(times: Times) -> float:
    """Return the rate of frames of which nothing but their times is known."""
    length = float(times[-1] - times[0])
    return (len(times) - 1) / length if length > 0 else 0.0


def compare_times(
    found: Times, told: Times, numbers: Numbers, name: str, *, tolerance: float = TOLERANCE
) -> None:
    """Hold the times at which frames are in a file against those that were told of them.

    Raises:
        VideoError: with the reason ``clock_mismatch``; one is off by more than ``tolerance``.
    """
    import numpy as np

    off = np.abs(found - told)  # (frames,) seconds
    worst = int(off.argmax()) if len(off) else 0
    if len(off) and off[worst] > tolerance:
        raise VideoError(
            f"{name}: frame {numbers[worst]} is at {found[worst]:.6f} s, but was told to be at "
            f"{told[worst]:.6f} s: the file is not the one whose times the store keeps; "
            "convert it anew",
            path=name,
            reason="clock_mismatch",
        )
