"""A frame cache holds the frames that sampling gives, and accounts for every record."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mmdata import video
from mmdata.errors import MediaError, UsageError
from mmdata.frame_cache import cache_frames, cached_frames
from mmdata.schema import Conversation, Image, Media, Video, assistant, replace, user
from mmdata.store import Store
from mmdata.store import open as open_store
from tests.stores import write
from tests.video.clips import clip, numbers_in


def about(number: int, *media: Media) -> Conversation:
    places = [Video(place) if medium.type == "video" else Image(place) for place, medium in enumerate(media)]
    return Conversation(f"c{number}", (user(*places, "What?"), assistant("That.")), media=media)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Six records: four clips, one of them bounded and one embedded, a text, and a file that is no clip."""
    for number in range(4):
        (tmp_path / f"{number}.mp4").write_bytes(clip("h264", "mp4", range(10 + number), b_frames=2))
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
@pytest.mark.parametrize(("container", "codec", "times"), [("avi", "mpeg4", "derived"), ("mp4", "h264", "stream")])
def test_a_cache_says_where_times_come_from_whether_or_not_the_video_was_probed(
    tmp_path: Path, probed: bool, container: str, codec: str, times: str
) -> None:
    name = f"clip.{container}"
    (tmp_path / name).write_bytes(clip(codec, container, range(10)))
    known: dict[str, Any] = {"num_frames": 10, "fps": 25.0, "times": times} if probed else {}
    write(tmp_path / "store", [about(0, Media("video", name, **known))], media_root=str(tmp_path))

    cache_frames(tmp_path / "store", tmp_path / "frames", "uniform:4")

    [medium] = open_store(tmp_path / "frames")[0].media
    assert medium.times == times
    assert cached_frames(medium).times_source == times


def test_a_cache_resumed_says_where_times_come_from(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.avi").write_bytes(clip("mpeg4", "avi", range(10)))
    rows = [about(number, Media("video", f"{number}.avi")) for number in range(3)]
    store = write(tmp_path / "store", rows, media_root=str(tmp_path))
    _stop_after(2, store, tmp_path / "frames")

    report = cache_frames(store.path, tmp_path / "frames", "uniform:4", resume=True)

    assert report.resumed
    assert [medium.times for row in open_store(tmp_path / "frames") for medium in row.media] == ["derived"] * 3


def test_a_cache_keeps_what_is_known_of_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip("h264", "mp4", range(10)))
    medium = Media(
        "video", "a.mp4", None, 64, 48, 0.4, 25.0, 10, 0.04, 0.3, "stream", size=999, hash="xxh3:0123456789abcdef"
    )
    write(tmp_path / "store", [about(0, medium)], media_root=str(tmp_path))

    cache_frames(tmp_path / "store", tmp_path / "frames", "uniform:2")

    [cached] = open_store(tmp_path / "frames")[0].media
    assert replace(cached, frames=None, frame_times=None) == medium


def test_cached_frames_that_are_damaged_or_of_two_sizes_are_refused_by_number(store: Store, tmp_path: Path) -> None:
    for size in (32, 48):
        cache_frames(store.path, tmp_path / f"{size}", "uniform:3", size=size)
    small, large = (open_store(tmp_path / f"{size}")[0].media[0] for size in (32, 48))
    assert small.frames
    assert large.frames

    with pytest.raises(MediaError, match="cached frame 1 is of another size"):
        cached_frames(replace(small, frames=(small.frames[0], large.frames[1], small.frames[2])))
    with pytest.raises(MediaError, match="cached frame 2 is damaged"):
        cached_frames(replace(small, frames=(*small.frames[:2], small.frames[2][:40])))


def test_a_reject_names_the_record_and_the_file(store: Store, tmp_path: Path) -> None:
    cache_frames(store.path, tmp_path / "frames", "uniform:4")

    [reject] = open_store(tmp_path / "frames").rejects()
    assert (reject["record"], reject["id"], reject["reason"]) == (3, "c3", "unreadable_media")
    assert "broken.mp4" in reject["detail"]


def test_jpeg_frames_show_what_they_should_and_are_of_the_size_asked_for(store: Store, tmp_path: Path) -> None:
    cache_frames(store.path, tmp_path / "frames", "uniform:4", size=(96, 128), quality=95)

    [medium] = open_store(tmp_path / "frames")[0].media
    frames = cached_frames(medium)
    assert frames.pixels.shape == (4, 96, 128, 3)
    assert numbers_in(frames.pixels[:, ::2, ::2]) == [0, 3, 6, 9]


def test_the_manifest_says_how_the_frames_were_taken(store: Store, tmp_path: Path) -> None:
    cache_frames(store.path, tmp_path / "frames", "fps:2:8", size=32)

    notes = open_store(tmp_path / "frames").manifest.notes["frames"]
    assert (notes["strategy"], notes["size"], notes["codec"]) == ("fps:2:8", 32, "jpeg")


def test_what_has_no_frames_says_how_to_get_them() -> None:
    with pytest.raises(MediaError, match="mmdata frames"):
        cached_frames(Media("video", "clip.mp4"))


@pytest.mark.parametrize("wrong", [{"codec": "png"}, {"quality": 0}, {"size": 0}, {"resize": "fats", "size": 8}])
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
    subprocess.run([sys.executable, "-c", STOPPED, str(store.path), str(target), str(rows)], check=False)
    assert not target.exists()


@pytest.mark.parametrize("rows", [1, 4, 5])
def test_a_run_that_was_killed_goes_on_where_it_was(store: Store, tmp_path: Path, rows: int) -> None:
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    cache_frames(store.path, whole, "uniform:4")
    _stop_after(rows, store, resumed)

    report = cache_frames(store.path, resumed, "uniform:4", resume=True)

    assert 0 < report.resumed <= rows
    assert _rows(resumed) == _rows(whole)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_a_run_with_other_arguments_begins_anew(store: Store, tmp_path: Path) -> None:
    target = tmp_path / "frames"
    _stop_after(3, store, target)

    report = cache_frames(store.path, target, "uniform:5", resume=True)

    assert report.resumed == 0
    assert len(open_store(target)[0].media[0].frames or ()) == 5


def _rows(path: Path) -> Sequence[Conversation]:
    return list(open_store(path))
