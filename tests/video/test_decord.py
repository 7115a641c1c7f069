"""decord gives the frames that we number, at our times, or is not used."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from mmdata import video
from mmdata.errors import UsageError, VideoError
from mmdata.image import resizers
from tests.video.clips import clip, cut, numbers_in, picture

TICKS = np.cumsum([0] + [1, 2, 1, 4, 3] * 8)[:30].tolist()


@pytest.fixture
def made() -> bytes:
    """A clip of variable rate with B-frames and several keyframes;
    a skip where decord is not installed.
    """
    pytest.importorskip("decord")
    return clip("h264", "mp4", TICKS, gop=8, b_frames=2)


@pytest.mark.parametrize("strategy", ["every:1", "frames:7,2,2,29", "fps:3", "keyframes"])
def test_decord_shows_the_frames_of_our_numbers_at_our_times(made: bytes, strategy: str) -> None:
    by_decord, by_av = (
        video.sample(made, strategy, backend=backend) for backend in ("decord", "av")
    )

    assert numbers_in(by_decord.pixels) == by_decord.numbers.tolist() == by_av.numbers.tolist()
    np.testing.assert_array_equal(by_decord.times, by_av.times)
    assert by_decord.times_source == "stream"


def test_decord_takes_a_clip_between_bounds(made: bytes) -> None:
    frames = video.sample(
        made, "every:1", backend="decord", start=TICKS[9] / 25, end=TICKS[14] / 25
    )

    assert numbers_in(frames.pixels) == list(range(9, 14))


def test_decord_gives_height_and_width_as_asked_for(made: bytes) -> None:
    assert video.sample(made, "uniform:2", backend="decord", size=(96, 64)).pixels.shape == (
        2,
        96,
        64,
        3,
    )
    assert video.sample(made, "uniform:2", backend="decord", size=20).pixels.shape == (2, 20, 20, 3)


def test_decord_resizes_by_the_way_of_a_family(made: bytes) -> None:
    [whole] = video.sample(made, "frames:3", backend="decord").pixels
    [resized] = video.sample(made, "frames:3", backend="decord", size=30, resize="crop").pixels

    np.testing.assert_array_equal(resized, resizers.get("crop")(whole, 30))
    assert np.abs(whole.astype(int) - picture(3)).mean() < 20


def test_decord_is_not_used_on_what_it_gets_wrong(made: bytes) -> None:
    hidden = cut(clip("h264", "mp4", range(40), gop=12, b_frames=2), "mp4", keyframe=1, start=17)
    short = clip("h264", "mp4", range(60), gop=10, muxer={"moov_size": "20000"})[:-2000]

    for data, words in [
        (clip("mpeg4", "avi", range(20)), "no presentation times"),
        (short, "damaged"),
        (hidden, r"counts \d+ of 23 frames"),
    ]:
        with pytest.raises(VideoError, match=words):
            video.sample(data, "uniform:4", backend="decord")


def test_decord_takes_no_stream_by_its_number(made: bytes) -> None:
    with pytest.raises(UsageError, match="backend='av'"):
        video.sample(made, "uniform:4", backend="decord", stream=0)


def test_without_decord_the_call_is_at_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "decord", None)

    with pytest.raises(UsageError, match="needs decord: pip install"):
        video.sample(clip("h264", "mp4", range(10)), "uniform:4", backend="decord")
