"""Exact frames for less work: decode only from the keyframes that matter, and only what the wanted frames need."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from mmdata.errors import VideoError
from mmdata.video.packets import demuxed
from mmdata.video.source import plain

if TYPE_CHECKING:
    import numpy as np
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream
    from numpy.typing import NDArray

    from mmdata.video.index import Index

    Numbered: TypeAlias = tuple[int, Packet[VideoStream]]

__all__ = ["Fault", "Reader", "Segment", "segments"]

_NEAR: Final = 32  # packets that are read past rather than jumped over; a seek costs about as much


class Fault(NamedTuple):
    """A packet that the decoder refused: its number in decoding order, and what the decoder said."""

    packet: int
    message: str


class Segment(NamedTuple):
    """Packets ``start`` to ``stop`` (included, in decoding order), which decode to the ``wanted`` frames and others."""

    start: int
    stop: int
    wanted: frozenset[int]


def segments(index: Index, wanted: Collection[int]) -> list[Segment]:
    """Return the stretches of packets to decode for the ``wanted`` frame numbers, in order and without overlap.

    A stretch starts at the last keyframe that comes before its first wanted frame both in decoding and in
    presentation order, and goes on as long as no later keyframe saves work.
    """
    import numpy as np

    assert index.order is not None, "without an order there are no stretches"
    position = np.empty(index.num_frames, np.int64)  # of each frame's packet
    presented = np.flatnonzero(index.order >= 0)
    position[index.order[presented]] = presented
    ranks = _ranks(index)
    keys = np.flatnonzero([row.keyframe for row in index.packets])
    found: list[Segment] = []
    for number in sorted(wanted):
        last = int(position[number])
        usable = keys[(keys <= last) & (ranks[keys] <= ranks[last])]
        start = int(usable[-1]) if len(usable) else 0
        if found and start <= found[-1].stop:
            before = found.pop()
            found.append(Segment(before.start, max(before.stop, last), before.wanted | {number}))
        else:
            found.append(Segment(start, last, frozenset({number})))
    return found


class Reader:
    """Decodes wanted frames of an open stream; ``faults`` are the packets that the decoder refused on the way."""

    def __init__(self, container: InputContainer, stream: VideoStream, index: Index, name: str) -> None:
        self._container = container
        self._stream = stream
        self._index = index
        self.name = name
        self.faults: list[Fault] = []

    @property
    def damage(self) -> tuple[str, ...]:
        """What the faults say, in words; empty if there are none."""
        if not self.faults:
            return ()
        first = self.faults[0]
        return (f"{len(self.faults)} packets cannot be decoded, the first is number {first.packet}: {first.message}",)

    def frames(self, wanted: Collection[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, decoded frame) for the ``wanted`` numbers that decode, not always in order."""
        if not wanted:
            return
        if self._index.order is None or self._index.damage:
            yield from self._among_everything(wanted)
            return
        cursor = Cursor(self._container, self._stream, self._index, self.name)
        for segment in segments(self._index, wanted):
            yield from self._segment(cursor, segment, self._index.order)

    def everything(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (packet, decoded frame) for every frame that decodes, in output order."""
        cursor = Cursor(self._container, self._stream, self._index, self.name)
        yield from self._decoded(enumerate(cursor.packets(0, len(self._index.packets) - 1)))

    def _segment(self, cursor: Cursor, segment: Segment, order: NDArray[np.int64]) -> Iterator[tuple[int, VideoFrame]]:
        for position, frame in self._decoded(self._marked(cursor, segment, order)):
            if (number := int(order[position])) in segment.wanted:
                yield number, frame

    def _marked(self, cursor: Cursor, segment: Segment, order: NDArray[np.int64]) -> Iterator[Numbered]:
        """The packets of a segment; before each, the decoder is told whether its frame may be left out.

        NONREF drops only frames that no other frame refers to, so what is decoded stays exact.
        """
        context = self._stream.codec_context
        packets = cursor.packets(segment.start, segment.stop)
        for position, packet in enumerate(packets, segment.start):
            context.skip_frame = "DEFAULT" if order[position] in segment.wanted else "NONREF"
            yield position, packet

    def _among_everything(self, wanted: Collection[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from the first packet on and leave nothing out.

        So it must be where the order is unknown, or where damage makes frames depend on all that came before.
        """
        last, order = max(wanted), self._index.order
        for place, (position, frame) in enumerate(self.everything()):
            number = place if order is None else int(order[position])
            if number in wanted:
                yield number, frame
            if number == last:
                return

    def _decoded(self, packets: Iterator[Numbered]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode ``packets`` and, at their end, what the decoder still holds; frames carry their packet's number."""
        from av import FFmpegError

        context = self._stream.codec_context
        position = -1
        for position, packet in packets:
            packet.pts = position  # comes out as the pts of its frame, wherever reordering puts it
            try:
                yield from _numbered(context.decode(packet))
            except FFmpegError as error:
                self.faults.append(Fault(position, plain(error)))
        try:
            yield from _numbered(context.decode(None))
        except FFmpegError as error:
            self.faults.append(Fault(position, plain(error)))
        context.flush_buffers()


def _numbered(frames: list[VideoFrame]) -> Iterator[tuple[int, VideoFrame]]:
    return ((frame.pts, frame) for frame in frames if frame.pts is not None)


class Cursor:
    """A place among the packets of a stream, known by their identity and not by what a seek promises."""

    def __init__(self, container: InputContainer, stream: VideoStream, index: Index, name: str) -> None:
        self._container = container
        self._stream = stream
        self._rows = index.packets
        self._known = {(row.pts, row.dts, row.pos): number for number, row in enumerate(index.packets)}
        self._name = name
        self._ahead: Iterator[Packet[VideoStream]] = iter(())
        self._position = len(index.packets)  # of the packet that comes next

    def packets(self, start: int, stop: int) -> Iterator[Packet[VideoStream]]:
        """Yield the packets ``start`` to ``stop``, both included, in decoding order."""
        if not 0 <= start - self._position <= _NEAR:
            self._jump(start)
        for packet in self._ahead:
            self._position += 1
            if self._position > start:
                yield packet
            if self._position > stop:
                return

    def _jump(self, start: int) -> None:
        """Place the cursor at or before packet ``start``."""
        for target in (start, 0):
            row = self._rows[target]
            time = row.pts if row.dts is None else row.dts
            self._container.seek(time or 0, stream=self._stream)
            self._ahead = demuxed(self._container, self._stream)
            first = next(self._ahead, None)
            found = None if first is None else self._known.get((first.pts, first.dts, first.pos))
            if first is not None and found is not None and found <= start:
                self._ahead = chain([first], self._ahead)
                self._position = found
                return
        raise VideoError(f"{self._name}: cannot go back to packet {start}", path=self._name)


def _ranks(index: Index) -> NDArray[np.int64]:
    """When each packet's frame is presented, in any unit; also for frames that are decoded and never presented."""
    import numpy as np

    if index.times_source == "stream":
        return np.array([row.pts for row in index.packets], np.int64)
    assert index.order is not None
    return index.order
