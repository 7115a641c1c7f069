"""Which frames of an indexed video a strategy takes; nothing is decoded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from mmdata._tools.options import NonNegativeFloat, checked
from mmdata.errors import VideoError
from mmdata.video.clock import HAIR, Clock
from mmdata.video.index import Index
from mmdata.video.sampling import Pad, Strategy, nearest_numbers

if TYPE_CHECKING:
    from mmdata.video.clock import Numbers, Times

__all__ = ["Plan", "Snap", "plan"]

Snap: TypeAlias = Literal["exact", "keyframe"]


class Plan(NamedTuple):
    """Which frames: their ``numbers`` (wanted,) int64
    in presentation order and their ``times`` (wanted,) seconds.
    """

    numbers: Numbers
    times: Times


@checked
def plan(
    index: Index | Clock,
    strategy: str | Strategy,
    *,
    pad: Pad = "none",
    snap: Snap = "exact",
    start: NonNegativeFloat | None = None,
    end: NonNegativeFloat | None = None,
) -> Plan:
    """Return the frames that ``strategy`` takes of a video whose index, or whose clock, is known;
    nothing is decoded.

    ``start`` and ``end`` (seconds, the end not included) bound the clip that the strategy sees.
    With ``snap="keyframe"`` each frame is replaced by the clip's keyframe nearest in time, whose
    own time is reported.

    Raises:
        VideoError: the bounds or the strategy leave no frame.
    """
    clock = index.clock if isinstance(index, Index) else index
    first, clip = clock.cut(start, end)
    numbers = Strategy.parse(strategy).numbers(clip, pad=pad)
    if snap == "keyframe":
        numbers = _snap(clip, numbers)
    numbers = numbers + first
    return Plan(numbers, clock.times[numbers])


def _snap(clock: Clock, numbers: Numbers) -> Numbers:
    if clock.keyframes is None or not len(clock.keyframes):
        raise VideoError("no keyframe among the presented frames; use snap='exact'")
    return clock.keyframes[
        nearest_numbers(clock.times[clock.keyframes], clock.times[numbers], tie=HAIR)
    ]
