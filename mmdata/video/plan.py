"""Which frames of an indexed video a strategy takes; nothing is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

from mmdata._tools.options import NonNegativeFloat, checked
from mmdata.errors import VideoError
from mmdata.video.index import Index, average_rate
from mmdata.video.sampling import HAIR, Clock, Pad, Strategy, nearest_numbers

if TYPE_CHECKING:
    from mmdata.video.sampling import Numbers, Times

__all__ = ["Plan", "Snap", "first_at", "plan"]

Snap: TypeAlias = Literal["exact", "keyframe"]

# Seconds: bounds are often the times of frames, written with four decimals; Matroska keeps times in
# milliseconds.
_ROUNDED: Final = 0.5e-4 + 0.5e-3


class Plan(NamedTuple):
    """Which frames: their ``numbers`` (wanted,) int64
    in presentation order and their ``times`` (wanted,) seconds.
    """

    numbers: Numbers
    times: Times


@checked
def plan(
    index: Index,
    strategy: str | Strategy,
    *,
    pad: Pad = "none",
    snap: Snap = "exact",
    start: NonNegativeFloat | None = None,
    end: NonNegativeFloat | None = None,
) -> Plan:
    """Return the frames that ``strategy`` takes of an indexed video; nothing is decoded.

    ``start`` and ``end`` (seconds, the end not included) bound the clip that the strategy sees.
    With ``snap="keyframe"`` each frame is replaced by the clip's keyframe nearest in time, whose
    own time is reported.

    Raises:
        VideoError: the bounds or the strategy leave no frame.
    """
    first = 0 if start is None else first_at(index, start)
    stop = index.num_frames if end is None else first_at(index, end)
    if first >= stop:
        raise VideoError(
            f"no frame from {start} to {end} s; the video lasts {index.duration:.3f} s"
        )

    window = _window(index, first, stop)
    numbers = Strategy.parse(strategy).numbers(window, pad=pad)
    if snap == "keyframe":
        numbers = _snap(window, numbers)
    numbers = numbers + first
    return Plan(numbers, index.times[numbers])


def first_at(index: Index, moment: float) -> int:
    """Return the number of the first frame at or after ``moment`` in seconds;
    the number of frames if there is none.

    A frame that is before it by no more than the rounding of its time, or of the moment, is at it.
    """
    import numpy as np

    tolerance = min(_ROUNDED, 0.5 / index.fps) if index.fps else _ROUNDED
    return int(np.searchsorted(index.times, moment - tolerance))


def _window(index: Index, first: int, stop: int) -> Clock:
    """Return the clock of the frames ``first`` to ``stop``
    as a file of these alone would have it.
    """
    clock = index.clock
    if first == 0 and stop == len(clock):
        return clock
    times = clock.times[first:stop] - clock.times[first]
    end = index.duration if stop == len(clock) else float(clock.times[stop])
    inside = (clock.keyframes >= first) & (clock.keyframes < stop)
    rate = average_rate(clock.fps, times, end - float(clock.times[first]))
    return Clock(times, rate, clock.keyframes[inside] - first)


def _snap(clock: Clock, numbers: Numbers) -> Numbers:
    if not len(clock.keyframes):
        raise VideoError("no keyframe among the presented frames; use snap='exact'")
    return clock.keyframes[
        nearest_numbers(clock.times[clock.keyframes], clock.times[numbers], tie=HAIR)
    ]
