"""What a video holds, from one pass over its packets: when each frame is presented, and where decoding can start."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mmdata.errors import VideoError
from mmdata.limits import Limits
from mmdata.video.coded_order import coded_order
from mmdata.video.packets import PacketRow, Packets, read_packets, tick
from mmdata.video.pixels import presented_size
from mmdata.video.reader import Reader
from mmdata.video.source import Source, name_of, opened

if TYPE_CHECKING:
    import numpy as np
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from mmdata.schema import TimeSource
    from mmdata.video.sampling import Clock, Numbers, Times

__all__ = ["UNSEEN", "Index", "index", "scan"]

UNSEEN: Final = -1
"""The number of a packet whose frame is never presented (edit lists decode such frames for others to refer to)."""

_TIMELESS: Final = frozenset({"avi"})  # containers that store no presentation times; what FFmpeg reports are guesses


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Index:
    """What a video holds.

    ``times`` (frames,) float64 are the presentation times in seconds since the first presented frame; ``keyframes``
    (keyframes,) int64 the numbers of presented frames that decode by themselves. ``width`` and ``height`` are pixels as
    presented, after rotation; ``fps`` the container's average rate; ``duration`` the end of the last frame in seconds.
    ``times_source`` is "derived" where the container stores no presentation times. ``damage`` says in words what the
    packets already show to be wrong; empty for a sound file.

    ``packets`` are all packets in decoding order and ``order`` (packets,) int64 the presentation number of each, -1 if
    it is never presented; ``order`` is None where only decoding can tell.
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
            f"Index({self.codec}, {self.num_frames} frames of {self.width}x{self.height}, {self.duration:.3f} s at "
            f"{self.fps:g} fps, {len(self.keyframes)} keyframes, times_source={self.times_source!r}, "
            f"damage={self.damage})"
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


def index(source: Source, *, stream: int | None = None, limits: Limits | None = None) -> Index:
    """Return the index of a video: one pass over its packets, and its first frame decoded to learn how it is turned.

    ``source`` is a path or the bytes of a file; ``stream`` the index of a stream in it, by default the best one.

    Raises:
        VideoError: with a reason code; nothing can be read, or a limit is exceeded.
    """
    limits = limits or Limits()
    with opened(source, stream, limits) as (container, video):
        found = scan(container, video, source, limits)
        return _upright(found, next(Reader(container, video, found, name_of(source)).everything(), None), source)


def _upright(found: Index, first: tuple[int, VideoFrame] | None, source: Source) -> Index:
    if first is None:
        raise VideoError(f"{name_of(source)}: not one frame can be decoded", path=name_of(source))
    width, height = presented_size(first[1])
    return replace(found, width=width, height=height)


def decoded(source: Source, *, stream: int | None = None, limits: Limits | None = None) -> Index:
    """Return the index of a video as a full decode finds it: only frames that decode are in it.

    Every packet that the decoder refuses, and every frame that it marks as corrupt, is told in ``damage``.
    """
    limits = limits or Limits()
    with opened(source, stream, limits) as (container, video):
        found = scan(container, video, source, limits)
        reader = Reader(container, video, found, name_of(source))
        first, positions, corrupt = None, [], 0
        for position, frame in reader.everything():
            first = first or (position, frame)
            positions.append(position)
            corrupt += frame.is_corrupt
        found = _confirmed(found, positions, tick(video))
        marked = (f"{corrupt} frames are marked corrupt",) if corrupt else ()
        found = replace(found, damage=found.damage + reader.damage + marked)
        return _upright(found, first, source)


def scan(container: InputContainer, stream: VideoStream, source: Source, limits: Limits) -> Index:
    """Return the index of an open stream; width and height are as coded, for rotation is not known yet."""
    timeless = container.format.name in _TIMELESS
    packets = read_packets(container, stream, source, limits, heads=timeless)
    timeless = timeless or any(row.pts is None for row in packets.rows)
    return _built(container, stream, packets, timeless, source)


