"""What a video holds, from one pass over its packets:
when each frame is presented, and where decoding can start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mmdata._tools.options import checked
from mmdata.errors import VideoError
from mmdata.video.coded_order import coded_order
from mmdata.video.packets import PacketRow, Packets, tick

if TYPE_CHECKING:
    import numpy as np
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from mmdata.schema import TimeSource
    from mmdata.video.sampling import Clock, Numbers, Times

__all__ = ["TIMELESS", "UNSEEN", "Index", "average_rate", "build_index", "confirm"]

UNSEEN: Final = -1
"""The number of a packet whose frame is never presented
(edit lists decode such frames for others to refer to).
"""

_MOST_SET_BACK: Final = 1.0  # seconds; writers are a little careless with the times of decoding
# Frames; what a writer that could not go back leaves in the header of an AVI.
_UNFINISHED: Final = 1 << 30
_DEFAULT_RATE: Final = 25.0  # frames a second; what FFmpeg takes a stream without a rate to have
_ROUNDED: Final = 1e-3  # seconds; Matroska keeps times in whole milliseconds

TIMELESS: Final = frozenset({"avi"})
"""FFmpeg's names of containers that store no presentation times;
what it reports for them are guesses.
"""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Index:
    """What a video holds.

    ``times`` (frames,) float64 are the presentation times in seconds since the first presented
    frame; ``keyframes`` (keyframes,) int64 the numbers of presented frames that decode by
    themselves. ``width`` and ``height`` are pixels as presented, after rotation; ``fps`` is
    :func:`average_rate` and ``duration`` the end of the frame presented last, in seconds.
    ``times_source`` is "derived" where the container stores no presentation times. ``damage`` says
    in words what the packets already show to be wrong; empty for a sound file.

    ``packets`` are all packets in decoding order and ``order`` (packets,) int64 the presentation
    number of each, -1 if it is never presented; ``order`` is None where only decoding can tell.
    """

    times: Times
    keyframes: Numbers
    width: int
    height: int
    fps: float
    duration: float
    codec: str
    times_source: TimeSource
    stream: int
    damage: tuple[str, ...] = ()
    packets: tuple[PacketRow, ...] = ()
    order: NDArray[np.int64] | None = None

    def __repr__(self) -> str:
        return (
            f"Index({self.codec}, {self.num_frames} frames of {self.width}x{self.height}, "
            f"{self.duration:.3f} s at {self.fps:g} fps, {len(self.keyframes)} keyframes, "
            f"times_source={self.times_source!r}, damage={self.damage})"
        )

    @property
    def num_frames(self) -> int:
        """The number of presented frames."""
        return len(self.times)

    @property
    def clock(self) -> Clock:
        """What sampling rules see of it."""
        from mmdata.video.sampling import Clock

        return Clock(self.times, self.fps, self.keyframes)


@checked
def build_index(
    container: InputContainer, stream: VideoStream, packets: Packets, *, timeless: bool, name: str
) -> Index:
    """Return the index of an open stream;
    width and height are as coded, for rotation is not known yet.

    Raises:
        VideoError: no frame is ever presented.
    """
    import numpy as np

    rate = float(stream.average_rate or stream.guessed_rate or 0)
    codec = stream.codec_context.codec.canonical_name
    period = tick(stream)

    order: NDArray[np.int64] | None
    if timeless:
        order = coded_order(codec, packets.heads, stream.codec_context.extradata or b"")
        if container.format.name in TIMELESS:
            rate = _rate_of_ticks(packets.rows, period) or rate
        times = np.arange(len(packets.rows)) / (rate or _DEFAULT_RATE)
    else:
        order, times = _stored_order(packets.rows, period)
    if not len(times):
        raise VideoError(f"{name}: the video stream presents no frame", path=name)

    last = 1 / (rate or _DEFAULT_RATE)
    if not timeless:
        last = _last_period(packets.rows, order, period, rate)
    duration = float(times[-1]) + last

    return Index(
        times=times,
        keyframes=_keyframes(packets.rows, order),
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        fps=average_rate(rate, times, duration),
        duration=duration,
        codec=codec,
        times_source="derived" if timeless else "stream",
        stream=stream.index,
        damage=(
            *packets.damage,
            *_absent(packets.rows, stream, container.format.name),
            *(() if timeless else _set_back(packets.rows, period)),
        ),
        packets=tuple(packets.rows),
        order=order,
    )


def confirm(found: Index, positions: list[int], time_base: float) -> Index:
    """The index of the frames that came out, given the packets they came from in output order."""
    import numpy as np

    rows = list(found.packets)
    positions = list(dict.fromkeys(positions))  # a packet may give more than one frame
    if found.times_source == "stream":
        positions.sort(key=lambda position: rows[position].pts or 0)
        pts = np.array([rows[position].pts for position in positions], np.int64)
        times = (pts - pts[:1]) * time_base  # [:1], for there may be none
    else:
        times = found.times[: len(positions)]
    order = np.full(len(rows), UNSEEN)
    order[positions] = np.arange(len(positions))

    if found.times_source == "stream":
        last = _last_period(rows, order, time_base, found.fps)
    else:
        last = 1 / found.fps
    duration = (float(times[-1]) if len(times) else 0.0) + last
    return replace(
        found, times=times, order=order, keyframes=_keyframes(rows, order), duration=duration
    )


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
        if (count > 1 and late.max() <= _ROUNDED) or abs(count / stated - duration) <= _ROUNDED:
            return stated
    return count / duration if duration else stated


def _rate_of_ticks(rows: list[PacketRow], period: float) -> float:
    """Return the rate of an AVI each of whose frames lasts the same number of ticks, above one;
    else 0.

    Its header then states the rate of the ticks. Between them are chunks without data, which the
    demuxer counts.
    """
    ticks = [row.dts for row in rows if row.dts is not None]
    steps = {after - before for before, after in pairwise(ticks)}
    step = steps.pop() if len(steps) == 1 else 0
    return 1 / (step * period) if step > 1 else 0.0


def _stored_order(rows: list[PacketRow], period: float) -> tuple[NDArray[np.int64], Times]:
    """The presentation number of each packet, by its time,
    and the times of the frames; a tick lasts ``period``.
    """
    import numpy as np

    # (presented packets,)
    presented = np.array([number for number, row in enumerate(rows) if not row.discard], np.int64)
    pts = np.array([row.pts for row in rows if not row.discard], np.int64)
    # Stably: frames of one time keep the order of their packets, on every machine.
    by_time = np.argsort(pts, kind="stable")
    # The permutation turned round: from "which packet is shown n-th" to "when is a packet shown".
    order = np.full(len(rows), UNSEEN)
    order[presented[by_time]] = np.arange(len(pts))

    # Differences of whole ticks are exact; a file's first time may be anything.
    ordered = pts[by_time]
    return order, (ordered - ordered[:1]) * period


def _keyframes(rows: list[PacketRow], order: NDArray[np.int64] | None) -> Numbers:
    """The presentation numbers of keyframes; where the order is unknown, of none but the first."""
    import numpy as np

    if order is None:
        return np.zeros(1, np.int64)
    numbers = np.sort(order[[number for number, row in enumerate(rows) if row.keyframe]])
    return numbers[np.searchsorted(numbers, 0) :]  # the unseen stand before 0


def _last_period(
    rows: list[PacketRow], order: NDArray[np.int64] | None, period: float, rate: float
) -> float:
    last = -1 if order is None else int(order.argmax())
    return (rows[last].duration or 0) * period or (1 / rate if rate else 0.0)


def _absent(rows: list[PacketRow], stream: VideoStream, container: str) -> tuple[str, ...]:
    """What the header promises and the file does not hold."""
    if container == "avi":  # the header counts ticks, and a frame may last several
        ticks = (rows[-1].dts or 0) - (rows[0].dts or 0)
        found = round(ticks * len(rows) / (len(rows) - 1)) if len(rows) > 1 else 1
    elif "mp4" in container:
        found = len(rows)
    else:
        return ()
    return (
        (f"{found} of {stream.frames} frames are there",)
        if found < stream.frames < _UNFINISHED
        else ()
    )


def _set_back(rows: list[PacketRow], period: float) -> tuple[str, ...]:
    """Whether the clock is set back on the way, as where files were joined end to end:
    times are then no order.
    """
    import numpy as np

    steps = np.diff(np.array([row.dts for row in rows if row.dts is not None], np.int64)) * period
    if not len(steps) or steps.min() >= -_MOST_SET_BACK:
        return ()
    return (
        f"the times go back by {-steps.min():.3f} s at packet {steps.argmin() + 1}; "
        "were files joined?",
    )
