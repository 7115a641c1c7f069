"""What a video holds, from one pass over its packets:
when each frame is presented, and where decoding can start.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace as replace_fields

from mmdata._tools.options import checked
from mmdata.errors import VideoError
from mmdata.schema import CompactTimes
from mmdata.video.clock import Clock, average_rate, compact, times_of
from mmdata.video.coded_order import coded_order, is_bidirectional, is_packed
from mmdata.video.packets import PacketRow, Packets, heads_of, tick
from mmdata.video.source import is_cover

if TYPE_CHECKING:
    import numpy as np
    from av.container import InputContainer
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from mmdata.schema import Oddity, TimeSource
    from mmdata.video.clock import Numbers, Ticks, Times

__all__ = ["TICKS_ALONE", "UNSEEN", "Index", "build_index", "confirm", "has_times"]

UNSEEN: Final = -1
"""The number of a packet whose frame is never presented
(edit lists decode such frames for others to refer to).
"""

_MOST_SET_BACK: Final = 1.0  # seconds; writers are a little careless with the times of decoding
_LEAP: Final = 1.0  # seconds more than from frame to frame; where files were joined
# Shares of the steps from frame to frame: what a clip of constant rate has at least, and the leaps
# of one that was joined at most. A recording of variable rate has others of both.
_REGULAR: Final = 0.9
_ROUNDED: Final = 1e-3  # seconds; Matroska keeps times in whole milliseconds
_MOST_LEAPS: Final = 0.125
# Frames; what a writer that could not go back leaves in the header of an AVI.
_UNFINISHED: Final = 1 << 30
_DEFAULT_RATE: Final = 25.0  # frames a second; what FFmpeg takes a stream without a rate to have

TICKS_ALONE: Final = "avi"
"""FFmpeg's name of the container that stores ticks of decoding, and no presentation times."""

