"""Which frames of an indexed video a strategy takes; nothing is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from mmdata._tools.options import NonNegativeFloat, checked
from mmdata.errors import VideoError
from mmdata.video.index import Index
from mmdata.video.sampling import Clock, Pad, Strategy, nearest_numbers

if TYPE_CHECKING:
    from mmdata.video.sampling import Numbers, Times

__all__ = ["Plan", "Snap", "plan"]

Snap: TypeAlias = Literal["exact", "keyframe"]


class Plan(NamedTuple):
    """Which frames: their ``numbers`` (wanted,) int64 in presentation order and their ``times`` (wanted,) seconds."""

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

    ``start`` and ``end`` (seconds, the end not included) bound the clip that the strategy sees. With
    ``snap="keyframe"`` each frame is replaced by the keyframe nearest in time, whose own time is reported.

    Raises:
        VideoError: the bounds or the strategy leave no frame.
    """
    import numpy as np

    first, stop = np.searchsorted(index.times, [_bound(start, 0.0), _bound(end, np.inf)])
    if first >= stop:
        raise VideoError(f"no frame from {start} to {end} s; the video lasts {index.duration:.3f} s")
    numbers = Strategy.parse(strategy).numbers(_window(index.clock, int(first), int(stop)), pad=pad) + first
    if snap == "keyframe":
        numbers = _snapped(index, numbers)
    return Plan(numbers, index.times[numbers])


def _bound(time: float | None, default: float) -> float:
    return default if time is None else time - 1e-6  # a frame at the bound may be off by the rounding of its time


def _window(clock: Clock, first: int, stop: int) -> Clock:
    if first == 0 and stop == len(clock):
        return clock
    inside = (clock.keyframes >= first) & (clock.keyframes < stop)
    return Clock(clock.times[first:stop] - clock.times[first], clock.fps, clock.keyframes[inside] - first)


def _snapped(index: Index, numbers: Numbers) -> Numbers:
    if not len(index.keyframes):
        raise VideoError("no keyframe among the presented frames; use snap='exact'")
    return index.keyframes[nearest_numbers(index.times[index.keyframes], index.times[numbers])]
