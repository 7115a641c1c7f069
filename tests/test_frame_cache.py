"""A frame cache holds the frames that sampling gives, and accounts for every record."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmdata
from mmdata import video
from mmdata._tools.limits import Limits
from mmdata.conversion import Check
from mmdata.errors import MediaError, UsageError
from mmdata.frame_cache import CacheReport, Codec, cache_frames, cached_frames
from mmdata.schema import CompactTimes, Conversation, Image, Media, Video, assistant, replace, user
from mmdata.store import Store
from mmdata.store import open as open_store
from tests.engines import Here, bytes_of
from tests.source_files import record, write_records
from tests.stores import write
from tests.video.clips import clip, numbers_in, slow_clip


def cache_in_turn(*arguments: Any, **options: Any) -> CacheReport:
    """Cache frames with the one process that this one lends to whoever decodes in it: to start
    others for every store takes longer than their work.
    """
    return cache_frames(*arguments, engine=Here(), **options)


def about(number: int, *media: Media) -> Conversation:
    places = [
        Video(place) if medium.type == "video" else Image(place)
        for place, medium in enumerate(media)
    ]
    return Conversation(f"c{number}", (user(*places, "What?"), assistant("That.")), media=media)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six records: four clips, one of them bounded and one embedded,
    a text, and a file that is no clip.
    """
    for number in range(4):
        (tmp_path / f"{number}.mp4").write_bytes(
            clip("h264", "mp4", range(10 + number), b_frames=2)
        )
    (tmp_path / "broken.mp4").write_text("not a clip")
    rows = [
        about(0, Media("video", "0.mp4")),
        about(1, Media("image", "x.png"), Media("video", "1.mp4"), Media("video", "0.mp4")),
        about(2, Media("video", "2.mp4", start=0.16, end=0.32)),
        about(3, Media("video", "broken.mp4")),
        about(4),
        about(5, Media("video", bytes=(tmp_path / "3.mp4").read_bytes())),
    ]
    return write(tmp_path / "store", rows, media_root=str(tmp_path))


def test_a_cache_holds_the_frames_and_their_times(store: Store, tmp_path: Path) -> None:
    report = cache_frames(store.path, tmp_path / "frames", "uniform:4", codec="webp")

    cached = open_store(tmp_path / "frames")
    assert (report.records_in, report.rows, report.rejects) == (6, 5, {"unreadable_media": 1})
    assert [row.id for row in cached] == ["c0", "c1", "c2", "c4", "c5"]
    for before, after in zip([row for row in store if row.id != "c3"], cached, strict=True):
        assert after.messages == before.messages
        for medium, source in zip(after.media, before.media, strict=True):
            if medium.type == "video":
                _same_frames(medium, source, tmp_path)
            else:
                assert medium == source


def _same_frames(cached: Media, source: Media, folder: Path) -> None:
    file = source.bytes or folder / str(source.path)
    expected = video.sample(file, "uniform:4", start=source.start, end=source.end)
    found = cached_frames(cached)
    np.testing.assert_array_equal(found.pixels, expected.pixels)
    np.testing.assert_array_equal(found.times, expected.times)
    assert cached.bytes is None


@pytest.mark.parametrize("probed", [False, True])
@pytest.mark.parametrize(
    ("container", "codec", "times"), [("avi", "mpeg4", "derived"), ("mp4", "h264", "stream")]
)
def test_a_cache_says_where_times_come_from_whether_or_not_the_video_was_probed(
    tmp_path: Path, probed: bool, container: str, codec: str, times: str
) -> None:
    name = f"clip.{container}"
    (tmp_path / name).write_bytes(clip(codec, container, range(10)))
    known: dict[str, Any] = {"num_frames": 10, "fps": 25.0, "times": times} if probed else {}
    write(tmp_path / "store", [about(0, Media("video", name, **known))], media_root=str(tmp_path))

    cache_in_turn(tmp_path / "store", tmp_path / "frames", "uniform:4")

    [medium] = open_store(tmp_path / "frames")[0].media
    assert medium.times == times
    assert cached_frames(medium).times_source == times


