"""A file has one clock: what a model is told about time is what it is shown.

However a store was converted, and whether it holds files or their frames.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mmdata
from mmdata import video
from mmdata.conversion.prober import File, Prober
from mmdata.engine.local import LocalEngine
from mmdata.errors import VideoError
from mmdata.frame_cache import cache_frames
from mmdata.image import resizers
from mmdata.pipeline.encode import decode_views
from mmdata.schema import Conversation, Media, Video, assistant, replace, user
from mmdata.store import Store
from mmdata.video.clock import Clock, compact, stored_clock, times_of
from mmdata.video.reader import index_by_decoding
from tests.pipeline.words import SIDE
from tests.stores import write
from tests.video.clips import clip, cut, numbers_in
from tests.video.told import STRATEGIES, batches, plan, shown

RATE = 25
COUNT = 60
VARIABLE = np.cumsum([0, *[1, 2, 1, 9, 3, 40] * 10])[:COUNT].tolist()
CONSTANT = list(range(COUNT))
LEVELS = ("exists", "probe", "decode")
RATES = [Fraction(rate) for rate in ("24", "25", "30000/1001", "30", "60", "25/2")]


def joined(first: bytes, second: bytes) -> bytes:
    """Two transport streams end to end, as recorders write them."""
    return first + second


def tail(whole: bytes) -> bytes:
    """A transport stream that begins between keyframes, as a capture of a broadcast does."""
    packets = len(whole) // 188
    return whole[: 2 * 188] + whole[packets // 3 * 188 :]


def trim(whole: bytes, seconds: float) -> bytes:
    """An MP4 that ends after so many seconds by its edit list alone, as a phone trims in place."""
    place = whole.index(b"elst") + 12  # past the version and the number of entries
    milliseconds = round(seconds * 1000).to_bytes(4, "big")  # of the movie, as FFmpeg counts them
    return whole[:place] + milliseconds + whole[place + 4 :]


CLIPS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "h264, constant": lambda: ("mp4", clip("h264", "mp4", CONSTANT, b_frames=2)),
    "h264, variable": lambda: ("mp4", clip("h264", "mp4", VARIABLE)),
    "h264, variable, B-frames": lambda: ("mkv", clip("h264", "matroska", VARIABLE, b_frames=3)),
    "h264, start offset": lambda: ("mov", clip("h264", "mov", range(50, 110), b_frames=1)),
    "h264, edit list": lambda: (
        "mp4",
        cut(clip("h264", "mp4", CONSTANT, b_frames=2), "mp4", keyframe=1, start=17),
    ),
    "h264, trimmed in place": lambda: (
        "mp4",
        trim(clip("h264", "mp4", CONSTANT, b_frames=2), 1.0),
    ),
    "h264, cut between keyframes": lambda: (
        "ts",
        tail(clip("h264", "mpegts", CONSTANT, gop=15, b_frames=2)),
    ),
    "hevc, cut between keyframes": lambda: (
        "ts",
        tail(clip("hevc", "mpegts", CONSTANT, gop=15, b_frames=2)),
    ),
    "hevc, milliseconds": lambda: ("mkv", clip("hevc", "matroska", CONSTANT, rate=30)),
    "mpeg4, dropped frames": lambda: ("avi", clip("mpeg4", "avi", VARIABLE)),
    "h264, dropped frames": lambda: ("avi", clip("h264", "avi", VARIABLE, b_frames=2)),
    "mjpeg, dropped frames": lambda: ("avi", clip("mjpeg", "avi", VARIABLE)),
    "vp9, variable": lambda: ("webm", clip("vp9", "webm", VARIABLE)),
}


ODD = {
    "h264, edit list": ("trimmed",),
    "h264, trimmed in place": ("trimmed",),
    "h264, cut between keyframes": ("begins_between_keyframes",),
    "hevc, cut between keyframes": ("begins_between_keyframes",),
    "mpeg4, dropped frames": ("dropped_frames",),
    "h264, dropped frames": ("dropped_frames",),
    "mjpeg, dropped frames": ("dropped_frames",),
}


@pytest.fixture(scope="module", params=LEVELS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A row for each clip, converted at a level of looking."""
    folder = tmp_path_factory.mktemp(request.param)
    records = []
    for number, make in enumerate(CLIPS.values()):
        suffix, data = make()
        (folder / f"{number}.{suffix}").write_bytes(data)
        records.append(
            {
                "messages": [
                    {"role": "user", "content": "<video>What?"},
                    {"role": "assistant", "content": "That."},
                ],
                "videos": [f"{number}.{suffix}"],
            }
        )
    (folder / "all.json").write_text(json.dumps(records))
    mmdata.convert("swift", folder / "all.json", folder / "store", check=request.param)
    return mmdata.open(folder / "store")


