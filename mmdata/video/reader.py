"""Exact frames for less work:
decode only from the keyframes that matter, and only what the wanted frames need.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec.structs import replace as replace_fields

from mmdata._tools.limits import Limits, how_to_raise
from mmdata._tools.options import NonNegativeInt, checked
from mmdata.errors import VideoError
from mmdata.storage._path import RemotePath
from mmdata.video.clock import Clock
from mmdata.video.colours import colour_oddities, refusal_of
from mmdata.video.ends import missing_end
from mmdata.video.folder import is_folder, pictures_in
from mmdata.video.index import TICKS_ALONE, Index, build_index, confirm, has_times
from mmdata.video.packets import (
    PacketRow,
    Supply,
    join_fields,
    read_packets,
    tick,
    without_false_keyframes,
    without_head,
    without_leading,
)
from mmdata.video.pictures import Pictures, VideoSource, decode_pictures, index_pictures
from mmdata.video.pixels import presented_size, rgb
from mmdata.video.reformat import Reformatter
from mmdata.video.seek import index_wanted
from mmdata.video.source import Source, name_of, open_video, plain

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from mmdata.schema import Oddity
    from mmdata.video.clock import Numbers

_SKIPPING: Final = frozenset({"h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9"})
"""Codecs whose decoders can be told before each packet
to leave out a frame that no other refers to.
"""

_PALETTED: Final = frozenset(
    {"8bps", "cinepak", "msrle", "msvideo1", "qtrle", "rawvideo", "smc", "tscc"}
)
"""Codecs whose pixels may be places in a palette. It comes with the packet at which it changes, and
holds for all that follow, keyframes too.
"""
_PALETTE_BITS: Final = 8

_MOST_REORDERED: Final = 15
"""How many frames the H.264 decoder can hold back at most."""

__all__ = [
    "Fault",
    "PacketRange",
    "Reader",
    "decodes_strictly",
    "index",
    "index_by_decoding",
    "reading",
    "seeking",
    "segments",
]


@checked
def index(
    source: VideoSource, *, stream: NonNegativeInt | None = None, limits: Limits | None = None
) -> Index:
    """Return the index of a video: one pass over its packets,
    and its first frame decoded to learn how it is turned.

    ``source`` is the path of a file or of a folder of pictures, the bytes of a file, or pictures;
    ``stream`` is the index of a stream in it, by default the best one.

    Raises:
        VideoError: with a reason code; nothing can be read, or a limit is exceeded.
    """
    limits = limits or Limits()
    if isinstance(source, Pictures):
        return index_pictures(source, limits)
    if is_folder(source):
        return index_pictures(pictures_in(source), limits)
    with reading(source, stream, limits) as reader:
        return _upright(
            reader.index, next((frame for _, frame in reader.everything()), None), reader.name
        )


@checked
def index_by_decoding(
    source: VideoSource,
    *,
    stream: NonNegativeInt | None = None,
    limits: Limits | None = None,
    strict: bool = False,
) -> Index:
    """Return the index of a video as a full decode finds it: only frames that decode are in it.

    Every packet that the decoder refuses, and every frame that it marks as corrupt, is told in
    ``damage``. A ``strict`` decoder refuses what it would otherwise conceal.

    Raises:
        VideoError: as :func:`index`; also if frames cannot be converted to RGB.
    """
    limits = limits or Limits()
    if isinstance(source, Pictures):
        return decode_pictures(source, limits)
    if is_folder(source):
        return decode_pictures(pictures_in(source), limits)

    with reading(source, stream, limits, strict=strict, thorough=True) as reader:
        first, packets, corrupt = None, [], 0
        converted, sizes = set(), set()
        for packet, frame in reader.everything():
            first = first or frame
            # Of frames that are alike to swscale, one is enough.
            kind = (frame.format.name, frame.colorspace, frame.color_trc, frame.color_primaries)
            if kind not in converted:
                _try_to_convert(frame, reader.name)
                converted.add(kind)
            packets.append(packet)
            sizes.add((frame.width, frame.height))
            corrupt += frame.is_corrupt
        found = _upright(confirm(reader.index, packets, reader.tick), first, reader.name)
        marked = (f"{corrupt} frames are marked corrupt",) if corrupt else ()
        silent = () if reader.damage else _without_frames(reader.index, packets)
        damage = found.damage + reader.damage + marked + silent
        is_new = len(sizes) > 1 and "joined" not in found.oddities
        joined: tuple[Oddity, ...] = ("joined",) if is_new else ()
        if (reader.damage or marked or silent) and found.stored is not None:
            # What is damaged is not to be found by a sample that reads a part of it.
            found = replace(found, stored=replace_fields(found.stored, first_tick=None))
        return replace(found, damage=damage, oddities=found.oddities + joined)


def decodes_strictly(source: VideoSource, limits: Limits) -> bool:
    """Return whether all frames of a video come from a strict decoder as they do where they are
    sampled, from keyframe to keyframe.
    """
    if isinstance(source, Pictures) or is_folder(source):
        return True
    with reading(source, None, limits, strict=True) as reader:
        found = sum(1 for _ in reader.frames(range(reader.index.num_frames)))
        return found == reader.index.num_frames and not reader.faults


def _without_frames(promised: Index, packets: list[int]) -> tuple[str, ...]:
    """Whether packets gave no frame and no fault, as after a keyframe that is missing.

    Packets of other codecs may hold no frame; in other containers FFmpeg drops what it has put in
    the wrong order.
    """
    if promised.times_source == "derived" or promised.codec != "h264":
        return ()
    missing = promised.num_frames - len(set(packets))
    return (f"{missing} packets give no frame",) if missing > 0 else ()


def _upright(found: Index, first: VideoFrame | None, name: str) -> Index:
    if first is None:
        raise VideoError(f"{name}: not one frame can be decoded", path=name)
    width, height = presented_size(first)
    oddities = (*found.oddities, *colour_oddities(first))
    return replace(found, width=width, height=height, oddities=oddities, refusal=refusal_of(first))


def _try_to_convert(frame: VideoFrame, name: str) -> None:
    try:
        rgb(Reformatter(), frame)
    except VideoError as error:  # which does not know the file
        raise VideoError(f"{name}: {error}", path=name, reason=error.reason) from error


@checked
@contextmanager
def reading(
    source: Source,
    stream: NonNegativeInt | None,
    limits: Limits,
    *,
    strict: bool = False,
    thorough: bool = False,
    known: Index | None = None,
) -> Iterator[Reader]:
    """Open a video, read its packets and give a reader of its frames.

    A ``thorough`` reader decodes everything on its way, as FFmpeg does by itself. With a ``known``
    index, which a full decode has confirmed, the reader goes by it. The other arguments are those
    of :func:`mmdata.video.source.open_video`.
    """
    name = name_of(source)
    if isinstance(source, RemotePath):
        source = source.keep()  # its tables are read before its frames
    with open_video(source, stream, limits, strict=strict, thorough=thorough) as (container, video):
        kind, codec = container.format.name, video.codec_context.codec.canonical_name
        header = video.codec_context.extradata or b""
        packets = read_packets(
            container, video, source, limits, heads=kind == TICKS_ALONE, thorough=thorough
        )
        rows = without_false_keyframes(packets.rows, codec)
        if rows and codec == "h264" and kind != TICKS_ALONE:
            rows = join_fields(rows, packets.supply, header)
        if rows and not rows[0].keyframe:
            rows = without_head(rows, _decodable_head(source, stream, limits, rows))
        # Elsewhere than in Matroska a packet without a time may be any.
        if "matroska" in kind or not (kind == TICKS_ALONE or any(row.pts is None for row in rows)):
            rows = without_leading(rows)
        damage = (*missing_end(source, kind), *packets.damage)
        packets = replace(packets, rows=rows, damage=damage)
        timeless = not has_times(packets, kind, codec, header)
        found = known or build_index(container, video, packets, timeless=timeless, name=name)
        yield Reader(video, found, packets.supply, name, thorough=thorough)


@checked
@contextmanager
def seeking(
    source: Source, stream: NonNegativeInt | None, limits: Limits, clock: Clock, wanted: Numbers
) -> Iterator[Reader | None]:
    """Open a video whose clock is known, read the packets that the ``wanted`` frames need, and give
    a strict reader of these; None where the clock does not lead to them.
    """
    name = name_of(source)
    with open_video(source, stream, limits, strict=True) as (container, video):
        found = index_wanted(container, video, clock, wanted, limits)
        yield None if found is None else Reader(video, *found, name, thorough=False)


def _decodable_head(
    source: Source, stream: int | None, limits: Limits, rows: list[PacketRow]
) -> frozenset[int]:
    """Return which of the packets up to the second keyframe give a frame, of a stream that begins
    between keyframes.

    Which of them a decoder makes a frame of is for the decoder to say: some codecs need a keyframe,
    some conceal, some come back bit by bit.
    """
    from av import FFmpegError

    keyframes = [number for number, row in enumerate(rows) if row.keyframe]
    stop = keyframes[1] if len(keyframes) > 1 else len(rows) - 1
    found: set[int | None] = set()
    with open_video(source, stream, limits, thorough=True) as (container, video):
        context = video.codec_context
        packets = islice((packet for packet in container.demux(video) if packet.size), stop + 1)
        for number, packet in enumerate(chain(packets, [None])):
            if packet is not None:
                packet.pts = number  # which its frame then bears
            try:
                found.update(frame.pts for frame in context.decode(packet))
            except (FFmpegError, ValueError):
                continue
    return frozenset(number for number in found if number is not None)


class Fault(NamedTuple):
    """A packet that the decoder refused or had to guess at:
    its number in decoding order, and what was said of it.
    """

    packet: int
    message: str


class PacketRange(NamedTuple):
    """Packets ``start`` to ``stop`` (included, in decoding order);
    ``wanted`` are those whose frames are.
    """

    start: int
    stop: int
    wanted: frozenset[int]


def segments(index: Index, wanted: Collection[int]) -> list[PacketRange]:
    """Return the stretches of packets to decode for the ``wanted`` frame numbers,
    in order and without overlap.

    A stretch starts at the last keyframe that comes before its first wanted frame both in decoding
    and in presentation order, and goes on as long as no later keyframe saves work.
    """
    import numpy as np

    assert index.order is not None, "without an order there are no stretches"
    # The index may be of some packets alone, so that numbers are looked up.
    by_number = np.argsort(index.order, kind="stable")
    numbers = sorted(wanted)
    packets = by_number[np.searchsorted(index.order, numbers, sorter=by_number)].tolist()
    ranks = _ranks(index)
    keys = [number for number, row in enumerate(index.packets) if row.keyframe]
    is_second = [*(row.second for row in index.packets), False]
    found: list[PacketRange] = []
    for packet in packets:
        before = reversed(keys[: bisect_right(keys, packet)])
        start = next((key for key in before if ranks[key] <= ranks[packet]), 0)
        stop = packet + is_second[packet + 1]  # a frame may be in two packets, one a field
        both = frozenset({packet, stop})
        if found and start <= found[-1].stop:
            last = found.pop()
            found.append(PacketRange(last.start, max(last.stop, stop), last.wanted | both))
        else:
            found.append(PacketRange(start, stop, both))
    return found


class Reader:
    """Decodes frames of an open stream;
    ``faults`` are the packets that the decoder refused on the way.
    """

    def __init__(
        self, stream: VideoStream, index: Index, supply: Supply, name: str, *, thorough: bool
    ) -> None:
        self._context = stream.codec_context
        self._supply = supply
        self._thorough = thorough
        self._skips = index.codec in _SKIPPING
        # Its format, which says so too, is not known before the first frame.
        self._has_palette = (
            index.codec in _PALETTED and 0 < self._context.bits_per_coded_sample <= _PALETTE_BITS
        )
        # FFmpeg's H.264 decoder guesses how far frames are out of order and drops those that come
        # later than that. The index knows; a thorough reader does as FFmpeg does by itself.
        if index.codec == "h264" and not thorough:
            self._context.options |= {"has_b_frames": str(_reorder_depth(index))}
        self.tick = tick(stream)
        self.index = index
        self.name = name
        self.faults: list[Fault] = []

    @property
    def damage(self) -> tuple[str, ...]:
        """What the faults say, in words; empty if there are none."""
        if not self.faults:
            return ()
        first = self.faults[0]
        return (
            f"{len(self.faults)} packets cannot be decoded, "
            f"the first is number {first.packet}: {first.message}",
        )

    def frames(self, wanted: Collection[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (number, decoded frame) for the ``wanted`` numbers that decode,
        not always in order.
        """
        if self._thorough or self.index.order is None or self._has_palette:
            yield from self._among_everything(wanted)
            return

        latest, order = -1, self.index.order.tolist()

        for segment in segments(self.index, wanted):
            packets = enumerate(self._supply.between(segment.start, segment.stop), segment.start)
            for packet, frame in self._decode(
                self._mark(packets, segment) if self._skips else packets
            ):
                if frame.is_corrupt:
                    self.faults.append(Fault(packet, "its frame is marked corrupt"))
                number = order[packet]
                if self.index.times_source == "derived" and number < latest:
                    # The order that was read from the coded frames is not that in which they come.
                    return
                latest = number
                if packet in segment.wanted:
                    yield number, frame
            self._forgive(segment.start)

    def everything(self) -> Iterator[tuple[int, VideoFrame]]:
        """Yield (packet number, decoded frame) for every frame that decodes, in output order."""
        yield from self._decode(enumerate(self._supply.between(0, len(self.index.packets) - 1)))
        self._forgive(0)

    def _among_everything(self, wanted: Collection[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Decode from the first packet on and leave nothing out.

        So it must be where the order is unknown, or where damage or a palette makes frames depend
        on all that came before.
        """
        left, order = set(wanted), self.index.order
        places: dict[int, int] = {}  # of each packet: one may give a second frame, which is none
        for packet, frame in self.everything():
            place = places.setdefault(packet, len(places))
            number = place if order is None else int(order[packet])
            if number in left:
                yield number, frame
                left.discard(number)
                if not left:
                    return

    def _forgive(self, start: int) -> None:
        """Drop the faults of frames that lead the keyframe ``start`` in presentation.

        They refer to frames before it, which were not decoded; nobody wants them.
        """
        if self.faults and self.index.order is not None:
            ranks = _ranks(self.index)
            self.faults = [
                fault
                for fault in self.faults
                if fault.packet < start or ranks[fault.packet] >= ranks[start]
            ]
        rows = self.index.packets
        if not rows[0].keyframe:  # what a cut has left of a head is no damage
            self.faults = [
                fault
                for fault in self.faults
                if not rows[fault.packet].discard or rows[fault.packet].second
            ]

    def _mark(
        self, packets: Iterable[tuple[int, Packet[VideoStream]]], segment: PacketRange
    ) -> Iterator[tuple[int, Packet[VideoStream]]]:
        """Before each packet, tell the decoder whether its frame may be left out.

        NONREF leaves out only frames that no other frame refers to, so what is decoded stays exact.
        """
        skipping = None
        for number, packet in packets:
            if skipping is not (skip := number not in segment.wanted):
                self._context.skip_frame = "NONREF" if skip else "DEFAULT"
                skipping = skip
            yield number, packet

    def _decode(
        self, packets: Iterable[tuple[int, Packet[VideoStream]]]
    ) -> Iterator[tuple[int, VideoFrame]]:
        """Decode ``packets`` and, at their end, what the decoder still holds;
        each frame with its packet's number.
        """
        from av import FFmpegError

        # None makes the decoder give what it holds; after that it takes no packet until its buffers
        # are flushed.
        end = (len(self.index.packets) - 1, None)
        for number, packet in chain(packets, [end]):
            if packet is not None:
                # It comes out as the pts of its frame, wherever reordering puts that.
                packet.pts = number
            try:
                frames = self._context.decode(packet)
            except (FFmpegError, ValueError) as error:
                # The latter is PyAV 19's where the decoder could not be opened.
                self._note_fault(number, error)
                continue
            for frame in frames:
                yield frame.pts, frame  # type: ignore[misc]  # it has one: ours
        self._context.flush_buffers()

    def _note_fault(self, number: int, error: Exception) -> None:
        if isinstance(error, MemoryError):
            raise VideoError(
                f"{self.name}: needs more memory than there is; {how_to_raise('memory')}",
                path=self.name,
                reason="media_limit",
            ) from error
        self.faults.append(Fault(number, plain(error)))


def _reorder_depth(index: Index) -> int:
    """How many frames at most come before another
    in decoding order and after it in presentation order.
    """
    import numpy as np

    if index.order is None:
        return _MOST_REORDERED
    # (packets,) of each frame, unseen ones too
    in_order = np.argsort(np.array(_ranks(index)), kind="stable")
    return min(_MOST_REORDERED, int((in_order - np.arange(len(in_order))).max()))


def _ranks(index: Index) -> list[int]:
    """When each packet's frame is presented, in any unit;
    also for frames that are decoded and never presented.
    """
    if index.times_source == "stream":
        return [row.pts or 0 for row in index.packets]  # without a pts the times would be derived
    assert index.order is not None
    found: list[int] = index.order.tolist()
    return found