@pytest.mark.slow
def test_a_cache_resumed_says_where_times_come_from(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.avi").write_bytes(clip("mpeg4", "avi", range(10)))
    rows = [about(number, Media("video", f"{number}.avi")) for number in range(3)]
    store = write(tmp_path / "store", rows, media_root=str(tmp_path))
    _stop_after(2, store, tmp_path / "frames")

    report = cache_frames(store.path, tmp_path / "frames", "uniform:4", resume=True, workers=1)

    assert report.resumed
    assert [medium.times for row in open_store(tmp_path / "frames") for medium in row.media] == [
        "derived"
    ] * 3


def test_a_cache_keeps_what_is_known_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip("h264", "mp4", range(10)))
    medium = Media(
        "video",
        "a.mp4",
        None,
        64,
        48,
        video.index(tmp_path / "a.mp4").duration,
        25.0,
        10,
        0.04,
        0.3,
        "stream",
        size=999,
        hash="xxh3:0123456789abcdef",
    )
    write(tmp_path / "store", [about(0, medium)], media_root=str(tmp_path))

    cache_in_turn(tmp_path / "store", tmp_path / "frames", "uniform:2")

    [cached] = open_store(tmp_path / "frames")[0].media
    assert replace(cached, frames=None, frame_times=None, clock=None) == medium
    assert cached.clock == CompactTimes(step=1 / 25, unit=1 / 12800, first_tick=0, keyframes=(0,))


def test_cached_frames_that_are_damaged_or_of_two_sizes_are_refused_by_number(
    store: Store, tmp_path: Path
) -> None:
    for size in (32, 48):
        cache_in_turn(store.path, tmp_path / f"{size}", "uniform:3", size=size)
    small, large = (open_store(tmp_path / f"{size}")[0].media[0] for size in (32, 48))
    assert small.frames
    assert large.frames

    with pytest.raises(MediaError, match="cached frame 1 is of another size"):
        cached_frames(replace(small, frames=(small.frames[0], large.frames[1], small.frames[2])))
    with pytest.raises(MediaError, match="cached frame 2 is damaged"):
        cached_frames(replace(small, frames=(*small.frames[:2], small.frames[2][:40])))


def test_frames_that_an_engine_takes_are_those_that_are_taken_here(
    store: Store, tmp_path: Path
) -> None:
    engine = Here()

    cache_frames(store.path, tmp_path / "here", "uniform:4")
    cache_frames(store.path, tmp_path / "apart", "uniform:4", engine=engine)

    assert engine.submitted == 1
    assert bytes_of(tmp_path / "apart") == bytes_of(tmp_path / "here")

    cache_frames(store.path, tmp_path / "parts", "uniform:4", engine=engine, partitions=4)
    assert engine.submitted == 1 + 4
    assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "here")


def test_a_reject_names_the_record_and_the_file(store: Store, tmp_path: Path) -> None:
    cache_in_turn(store.path, tmp_path / "frames", "uniform:4")

    [reject] = open_store(tmp_path / "frames").rejects()
    assert (reject["record"], reject["id"], reject["reason"]) == (3, "c3", "unreadable_media")
    assert "broken.mp4" in reject["detail"]


def test_jpeg_frames_show_what_they_should_and_are_of_the_size_asked_for(
    store: Store, tmp_path: Path
) -> None:
    cache_in_turn(store.path, tmp_path / "frames", "uniform:4", size=(96, 128), quality=95)

    [medium] = open_store(tmp_path / "frames")[0].media
    frames = cached_frames(medium)
    assert frames.pixels.shape == (4, 96, 128, 3)
    assert numbers_in(frames.pixels[:, ::2, ::2]) == [0, 3, 6, 9]


def test_the_manifest_says_how_the_frames_were_taken(store: Store, tmp_path: Path) -> None:
    cache_in_turn(store.path, tmp_path / "frames", "fps:2:8", size=32)

    notes = open_store(tmp_path / "frames").manifest.notes["frames"]
    assert (notes["strategy"], notes["size"], notes["codec"]) == ("fps:2:8", 32, "jpeg")


def test_what_has_no_frames_says_how_to_get_them() -> None:
    with pytest.raises(MediaError, match="mmdata frames"):
        cached_frames(Media("video", "clip.mp4"))


