"""Reading no more of a file than the frames that are wanted need, where its clock is known.

A clock that a store keeps says where keyframes are, and so from which packet on each frame is to be
decoded. What comes of it is an :class:`Index` of these packets alone, which a reader goes by as it
goes by that of a whole file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import dropwhile, islice, pairwise
from typing import TYPE_CHECKING, Final

from mmdata._tools.options import checked
from mmdata.video.clock import Clock
from mmdata.video.index import UNSEEN, Index
from mmdata.video.packets import NEAR, Held, PacketRow, Supply, demux, has_table, row_of, tick

if TYPE_CHECKING:
    import numpy as np
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from mmdata._tools.limits import Limits
    from mmdata.video.clock import Ticks

__all__ = ["index_wanted"]

# Packets that are read from where a seek comes out to the keyframe that was sought, at most.
_MOST_BEFORE: Final = 1000
_MOST_LATE: Final = 16  # packets of later frames that come before that of a frame, in any codec


@checked
def index_wanted(
    container: InputContainer,
    stream: VideoStream,
    clock: Clock,
    wanted: Collection[int],
    limits: Limits,
) -> tuple[Index, Supply] | None:
    """Return the index of the packets that the ``wanted`` frames need, and what gives them out;
    None where only a pass over all packets can tell: the clock does not say where frames are, or
    the file is not as it says.
    """
    import numpy as np

    stored = clock.stored
    if (
        stored is None
        or stored.first_tick is None
        or stored.unit != tick(stream)
        or clock.keyframes is None
        or clock.source != "stream"
        or len(clock) > limits.frames
        or 0 < stream.frames < len(clock)  # which some containers count in their header
    ):
        return None

    # Times are whole ticks times the unit, so that their quotients are whole but for a hair.
    pts = stored.first_tick + np.rint(clock.times / stored.unit).astype(np.int64)  # (frames,)
    numbers = np.unique(np.array(list(wanted), np.int64))
    keys = np.searchsorted(clock.keyframes, numbers, side="right") - 1
    stretches = _Stretches(container, stream, limits.packet_bytes)
    for number, key in zip(numbers.tolist(), keys.tolist(), strict=True):
        # Frames before the first keyframe are decoded from the start of the file.
        start = None if key < 0 else int(clock.keyframes[key])
        if not stretches.read_to(number, start, pts):
            return None

    order = _order_in(stretches.rows, pts)
    if order is None or _lacks_frames(order, stretches.starts):
        return None
    index = Index(
        times=clock.times,
        keyframes=clock.keyframes,
        width=stream.codec_context.width,
        height=stream.codec_context.height,
        fps=clock.fps,
        duration=clock.end,
        codec=stream.codec_context.codec.canonical_name,
        times_source=clock.source,
        stream=stream.index,
        packets=tuple(stretches.rows),
        order=order,
        stored=stored,
    )
    supply: Supply = Held(stretches.held)
    if stretches.size > limits.packet_bytes:  # what was held is gone
        # Without a table, a seek comes out within a packet, and the parser makes up what it is.
        if not has_table(container):
            return None
        supply = _Reread(container, stream, stretches.rows)
    return index, supply


class _Reread:
    """Packets of stretches read again."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, rows: list[PacketRow]
    ) -> None:
        self._container = container
        self._stream = stream
        self._rows = rows

    def between(self, start: int, stop: int) -> Iterable[Packet[VideoStream]]:
        """Return the packets ``start``, a keyframe, to ``stop``, both included."""
        first = self._rows[start]
        self._container.seek(first.pts or 0, stream=self._stream)
        ahead = demux(self._container, self._stream)
        from_start = dropwhile(lambda packet: packet.pts != first.pts, ahead)
        return islice(from_start, stop - start + 1)


