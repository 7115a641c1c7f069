"""Clips whose frames carry their own number:
every codec, container and oddity, every strategy, the right frames.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mmdata import video
from tests.video.clips import ENCODERS, HEIGHT, WIDTH, clip, cut, numbers_in

RATE = 25
COUNT = 40
CONTAINERS = ("mp4", "fragmented mp4", "mov", "matroska", "webm", "avi")
STRATEGIES = (
    *(
        "uniform:24",
        "uniform:5",
        "middle:4",
        "fps:7",
        "fps:3:2",
        "seconds",
        "every:7",
        "keyframes",
        "times:0.4,0.1",
    ),
    *(
        "hf_chat",
        "hf_base",
        "mf_train_average:9",
        "mf_predict:3",
        "llava_next:5",
        "hf_num_frames:6",
        "mindie",
    ),
)


@dataclass(frozen=True)
class Made:
    """A clip and the truth about it:
    the number that each presented frame shows, and its time in seconds.
    """

    data: bytes
    shown: list[int]
    times: NDArray[np.float64]


def _made(codec: str, container: str, ticks: list[int], **options: Any) -> Made:
    muxer = {"movflags": "frag_keyframe+delay_moov"} if container == "fragmented mp4" else {}
    name = "mp4" if muxer else container
    data = clip(codec, name, ticks, rate=RATE, muxer=muxer, **options)
    if (
        container == "avi"
    ):  # stores no times, but the ticks of decoding, of which some have no frame
        ticks = _chunks(data)
    return Made(data, list(range(len(ticks))), (np.array(ticks) - ticks[0]) / RATE)


def _chunks(data: bytes) -> list[int]:
    """Return which ticks of an AVI have a frame.

    FFmpeg's muxer puts the first at tick 0, whenever it is, and then fills up with empty chunks.
    """
    with av.open(io.BytesIO(data)) as opened:
        return [packet.dts or 0 for packet in opened.demux(video=0) if packet.size]


def constant_rate(codec: str, container: str) -> Made:
    return _made(codec, container, list(range(COUNT)))


def variable_rate(codec: str, container: str) -> Made:
    return _made(codec, container, np.cumsum([0] + [1, 2, 1, 4, 3] * (COUNT // 5))[:COUNT].tolist())


def b_frames(codec: str, container: str) -> Made:
    return _made(codec, container, list(range(COUNT)), b_frames=3)


def long_gop(codec: str, container: str) -> Made:
    return _made(codec, container, list(range(COUNT)), b_frames=2, gop=300)


def short_gop(codec: str, container: str) -> Made:
    return _made(codec, container, list(range(COUNT)), b_frames=1, gop=4)


def start_offset(codec: str, container: str) -> Made:
    return _made(codec, container, list(range(40, 40 + COUNT)), b_frames=2)


def odd_size(codec: str, container: str) -> Made:
    planes = {"h264": "yuv444p", "hevc": "yuv444p"}.get(codec, "")
    return _made(codec, container, list(range(COUNT)), size=(HEIGHT + 3, WIDTH + 5), pix_fmt=planes)


def audio_longer(codec: str, container: str) -> Made:
    return _made(codec, container, list(range(COUNT)), audio=2.5)


def one_frame(codec: str, container: str) -> Made:
    return _made(codec, container, [0])


def cut_between_keyframes(codec: str, container: str) -> Made:
    """Stream-copied from the keyframe at 12,
    to be presented from 17 on where an edit list can say so.
    """
    whole = clip(codec, container, range(COUNT), rate=RATE, b_frames=2, gop=12)
    start = 17
    data = cut(whole, container, keyframe=start if codec == "mjpeg" else 1, start=start, rate=RATE)
    first = start if container in ("mp4", "mov") or codec == "mjpeg" else 12
    return Made(data, list(range(first, COUNT)), np.arange(COUNT - first) / RATE)


KINDS: tuple[Callable[[str, str], Made], ...] = (
    *(
        constant_rate,
        variable_rate,
        b_frames,
        long_gop,
        short_gop,
        start_offset,
        odd_size,
        audio_longer,
        one_frame,
    ),
    cut_between_keyframes,
)


def _possible(codec: str, container: str, kind: Callable[[str, str], Made]) -> bool:
    """What the muxers of FFmpeg accept."""
    if container == "webm" and (codec != "vp9" or kind is audio_longer):
        return False
    if (container, codec) in {("avi", "hevc"), ("mov", "vp9")}:
        return False
    return kind is not cut_between_keyframes or container not in ("avi", "fragmented mp4")


CASES = [
    pytest.param(
        codec, container, kind, id=f"{codec}-{container.replace(' ', '_')}-{kind.__name__}"
    )
    for codec in ENCODERS
    for container in CONTAINERS
    for kind in KINDS
    if _possible(codec, container, kind)
]


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "container", "kind"), CASES)
def test_every_strategy_takes_the_right_frames(
    codec: str, container: str, kind: Callable[[str, str], Made]
) -> None:
    made = kind(codec, container)

    found = video.index(made.data)

    np.testing.assert_allclose(found.times, made.times, atol=1e-3)
    assert found.times_source == ("derived" if container == "avi" else "stream")
    assert numbers_in(video.sample(made.data, "every:1").pixels) == made.shown
    for strategy in STRATEGIES:
        if len(made.shown) > 1 or strategy in ("uniform:5", "seconds", "keyframes", "hf_base"):
            _check(made, strategy)


def _check(made: Made, strategy: str, **options: Any) -> None:
    frames = video.sample(made.data, strategy, **options)

    assert numbers_in(frames.pixels) == [made.shown[number] for number in frames.numbers], strategy
    np.testing.assert_allclose(
        frames.times, made.times[frames.numbers], atol=1e-3, err_msg=strategy
    )


@pytest.mark.slow
@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
@pytest.mark.parametrize("codec", ["h264", "mpeg4", "mjpeg"])
def test_a_planned_frame_is_the_sampled_frame(codec: str, container: str) -> None:
    made = short_gop(codec, container)
    found = video.index(made.data)

    for strategy in STRATEGIES:
        for snap in ("exact", "keyframe"):
            planned = video.plan(found, strategy, snap=snap)
            frames = video.sample(made.data, strategy, snap=snap)
            np.testing.assert_array_equal(frames.numbers, planned.numbers)
            np.testing.assert_array_equal(frames.times, planned.times)


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_snapping_takes_keyframes_and_reports_their_own_times(container: str) -> None:
    made = short_gop("h264", container)
    keyframes = video.index(made.data).keyframes

    frames = video.sample(made.data, "uniform:10", snap="keyframe")

    assert len(frames) == 10
    assert set(frames.numbers) <= set(keyframes)
    assert numbers_in(frames.pixels) == frames.numbers.tolist()
    np.testing.assert_allclose(frames.times, frames.numbers / RATE, atol=1e-3)


@pytest.mark.parametrize("container", ["mp4", "avi"])
def test_bounds_leave_only_the_frames_between_them(container: str) -> None:
    made = b_frames("h264", container)

    frames = video.sample(made.data, "every:1", start=0.4, end=0.8)

    assert frames.numbers.tolist() == list(range(10, 20))
    _check(made, "uniform:3", start=0.4, end=0.8)


@pytest.mark.parametrize(("rotation", "back"), [(-90, 1), (90, -1), (180, 2)])
@pytest.mark.parametrize("container", ["mp4", "mov", "matroska"])
def test_a_turned_clip_is_presented_upright(container: str, rotation: int, back: int) -> None:
    made = _made("h264", container, list(range(COUNT)), rotation=rotation)

    found, frames = video.index(made.data), video.sample(made.data, "uniform:7")

    assert frames.pixels.shape[1:3] == (found.height, found.width)
    assert (found.height, found.width) == ((WIDTH, HEIGHT) if rotation % 180 else (HEIGHT, WIDTH))
    assert numbers_in(np.rot90(frames.pixels, back, axes=(1, 2))) == frames.numbers.tolist()
    scaled = video.sample(made.data, "uniform:7", size=(2 * found.height, 2 * found.width))
    assert (
        numbers_in(np.rot90(scaled.pixels, back, axes=(1, 2))[:, ::2, ::2])
        == frames.numbers.tolist()
    )