@pytest.mark.parametrize(
    "wrong", [{"codec": "png"}, {"quality": 0}, {"size": 0}, {"resize": "fats", "size": 8}]
)
def test_a_wrong_argument_is_told_before_anything_is_decoded(
    store: Store, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    with pytest.raises(UsageError):
        cache_frames(store.path, tmp_path / "frames", "uniform:4", **wrong)

    assert not (tmp_path / "frames").exists()


STOPPED = """
import sys
from mmdata.frame_cache import cache_frames
def stop(rows, rejects):
    if rows == int(sys.argv[3]):
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
cache_frames(sys.argv[1], sys.argv[2], "uniform:4", workers=1, progress=stop)
"""


def _stop_after(rows: int, store: Store, target: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", STOPPED, str(store.path), str(target), str(rows)], check=False
    )
    assert not target.exists()


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 4, 5])
def test_a_run_that_was_killed_goes_on_where_it_was(
    store: Store, tmp_path: Path, rows: int
) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    cache_in_turn(store.path, whole, "uniform:4")
    _stop_after(rows, store, resumed)

    report = cache_frames(store.path, resumed, "uniform:4", resume=True, workers=1)

    assert 0 < report.resumed <= rows
    assert _rows(resumed) == _rows(whole)
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.slow
def test_a_run_with_other_arguments_begins_anew(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "frames"
    _stop_after(3, store, target)

    report = cache_frames(store.path, target, "uniform:5", resume=True, workers=1)

    assert report.resumed == 0
    assert len(open_store(target)[0].media[0].frames or ()) == 5


def _rows(path: Path) -> Sequence[Conversation]:
    return list(open_store(path))


# --- laws
# --------------------------------------------------------------------------------------------------

ODD = [0, 1, 3, 4, 9, 10, 11, 17, 20, 21, 30, 32, 33, 40, 47]
"""Ticks of 1/25 s at which a clip of no constant rate has its frames:
their times are not whole seconds.
"""
STRATEGIES = [
    "uniform:4",
    "middle:3",
    "fps:10",
    "fps:25:6",
    "seconds",
    "every:3",
    "keyframes",
    "times:0.05,0.2,0.41",
]
BOUNDS = [(None, None), (0.12, None), (None, 0.84), (0.12, 0.84), (0.4, 1.3)]


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A clip of a variable rate with B-frames, and one whose container keeps no times;
    each bounded in several ways.
    """
    folder = tmp_path_factory.mktemp("clips")
    (folder / "odd.mp4").write_bytes(clip("h264", "mp4", ODD, b_frames=2, gop=5))
    (folder / "plain.avi").write_bytes(clip("mpeg4", "avi", range(30), gop=5))
    names = ("odd.mp4", "plain.avi")
    media = [Media("video", name, start=start, end=end) for name in names for start, end in BOUNDS]
    return write(
        folder / "store",
        [about(n, medium) for n, medium in enumerate(media)],
        media_root=str(folder),
    )


@pytest.mark.parametrize("codec", ["jpeg", "webp"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_cached_is_decoded(clips: Store, tmp_path: Path, strategy: str, codec: Codec) -> None:
    """The frames that a cache gives are those that sampling gives:
    the same times, numbers and, losslessly, bits.
    """
    options: dict[str, Any] = {"pad": "repeat", "size": (48, 64), "resize": "fast"}
    report = cache_in_turn(
        clips.path, tmp_path / "frames", strategy, codec=codec, quality=95, **options
    )

    kept = {row.id: row for row in open_store(tmp_path / "frames")}
    for row in range(len(clips)):
        source, [medium] = clips[row], clips.located(row).media
        try:
            expected = video.sample(
                medium.path or "", strategy, start=medium.start, end=medium.end, **options
            )
        except MediaError:
            assert source.id not in kept
            continue
        [cached] = kept[source.id].media
        found = cached_frames(cached)
        assert (cached.start, cached.end, cached.path) == (
            medium.start,
            medium.end,
            source.media[0].path,
        )
        assert found.times.tolist() == expected.times.tolist()
        assert found.times_source == cached.times == expected.times_source
        assert numbers_in(found.pixels) == numbers_in(expected.pixels)
        if codec == "webp":
            np.testing.assert_array_equal(found.pixels, expected.pixels)
        else:
            assert np.abs(found.pixels.astype(int) - expected.pixels.astype(int)).mean() < 3
    assert report.rows == len(kept) > 6


@pytest.mark.parametrize(
    "options",
    [
        {"snap": "keyframe"},
        {"size": 24, "resize": "squeeze"},
        {"size": (30, 40)},
        {"pad": "repeat"},
        {"pad": "none"},
        {"on_damage": "keep"},
        {"limits": Limits(frames=12), "on_damage": "keep"},
    ],
)
def test_each_option_of_a_cache_is_that_of_sampling(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    damaged = bytearray(clip("h264", "mp4", range(60), gop=20))
    damaged[len(damaged) // 2 : len(damaged) // 2 + 400] = bytes(400)
    (tmp_path / "0.mp4").write_bytes(clip("h264", "mp4", range(10), gop=4))
    (tmp_path / "1.mp4").write_bytes(damaged)
    media = [Media("video", "0.mp4"), Media("video", "1.mp4")]
    source = write(
        tmp_path / "store",
        [about(n, each) for n, each in enumerate(media)],
        media_root=str(tmp_path),
    )

    cache_in_turn(source.path, tmp_path / "frames", "uniform:14", codec="webp", **options)

    kept = {row.id: cached_frames(row.media[0]) for row in open_store(tmp_path / "frames")}
    sampled = {}
    for number, medium in enumerate(media):
        with suppress(MediaError):
            sampled[f"c{number}"] = video.sample(
                tmp_path / str(medium.path), "uniform:14", **options
            )
    assert kept.keys() == sampled.keys() >= {"c0"}
    assert ("c1" in kept) >= (options == {"on_damage": "keep"})
    for name, frames in kept.items():
        np.testing.assert_array_equal(frames.pixels, sampled[name].pixels)
        np.testing.assert_array_equal(frames.times, sampled[name].times)


@pytest.mark.parametrize("strategy", ["times:0.12,0.1", "frames:3,1,2"])
def test_frames_that_are_listed_out_of_order_are_refused_with_the_order_to_write(
    store: Store, tmp_path: Path, strategy: str
) -> None:
    name, _, words = strategy.partition(":")
    ascending = f"{name}:{','.join(sorted(words.split(',')))}"

    with pytest.raises(UsageError, match=f"write {ascending}$"):
        cache_in_turn(store.path, tmp_path / "frames", strategy)

    assert cache_in_turn(store.path, tmp_path / "frames", ascending).rows == 5


def test_a_limit_that_a_video_meets_names_it_and_the_option(tmp_path: Path) -> None:
    slow = slow_clip()
    for name in ("0.avi", "1.avi"):
        (tmp_path / name).write_bytes(slow)
    rows = [
        about(0, Media("image", "x.png"), Media("video", "1.avi"), Media("video", "0.avi")),
        about(1, Media("video", bytes=slow)),
    ]
    store = write(tmp_path / "store", rows, media_root=str(tmp_path))
    limits = Limits(deadline=1e-4)

    report = cache_frames(store.path, tmp_path / "frames", "uniform:2", limits=limits, workers=1)

    said = {line["id"]: line["detail"] for line in open_store(tmp_path / "frames").rejects()}
    assert report.rejects == {"media_limit": 2}
    assert said["c0"].startswith(f"{tmp_path / '1.avi'}, {tmp_path / '0.avi'}: no result within")
    assert "--deadline" in said["c0"]
    assert said["c1"].startswith("a video in the record: no result within")


def test_a_video_that_was_damaged_and_kept_says_so(tmp_path: Path) -> None:
    whole = clip("h264", "mp4", range(60), gop=10, muxer={"movflags": "frag_keyframe+empty_moov"})
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "sound.mp4").write_bytes(whole)
    media = [Media("video", f"{name}.mp4", oddities=("fields",)) for name in ("cut", "sound")]
    rows = [about(number, medium) for number, medium in enumerate(media)]
    store = write(tmp_path / "store", rows, media_root=str(tmp_path))

    cache_in_turn(store.path, tmp_path / "frames", "uniform:2", on_damage="keep")

    kept = [row.media[0].oddities for row in open_store(tmp_path / "frames")]
    assert kept == [("fields", "damaged"), ("fields",)]
    counted = open_store(tmp_path / "frames").manifest.notes["oddities"]
    assert counted == {"damaged": 1, "fields": 2}


@pytest.mark.parametrize("check", ["exists", "probe"])
def test_a_cache_says_of_an_avi_that_its_times_are_derived_probed_or_not(
    tmp_path: Path, check: Check
) -> None:
    (tmp_path / "0.avi").write_bytes(clip("mpeg4", "avi", range(10)))
    (tmp_path / "1.mp4").write_bytes(clip("h264", "mp4", range(10)))
    write_records(
        tmp_path / "source.json",
        [
            record(n, image=None, video=name, conversations=ASKED)
            for n, name in enumerate(["0.avi", "1.mp4"])
        ],
    )
    mmdata.convert("llava", tmp_path / "source.json", tmp_path / "store", check=check)

    cache_in_turn(tmp_path / "store", tmp_path / "frames", "uniform:3")

    cached, before = open_store(tmp_path / "frames"), open_store(tmp_path / "store")
    assert [row.media[0].times for row in cached] == ["derived", "stream"]
    assert cached.manifest.files == before.manifest.files != ()


ASKED = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "That."}]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of three clips, beside what an attempt
    to cache their frames left that was killed after two.
    """
    folder = tmp_path_factory.mktemp("stopped")
    _clips(folder, 10)
    store = write(
        folder / "store",
        [about(n, Media("video", f"{n}.mp4")) for n in range(3)],
        media_root=str(folder),
    )
    _stop_after(2, store, folder / "frames")
    return store


def _clips(folder: Path, frames: int) -> None:
    for number in range(3):
        (folder / f"{number}.mp4").write_bytes(clip("h264", "mp4", range(frames + number)))


def _swap(store: Store, folder: Path) -> dict[str, Any]:
    """Another version of the store: its clips have changed places."""
    media = [row.media[0] for row in store]
    rows = [
        replace(row, media=(medium,)) for row, medium in zip(store, reversed(media), strict=True)
    ]
    return {"source": write(folder / "store", rows, media_root=str(store.media_root)).path}


def _elsewhere(store: Store, folder: Path) -> dict[str, Any]:
    """The same store with its media in another place, where the clips are others."""
    _clips(folder, 20)
    return {"media_root": folder}


def _newer(store: Store, folder: Path) -> dict[str, Any]:
    """The same with another version of the library, which may decode otherwise."""
    return {"version": "0.0.99"}


CHANGED: dict[str, Any] = {
    "strategy": "uniform:5",
    "size": 40,
    "resize": "squeeze",
    "codec": "webp",
    "quality": 50,
    "pad": "repeat",
    "snap": "keyframe",
    "on_damage": "keep",
    "limits": Limits(deadline=99),
}


def _attempt(stopped: Store, folder: Path) -> Path:
    """Where the attempt that was killed can be gone on with."""
    shutil.copytree(stopped.path.parent / ".frames.partial", folder / ".frames.partial")
    return folder / "frames"


def test_a_journal_of_the_same_is_resumed(stopped: Store, tmp_path: Path) -> None:
    report = cache_frames(
        stopped.path, _attempt(stopped, tmp_path), "uniform:4", resume=True, workers=1
    )

    assert (report.resumed, report.rows) == (2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("change", [_swap, _elsewhere, _newer, *CHANGED])
def test_a_journal_of_anything_else_is_not_resumed(
    stopped: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    """A store that has changed since, media elsewhere,
    another library, each argument alone: all begin anew.
    """
    changed = {change: CHANGED[change]} if isinstance(change, str) else change(stopped, tmp_path)
    if "version" in changed:
        monkeypatch.setattr(mmdata, "__version__", changed.pop("version"))
    arguments = {"source": stopped.path, "strategy": "uniform:4", "workers": 1, **changed}

    report = cache_frames(target=_attempt(stopped, tmp_path), resume=True, **arguments)
    afresh = cache_frames(target=tmp_path / "afresh", **arguments)

    assert report.resumed == 0
    assert (report.rows, report.rejects) == (afresh.rows, afresh.rejects)
    assert _rows(tmp_path / "frames") == _rows(tmp_path / "afresh")


def test_a_journal_that_is_cut_anywhere_gives_what_a_whole_run_gives(
    stopped: Store, tmp_path: Path
) -> None:
    """Within the line of a row, within a picture, at an end:
    what is there whole is used, the rest is made anew.
    """
    whole = (stopped.path.parent / ".frames.partial" / "frames.journal").read_bytes()
    cache_frames(stopped.path, tmp_path / "whole", "uniform:4", workers=1)
    head = whole.index(b"\n") + 1
    cuts = {5: 0, head + 1: 0, len(whole) * 2 // 3: 1, len(whole) - 1: 1, len(whole): 2}

    for number, (end, resumed) in enumerate(cuts.items()):
        target = tmp_path / f"{number}" / "frames"
        shutil.copytree(stopped.path.parent / ".frames.partial", target.parent / ".frames.partial")
        (target.parent / ".frames.partial" / "frames.journal").write_bytes(whole[:end])
        report = cache_frames(stopped.path, target, "uniform:4", resume=True, workers=1)
        assert report.resumed == resumed
        assert _rows(target) == _rows(tmp_path / "whole")


def test_a_cache_keeps_where_its_store_came_from_and_says_how_far_it_is(
    store: Store, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []
    clips = [media.path for row in store for media in row.media]

    cache_frames(
        store.path,
        tmp_path / "frames",
        "uniform:2",
        progress=lambda done, rejects: told.append((done, rejects)),
    )

    cached, before = open_store(tmp_path / "frames").manifest, store.manifest
    assert (cached.format, cached.options, cached.media_root) == (
        before.format,
        before.options,
        before.media_root,
    )
    assert (cached.files, cached.splits.keys()) == (before.files, before.splits.keys())
    assert (cached.records_in, cached.rows) == (len(store), len(store) - 1)
    assert told == [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1)]
    assert [m.path for row in open_store(tmp_path / "frames") for m in row.media] == [
        p for p in clips if p != "broken.mp4"
    ]


def test_a_reject_has_the_place_in_its_own_store_also_after_others(tmp_path: Path) -> None:
    for number in (0, 2):
        (tmp_path / f"{number}.mp4").write_bytes(clip("h264", "mp4", range(6)))
    rows = [about(n, Media("video", f"{n}.mp4")) for n in range(5)]
    write(tmp_path / "store", rows, media_root=str(tmp_path))

    cache_in_turn(tmp_path / "store", tmp_path / "frames", "uniform:2")

    found = [
        (line["record"], line["id"], line["file"])
        for line in open_store(tmp_path / "frames").rejects()
    ]
    assert found == [(number, f"c{number}", str(tmp_path / "store")) for number in (1, 3, 4)]


def test_whatever_the_making_of_pictures_raises_costs_one_record(tmp_path: Path) -> None:
    # WebP has no more than 16,383 columns; Pillow raises a ValueError of its own.
    (tmp_path / "wide.avi").write_bytes(clip("mjpeg", "avi", range(3), size=(48, 16_400)))
    (tmp_path / "ycgco.mp4").write_bytes(
        clip("h264", "mp4", range(3), options={"x264-params": "colormatrix=YCgCo"})
    )
    for number in range(2):
        (tmp_path / f"{number}.mp4").write_bytes(clip("h264", "mp4", range(6 + number)))
    names = ["0.mp4", "wide.avi", "1.mp4", "ycgco.mp4"]
    rows = [about(number, Media("video", name)) for number, name in enumerate(names)]
    whole = write(tmp_path / "whole", rows, media_root=str(tmp_path))
    sound = write(tmp_path / "sound", rows[::2], media_root=str(tmp_path))

    report = cache_in_turn(whole.path, tmp_path / "a", "uniform:2", codec="webp")
    cache_in_turn(sound.path, tmp_path / "b", "uniform:2", codec="webp")

    assert report.rejects == {"unreadable_media": 2}
    details = [line["detail"] for line in open_store(tmp_path / "a").rejects()]
    assert all(
        name in detail for name, detail in zip(("wide.avi", "ycgco.mp4"), details, strict=True)
    )
    assert list(open_store(tmp_path / "a")) == list(open_store(tmp_path / "b"))
