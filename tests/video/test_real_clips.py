"""Real clips, against ffprobe's times and against a plain full decode."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from mmdata import video
from mmdata.errors import VideoError
from tests.reference import PACK, clips, files, lacking, read, some

STRATEGIES = (
    "uniform:24",
    "middle:5",
    "fps:2",
    "seconds:4",
    "every:11",
    "keyframes",
    "hf_base",
    "mf_train_average:3",
)


def _fully_decoded(path: Path) -> NDArray[np.uint8]:
    """Every frame of a clip by nothing but demux, decode and to_ndarray."""
    frames = []
    with av.open(str(path)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        for packet in container.demux(stream):
            try:
                decoded = stream.codec_context.decode(packet if packet.size else None)
            except av.FFmpegError:
                continue
            frames += [frame.to_ndarray(format="rgb24") for frame in decoded]
    return np.stack(frames)


def test_times_are_those_of_ffprobe(fixtures: Path) -> None:
    for path, truth in clips(fixtures).items():
        found = video.index(path)
        if not truth["errors"]:
            np.testing.assert_allclose(found.times, truth["times"], atol=1e-3, err_msg=path.name)
            assert found.keyframes.tolist() == truth["keyframes"] or found.order is None, path
        assert found.codec == truth["codec"]
        assert found.stream == truth["stream"]


@pytest.mark.slow
def test_every_frame_is_that_of_a_full_decode_at_the_time_of_ffprobe(fixtures: Path) -> None:
    for path, truth in clips(fixtures).items():
        full, times = _fully_decoded(path), np.array(truth["times"])
        if truth["rotation"]:
            full = np.rot90(full, truth["rotation"] // 90, axes=(1, 2))
        for strategy in STRATEGIES:
            frames = video.sample(path, strategy, on_damage="keep")
            assert np.array_equal(frames.pixels, full[frames.numbers]), (path, strategy)
            np.testing.assert_allclose(
                frames.times, times[frames.numbers], atol=1e-3, err_msg=path.name
            )


def test_what_is_damaged_is_refused_unless_it_is_to_be_kept(fixtures: Path) -> None:
    for path, truth in clips(fixtures).items():
        if truth["errors"]:
            with pytest.raises(VideoError, match=r"damaged.*packets cannot be decoded") as caught:
                video.sample(path, "every:1")
            assert 0 < caught.value.frames_read <= truth["decoded_frames"]
            kept = video.sample(path, "every:1", on_damage="keep", size=16)
            np.testing.assert_allclose(kept.times, truth["times"], atol=1e-3)
            assert kept.damage


@pytest.mark.slow
def test_decord_gives_the_frames_that_it_gives_in_a_row_or_is_refused(fixtures: Path) -> None:
    decord = pytest.importorskip("decord")
    agreed = 0
    for path, truth in clips(fixtures).items():
        try:
            frames = video.sample(path, "uniform:8", backend="decord")
        except VideoError as error:
            assert "decord" in str(error)
            continue
        reader = decord.VideoReader(str(path), num_threads=1)
        in_a_row = [reader.next().asnumpy() for _ in range(len(reader))]
        assert np.array_equal(frames.pixels, np.stack(in_a_row)[frames.numbers]), path
        np.testing.assert_allclose(
            frames.times, np.array(truth["times"])[frames.numbers], atol=1e-3
        )
        agreed += 1
    if not agreed and fixtures != PACK / "fixtures":
        lacking("clip that decord reads", fixtures)
    assert agreed


def test_another_stream_can_be_picked(fixtures: Path) -> None:
    for path, truth in clips(fixtures).items():
        if truth["video_streams"] > 1:
            with av.open(str(path)) as container:
                others = [
                    stream for stream in container.streams.video if stream.index != truth["stream"]
                ]
                sizes = {stream.index: (stream.height, stream.width) for stream in others}
            for index, size in sizes.items():
                assert video.sample(path, "uniform:2", stream=index).pixels.shape[1:3] == size


@pytest.mark.slow
def test_bytes_are_read_as_the_file_is(fixtures: Path) -> None:
    for path in clips(fixtures):
        from_file = video.sample(path, "uniform:3", size=32, on_damage="keep")
        from_bytes = video.sample(path.read_bytes(), "uniform:3", size=32, on_damage="keep")
        assert np.array_equal(from_file.pixels, from_bytes.pixels)
        assert np.array_equal(from_file.times, from_bytes.times)


def test_clips_with_a_barcode_show_the_frames_of_the_reference(golden: Path) -> None:
    told = files(golden / "cogvlm2_video", "video_frames.json")
    there = [(file.parent / case["file"], case) for file in told for case in read(file)]
    there = some(
        ((path, case) for path, case in there if path.is_file()),
        "clip of video_frames.json",
        golden,
    )
    for path, case in there:
        found = video.index(path)
        assert found.num_frames == case["frames"]
        np.testing.assert_allclose(found.times[[0, -1]], case["timestamps_first_last"], atol=1e-3)
        for strategy in ("hf_chat", "hf_base", "mf_predict"):
            if case[strategy]:
                frames = video.sample(path, strategy)
                assert frames.numbers.tolist() == case[strategy], (case["file"], strategy)
                assert [_barcode(pixels) for pixels in frames.pixels] == case[strategy]
        np.testing.assert_allclose(
            video.sample(path, "hf_chat").times, case["hf_chat_seconds"], atol=1e-3
        )


def _barcode(pixels: NDArray[np.uint8]) -> int:
    """The number in the top 32 rows: 12 bits of 8 pixels, the most significant first."""
    bits = pixels[8:24, 4:96:8].mean((0, 2)) > 127
    return int(bits @ (1 << np.arange(12)[::-1]))


@pytest.mark.slow
def test_the_two_ways_to_resize_differ_by_little(fixtures: Path) -> None:
    """How far ``fast`` is from Pillow's bicubic on real clips, in grey levels."""
    differences = []
    for path in clips(fixtures):
        fast, exact = (
            video.sample(path, "uniform:2", size=224, resize=way, on_damage="keep").pixels.astype(
                np.int16
            )
            for way in ("fast", "squeeze")
        )
        differences.append(np.abs(fast - exact).mean())

    assert np.mean(differences) < 1.5
    assert np.max(differences) < 3  # a test pattern, whose colours lose most at half the resolution
