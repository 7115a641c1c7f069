"""Damage of every kind ends in frames or in an error that says so: in time, and without a crash."""

from __future__ import annotations

import io
import os
import struct
from collections import Counter
from functools import partial
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from mmdata import image, video
from mmdata._tools.limits import Limits
from mmdata.conversion import probe
from mmdata.engine import local as isolate
from mmdata.errors import MediaError, VideoError
from mmdata.video.reader import index_by_decoding
from tests.reference import some
from tests.video.clips import clip, numbers_in, picture

# What a decoder may be made to spend on one of the files here.
DEADLINE, MEMORY = 10.0, 1 << 30


# Muxers that write the index first.
MUXERS = {"mp4": {"moov_size": "20000"}, "fragmented": {"movflags": "frag_keyframe+empty_moov"}}


def _cut_short(container: str) -> bytes:
    muxer = MUXERS.get(container, {})
    data = clip("h264", "mp4" if muxer else container, range(60), gop=10, muxer=muxer)
    start = 20_000 if container == "mp4" else 0
    return data[: start + (len(data) - start) * 2 // 3]


@pytest.mark.parametrize("container", ["mp4", "fragmented", "matroska", "mpegts", "avi"])
def test_a_clip_cut_short_is_damaged_or_gives_what_it_has(container: str) -> None:
    data = _cut_short(container)

    kept = video.sample(data, "every:1", on_damage="keep")

    assert 20 < len(kept) < 60
    shown = numbers_in(kept.pixels)
    # The last one may be the frame that was cut through.
    assert shown[:-1] == list(range(len(kept) - 1))


@pytest.mark.parametrize("container", ["mp4", "fragmented", "avi"])
def test_a_clip_cut_short_is_refused_where_the_container_tells_its_length(container: str) -> None:
    with pytest.raises(VideoError, match="damaged") as caught:
        video.sample(_cut_short(container), "uniform:4")

    assert caught.value.reason == "damaged_media"
    assert 20 < caught.value.frames_read < 60


def test_a_clip_without_its_index_is_not_decodable() -> None:
    data = clip("h264", "mp4", range(60))  # the index comes last

    with pytest.raises(VideoError, match="cannot be decoded as video") as caught:
        video.sample(data[: len(data) // 2], "uniform:4")

    assert caught.value.reason == "unreadable_media"


@pytest.mark.parametrize("side", [20_000, 100_000])
def test_a_bomb_is_refused_before_it_takes_memory(side: int) -> None:
    data = clip("rawvideo", "avi", range(3)).replace(
        struct.pack("<ii", 64, 48), struct.pack("<ii", side, side)
    )

    with isolate.Pool(deadline=DEADLINE, memory=256 << 20) as pool:
        for on_damage in ("raise", "keep"):
            with pytest.raises(VideoError, match="beyond the limit of 89478485 pixels"):
                pool.run(partial(video.sample, data, "uniform:2", on_damage=on_damage))


def test_frames_beyond_a_limit_are_refused() -> None:
    data = clip("h264", "mp4", range(30))

    for limits, words in [
        (Limits(pixels=64 * 48 - 1), "64x48"),
        (Limits(frames=29), "more than 29 frames"),
        (Limits(output_bytes=64 * 48 * 3 * 10), "limit of 92160 bytes"),
    ]:
        with pytest.raises(VideoError, match=words) as caught:
            video.sample(data, "every:1", limits=limits)
        assert caught.value.reason == "media_limit"


def test_frames_that_stand_twice_in_a_result_count_twice_against_its_limit() -> None:
    data, limits = clip("h264", "mp4", range(5)), Limits(output_bytes=64 * 48 * 3 * 4)

    assert len(video.sample(data, "frames:0,0,1,1", limits=limits)) == 4
    with pytest.raises(VideoError, match="5 frames of 64x48 are beyond the limit"):
        video.sample(data, "frames:0,0,1,1,0", limits=limits)


@pytest.mark.parametrize("name", ["a%03d.png", "a:b.png", "-.png", "concat:x|y.png"])
def test_a_name_means_a_file_and_nothing_else(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name, "png")

    assert video.sample(tmp_path / name, "uniform:1").pixels.shape == (1, 8, 8, 3)
    assert image.decode(tmp_path / name).shape == (8, 8, 3)


def test_a_strategy_that_finds_no_frame_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    path.write_bytes(clip("h264", "mp4", range(3)))

    for options in (
        {"strategy": "times:99"},
        {"strategy": "uniform:2", "start": 5.0},
        {"strategy": "mf_predict"},
    ):
        with pytest.raises(VideoError, match=r"short\.mp4: ") as caught:
            video.sample(path, **options)
        assert caught.value.path == str(path)


def test_a_still_is_a_video_of_one_frame() -> None:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 77, np.uint8)).save(file, "png")

    frames = video.sample(file.getvalue(), "uniform:24")

    assert frames.times.tolist() == [0.0]
    assert (frames.pixels == 77).all()


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_still_from_a_camera_is_upright(orientation: int) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x010F], exif[0x0112] = "a camera", orientation
    Image.fromarray(picture(77)).save(file, "jpeg", exif=exif, quality=95)

    (pixels,) = video.sample(file.getvalue(), "uniform:1").pixels

    there = image.decode(file.getvalue())
    assert pixels.shape == there.shape
    assert np.abs(pixels.astype(int) - there).mean() < 8


