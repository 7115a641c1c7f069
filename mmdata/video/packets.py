"""The packets of a video stream:
read once without decoding, and given out again by their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from mmdata._tools.limits import Limits, how_to_raise
from mmdata.errors import VideoError
from mmdata.storage._file import HoledFile
from mmdata.storage._media import is_remote, open_medium
from mmdata.video.coded_order import may_have_fields, second_fields
from mmdata.video.source import Source, name_of, open_tables, open_video, plain
from mmdata.video.tables import media_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = [
    "HEAD_BYTES",
    "NEAR",
    "Held",
    "PacketRow",
    "Packets",
    "Supply",
    "demux",
    "has_table",
    "heads_of",
    "join_fields",
    "read_packets",
    "row_of",
    "tick",
    "without_false_keyframes",
    "without_head",
    "without_leading",
]

# Bytes looked at of each packet that is no keyframe, where its order must be read from it.
HEAD_BYTES: Final = 256
# Bytes of a packet of H.264 within which its first slice begins, after parameters and messages.
_SLICE_BYTES: Final = 1024
NEAR: Final = 32  # packets that are read past rather than jumped over; a seek costs about as much
_TOLD_BY_CONTAINERS: Final = frozenset(
    {"8bps", "cinepak", "flashsv", "flv1", "h261", "h263", "indeo3", "indeo4", "indeo5"}
    | {"msmpeg4v1", "msmpeg4v2", "msmpeg4v3", "msrle", "msvideo1", "qtrle", "rpza", "rv10", "rv20"}
    | {"smc", "snow", "svq1", "svq3", "tscc", "vp6", "vp6f", "wmv1", "wmv2", "zmbv"}
)
"""Codecs whose keyframes FFmpeg knows from the container, not from the packets."""


class PacketRow(Struct, frozen=True, gc=False):
    """One packet: ``pts``, ``dts`` and ``duration`` in ticks
    of the time base, ``pos`` its place in the file.

    ``second`` says that it holds the second field of the frame of the packet before.
    """

    pts: int | None
    dts: int | None
    pos: int | None
    duration: int | None
    keyframe: bool
    discard: bool
    second: bool = False


# FFmpeg's names of containers that have a table of keyframes.
_TABLED: Final = frozenset({"mov", "matroska"})

# Of these FFmpeg takes all that it says of a packet from the tables of an MP4 or MOV.
_TABLE_SUFFICES: Final = frozenset({"av1", "h264", "hevc", "mpeg4", "prores", "vp9"})
_WITHOUT_PARAMETERS: Final = frozenset({"prores", "vp9"})

_facts: Final = attrgetter("pts", "dts", "pos", "duration", "is_keyframe", "is_discard")


def row_of(packet: Packet[VideoStream]) -> PacketRow:
    """Return what is known of a packet before it is decoded."""
    return PacketRow(*_facts(packet))


class Supply(Protocol):
    """Gives out packets by number, in ascending stretches."""

    def between(self, start: int, stop: int) -> Iterable[Packet[VideoStream]]:
        """Return the packets ``start`` to ``stop``, both included, in decoding order."""
        ...


@dataclass(frozen=True, slots=True)
class Packets:
    """All packets of a stream in decoding order: ``rows`` about them, and a ``supply`` of them.

    ``damage`` says what was wrong with them; ``heads`` are the packets as far as their headers go,
    if asked for.
    """

    rows: list[PacketRow]
    damage: tuple[str, ...]
    heads: list[bytes]
    supply: Supply


def read_packets(
    container: InputContainer,
    stream: VideoStream,
    source: Source,
    limits: Limits,
    *,
    heads: bool = False,
    thorough: bool = False,
) -> Packets:
    """Read every packet of ``stream``; a fault ends the reading and is told in ``damage``.

    The arguments are also those with which ``source`` was opened.

    Raises:
        VideoError: more packets than ``limits.frames``.
    """
    from av import FFmpegError

    if is_remote(source) and not (heads or thorough):
        table = read_table(source, stream, limits)
        if table is not None:
            again = partial(_again, source, stream.index, limits, thorough)
            ahead = _Reread(container, stream, table, name_of(source), again, is_at_start=True)
            return Packets(table, (), [], ahead)

    # Packets of a long file that can be sought in are cheaper to read again than to keep.
    most = limits.packet_bytes
    if (container.size or 0) > most and has_table(container):  # PyAV 19: None where none is known
        most = 0
    rows: list[PacketRow] = []
    held: list[Packet[VideoStream]] = []
    left = most  # bytes that may still be held
    first_bytes: list[bytes] = []
    corrupt: list[int] = []
    damage: list[str] = []
    try:
        for packet in demux(container, stream):
            if packet.is_corrupt:
                corrupt.append(len(rows))
            if heads:
                first_bytes.append(_headers(packet))
            rows.append(row_of(packet))
            if left > 0:
                left -= packet.size
                held.append(packet)
                if left < 0:
                    held.clear()
            if len(rows) > limits.frames:
                raise _too_long(source, limits)
    except FFmpegError as error:
        damage.append(f"reading stopped after packet {len(rows)}: {plain(error)}")
    if corrupt:
        damage.append(f"{len(corrupt)} corrupt packets, the first is number {corrupt[0]}")
    supply: Supply = Held(held)
    if len(held) < len(rows):
        again = partial(_again, source, stream.index, limits, thorough)
        supply = _Reread(container, stream, rows, name_of(source), again)
    return Packets(rows, tuple(damage), first_bytes, supply)


@dataclass(frozen=True, slots=True)
class Held:
    """Packets kept in memory."""

    packets: list[Packet[VideoStream]]

    def between(self, start: int, stop: int) -> Iterable[Packet[VideoStream]]:
        """Return the packets ``start`` to ``stop``, both included."""
        return self.packets[start : stop + 1]


class _Reread:
    """Packets read again, each known by when it is presented and where it stands in the file.

    A seek may come out anywhere, and parsers make up packets where they begin in the middle: these
    are passed over. The file is opened ``again`` to begin at its first packet: not every file can
    be sought in, and some demuxers give a palette with that packet alone.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        rows: list[PacketRow],
        name: str,
        again: Callable[[], Iterator[Packet[VideoStream]]],
        *,
        is_at_start: bool = False,
    ) -> None:
        self._container = container
        self._stream = stream
        self._rows = rows
        self._name = name
        self._again = again
        self._ahead: Iterator[Packet[VideoStream]] = iter(())
        self._next = len(rows)  # number of the first packet ahead
        if is_at_start:
            self._ahead, self._next = demux(container, stream), 0

    def between(self, start: int, stop: int) -> Iterable[Packet[VideoStream]]:
        if not 0 <= start - self._next <= NEAR:
            self._jump(start)
        while self._next <= stop:
            packet = self._read()
            if packet is None:
                return
            if _identity(packet) == _identity(self._rows[self._next]):
                self._next += 1
                if self._next > start:
                    yield packet

    def _read(self) -> Packet[VideoStream] | None:
        """Return the next packet ahead; None at the end, or where reading on fails."""
        from av import FFmpegError

        try:
            return next(self._ahead, None)
        except FFmpegError:
            return None

    def _jump(self, start: int) -> None:
        """Go to packet ``start`` or to one before it."""
        for target in (start, 0):
            first = self._seek(target) if target else self._restart()
            number = None if first is None else self._find(first, start)
            if first is not None and number is not None:
                self._ahead = chain([first], self._ahead)
                self._next = number
                return
        raise VideoError(
            f"{self._name}: cannot go back to packet {start}; the file has changed. "
            "It is read again because its packets are beyond Limits(packet_bytes=...)",
            path=self._name,
        )

    def _find(self, packet: Packet[VideoStream], start: int) -> int | None:
        """Return the number of a packet that is ``start`` or one before it; None if it is not."""
        identity = _identity(packet)
        numbers = range(start, -1, -1)  # nearly always it is the first
        return next((n for n in numbers if _identity(self._rows[n]) == identity), None)

    def _restart(self) -> Packet[VideoStream] | None:
        self._ahead = self._again()
        return self._read()

    def _seek(self, target: int) -> Packet[VideoStream] | None:
        """Return the packet that a seek to packet ``target`` comes out at;
        None where there is no seeking.
        """
        from av import FFmpegError

        row = self._rows[target]
        # Tables of keyframes are gone by when frames are presented, streams by their decoding.
        time = row.pts if row.dts is None or has_table(self._container) else row.dts
        # A raw stream has no times to seek to; its packets are found by their place in the file.
        by_place = time is None
        place = row.pos if by_place else time
        try:
            self._container.seek(place or 0, stream=self._stream, unsupported_byte_offset=by_place)
        except FFmpegError:
            return None
        self._ahead = demux(self._container, self._stream)
        return self._read()


