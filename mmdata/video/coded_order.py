"""The order of presentation, read from the coded frames
themselves where a container stores no times (AVI); and which packets of H.264 are second fields.

What is read here decides only which packets are decoded for which frame. The reader checks it
against the order in which frames come out, and falls back on a full decode where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["coded_order", "is_bidirectional", "is_packed", "may_have_fields", "second_fields"]

# Codecs that present frames in the order in which they code them.
_IN_ORDER: Final = frozenset(
    {
        "av1",
        "cinepak",
        "dvvideo",
        "ffv1",
        "flv1",
        "h263",
        "huffyuv",
        "mjpeg",
        "msmpeg4v1",
        "msmpeg4v2",
        "msmpeg4v3",
    }
    | {"png", "rawvideo", "utvideo", "vp8", "vp9"}
)
# Bytes; what is smaller may be a frame that is not coded, and so never presented.
_SMALLEST_VOP: Final = 16
_PICTURE: Final = b"\x00\x00\x01\x00"  # start codes of MPEG-1 and MPEG-2
_GROUP: Final = b"\x00\x00\x01\xb8"
_VOP: Final = b"\x00\x00\x01\xb6"
_BIDIRECTIONAL: Final = 2  # vop_coding_type of MPEG-4 part 2
# User data of streams that put two frames into one packet.
_PACKED: Final = re.compile(rb"DivX\d+[bB]\d+p")
_SLICE, _IDR, _PARAMETERS = 1, 5, 7  # nal_unit_type of H.264
_IN_CODED_ORDER: Final = 2  # pic_order_cnt_type
# H.264 profiles whose parameter sets describe the format of samples (ITU-T H.264, 7.3.2.1.1).
_HIGH_PROFILES: Final = frozenset({44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244})


def coded_order(codec: str, coded: list[bytes], header: bytes) -> NDArray[np.int64] | None:
    """Return the presentation number of each packet,
    (packets,) int64, or None where only decoding can tell.

    ``coded`` are the packets, or as much of each as holds its headers, and ``header`` what the
    container says of the codec's parameters.
    """
    import numpy as np

    if not coded:
        return None
    if codec in _IN_ORDER or len(coded) == 1:
        return np.arange(len(coded))
    ranks = None
    if codec == "mpeg4" and not is_packed(header):
        ranks = _mpeg4_ranks(coded)
    elif codec in ("mpeg1video", "mpeg2video"):
        ranks = _mpeg2_ranks(coded)
    elif codec == "h264":
        ranks = _h264_ranks(coded, header)
    if ranks is None or len(set(ranks)) < len(ranks):
        return None
    order = np.empty(len(ranks), np.int64)
    order[sorted(range(len(ranks)), key=ranks.__getitem__)] = np.arange(len(ranks))
    return order


def is_bidirectional(coded: bytes) -> bool:
    """Return whether a packet of MPEG-4 holds a B-frame, which is coded after what follows it."""
    start = coded.find(_VOP)
    # The two bits behind the start code are vop_coding_type (ISO 14496-2, 6.2.5).
    return 0 <= start < len(coded) - 4 and coded[start + 4] >> 6 == _BIDIRECTIONAL


def is_packed(header: bytes) -> bool:
    """Return whether MPEG-4 puts two frames into one packet, as DivX did for AVI."""
    return _PACKED.search(header) is not None


def _mpeg2_ranks(coded: list[bytes]) -> list[tuple[int, int]] | None:
    """What ascends in presentation order: the temporal reference counts the pictures of a group
    (ISO 13818-2, 6.3.9).
    """
    ranks = []
    groups = 0

    for data in coded:
        start = data.find(_PICTURE)
        if start < 0 or len(data) < start + 6:
            return None
        groups += _GROUP in data[:start]
        # The ten bits behind the start code.
        ranks.append((groups, data[start + 4] << 2 | data[start + 5] >> 6))

    return ranks


def _mpeg4_ranks(coded: list[bytes]) -> list[tuple[int, int]] | None:
    """What ascends in presentation order:
    B-frames come right before the reference that was coded before them.
    """
    ranks = []
    references = 0

    for number, data in enumerate(coded):
        start = data.find(_VOP)
        if start < 0 or len(data) < max(_SMALLEST_VOP, start + 5) or _PACKED.search(data):
            return None
        bidirectional = is_bidirectional(data)
        if bidirectional and references < 2:
            return None
        references += not bidirectional
        ranks.append((references - 1, number) if bidirectional else (references, -1))

    return ranks


def _h264_ranks(coded: list[bytes], header: bytes) -> list[tuple[int, int]] | None:
    """What ascends in presentation order:
    the picture order counts between one instant refresh and the next (8.2.1).
    """
    ranks = []
    refreshes, count = 0, 0
    width, parameters = _configuration(header)

    for number, data in enumerate(coded):
        for kind, unit in _units(data, width):
            if kind in (_SLICE, _IDR):
                break
            if kind == _PARAMETERS:
                parameters = _parameters(unit)
        else:
            return None
        if parameters is None or not parameters.frames_only or parameters.order_kind == 1:
            return None
        if kind == _IDR:
            refreshes, count = refreshes + 1, 0
        if parameters.order_kind == _IN_CODED_ORDER:
            count = number
        else:
            count = _unwrap(parameters.order_count(unit, kind), count, parameters)
        ranks.append((refreshes, count))

    return ranks


def may_have_fields(coded: bytes, header: bytes) -> bool:
    """Return whether H.264 may code fields as pictures of their own, by its parameters: those in
    the ``header``, or in front of ``coded``, a keyframe.
    """
    width, parameters = _configuration(header)
    units = _units(coded, width)
    found = next((_parameters(unit) for kind, unit in units if kind == _PARAMETERS), parameters)
    return found is not None and not found.frames_only


def second_fields(coded: Iterable[bytes], header: bytes) -> list[int]:
    """Return the numbers of the packets of H.264 that hold the second field of the frame whose
    first is in the packet before (3.30, complementary field pairs).
    """
    width, parameters = _configuration(header)
    found: list[int] = []
    first: tuple[int, bool] | None = None  # of the packet before, where that waits for a second

    for number, data in enumerate(coded):
        field = None
        for kind, unit in _units(data, width):
            if kind == _PARAMETERS:
                parameters = _parameters(unit) or parameters
            if kind in (_SLICE, _IDR):
                is_known = parameters is not None and not parameters.frames_only
                field = parameters.field(unit) if parameters is not None and is_known else None
                break
        is_second = first is not None and field == (first[0], not first[1])
        if is_second:
            found.append(number)
        first = None if is_second else field

    return found


@dataclass(frozen=True, slots=True)
class _Parameters:
    """What a sequence parameter set says of slice headers; widths in bits."""

    frame_number_width: int
    order_count_width: int
    order_kind: int  # pic_order_cnt_type
    frames_only: bool
    separate_planes: bool

    def field(self, unit: bytes) -> tuple[int, bool] | None:
        """Read the frame number of a slice of a field picture and whether it is of the bottom
        field (7.3.3); None for slices of frames.
        """
        bits = _Bits(unit)
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.golomb()
        if self.separate_planes:
            bits.take(2)  # colour_plane_id
        number = bits.take(self.frame_number_width)
        return (number, bool(bits.take(1))) if bits.take(1) else None

    def order_count(self, unit: bytes, kind: int) -> int:
        """Read pic_order_cnt_lsb of a slice (7.3.3)."""
        bits = _Bits(unit)
        for _ in range(3):  # first_mb_in_slice, slice_type, pic_parameter_set_id
            bits.golomb()
        if self.separate_planes:
            bits.take(2)  # colour_plane_id
        bits.take(self.frame_number_width)
        if kind == _IDR:
            bits.golomb()  # idr_pic_id
        return bits.take(self.order_count_width)


def _unwrap(low: int, before: int, parameters: _Parameters) -> int:
    """The count nearest the one before whose lowest bits are ``low``."""
    period = 1 << parameters.order_count_width
    return low + round((before - low) / period) * period


def _parameters(unit: bytes) -> _Parameters | None:
    """Read a sequence parameter set (7.3.2.1.1);
    None for what this file does not follow, such as scaling matrices.
    """
    bits = _Bits(unit)
    profile = bits.take(24) >> 16
    bits.golomb()  # seq_parameter_set_id
    separate_planes = False
    if profile in _HIGH_PROFILES:
        separate_planes = bits.golomb() == 3 and bool(bits.take(1))
        # Bit depths, qpprime_y_zero_transform_bypass_flag.
        (bits.golomb(), bits.golomb(), bits.take(1))
        if bits.take(1):  # scaling matrices
            return None

    frame_number_width = bits.golomb() + 4
    kind = bits.golomb()
    order_count_width = bits.golomb() + 4 if kind == 0 else 0
    if kind == 1:
        bits.take(1)  # delta_pic_order_always_zero_flag
        # Offsets, signed, in as many bits as unsigned ones.
        (bits.golomb(), bits.golomb())
        for _ in range(bits.golomb()):
            bits.golomb()

    bits.golomb(), bits.take(1), bits.golomb(), bits.golomb()  # references, gaps, width, height
    frames_only = bool(bits.take(1))
    return _Parameters(frame_number_width, order_count_width, kind, frames_only, separate_planes)


def _configuration(header: bytes) -> tuple[int, _Parameters | None]:
    """How many bytes tell the length of a unit, and the parameters;
    0 and None for the byte stream format (annex B).

    The header is an AVCDecoderConfigurationRecord (ISO 14496-15, 5.3.3.1.2) or a few units.
    """
    if header[:1] != b"\1":
        return 0, next(
            (_parameters(unit) for kind, unit in _units(header, 0) if kind == _PARAMETERS), None
        )
    return (header[4] & 3) + 1, _parameters(header[9:])


def _units(data: bytes, width: int) -> Iterator[tuple[int, bytes]]:
    """The (nal_unit_type, payload) of a packet whose units are led
    by ``width`` bytes of length, or by start codes.
    """
    for unit in _units_by_length(data, width) if width else re.split(rb"\x00\x00\x01", data)[1:]:
        if unit:
            # Encoders put a 3 behind two zeros, so that no payload holds a start code (7.4.1).
            yield unit[0] & 31, unit[1:].replace(b"\x00\x00\x03", b"\x00\x00")


def _units_by_length(data: bytes, width: int) -> Iterator[bytes]:
    place = 0
    while place + width < len(data):
        end = place + width + int.from_bytes(data[place : place + width], "big")
        yield data[place + width : end]
        place = end


class _Bits:
    """Bits of a payload, highest first; zeros after its end."""

    def __init__(self, data: bytes) -> None:
        self._bits = int.from_bytes(data[:64].ljust(64, b"\0"), "big")
        self._left = 512

    def take(self, width: int) -> int:
        """Return the next ``width`` bits."""
        self._left -= width
        return self._bits >> self._left & ((1 << width) - 1) if self._left >= 0 else 0

    def golomb(self) -> int:
        """Return the next unsigned Exp-Golomb code (9.1)."""
        zeros = 0
        while zeros < 32 and not self.take(1):
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)
