"""Cached frames that leave as lists of pictures, with their seconds where a target can say them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata.errors import DataError, UsageError
from mmdata.exporters import registry
from mmdata.exporters._media import clock_of_pictures
from mmdata.exporters.run import ExportReport
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Video,
    assistant,
    replace,
    user,
)
from mmdata.video.clock import times_of
from tests.stores import write

JPEGS = tuple(b"\xff\xd8\xff" + bytes([number]) for number in range(4))
EVEN = (0.0, 0.5, 1.0, 1.5)
UNEVEN = (0.0, 0.4, 1.1, 1.5)
LATE = (8.0, 8.5, 9.0, 9.5)


def row(times: tuple[float, ...] = EVEN, name: str = "1", **facts: Any) -> Conversation:
    """A row with a video whose frames are cached."""
    video = Media("video", "1.mp4", frames=JPEGS[: len(times)], frame_times=times, **facts)
    return Conversation(name, (user(Video(0), "What happens?"), assistant("It falls.")), (video,))


def export(folder: Path, rows: list[Conversation], name: str, **options: Any) -> ExportReport:
    """Export some rows with their frames as pictures."""
    store = write(folder / "store", rows, media_root=str(folder), overwrite=True)
    return mmdata.export(store, name, folder / "out", frames="pictures", **options)


def convert_back(folder: Path, name: str) -> list[Media]:
    """Return the media of an export that a format reads."""
    mmdata.convert(name, folder / "out", folder / "again", check="exists")
    return [medium for found in mmdata.open(folder / "again").rows(located=True)
            for medium in found.media]  # fmt: skip


def test_pictures_at_a_constant_rate_come_back_with_their_seconds(tmp_path: Path) -> None:
    report = export(tmp_path, [row()], "messages")

    (record,) = map(json.loads, (tmp_path / "out" / "train.jsonl").read_text().splitlines())
    (video,) = convert_back(tmp_path, "messages")
    assert (report.rows, report.dropped) == (1, {})
    assert record["messages"][0]["content"][0]["sample_fps"] == 2.0
    assert video.frame_paths is not None
    assert [Path(path).read_bytes() for path in video.frame_paths] == list(JPEGS)
    assert all(path.endswith(".jpg") for path in video.frame_paths)
    assert video.clock is not None
    assert times_of(video.clock, len(EVEN)).tolist() == list(EVEN)


@pytest.mark.parametrize("name", ["swift", "llamafactory", "mindspeed_mm"])
def test_a_target_without_a_word_for_their_seconds_gets_none_but_where_they_are_dropped(
    name: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"1 unsayable\. 1 say seconds"):
        export(tmp_path, [row()], name)

    report = mmdata.export(
        tmp_path / "store", name, tmp_path / "out", frames="pictures", drop="seconds"
    )

    reader = registry.get(name).read_by
    assert reader is not None
    (video,) = convert_back(tmp_path, reader)
    assert (report.rows, report.dropped) == (1, {"seconds": 1})
    assert len(video.frame_paths or ()) == 4
    assert video.clock is None


@pytest.mark.parametrize("times", [UNEVEN, LATE], ids=["uneven", "late"])
def test_seconds_that_are_no_rate_are_a_reject_or_by_name_a_mean_rate(
    times: tuple[float, ...], tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="1 say seconds"):
        export(tmp_path, [row(times)], "messages")

    report = mmdata.export(
        tmp_path / "store", "messages", tmp_path / "out", frames="pictures", drop="seconds"
    )

    (video,) = convert_back(tmp_path, "messages")
    assert report.dropped == {"seconds": 1}
    assert video.clock == CompactTimes(step=0.5)


def test_of_a_clip_its_pictures_leave_and_no_bounds(tmp_path: Path) -> None:
    report = export(tmp_path, [row(start=0.0, end=2.0)], "swift", drop="seconds")

    (video,) = convert_back(tmp_path, "swift")
    assert report.dropped == {"seconds": 1}
    assert (video.start, video.end) == (None, None)


def test_pictures_of_one_video_are_written_once_and_other_media_are_copied(tmp_path: Path) -> None:
    (tmp_path / "cup.png").write_bytes(b"\x89PNG a cup")
    shown = (user(Image(1), Video(0), "And?"), assistant("So."))
    media = (*row().media, Media("image", "cup.png"))
    rows = [row(), Conversation("2", shown, media)]

    report = export(tmp_path, rows, "messages")

    written = [file for file in (tmp_path / "out" / "media").rglob("*") if file.is_file()]
    assert report.rows == 2
    assert len(written) == 4 + 1


def test_a_video_without_cached_frames_is_a_reject_that_says_what_makes_them(
    tmp_path: Path,
) -> None:
    bare = replace(row(name="2"), media=(Media("video", "2.mp4"),))

    report = export(tmp_path, [row(), bare], "messages")

    (line,) = (tmp_path / "out" / "mmdata-rejects.jsonl").read_text().splitlines()
    assert report.unsayable == {"frames": 1}
    assert "2.mp4 has no cached frames; `mmdata frames` makes them" in json.loads(line)["detail"]


@pytest.mark.parametrize("name", ["llava", "qwen_vl_finetune"])
def test_a_target_that_takes_videos_as_files_gets_no_pictures(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 say media"):
        export(tmp_path, [row()], name, drop="seconds")


def test_pictures_are_files_in_the_export_or_inside_its_records(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="files in the export; media must be 'copy', found 'ref"):
        export(tmp_path, [row()], "swift", media="reference")
    with pytest.raises(UsageError, match="inside the records; media must be 'embed', found 'ref"):
        export(tmp_path, [row()], "datasets", media="reference")
    with pytest.raises(UsageError, match="webdataset cannot have frames as 'pictures'"):
        export(tmp_path, [row()], "webdataset")

    assert not (tmp_path / "out").exists()


def test_without_a_word_a_video_with_cached_frames_leaves_as_its_file(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [row()])

    mmdata.export(store, "swift", tmp_path / "out")

    (record,) = map(json.loads, (tmp_path / "out" / "train.jsonl").read_text().splitlines())
    assert record["videos"] == ["1.mp4"]


seconds = st.lists(st.floats(0, 1e5, allow_nan=False), min_size=1, max_size=8).map(sorted)
rates = st.tuples(st.floats(0, 100), st.floats(0.01, 10), st.integers(1, 9)).map(
    lambda found: [found[0] + number * found[1] for number in range(found[2])]
)


@given(seconds | rates)
def test_the_clock_of_pictures_says_when_each_of_them_is(times: list[float]) -> None:
    clock = clock_of_pictures(times)

    if clock is None:
        assert times == [0.0]
    else:
        assert times_of(clock, len(times)) == pytest.approx(times, abs=2e-3)