# Raw MPEG-1 and MPEG-2 have no times; what FFmpeg reports are guesses, and differ from opening to
# opening.
_RAW_MPEG: Final = "mpegvideo"
_LOOKED_AT: Final = 16  # packets; where a stream has B-frames, some are among so many


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Index:
    """What a video holds.

    ``times`` (frames,) float64 are the presentation times in seconds since the first presented
    frame; ``keyframes`` (keyframes,) int64 the numbers of presented frames that decode by
    themselves. ``width`` and ``height`` are pixels as presented, after rotation; ``fps`` is the
    average rate and ``duration`` the end of the frame presented last, in seconds. ``times_source``
    is "derived" where the container stores no presentation times. ``damage`` says in words what the
    packets already show to be wrong; empty for a sound file. ``stored`` are the times as a store
    keeps them, and ``clock`` is all that is known of when. ``oddities`` says how a sound file is
    oddly made (docs/videos.md). ``refusal`` says why its frames cannot be made RGB, as far as the
    first of them shows; empty where they can.

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
    stored: CompactTimes | None = None
    oddities: tuple[Oddity, ...] = ()
    refusal: str = ""

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
        """When its frames are: what strategies, templates and stores go by."""
        return Clock(
            self.times, self.fps, self.keyframes, self.duration, self.times_source, self.stored
        )


def has_times(packets: Packets, container: str, codec: str, header: bytes) -> bool:
    """Return whether a stream has presentation times that can be believed.

    ``container`` and ``codec`` are named as FFmpeg does, and ``header`` is what the container says
    of the codec's parameters.
    """
    stamps = [row.pts for row in packets.rows]
    if container in (TICKS_ALONE, _RAW_MPEG) or None in stamps:
        return False
    if codec not in ("h264", "mpeg4", "mpeg1video", "mpeg2video"):
        return True
    if codec == "mpeg4" and is_packed(header):
        return False

    # Some containers and writers know B-frames, and yet no times for them: MXF, ASF, and what was
    # copied out of an AVI. Then the times ascend as frames are coded.
    first = [stamp for stamp in stamps[:_LOOKED_AT] if stamp is not None]
    if any(after <= before for before, after in pairwise(first)):
        return True
    heads = heads_of(packets.supply, len(first))
    if codec == "mpeg4":
        return not any(map(is_bidirectional, heads))
    order = coded_order(codec, heads, header)
    return order is None or bool((order == range(len(order))).all())


@checked
def build_index(
    container: InputContainer, stream: VideoStream, packets: Packets, *, timeless: bool, name: str
) -> Index:
    """Return the index of an open stream;
    width and height are as coded, for rotation is not known yet.

    Raises:
        VideoError: no frame is ever presented.
    """
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    codec = stream.codec_context.codec.canonical_name
    period = tick(stream)

    order: NDArray[np.int64] | None
    if timeless:
        heads = packets.heads or heads_of(packets.supply, len(packets.rows))
        order = coded_order(codec, heads, stream.codec_context.extradata or b"")
        if container.format.name == TICKS_ALONE:
            rate = _rate_of_ticks(packets.rows, period) or rate
        if order is not None:
            order = _without_unseen(order, packets.rows)
        rows = _with_ticks(packets.rows, order, container.format.name)
        packets = replace(packets, rows=rows)
        shown = [row for row in rows if not row.discard]
        stored, count = _derived_times(shown, period, rate), len(shown)
    else:
        presented = _presented(packets.rows)
        order, ticks = _stored_order(presented, len(packets.rows))
        stored, count = compact(ticks - ticks[:1], period, rate), len(ticks)
    if not count:
        raise VideoError(f"{name}: the video stream presents no frame", path=name)
    keyframes = _keyframes(packets.rows, order)
    times = times_of(stored, count)
    damage = (
        *packets.damage,
        *_absent(packets.rows, stream, container.format.name),
        *(() if timeless else _set_back(packets.rows, presented, period, container.format.name)),
    )
    oddities: tuple[Oddity, ...] = (
        *_oddities(packets.rows, stream, container.format.name, stored),
        # Empty chunks of an AVI, and what else derives its times, leave gaps of their own.
        *(("joined",) if not timeless and _leaps(times, keyframes, period) else ()),
        *(("attached_picture",) if any(map(is_cover, container.streams.video)) else ()),
    )
    # A frame in two packets is not found by its time alone.
    if not (timeless or damage or "fields" in oddities):
        stored = _with_places(stored, int(ticks[0]), period, keyframes)

    last = 1 / (rate or _DEFAULT_RATE)
    if not timeless:
        last = _last_period(packets.rows, order, period, rate)
    duration = float(times[-1]) + last

    return Index(
        times=times,
        keyframes=keyframes,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        fps=average_rate(rate, times, duration),
        duration=duration,
        codec=codec,
        times_source="derived" if timeless else "stream",
        stream=stream.index,
        damage=damage,
        packets=tuple(packets.rows),
        order=order,
        stored=stored,
        oddities=oddities,
    )


def confirm(found: Index, positions: list[int], time_base: float) -> Index:
    """The index of the frames that came out, given the packets they came from in output order."""
    import numpy as np

    rows = list(found.packets)
    positions = list(dict.fromkeys(positions))  # a packet may give more than one frame
    pts = np.zeros(0, np.int64)
    if found.times_source == "stream":
        positions.sort(key=lambda position: rows[position].pts or 0)
        pts = np.array([rows[position].pts for position in positions], np.int64)
        stored = compact(pts - pts[:1], time_base, found.fps)  # [:1], for there may be none
    else:
        stored = _derived_times(
            [rows[position] for position in sorted(positions)], time_base, found.fps
        )
    times = times_of(stored, len(positions)) if positions else np.zeros(0)
    order = np.full(len(rows), UNSEEN)
    order[positions] = np.arange(len(positions))
    keyframes = _keyframes(rows, order)
    if len(pts) and found.stored is not None and found.stored.first_tick is not None:
        stored = _with_places(stored, int(pts[0]), time_base, keyframes)

    last = found.duration - float(found.times[-1])  # as of the last frame that was promised
    if found.times_source == "stream":
        assert found.order is not None
        if order.argmax() != found.order.argmax():
            last = _last_period(rows, order, time_base, found.fps)
    duration = (float(times[-1]) if len(times) else 0.0) + last
    return replace(
        found,
        times=times,
        order=order,
        keyframes=keyframes,
        duration=duration,
        stored=stored,
    )


def _with_places(
    stored: CompactTimes, first_tick: int, period: float, keyframes: Numbers
) -> CompactTimes:
    """Return the times of frames with what a reader needs to seek to them, where the times are
    whole ticks of the stream.
    """
    if stored.unit != period:
        return stored
    return replace_fields(stored, first_tick=first_tick, keyframes=tuple(keyframes.tolist()))


def _derived_times(rows: list[PacketRow], period: float, rate: float) -> CompactTimes:
    """Return the times of frames of a container that stores none: one frame a packet, in the order
    in which they come out, at the ticks of decoding that the packets carry; where they carry none,
    at the ``rate`` of the stream.

    Ticks without a frame are those of empty chunks, which stand for frames that were dropped.
    """
    import numpy as np

    known = [row.dts for row in rows if row.dts is not None]
    ticks = np.array(known, np.int64)
    if not known or len(known) < len(rows) or (np.diff(ticks) < 0).any():
        return CompactTimes(step=1 / (rate or _DEFAULT_RATE))
    return compact(ticks - ticks[0], period, rate)


def _without_unseen(order: NDArray[np.int64], rows: list[PacketRow]) -> NDArray[np.int64]:
    """Return the order of packets in which those that give no frame are not counted."""
    import numpy as np

    seen = np.flatnonzero([not row.discard for row in rows])
    found = np.full(len(order), UNSEEN)
    found[seen[np.argsort(order[seen])]] = np.arange(len(seen))
    return found


def _with_ticks(
    rows: list[PacketRow], order: NDArray[np.int64] | None, container: str
) -> list[PacketRow]:
    """Return the packets of a container that stores no presentation times with the tick at which
    the n-th frame comes out in the n-th packet, in the place of its time of decoding.

    An AVI counts these ticks itself. Others have times for some packets (MPEG program streams, one
    for each of their own packets) or have them at the wrong packets; raw streams have none.
    """
    if container == TICKS_ALONE:
        return rows

    presented = [number for number, row in enumerate(rows) if not row.discard]
    stamps = [rows[number].pts for number in presented]
    places: list[int] = list(range(len(stamps)))
    if container == _RAW_MPEG:
        stamps = [None] * len(stamps)
    elif None not in stamps:
        stamps.sort()
    elif order is not None:
        places = order[presented].tolist()
    else:
        stamps = [rows[number].dts for number in presented]

    ticks = _interpolate(places, stamps)
    found = list(rows)
    for number, instant in zip(presented, ticks, strict=True):
        found[number] = replace_fields(rows[number], dts=instant)
    return found


def _interpolate(places: list[int], stamps: list[int | None]) -> list[int] | list[None]:
    """Return the tick of each frame, given those of two at least; none where they do not ascend.

    ``places`` are the presentation numbers of the frames whose ``stamps`` are given. Between two of
    them frames are evenly.
    """
    import numpy as np

    known = sorted(
        (place, stamp) for place, stamp in zip(places, stamps, strict=True) if stamp is not None
    )
    if len(known) < 2:
        return [None] * len(stamps)
    numbers, ticks = np.array(known, np.int64).T
    if (np.diff(ticks) < 0).any():
        return [None] * len(stamps)

    every = np.arange(len(stamps))
    found = np.interp(every, numbers, ticks)
    # Before the first that is known and after the last, at the pace of those between.
    pace = (ticks[-1] - ticks[0]) / max(numbers[-1] - numbers[0], 1)
    found += np.minimum(every - numbers[0], 0) * pace + np.maximum(every - numbers[-1], 0) * pace
    whole: list[int] = np.rint(found).astype(np.int64).tolist()
    return whole


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


class _Presented(NamedTuple):
    """The packets whose frames are presented: their ``numbers``, ``pts`` and whether they are
    ``keyframes``, (presented packets,) each.
    """

    numbers: Numbers
    pts: Ticks
    keyframes: NDArray[np.bool_]


def _presented(rows: list[PacketRow]) -> _Presented:
    import numpy as np

    are_shown = ~np.array([row.discard for row in rows], bool)
    keyframes = np.array([row.keyframe for row in rows], bool)
    pts = np.array([row.pts for row in rows if not row.discard], np.int64)
    return _Presented(np.flatnonzero(are_shown), pts, keyframes[are_shown])


def _stored_order(presented: _Presented, packets: int) -> tuple[NDArray[np.int64], Ticks]:
    """The presentation number of each packet, by its time,
    and the times of the frames in ticks.
    """
    import numpy as np

    # Stably: frames of one time keep the order of their packets, on every machine.
    by_time = np.argsort(presented.pts, kind="stable")
    # The permutation turned round: from "which packet is shown n-th" to "when is a packet shown".
    order = np.full(packets, UNSEEN)
    order[presented.numbers[by_time]] = np.arange(len(by_time))

    return order, presented.pts[by_time]


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
    ticks = rows[last].duration or 0
    if last + 1 < len(rows) and last >= 0 and rows[last + 1].second:
        ticks += rows[last + 1].duration or 0
    return ticks * period or (1 / rate if rate else 0.0)


def _absent(rows: list[PacketRow], stream: VideoStream, container: str) -> tuple[str, ...]:
    """What the header promises and the file does not hold."""
    promised = stream.frames
    if container == "avi":  # the header counts ticks, and a frame may last several
        ticks = (rows[-1].dts or 0) - (rows[0].dts or 0)
        found = round(ticks * len(rows) / (len(rows) - 1)) if len(rows) > 1 else 1
    elif "mp4" in container:
        # The header counts samples that an edit list leaves out; the index of the demuxer does not.
        found, promised = len(rows), min(promised, len(stream.index_entries))
    else:
        return ()
    return (f"{found} of {promised} frames are there",) if found < promised < _UNFINISHED else ()


def _oddities(
    rows: list[PacketRow], stream: VideoStream, container: str, stored: CompactTimes
) -> Iterator[Oddity]:
    if "mp4" in container:
        # Samples that an edit list hides are discarded, or not in the demuxer's index at all.
        hidden = stream.frames > len(stream.index_entries)
        if hidden or any(row.discard and not row.second for row in rows):
            yield "trimmed"
    elif not rows[0].keyframe and rows[0].discard:
        yield "begins_between_keyframes"
    if any(row.second for row in rows):
        yield "fields"
    if container == TICKS_ALONE and stored.deltas:
        yield "dropped_frames"


def _leaps(times: Times, keyframes: Numbers, period: float) -> bool:
    """Whether the clock leaps ahead at keyframes alone and runs evenly else, as where recordings
    were joined end to end that were not made one after the other.
    """
    import numpy as np

    steps = np.diff(times)  # (frames - 1,) seconds
    # Where each frame is a keyframe, a leap to one says nothing.
    if not len(steps) or len(keyframes) == len(times):
        return False

    usual = float(np.median(steps))
    leaps = np.flatnonzero(steps > usual + _LEAP)
    if not len(leaps) or len(leaps) > _MOST_LEAPS * len(steps):
        return False
    even = np.abs(steps - usual) <= _ROUNDED + period
    is_even = np.count_nonzero(even) >= _REGULAR * (len(steps) - len(leaps))
    return bool(is_even and np.isin(leaps + 1, keyframes).all())


def _set_back(
    rows: list[PacketRow], presented: _Presented, period: float, container: str
) -> tuple[str, ...]:
    """Whether the clock is set back on the way, as where files were joined end to end:
    times are then no order.
    """
    import numpy as np

    steps = np.diff(np.array([row.dts for row in rows if row.dts is not None], np.int64)) * period
    back, packet = 0.0, 0
    # Matroska stores no times of decoding: they are FFmpeg's guesses, and jump at long frames.
    if len(steps) and steps.min() < -_MOST_SET_BACK and "matroska" not in container:
        back, packet = -steps.min(), int(steps.argmin()) + 1
    else:
        # What comes before a keyframe in the file is presented before it, however careless the
        # times of decoding are; else two scenes would be shuffled into one another.
        numbers, pts, keyframes = presented
        late = np.maximum.accumulate(pts) - pts  # (presented packets,) ticks after an earlier one
        late[~keyframes] = 0
        if len(late) and late.max() > 0:
            back, packet = late.max() * period, int(numbers[late.argmax()])
    if not back:
        return ()
    return (f"the times go back by {back:.3f} s at packet {packet}; were files joined?",)
