"""Cached frames that leave inside the records: Parquet's lists of pictures and their seconds."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures

import mmdata
from mmdata.conversion import Check
from mmdata.errors import DataError, RecordError
from mmdata.exporters import MediaMode
from mmdata.exporters.run import ExportReport
from mmdata.frame_cache import cache_frames, cached_frames
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Media,
    replace,
)
from mmdata.store import Store
from tests.exporters.cached_rows import JPEG, cached, row
from tests.exporters.sayable import PNG
from tests.stores import write
from tests.video.clips import clip

UNEVEN = (0, 1, 2, 5, 6, 9, 10, 14, 17, 20)


def export(folder: Path, rows: Sequence[Conversation], **options: Any) -> ExportReport:
    """Export rows as Parquet with their frames as pictures."""
    store = write(folder / "store", rows, media_root=str(folder))
    return mmdata.export(store, "datasets", folder / "out", frames="pictures", **options)


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of the only Parquet file of an export."""
    (file,) = (folder / "out" / "data").iterdir()
    rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    return rows


def convert_back(folder: Path, **options: Any) -> Store:
    """Return the store that an export is when it is converted again."""
    options = {"check": "none", "options": {"dataset_name": "test"}, **options}
    mmdata.convert("messages", folder / "out", folder / "again", **options)
    return mmdata.open(folder / "again")


@pytest.mark.filterwarnings("default")  # other people's code
def test_datasets_loads_the_pixels_and_the_seconds_of_a_cache(tmp_path: Path) -> None:
    from datasets import load_dataset

    (tmp_path / "1.mp4").write_bytes(clip("h264", "mp4", UNEVEN))
    write(tmp_path / "store", [row(Media("video", "1.mp4"))], media_root=str(tmp_path))
    cache_frames(tmp_path / "store", tmp_path / "cache", "uniform:4", workers=1)
    video = mmdata.open(tmp_path / "cache")[0].media[0]

    mmdata.export(tmp_path / "cache", "datasets", tmp_path / "out", frames="pictures")
    data = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "hub"))

    [found] = data[0]["frames"]
    assert found["seconds"] == list(video.frame_times or ())
    pixels = [np.asarray(picture) for picture in found["images"]]
    expected = [np.asarray(Pictures.open(io.BytesIO(each))) for each in video.frames or ()]
    assert np.array_equal(pixels, expected)


def test_each_part_takes_the_next_of_its_own_column(tmp_path: Path) -> None:
    (tmp_path / "cup.png").write_bytes(PNG)
    one, other = (
        cached([0.0, 0.5], b"one", path="1.mp4"),
        cached([8.0, 8.4, 9.1], b"other", path="1.mp4"),
    )

    export(tmp_path, [row(one, Media("image", "cup.png"), other)])

    (record,) = read(tmp_path)
    assert [part["type"] for part in record["messages"][0]["content"]] == [
        "frames", "image", "frames", "text",
    ]  # fmt: skip
    assert record["images"] == [{"bytes": PNG, "path": None}]
    assert record["videos"] == []
    assert [
        (video["seconds"], [picture["bytes"] for picture in video["images"]])
        for video in record["frames"]
    ] == [(list(each.frame_times or ()), list(each.frames or ())) for each in (one, other)]


def test_the_card_says_what_the_column_is_where_there_is_one(tmp_path: Path) -> None:
    export(tmp_path, [row(cached([0.0], path="1.mp4"))])
    mmdata.export(tmp_path / "store", "datasets", tmp_path / "files", media="reference")

    assert "| `frames` |" in (tmp_path / "out" / "README.md").read_text()
    assert "frames" not in (tmp_path / "files" / "README.md").read_text()


def test_rows_without_frames_are_the_same_in_all_other_columns(tmp_path: Path) -> None:
    rows = [row(Media("image", bytes=PNG + bytes([number])), name=str(number)) for number in (1, 2)]

    export(tmp_path, rows)
    mmdata.export(tmp_path / "store", "datasets", tmp_path / "files")

    (file,) = (tmp_path / "files" / "data").iterdir()
    with_frames = pq.read_table(next((tmp_path / "out" / "data").iterdir()))
    assert with_frames.column("frames").to_pylist() == [[], []]
    assert with_frames.drop_columns("frames").equals(pq.read_table(file))


times = st.lists(st.floats(0, 1e5), min_size=1, max_size=5).map(sorted)
videos = st.builds(cached, times, st.binary(max_size=4))
images = st.binary(max_size=8).map(lambda data: Media("image", bytes=PNG + data))