def _built(container: InputContainer, stream: VideoStream, packets: Packets, timeless: bool, source: Source) -> Index:
    rate = float(stream.average_rate or stream.guessed_rate or 0)
    codec = stream.codec_context.codec.canonical_name
    order = coded_order(codec, packets) if timeless else _stored_order(packets.rows)
    times = _derived_times(packets.rows, stream, rate) if timeless else _stored_times(packets.rows, stream)
    if not len(times):
        raise VideoError(f"{name_of(source)}: the video stream presents no frame", path=name_of(source))
    return Index(
        times=times,
        keyframes=_keyframes(packets.rows, order),
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        fps=rate or _mean_rate(times),
        duration=float(times[-1]) + _last_period(packets.rows, order, stream, rate),
        codec=codec,
        times_source="derived" if timeless else "stream",
        stream=stream.index,
        damage=packets.damage + _absent(packets.rows, stream, container.format.name),
        packets=tuple(packets.rows),
        order=order,
    )


def _confirmed(found: Index, positions: list[int], time_base: float) -> Index:
    """The index of the frames that came out, given the packets they came from in output order."""
    import numpy as np

    order = np.full(len(found.packets), UNSEEN)
    if found.times_source == "stream":
        positions = sorted(dict.fromkeys(positions), key=lambda position: found.packets[position].pts or 0)
        pts = np.array([found.packets[position].pts for position in positions], np.int64)
        times = (pts - pts[:1]) * time_base
    else:
        positions = list(dict.fromkeys(positions))
        times = found.times[: len(positions)]
    order[positions] = np.arange(len(positions))
    duration = found.duration - float(found.times[-1]) + (float(times[-1]) if len(times) else 0.0)
    keyframes = _keyframes(list(found.packets), order)
    return replace(found, times=times, order=order, keyframes=keyframes, duration=duration)


def _stored_order(rows: list[PacketRow]) -> NDArray[np.int64]:
    """The presentation number of each packet, by its time."""
    import numpy as np

    presented = np.array([not row.discard for row in rows], np.bool_)  # (packets,)
    pts = np.array([row.pts for row in rows], np.int64)[presented]
    order = np.full(len(rows), UNSEEN)
    order[np.flatnonzero(presented)[np.argsort(pts, kind="stable")]] = np.arange(len(pts))
    return order


def _stored_times(rows: list[PacketRow], stream: VideoStream) -> Times:
    import numpy as np

    pts = np.sort(np.array([row.pts for row in rows if not row.discard], np.int64))
    return (pts - pts[:1]) * tick(stream)


def _derived_times(rows: list[PacketRow], stream: VideoStream, rate: float) -> Times:
    """The k-th frame at the k-th tick that holds a packet; at k / rate where not even ticks are stored."""
    import numpy as np

    if all(row.dts is not None for row in rows):
        ticks = np.unique(np.array([row.dts for row in rows], np.int64))
        if len(ticks) == len(rows):
            return (ticks - ticks[:1]) * tick(stream)
    return np.arange(len(rows)) / (rate or 25.0)  # FFmpeg's own default for streams without a rate


def _keyframes(rows: list[PacketRow], order: NDArray[np.int64] | None) -> Numbers:
    """The presentation numbers of keyframes; where the order is unknown, of none but the first."""
    import numpy as np

    if order is None:
        return np.zeros(1, np.int64)
    numbers = order[np.array([row.keyframe for row in rows], np.bool_)]
    return np.sort(numbers[numbers != UNSEEN])


def _last_period(rows: list[PacketRow], order: NDArray[np.int64] | None, stream: VideoStream, rate: float) -> float:
    last = -1 if order is None else int(order.argmax())
    return rows[last].duration * tick(stream) or (1 / rate if rate else 0.0)


def _mean_rate(times: Times) -> float:
    return (len(times) - 1) / float(times[-1]) if times[-1] else 0.0


def _absent(rows: list[PacketRow], stream: VideoStream, container: str) -> tuple[str, ...]:
    """What the header promises and the file does not hold."""
    if container == "avi":  # the header counts ticks, of which some may be empty
        found = 1 + (rows[-1].dts or 0) - (rows[0].dts or 0)
    elif "mp4" in container:
        found = len(rows)
    else:
        return ()
    return (f"{found} of {stream.frames} frames are there",) if found < stream.frames else ()