def has_table(container: InputContainer) -> bool:
    """Return whether the container has a table of keyframes, by the times of their frames."""
    return container.format.name.partition(",")[0] in _TABLED


def _identity(packet: Packet[VideoStream] | PacketRow) -> tuple[int | None, int | None]:
    # Either may be missing or shared by several; together they have told packets apart.
    return packet.pts, packet.pos


def _again(
    source: Source, stream: int, limits: Limits, thorough: bool
) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of a file that is opened anew."""
    with open_video(source, stream, limits, thorough=thorough) as (container, video):
        yield from demux(container, video)


def demux(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Return the packets of ``stream`` from where the container stands to its end."""
    # PyAV ends a stream with an empty packet, which is for flushing a decoder.
    return filter(attrgetter("size"), container.demux(stream))


def join_fields(rows: list[PacketRow], supply: Supply, header: bytes) -> list[PacketRow]:
    """Mark the packets of an H.264 stream that hold second fields as such: they give no frame of
    their own, and decoding starts at none of them.

    Camcorders and broadcasters write fields as pictures, which transport streams keep in packets of
    their own. ``header`` is what the container says of the codec's parameters.
    """
    first = next((number for number, row in enumerate(rows) if row.keyframe), 0)
    # Nearly always the parameters rule fields out, and one packet is looked at.
    heads = (_head(packet) for packet in supply.between(first, first))
    if not any(may_have_fields(head, header) for head in heads):
        return rows
    joined = list(rows)
    for number in second_fields(map(_head, supply.between(0, len(rows) - 1)), header):
        joined[number] = replace(rows[number], keyframe=False, discard=True, second=True)
    return joined


