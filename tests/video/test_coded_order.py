"""The order of presentation that coded frames tell, and the cases in which only decoding can."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata import video
from mmdata._tools.limits import Limits
from mmdata.video.coded_order import _Bits, _Parameters, _unwrap, coded_order
from mmdata.video.reader import reading
from tests.video.clips import clip, numbers_in

TYPES = {"I": 0, "P": 1, "B": 2}


def vop(kind: str, size: int = 40, user_data: bytes = b"") -> bytes:
    """A frame of MPEG-4 part 2 as far as its order is read from it:
    the start code and the two bits of its type.
    """
    return (user_data + b"\x00\x00\x01\xb6" + bytes([TYPES[kind] << 6])).ljust(size, b"\x55")


def order(kinds: str, **options: object) -> list[int] | None:
    found = coded_order("mpeg4", [vop(kind, **options) for kind in kinds], b"")  # type: ignore[arg-type]
    return None if found is None else found.tolist()


@pytest.mark.parametrize(
    ("coded", "presented"),
    [
        ("IPPP", [0, 1, 2, 3]),
        ("IPBBPBB", [0, 3, 1, 2, 6, 4, 5]),
        ("IPBIBP", [0, 2, 1, 4, 3, 5]),
        ("IPPBIPB", [0, 1, 3, 2, 4, 6, 5]),
    ],
)
def test_b_frames_come_before_the_reference_that_is_coded_before_them(
    coded: str, presented: list[int]
) -> None:
    assert order(coded) == presented


@pytest.mark.parametrize("coded", ["B", "IBP", "BIP"])
def test_b_frames_without_two_references_are_left_to_the_decoder(coded: str) -> None:
    assert order(coded + "PP") is None


def test_what_may_be_no_frame_or_two_is_left_to_the_decoder() -> None:
    sound = [vop("I"), vop("P"), vop("B")]
    packed = b"\x00\x00\x01\xb2DivX503b1393p\x00"

    assert coded_order("mpeg4", sound, b"") is not None
    assert coded_order("mpeg4", sound, packed) is None
    assert coded_order("mpeg4", [vop("I", user_data=packed), *sound[1:]], b"") is None
    assert coded_order("mpeg4", [*sound, vop("P", size=15)], b"") is None
    assert coded_order("mpeg4", [*sound, bytes(40)], b"") is None
    assert coded_order("hevc", sound, b"") is None
    assert coded_order("mpeg4", [], b"") is None


def test_codecs_without_b_frames_present_as_they_code() -> None:
    for codec in ("mjpeg", "vp9", "rawvideo", "msmpeg4v3"):
        found = coded_order(codec, [b"x"] * 5, b"")
        assert found is not None
        assert found.tolist() == [0, 1, 2, 3, 4]


@given(
    start=st.integers(0, 1000),
    steps=st.lists(st.integers(-7, 7), max_size=60),
    width=st.integers(4, 8),
)
def test_a_count_of_which_the_lowest_bits_are_kept_is_known_by_the_one_before(
    start: int, steps: list[int], width: int
) -> None:
    counts = np.cumsum([start, *steps]).tolist()
    parameters = _Parameters(4, width, 0, frames_only=True, separate_planes=False)

    known = [counts[0]]
    for count in counts[1:]:
        known.append(_unwrap(count % (1 << width), known[-1], parameters))

    assert known == counts


@given(st.lists(st.integers(0, 255), min_size=1, max_size=12))
def test_numbers_of_exponential_golomb_are_read_back(numbers: list[int]) -> None:
    coded = "".join("0" * ((number + 1).bit_length() - 1) + f"{number + 1:b}" for number in numbers)
    bits = _Bits(
        int(coded.ljust(-(-len(coded) // 8) * 8, "0"), 2).to_bytes(-(-len(coded) // 8), "big")
    )

    assert [bits.golomb() for _ in numbers] == numbers


@pytest.mark.slow
@pytest.mark.parametrize("b_frames", [0, 1, 3])
def test_the_order_of_a_long_group_in_an_avi_is_read_and_not_decoded(b_frames: int) -> None:
    """More frames than the lowest bits of a picture's order can count."""
    data = clip("h264", "avi", range(200), gop=250, b_frames=b_frames)

    found = video.index(data)

    assert found.order is not None
    assert sorted(found.order.tolist()) == list(range(200))
    assert numbers_in(video.sample(data, "every:13").pixels) == list(range(0, 200, 13))


def test_an_order_that_is_not_that_in_which_frames_come_is_noticed() -> None:
    data = clip("h264", "avi", range(12), gop=50)
    found = video.index(data)
    assert found.order is not None
    wrong = found.order.copy()
    wrong[[5, 8]] = wrong[[8, 5]]

    with reading(data, None, Limits(), known=replace(found, order=wrong)) as reader:
        numbers = [number for number, _ in reader.frames(range(12))]

    assert numbers == [0, 1, 2, 3, 4, 8]  # and no more, so that all is decoded again