# --- told and shown
# --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("row", range(len(CLIPS)), ids=list(CLIPS))
def test_every_strategy_tells_the_times_of_what_it_shows_at_every_level(
    store: Store, row: int
) -> None:
    conversation = store.located(row)
    frames = video.sample(conversation.media[0].path or "", "every:1")
    squeeze = resizers.get("squeeze")

    assert len(store) == len(CLIPS)
    for strategy in STRATEGIES:
        times, views = shown(conversation, strategy)
        numbers = [int(np.abs(frames.times - time).argmin()) for time in times]
        np.testing.assert_allclose(frames.times[numbers], times, atol=1e-9)
        for number, view in zip(numbers, views, strict=True):
            np.testing.assert_array_equal(view, squeeze(frames.pixels[number], SIDE))


@pytest.mark.slow
@pytest.mark.parametrize("row", range(len(CLIPS)), ids=list(CLIPS))
def test_a_clock_that_was_kept_is_that_of_the_file(store: Store, row: int) -> None:
    medium = store.located(row).media[0]
    found = video.index(medium.path or "")
    kept = stored_clock(medium)

    assert (kept is None) == (medium.num_frames is None)
    if kept is not None:
        assert kept.times.tolist() == found.times.tolist()
        assert (kept.fps, kept.end, kept.source) == (
            found.fps,
            found.duration,
            found.times_source,
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", CLIPS)
def test_an_index_numbers_frames_as_a_full_decode_does(name: str) -> None:
    _, data = CLIPS[name]()
    quick, thorough = video.index(data), index_by_decoding(data)

    assert (quick.damage, thorough.damage) == ((), ())
    assert quick.times.tolist() == thorough.times.tolist()
    assert quick.stored == thorough.stored
    whole = video.sample(data, "every:1")
    for number in (0, 1, quick.num_frames // 2, quick.num_frames - 1):
        alone = video.sample(data, f"frames:{number}")
        np.testing.assert_array_equal(alone.pixels[0], whole.pixels[number])


@pytest.mark.parametrize("row", range(len(CLIPS)), ids=list(CLIPS))
def test_a_row_says_how_a_sound_file_is_oddly_made(store: Store, row: int) -> None:
    medium = store.located(row).media[0]

    said = video.index(medium.path or "").oddities

    assert said == ODD.get(list(CLIPS)[row], ())
    if medium.num_frames is not None:
        assert (medium.oddities or ()) == said


def test_ticks_of_an_avi_without_a_frame_are_counted() -> None:
    found = video.index(clip("mjpeg", "avi", VARIABLE))

    np.testing.assert_allclose(found.times, np.array(VARIABLE) / RATE, atol=1e-9)
    assert found.duration == pytest.approx((VARIABLE[-1] + 1) / RATE)
    assert found.times_source == "derived"


def test_a_clock_that_is_set_back_is_said() -> None:
    parts = [clip("h264", "mpegts", range(start, start + 30), first=start) for start in (0, 15)]

    found = video.index(joined(*parts))

    assert "the times go back by" in " ".join(found.damage)


# --- a cache
# ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def processes() -> Iterator[LocalEngine]:
    """Workers for all tests: to start some takes as long as to decode all clips."""
    with LocalEngine(1) as engine:
        yield engine


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stream_of_a_store_is_that_of_its_lossless_frames(
    store: Store, strategy: str, processes: LocalEngine, tmp_path: Path
) -> None:
    cache_frames(store.path, tmp_path / "frames", strategy, codec="webp", engine=processes)

    direct = list(batches(store, strategy))
    cached = list(batches(mmdata.open(tmp_path / "frames"), strategy))

    assert len(direct) == len(CLIPS)
    assert direct == cached


def about(medium: Media) -> Conversation:
    return Conversation("c", (user(Video(0), "What?"), assistant("That.")), (medium,))


def test_a_cached_clip_is_told_since_its_own_first_frame(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip("h264", "mp4", range(200), b_frames=2))
    conversation = about(Media("video", "a.mp4", start=3.0, end=6.0))
    direct = write(tmp_path / "store", [conversation], media_root=str(tmp_path))
    cache_frames(direct.path, tmp_path / "frames", "uniform:4", codec="webp")
    cached = mmdata.open(tmp_path / "frames")

    for store in (direct, cached):
        found = plan(store.located(0), "uniform:4")
        assert found.duration == pytest.approx(3.0)
        assert found.pixels.times == pytest.approx((0.0, 0.96, 1.96, 2.96))
        assert found.pixels.origin == pytest.approx(3.0)


def test_moments_of_a_cached_clip_are_since_its_own_first_frame(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip("h264", "mp4", range(200)))
    conversation = about(Media("video", "a.mp4", start=3.0, end=6.0))
    store = write(tmp_path / "store", [conversation], media_root=str(tmp_path))
    cache_frames(store.path, tmp_path / "frames", "uniform:4")

    found = plan(mmdata.open(tmp_path / "frames").located(0), "times:1.0,2.0")

    assert found.pixels.times == pytest.approx((0.96, 1.96))  # the nearest that the cache has


@pytest.mark.parametrize("strategy", ["llava_next:1:8", "mindie:8", "uniform:8"])
def test_a_rule_that_goes_by_the_rate_sees_that_of_the_cached_frames(
    strategy: str, tmp_path: Path
) -> None:
    (tmp_path / "a.mp4").write_bytes(clip("h264", "mp4", range(200)))
    store = write(tmp_path / "store", [about(Media("video", "a.mp4"))], media_root=str(tmp_path))
    cache_frames(store.path, tmp_path / "frames", "uniform:8")

    found = plan(mmdata.open(tmp_path / "frames").located(0), strategy)

    assert len(found.pixels.frames) == 8
    assert found.duration == pytest.approx(8.0)


# --- what changed
# ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ticks", "what"),
    [(VARIABLE, "is at .* s, but was told to be at"), (CONSTANT[:20], "asked for frame")],
)
def test_a_file_that_changed_after_probing_is_found(
    tmp_path: Path, ticks: Sequence[int], what: str
) -> None:
    file = tmp_path / "a.mp4"
    file.write_bytes(clip("h264", "mp4", CONSTANT))
    found = video.index(file)
    medium = Media(
        "video",
        str(file),
        num_frames=found.num_frames,
        fps=found.fps,
        duration=found.duration,
        clock=found.stored,
    )
    planned = plan(about(medium), "every:7").pixels
    file.write_bytes(clip("h264", "mp4", ticks))

    with pytest.raises(VideoError, match=rf"a\.mp4: .*{what}") as caught:
        decode_views(medium, planned)

    assert caught.value.reason == "clock_mismatch"


def test_cached_frames_that_are_not_at_the_times_of_a_plan_are_refused() -> None:
    medium = Media("video", "a.mp4", frames=(b"1", b"2"), frame_times=(0.0, 1.0))
    planned = plan(about(medium), "every:1").pixels

    with pytest.raises(VideoError, match=r"a\.mp4: frame 1 is at 2\.000000 s") as caught:
        decode_views(replace(medium, frame_times=(0.0, 2.0)), planned)

    assert caught.value.reason == "clock_mismatch"


def test_a_millisecond_is_a_rounding_and_more_is_not(tmp_path: Path) -> None:
    data = clip("h264", "mp4", CONSTANT)

    found = video.sample(data, "frames:0,10", told=(0.0, 0.4009))

    assert numbers_in(found.pixels) == [0, 10]
    with pytest.raises(VideoError, match=r"frame 10 is at 0\.400000 s"):
        video.sample(data, "frames:0,10", told=(0.0, 0.4011))


# --- what is kept
# ------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 2**40), max_size=40), st.sampled_from([1 / 90000, 1e-3, 1e-9]))
@example([1] * 30, 1e-3)
@example([2**33], 1e-9)
def test_times_that_are_kept_are_those_that_were_found(steps: list[int], unit: float) -> None:
    ticks = np.cumsum([0, *steps])

    kept = compact(ticks, unit)

    np.testing.assert_allclose(times_of(kept, len(ticks)), ticks * unit, atol=kept.unit or 0.0)
    if max(steps, default=0) < 2**31:
        assert times_of(kept, len(ticks)).tolist() == (ticks * unit).tolist()


@settings(max_examples=40)
@given(st.sampled_from(RATES), st.integers(2, 3000))
def test_a_constant_rate_that_a_container_rounds_is_kept_as_a_step(
    rate: Fraction, count: int
) -> None:
    ticks = np.array([(2000 * number / rate + 1) // 2 for number in range(count)], np.int64)

    kept = compact(ticks, 1e-3, float(rate))

    assert kept.deltas is None
    assert times_of(kept, count).tolist() == (ticks * 1e-3).tolist()


def test_a_clip_of_a_clock_is_the_clock_of_the_clip() -> None:
    clock = Clock(np.array(VARIABLE) / RATE, 5.0, np.array([0, 12]), VARIABLE[-1] / RATE + 0.5)

    first, clip = clock.cut(0.5, 6.0)

    assert first == next(n for n, tick in enumerate(VARIABLE) if tick / RATE >= 0.5)
    assert clip.times[0] == 0.0
    assert clip.end == pytest.approx(
        min(tick for tick in VARIABLE if tick / RATE >= 6.0) / RATE - VARIABLE[first] / RATE
    )


def test_what_a_journal_keeps_of_a_clock_is_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip("h264", "mp4", VARIABLE))
    files = [File(str(tmp_path / "a.mp4"), "video")]

    def ask() -> Any:
        with Prober("probe", journal=tmp_path / "journal", workers=1) as prober:
            [(_, facts)] = prober.answers([0], lambda _: files)
            return facts

    asked, recalled = ask(), ask()

    assert json.loads(json.dumps(asked)) == json.loads(json.dumps(recalled))
    assert list(asked[0]["clock"]["deltas"]) == (np.diff(VARIABLE) * 512).tolist()