def read_table(source: Source, stream: VideoStream, limits: Limits) -> list[PacketRow] | None:
    """Return what the tables of a remote file say of the packets of ``stream``, without fetching
    these; None where only the packets can tell.

    Raises:
        VideoError: more packets than ``limits.frames``.
    """
    from av import FFmpegError

    codec = stream.codec_context.codec.canonical_name
    # Parameters that come in the packets are not there to be read.
    has_parameters = bool(stream.codec_context.extradata) or codec in _WITHOUT_PARAMETERS
    if codec not in _TABLE_SUFFICES or not has_parameters:
        return None

    rows: list[PacketRow] = []
    assert not isinstance(source, bytes)
    with open_medium(source) as file:
        holes = media_of(file)
        if not holes:
            return None
        with open_tables(HoledFile(file, holes), stream.index, limits) as (container, video):
            try:
                for packet in demux(container, video):
                    if packet.is_corrupt:
                        return None
                    rows.append(row_of(packet))
                    if len(rows) > limits.frames:
                        raise _too_long(source, limits)
            except FFmpegError:
                return None
    return rows or None


def heads_of(supply: Supply, count: int) -> list[bytes]:
    """Return the first ``count`` packets as far as their headers go."""
    return [_headers(packet) for packet in supply.between(0, count - 1)]


def _headers(packet: Packet[VideoStream]) -> bytes:
    return bytes(memoryview(packet)[: None if packet.is_keyframe else HEAD_BYTES])


def without_false_keyframes(rows: list[PacketRow], codec: str) -> list[PacketRow]:
    """Mark all packets but the first as no keyframes, where a container calls every packet one and
    the codec has others: an AVI without its index, and some raw streams, do so.
    """
    if codec not in _TOLD_BY_CONTAINERS or not all(row.keyframe for row in rows):
        return rows
    return [*rows[:1], *(replace(row, keyframe=False) for row in rows[1:])]


def _head(packet: Packet[VideoStream]) -> bytes:
    return bytes(memoryview(packet)[:_SLICE_BYTES])


def without_head(rows: list[PacketRow], decodable: frozenset[int]) -> list[PacketRow]:
    """Mark as discarded what comes before the second keyframe of a stream that begins between
    keyframes, but for packets that are ``decodable``.

    A broadcast is cut so. Nothing in its packets says which of them refer to what was cut off.
    """
    keyframes = [number for number, row in enumerate(rows) if row.keyframe]
    stop = keyframes[1] if len(keyframes) > 1 else len(rows)
    times = [row.pts for row in rows if row.pts is not None]
    before = min(times, default=1) - 1
    head = (
        row
        if number in decodable
        else replace(row, pts=before if row.pts is None else row.pts, discard=True)
        for number, row in enumerate(rows[:stop])
    )
    return [*head, *rows[stop:]]


def without_leading(rows: list[PacketRow]) -> list[PacketRow]:
    """Mark as discarded what follows the first keyframe but would be presented before it.

    Such frames refer to others that a cut has left out; decoders drop them, and Matroska gives them
    no time at all.
    """
    first = rows[0] if rows else None
    if first is None or first.pts is None or not first.keyframe:
        return rows

    start, before = first.pts, first.pts - 1
    after = (
        number
        for number, row in enumerate(rows)
        if number and row.pts is not None and row.pts >= start
    )
    stop = next(after, 1)
    leading = (
        replace(row, pts=before if row.pts is None else row.pts, discard=True)
        for row in rows[1:stop]
    )
    return [first, *leading, *rows[stop:]]


def tick(stream: VideoStream) -> float:
    """Return the stream's time base in seconds."""
    base = stream.time_base
    assert base is not None, "FFmpeg gives every stream a time base"
    return base.numerator / base.denominator


def _too_long(source: Source, limits: Limits) -> VideoError:
    name = name_of(source)
    return VideoError(
        f"{name}: more than {limits.frames} frames; {how_to_raise('frames')}",
        path=name,
        reason="media_limit",
    )
