"""Pixels are those of a plain full decode, bit for bit,
whatever was left out to get them cheaply.
"""

from __future__ import annotations

import io
from fractions import Fraction
from functools import cache
from itertools import pairwise

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmdata import video
from mmdata._tools.limits import Limits
from mmdata.video.reader import reading, segments

COUNT = 48
X264, X265 = (
    "keyint=10:min-keyint=10:b-adapt=0",
    "keyint=10:min-keyint=10:log-level=none:pools=1:frame-threads=1",
)
KINDS = {
    "h264 open gop, pyramid": (
        "libx264",
        "mp4",
        {"x264-params": f"{X264}:open-gop=1:bframes=3:b-pyramid=2"},
    ),
    "h264 closed gop": (
        "libx264",
        "matroska",
        {"x264-params": f"{X264}:bframes=2:ref=3:b-pyramid=1"},
    ),
    "h264 intra refresh": (
        "libx264",
        "mp4",
        {"x264-params": "intra-refresh=1:keyint=12:bframes=0"},
    ),
    "h264 in avi": ("libx264", "avi", {"x264-params": f"{X264}:bframes=3:b-pyramid=2"}),
    "hevc open gop": ("libx265", "mp4", {"x265-params": f"{X265}:open-gop=1:bframes=4"}),
    "hevc closed gop": ("libx265", "matroska", {"x265-params": f"{X265}:open-gop=0:bframes=3"}),
    "mpeg4": ("mpeg4", "mp4", {"bf": "2", "g": "10"}),
    "mpeg4 in avi": ("mpeg4", "avi", {"bf": "2", "g": "10"}),
    "mpeg2": ("mpeg2video", "mpegts", {"bf": "2", "g": "9"}),
    "mpeg2 in a program stream": ("mpeg2video", "mpeg", {"bf": "2", "g": "9"}),
    "vp9": ("libvpx-vp9", "webm", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
    "vp9, hidden frames": (
        "libvpx-vp9",
        "webm",
        {"cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"},
    ),
    "vp8": ("libvpx", "webm", {"deadline": "realtime", "cpu-used": "8", "g": "12"}),
    "av1": ("libsvtav1", "mp4", {"preset": "12", "g": "16", "svtav1-params": "lp=1"}),
}


@cache
def moving(kind: str) -> bytes:
    """A clip of a texture that moves, turns grey and flickers, so that every reference matters."""
    codec, container, options = KINDS[kind]
    texture = np.random.default_rng(5).integers(0, 255, (120, 160), np.uint8)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.thread_count = 1
        for number in range(COUNT):
            window = np.roll(texture, (number, 3 * number), (0, 1))[:64, :96].astype(np.uint16)
            grey = (window * (40 - number % 17) // 40).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(
                np.repeat(grey[:, :, None], 3, 2), format="rgb24"
            ).reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()


@cache
def fully_decoded(kind: str) -> NDArray[np.uint8]:
    with av.open(io.BytesIO(moving(kind))) as container:
        container.streams.video[0].codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("held", [32 << 20, 0], ids=["held", "reread"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12)
@given(wanted=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=6))
def test_any_frames_are_those_of_a_full_decode(kind: str, held: int, wanted: list[int]) -> None:
    full = fully_decoded(kind)

    frames = video.sample(
        moving(kind), f"frames:{','.join(map(str, wanted))}", limits=Limits(packet_bytes=held)
    )

    assert len(full) == COUNT
    assert frames.numbers.tolist() == wanted
    np.testing.assert_array_equal(frames.pixels, full[wanted])
    np.testing.assert_allclose(frames.times, np.array(wanted) / 25, atol=1e-3)


@given(wanted=st.sets(st.integers(0, COUNT - 1), min_size=1))
def test_stretches_are_in_order_apart_and_hold_every_wanted_frame_once(wanted: set[int]) -> None:
    with reading(moving("h264 open gop, pyramid"), None, Limits()) as reader:
        found = segments(reader.index, wanted)
        order = reader.index.order

    assert order is not None
    assert sorted(int(order[packet]) for segment in found for packet in segment.wanted) == sorted(
        wanted
    )
    assert all(
        segment.start <= min(segment.wanted) <= max(segment.wanted) <= segment.stop
        for segment in found
    )
    assert all(before.stop < after.start for before, after in pairwise(found))


@pytest.mark.parametrize("kind", ["h264 open gop, pyramid", "mpeg2"])
def test_a_stretch_starts_at_a_keyframe_presented_no_later_than_what_is_wanted(kind: str) -> None:
    """Frames that lead a keyframe in presentation refer to frames before it."""
    with reading(moving(kind), None, Limits()) as reader:
        order, rows = reader.index.order, reader.index.packets
        assert order is not None
        leading = 0
        for wanted in range(COUNT):
            [segment] = segments(reader.index, [wanted])
            assert rows[segment.start].keyframe
            assert order[segment.start] <= wanted
            leading += any(row.keyframe for row in rows[segment.start + 1 : segment.stop])

    assert leading


def test_one_late_frame_costs_the_packets_of_its_own_group_alone() -> None:
    with reading(moving("h264 closed gop"), None, Limits()) as reader:
        [segment] = segments(reader.index, [COUNT - 1])

    assert segment.stop - segment.start < 12