@pytest.mark.slow
def test_what_a_full_decode_finds_to_be_damaged_is_refused_and_kept_as_it_decodes() -> None:
    whole, random = clip("h264", "mp4", range(60), gop=10, b_frames=2), np.random.default_rng(0)
    damaged = 0
    for _ in range(40):
        place = int(random.integers(len(whole) // 8, len(whole) // 2))
        data = whole[:place] + random.bytes(8) + whole[place + 8 :]
        try:
            found = index_by_decoding(data, strict=True)
        except VideoError:
            continue
        if found.damage:
            damaged += 1
            with pytest.raises(VideoError):
                video.sample(data, "every:1")
            assert video.sample(data, "every:1", on_damage="keep").damage
    assert damaged > 10


@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("codec", ["h264", "mpeg4"])
def test_frames_that_follow_a_damaged_keyframe_are_refused(codec: str, number: int) -> None:
    whole = clip(codec, "matroska", range(50), gop=10)
    with av.open(io.BytesIO(whole)) as opened:
        keyframes = [
            bytes(packet) for packet in opened.demux(video=0) if packet.size and packet.is_keyframe
        ]
    data = whole.replace(keyframes[number], bytes(len(keyframes[number])))

    for wanted in (10 * number, 10 * number + 3):
        with pytest.raises(VideoError, match="damaged"):
            video.sample(data, f"frames:{wanted}")
    assert numbers_in(video.sample(data, f"frames:{10 * number - 1}").pixels) == [10 * number - 1]


def test_a_name_that_no_file_can_have_is_a_missing_one() -> None:
    with pytest.raises(VideoError) as caught:
        video.index("a\0b")

    assert caught.value.reason == "missing_media"


@pytest.mark.parametrize("codec", ["h264", "hevc"])
@pytest.mark.parametrize("strategy", ["every:1", "uniform:5", "frames:29", "frames:40,8"])
def test_a_raw_stream_beyond_the_limit_of_packets_is_read_again_by_its_places(
    codec: str, strategy: str, tmp_path: Path
) -> None:
    data = clip(codec, codec, range(48), b_frames=2)
    (tmp_path / "raw").write_bytes(data)
    expected = video.sample(data, strategy)

    for source in (data, tmp_path / "raw"):
        found = video.sample(source, strategy, limits=Limits(packet_bytes=1))

        np.testing.assert_array_equal(found.pixels, expected.pixels)
        np.testing.assert_array_equal(found.times, expected.times)


def test_files_joined_end_to_end_are_refused_for_their_times_are_no_order() -> None:
    with pytest.raises(VideoError, match="times go back by"):
        video.sample(2 * clip("h264", "mpegts", range(60)), "uniform:4")


@pytest.mark.parametrize("header", [None, 1 << 30])
def test_an_avi_whose_frames_last_two_ticks_or_whose_writer_could_not_go_back_is_sound(
    header: int | None,
) -> None:
    data = clip("mpeg4", "avi", range(0, 60, 2), rate=50)
    if header:
        data = data[:48] + struct.pack("<I", header) + data[52:]  # dwTotalFrames of the main header
        place = data.index(b"strh") + 40
        # dwLength of the stream's.
        data = data[:place] + struct.pack("<I", header) + data[place + 4 :]

    assert numbers_in(video.sample(data, "every:1").pixels) == list(range(30))


# --- fuzz
# --------------------------------------------------------------------------------------------------


def _broken(data: bytes, random: np.random.Generator) -> bytes:
    """``data`` with some bytes changed, its end cut off, or a piece of it put elsewhere."""
    array = np.frombuffer(data, np.uint8).copy()
    way = random.integers(3)
    if way == 0:
        places = random.integers(0, len(array), random.integers(1, 40))
        array[places] = random.integers(0, 256, len(places))
    elif way == 1:
        array = array[: random.integers(1, len(array))]
    else:
        size = int(random.integers(1, max(2, len(array) // 4)))
        source, target = random.integers(0, len(array) - size, 2)
        array[target : target + size] = array[source : source + size].copy()
    return array.tobytes()


def _decode(kind: str, data: bytes, strategy: str) -> str:
    """Sample or decode; the name of what it came to."""
    try:
        if kind == "image":
            image.decode(data, limits=Limits(pixels=1 << 24))
        else:
            video.sample(data, strategy, size=32, on_damage="keep", limits=Limits(pixels=1 << 24))
    except MediaError as error:
        return error.reason
    return "decoded"


def _fuzzed(files: list[tuple[str, bytes]], rounds: int, seed: int) -> Counter[str]:
    random = np.random.default_rng(seed)
    strategies = ("uniform:6", "keyframes:4", "seconds:3", "every:5:8")
    jobs = (
        (kind, _broken(data, random), strategies[number % len(strategies)])
        for number in range(rounds)
        for kind, data in [files[number % len(files)]]
    )
    outcomes: Counter[str] = Counter()
    with isolate.Pool(2, deadline=DEADLINE, memory=MEMORY) as pool:
        for outcome in pool.map(_decode, jobs):
            outcomes[outcome if isinstance(outcome, str) else str(outcome)] += 1
    return outcomes


def _pictures() -> list[tuple[str, bytes]]:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 50, 3), np.uint8)
    files = []
    for form in ("png", "jpeg", "webp", "gif", "bmp", "tiff"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, form)
        files.append(("image", file.getvalue()))
    return files


def _made_clips() -> list[tuple[str, bytes]]:
    return [
        ("video", clip(codec, container, range(24), gop=8, b_frames=2))
        for codec, container in [
            ("h264", "mp4"),
            ("h264", "avi"),
            ("mpeg4", "avi"),
            ("hevc", "matroska"),
            ("vp9", "webm"),
        ]
    ]


KNOWN = {"decoded", "unreadable_media", "damaged_media", "media_limit", "empty_media"}


@pytest.mark.slow
def test_broken_bytes_end_in_frames_or_in_an_error_with_its_reason() -> None:
    outcomes = _fuzzed(_made_clips() + _pictures(), rounds=300, seed=1)

    assert set(outcomes) <= KNOWN, outcomes
    assert outcomes["decoded"] > 0


@pytest.mark.slow
def test_broken_real_clips_and_pictures_end_so_too(fixtures: Path) -> None:
    clips = [
        path
        for path in sorted((fixtures / "videos").glob("*"))
        if path.suffix in {".mp4", ".avi", ".mov", ".mkv"}
    ]
    files = [("video", path.read_bytes()) for path in clips if path.stat().st_size < 100_000]
    pictures = [
        path
        for path in sorted((fixtures / "fewshot-data").rglob("*.jpg"))
        if path.stat().st_size < 300_000
    ]
    files += [("image", path.read_bytes()) for path in pictures]

    outcomes = _fuzzed(some(files, "small clip or picture", fixtures), rounds=2000, seed=2)

    assert set(outcomes) <= KNOWN, outcomes


# --- metadata
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
def test_a_file_whose_metadata_are_not_utf_8_is_read(container: str) -> None:
    sound = clip("mpeg4", container, range(4))
    odd = sound.replace(b"Lavf", b"\xff\xfe\xc3\x28")
    assert odd != sound, "the muxer signs what it writes"

    np.testing.assert_array_equal(
        video.sample(odd, "every:1", size=32).pixels, video.sample(sound, "every:1", size=32).pixels
    )


# --- soak
# --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_thousand_samples_leave_memory_flat_and_no_file_open(tmp_path: Path) -> None:
    sound = tmp_path / "sound.mp4"
    sound.write_bytes(clip("h264", "mp4", range(24), b_frames=2, gop=8))
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(_cut_short("mp4"))
    process = psutil.Process()

    for number in range(2000):
        video.sample(sound, "uniform:6", size=32)
        if number % 4 == 0:
            video.sample(cut, "uniform:6", size=32, on_damage="keep")
            probe.probe(sound, "video", level="decode")
        if number == 200:
            before = process.memory_info().rss

    assert abs(process.memory_info().rss - before) < 20 << 20
    assert not [file for file in process.open_files() if file.path.startswith(os.fspath(tmp_path))]
