"""The packets of a video stream, read once and without decoding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from mmdata.errors import VideoError
from mmdata.limits import Limits
from mmdata.video.source import Source, name_of, plain

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

__all__ = ["HEAD", "PacketRow", "Packets", "demuxed", "read_packets", "tick"]

HEAD: Final = 256  # bytes kept of each packet where the order of frames must be read from them


class PacketRow(NamedTuple):
    """One packet: ``pts``, ``dts`` and ``duration`` in ticks of the time base, ``pos`` its place in the file."""

    pts: int | None
    dts: int | None
    pos: int | None
    duration: int
    keyframe: bool
    discard: bool


@dataclass(frozen=True, slots=True)
class Packets:
    """All packets of a stream in decoding order, what was wrong with them, and the first bytes of each if asked for."""

    rows: list[PacketRow]
    damage: tuple[str, ...]
    heads: list[bytes] = field(repr=False)


def read_packets(
    container: InputContainer, stream: VideoStream, source: Source, limits: Limits, *, heads: bool = False
) -> Packets:
    """Read every packet of ``stream``; a fault ends the reading and is told in ``damage``.

    Raises:
        VideoError: more packets than ``limits.frames``.
    """
    from av import FFmpegError

    packets = Packets([], (), [])
    corrupt = []
    damage = []
    try:
        for packet in demuxed(container, stream):
            if packet.is_corrupt:
                corrupt.append(len(packets.rows))
            if heads:
                packets.heads.append(bytes(memoryview(packet)[:HEAD]))
            packets.rows.append(_row(packet))
            if len(packets.rows) > limits.frames:
                raise _too_long(source, limits)
    except FFmpegError as error:
        damage.append(f"reading stopped after packet {len(packets.rows)}: {plain(error)}")
    if corrupt:
        damage.append(f"{len(corrupt)} corrupt packets, the first is number {corrupt[0]}")
    return Packets(packets.rows, tuple(damage), packets.heads)


def demuxed(container: InputContainer, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    """Yield the packets of ``stream`` that hold anything, from where the container stands."""
    return (packet for packet in container.demux(stream) if packet.size)


def tick(stream: VideoStream) -> float:
    """Return the stream's time base in seconds."""
    assert stream.time_base is not None, "FFmpeg gives every stream a time base"
    return float(stream.time_base)


def _row(packet: Packet[VideoStream]) -> PacketRow:
    return PacketRow(packet.pts, packet.dts, packet.pos, packet.duration or 0, packet.is_keyframe, packet.is_discard)


def _too_long(source: Source, limits: Limits) -> VideoError:
    name = name_of(source)
    return VideoError(
        f"{name}: more than {limits.frames} frames; raise Limits(frames=...) if it is meant",
        path=name,
        reason="media_limit",
    )