class _Stretches:
    """Packets from keyframes to wanted frames, as they are read: ``rows`` about them, at which of
    them a stretch ``starts``, the packets that are ``held``, none where they are of more than
    ``most`` bytes, and their ``size``.
    """

    def __init__(self, container: InputContainer, stream: VideoStream, most: int) -> None:
        self.rows: list[PacketRow] = []
        self.starts: list[int] = [0]
        self.held: list[Packet[VideoStream]] = []
        self.size = 0
        self._container = container
        self._stream = stream
        self._most = most
        self._seen: set[int | None] = set()  # the pts of presented packets
        self._ahead = demux(container, stream)
        self._number = -1  # of the wanted frame that was read last

    def read_to(self, number: int, start: int | None, pts: Ticks) -> bool:
        """Read what the frame ``number`` needs, from the keyframe ``start`` on, and return whether
        the file has both; ``pts`` (frames,) are the ticks of all frames. Numbers must ascend.
        """
        from av import FFmpegError

        wanted = int(pts[number])
        try:
            if wanted not in self._seen:
                if start is not None and not self._go_to(start, pts):
                    return False
                if wanted not in self._seen and not self._read_on(wanted):
                    return False
        except FFmpegError:
            return False
        self._number = number
        return True

    def _go_to(self, start: int, pts: Ticks) -> bool:
        """Read the keyframe ``start``, unless that has been done."""
        wanted = int(pts[start])
        if wanted in self._seen:
            return True
        if start - self._number > NEAR:
            # A stream without a table is sought in by its times of decoding, which are earlier.
            early = 0 if has_table(self._container) else _MOST_LATE
            self._container.seek(int(pts[max(start - early, 0)]), stream=self._stream)
            self._ahead = demux(self._container, self._stream)

        self.starts.append(len(self.rows))
        for packet in islice(self._ahead, _MOST_BEFORE):
            if packet.is_keyframe and packet.pts is not None and packet.pts >= wanted:
                return packet.pts == wanted and self._keep(packet)
        return False

    def _read_on(self, pts: int) -> bool:
        """Read to the packet of the frame at ``pts``."""
        beyond = 0
        for packet in self._ahead:
            if not self._keep(packet):
                return False
            if pts in self._seen:
                return True
            # Frames may follow one keyframe that is presented after them, and no second.
            beyond += packet.is_keyframe and (packet.pts or 0) > pts
            if beyond > 1:
                return False
        return False

    def _keep(self, packet: Packet[VideoStream]) -> bool:
        """Keep a packet, and return whether it is as those of a sound file."""
        self.rows.append(row_of(packet))
        self.size += packet.size
        self.held.append(packet)
        if self.size > self._most:
            self.held.clear()
        if not packet.is_discard:
            self._seen.add(packet.pts)
        return packet.pts is not None and not packet.is_corrupt


def _order_in(rows: list[PacketRow], pts: Ticks) -> NDArray[np.int64] | None:
    """Return the presentation number of each packet by the ticks of all frames, ``pts`` (frames,);
    None where the packets are not those of such frames.
    """
    import numpy as np

    found = np.array([row.pts for row in rows], np.int64)  # (packets,)
    # What comes before the first frame is decoded for others, and never presented.
    presented = np.array([not row.discard for row in rows]) & (found >= pts[0])
    places = np.searchsorted(pts, found).clip(max=len(pts) - 1)
    are_known = pts[places] == found
    are_distinct = len(np.unique(found[presented])) == presented.sum() and (np.diff(pts) > 0).all()
    if not rows[0].keyframe or not are_known[presented].all() or not are_distinct:
        return None
    return np.where(presented, places, UNSEEN)


def _lacks_frames(order: NDArray[np.int64], starts: list[int]) -> bool:
    """Return whether a frame is missing amid a stretch; near its end it may come with a packet that
    was not needed.
    """
    import numpy as np

    for start, stop in pairwise([*starts, len(order)]):
        numbers = np.sort(order[start:stop][order[start:stop] >= max(order[start], 0)])
        if (np.diff(numbers[:-_MOST_LATE]) != 1).any():
            return True
    return False
