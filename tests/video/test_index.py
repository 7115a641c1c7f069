"""How long a clip lasts and how many frames a second it has:
of its frames, not of what a header guesses.
"""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata import video
from mmdata.video.reader import index_by_decoding
from tests.video.clips import clip

RATE = 25
few = settings(max_examples=8)
gaps = st.lists(st.integers(1, 5), min_size=12, max_size=30)  # ticks from a frame to the next
SAYS_HOW_LONG = [
    ("h264", "matroska", 3),
    ("hevc", "matroska", 2),
    ("vp9", "webm", 0),
    ("h264", "mp4", 0),
]


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "container", "b_frames"), SAYS_HOW_LONG)
@few
@given(gaps=gaps, lasting=st.integers(2, 9))
def test_the_duration_is_the_end_of_the_frame_presented_last(
    codec: str, container: str, b_frames: int, gaps: list[int], lasting: int
) -> None:
    ticks = np.cumsum([0, *gaps]).tolist()
    data = clip(codec, container, ticks, rate=RATE, gop=6, b_frames=b_frames, lasting=lasting)

    assert video.index(data).duration == pytest.approx((ticks[-1] + lasting) / RATE, abs=1e-3)
    assert index_by_decoding(data).duration == pytest.approx((ticks[-1] + lasting) / RATE, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("container", ["mp4", "mov", "mpegts", "matroska"])
@few
@given(gaps=gaps)
def test_the_duration_is_what_the_packet_of_the_frame_presented_last_says(
    container: str, gaps: list[int]
) -> None:
    ticks = np.cumsum([0, *gaps]).tolist()
    data = clip("mpeg4", container, ticks, rate=RATE, gop=6, b_frames=2, lasting=4)

    with av.open(io.BytesIO(data)) as opened:
        stream = opened.streams.video[0]
        packets = [packet for packet in opened.demux(stream) if packet.size]
        last = max(packets, key=lambda packet: packet.pts)
        end = (last.pts + last.duration - min(packet.pts for packet in packets)) * stream.time_base

    assert video.index(data).duration == pytest.approx(float(end), abs=1e-6)


def test_the_duration_of_what_decodes_is_the_end_of_the_last_frame_that_does() -> None:
    ticks = np.cumsum([0, 1, 4, 2, 5, 1, 3, 2, 4, 1, 5]).tolist()
    data = clip("h264", "matroska", ticks, rate=RATE, lasting=9)
    with av.open(io.BytesIO(data)) as opened:
        last = [bytes(packet) for packet in opened.demux(video=0) if packet.size][-1]

    found = index_by_decoding(data.replace(last, bytes(len(last))), strict=True)

    assert found.num_frames == len(ticks) - 1
    assert found.duration == pytest.approx(ticks[-1] / RATE, abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("b_frames", [0, 3])
@pytest.mark.parametrize("container", ["mp4", "fragmented mp4", "mov", "matroska", "mpegts"])
@few
@given(gaps=gaps.filter(lambda gaps: len(set(gaps)) > 1))
def test_the_rate_of_a_clip_of_variable_rate_is_its_frames_over_its_duration(
    container: str, b_frames: int, gaps: list[int]
) -> None:
    ticks = np.cumsum([0, *gaps]).tolist()
    muxer = {"movflags": "frag_keyframe+delay_moov"} if container == "fragmented mp4" else {}
    name = "mp4" if muxer else container

    found = video.index(clip("h264", name, ticks, rate=RATE, gop=6, b_frames=b_frames, muxer=muxer))

    assert found.fps == pytest.approx(len(ticks) / found.duration, rel=1e-9)
    assert found.fps != RATE


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 2, 3, 50])
@pytest.mark.parametrize("rate", [24, 25, Fraction(30000, 1001), 30, 50], ids=str)
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
def test_the_rate_of_a_clip_of_constant_rate_is_exactly_its_own(
    container: str, rate: Fraction, count: int
) -> None:
    # FFmpeg does not know a shorter one for what it is.
    frames = range(count + 40 if container == "mpegts" else count)
    data = clip("h264", container, frames, rate=rate, b_frames=2)

    assert video.index(data).fps == float(rate)


@pytest.mark.parametrize("rate", [Fraction(359, 12), Fraction(15), Fraction(7, 2)])
def test_frames_of_an_avi_come_at_the_rate_of_its_header(rate: Fraction) -> None:
    found = video.index(clip("mpeg4", "avi", range(40), rate=rate, b_frames=2))

    np.testing.assert_allclose(found.times, np.arange(40) / float(rate), rtol=1e-12)
    assert found.fps == float(rate)
    assert found.duration == pytest.approx(40 / float(rate))


@pytest.mark.parametrize(
    ("codec", "ticks"), [("h264", 2), ("mpeg4", 2), ("mpeg4", 20), ("mjpeg", 3)]
)
def test_frames_of_an_avi_that_last_several_ticks_come_at_their_own_rate(
    codec: str, ticks: int
) -> None:
    data = clip(codec, "avi", range(0, 30 * ticks, ticks), rate=25 * ticks)

    for found in (video.index(data), index_by_decoding(data)):
        np.testing.assert_allclose(found.times, np.arange(30) / 25, rtol=1e-12)
        assert found.fps == 25.0
        assert found.duration == pytest.approx(30 / 25)


@pytest.mark.parametrize(
    ("height", "rate", "pix_fmt", "told"),
    [(576, Fraction(25), "yuv420p", 25.0), (480, Fraction(30000, 1001), "yuv411p", 29.97)],
)
@pytest.mark.parametrize("count", [1, 2, 12])
def test_the_rate_of_raw_dv_is_that_of_its_frames_and_not_of_its_ticks(
    height: int, rate: Fraction, pix_fmt: str, told: float, count: int
) -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="dv") as output:
        stream = output.add_stream("dvvideo", rate=rate)
        stream.height, stream.width, stream.pix_fmt = height, 720, pix_fmt
        for number in range(count):
            frame = av.VideoFrame(720, height, pix_fmt)
            frame.pts, frame.time_base = number, 1 / rate
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))

    for found in (video.index(file.getvalue()), index_by_decoding(file.getvalue())):
        assert found.fps == pytest.approx(told, abs=0.01)
        assert found.duration == pytest.approx(count / rate)
        np.testing.assert_allclose(found.times, np.arange(count) / float(rate))