@settings(max_examples=10, deadline=None)
@given(drawn=st.lists(st.lists(videos | images, max_size=3), min_size=1, max_size=4))
def test_frames_come_back_as_they_were(drawn: list[list[Media]]) -> None:
    rows = [
        replace(row(*sorted(media, key=lambda medium: medium.type), name=str(number)))
        for number, media in enumerate(drawn)
    ]

    with TemporaryDirectory() as name:
        report = export(Path(name), rows)
        again = list(convert_back(Path(name)))

    bare = [replace(each, source="test", media=tuple(map(without_file, each.media)))
            for each in rows]  # fmt: skip
    assert (report.rows, report.dropped) == (len(rows), {})
    assert again == bare


def without_file(medium: Media) -> Media:
    """Return a video with nothing but its frames, which are all that leaves."""
    return medium if medium.frames is None else replace(medium, path=None)


def test_what_comes_back_is_a_cache(tmp_path: Path) -> None:
    (tmp_path / "1.mp4").write_bytes(clip("h264", "mp4", range(8)))
    write(tmp_path / "store", [row(Media("video", "1.mp4"))], media_root=str(tmp_path))
    cache_frames(tmp_path / "store", tmp_path / "cache", "uniform:3", workers=1)
    mmdata.export(tmp_path / "cache", "datasets", tmp_path / "out", frames="pictures")

    again = convert_back(tmp_path)

    before, after = (cached_frames(each[0].media[0])
                     for each in (mmdata.open(tmp_path / "cache"), again))  # fmt: skip
    assert np.array_equal(after.pixels, before.pixels)
    assert after.times.tolist() == before.times.tolist()


@pytest.mark.parametrize("clock", [CompactTimes(step=0.25), CompactTimes(2.0, None, (1, 3), 0.1)])
def test_pictures_that_are_files_are_read_into_the_records(
    clock: CompactTimes, tmp_path: Path
) -> None:
    paths = tuple(f"{number}.jpg" for number in range(3))
    for path in paths:
        (tmp_path / path).write_bytes(JPEG + path.encode())

    export(tmp_path, [row(Media("video", frame_paths=paths, clock=clock))])

    ((video,),) = (record["frames"] for record in read(tmp_path))
    expected = [0.0, 0.25, 0.5] if clock.step else [2.0, 2.1, 2.4]
    assert video["seconds"] == pytest.approx(expected, abs=1e-12)
    assert [each["bytes"] for each in video["images"]] == [JPEG + p.encode() for p in paths]


def test_a_picture_that_is_not_there_costs_its_row(tmp_path: Path) -> None:
    lost = Media("video", frame_paths=("lost.jpg",))

    report = export(tmp_path, [row(lost, name="lost"), row(cached([0.0], path="1.mp4"))])

    (line,) = (tmp_path / "out" / "mmdata-rejects.jsonl").read_text().splitlines()
    assert (report.rows, report.rejects) == (1, {"missing_media": 1})
    assert "lost.jpg" in json.loads(line)["detail"]


def test_seconds_that_are_dropped_are_null_and_no_cache_comes_back(tmp_path: Path) -> None:
    report = export(tmp_path, [row(cached([0.0, 0.4], path="1.mp4"))], drop="seconds")

    ((video,),) = (record["frames"] for record in read(tmp_path))
    assert report.dropped == {"seconds": 1}
    assert video["seconds"] is None
    (reject,) = convert_back(tmp_path).rejects()
    assert "2 pictures, and 'seconds' must say of each when it is shown" in reject["detail"]


@pytest.mark.parametrize("check", ["probe", "decode"])
def test_a_damaged_picture_costs_its_row_where_media_are_looked_into(
    check: Check, tmp_path: Path
) -> None:
    sound = io.BytesIO()
    Pictures.new("RGB", (4, 4)).save(sound, "png")
    whole = Media("video", frames=(sound.getvalue(),), frame_times=(0.0,))
    export(tmp_path, [row(cached([0.0], path="1.mp4"), name="damaged"), row(whole, name="whole")])

    again = convert_back(tmp_path, check=check)

    (reject,) = again.rejects()
    assert [each.id for each in again] == ["whole"]
    assert (reject["id"], reject["reason"]) == ("damaged", "unreadable_media")


@pytest.mark.parametrize(
    ("name", "media"), [("datasets", "embed"), ("datasets", "reference"), ("swift", "copy")]
)
def test_frames_alone_are_no_file_and_the_reject_says_how_they_leave(
    name: str, media: MediaMode, tmp_path: Path
) -> None:
    store = write(tmp_path / "store", [row(without_file(cached([0.0], path="1.mp4")))])

    with pytest.raises(RecordError, match="frames alone, and no file; --frames pictures writes"):
        mmdata.export(store, name, tmp_path / "out", media=media, strict=True)


def test_a_video_without_cached_frames_is_a_reject(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 say frames"):
        export(tmp_path, [row(Media("video", "1.mp4"))])
