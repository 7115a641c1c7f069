"""Cached frames in a data set in memory: ``to_datasets``, at once and row by row."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmdata
from mmdata.errors import DataError
from mmdata.exporters._plain import Columns, find_plain
from mmdata.schema import (
    CompactTimes,
    Media,
    replace,
)
from mmdata.store import Store
from tests.exporters.cached_rows import cached, row
from tests.stores import write

pytestmark = pytest.mark.filterwarnings("default")  # other people's code


def table(store: Store, **options: Any) -> list[dict[str, Any]]:
    """Return the rows of a data set that a store is, media as they are kept."""
    return list(mmdata.to_datasets(store, frames="pictures", decode=False, **options))


times = st.lists(st.floats(0, 1e5), min_size=1, max_size=4).map(sorted)
bounds = st.sampled_from([{}, {"start": 0.5}, {"start": 1.0, "end": 2.0}])
names = st.sampled_from([{}, {"path": "1.mp4"}, {"path": "1.mp4", "frame_paths": ("1.jpg",)}])
videos = st.builds(lambda at, some, more: cached(at, **some, **more), times, bounds, names)
images = st.just(Media("image", "cup.jpg"))


@settings(max_examples=12, deadline=None)
@given(drawn=st.lists(st.lists(images | videos, max_size=3), min_size=1, max_size=5))
def test_frames_that_are_written_at_once_are_those_that_are_written_row_by_row(
    drawn: list[list[Media]],
) -> None:
    rows = [
        row(*sorted(media, key=lambda medium: medium.type), name=str(number))
        for number, media in enumerate(drawn)
    ]
    judged = [replace(each, desirable=True) for each in rows]  # which no plain row is

    with TemporaryDirectory() as name:
        store = write(Path(name) / "store", rows)
        (batch,) = store.batches()
        at_once = table(store)
        one_by_one = table(write(Path(name) / "judged", judged))

    assert find_plain(Columns(batch), as_frames=True).all()
    assert at_once == [{**each, "label": None} for each in one_by_one]


def test_the_frames_and_seconds_are_those_of_the_store(tmp_path: Path) -> None:
    one, other = cached([0.0, 0.4]), cached([8.0], start=8.0, end=9.0)
    store = write(tmp_path / "store", [row(one, other), row(name="words")])

    found, words = table(store)

    assert words["frames"] == []
    assert [part["type"] for part in found["messages"][0]["content"]] == [
        "frames", "frames", "text",
    ]  # fmt: skip
    assert [
        (video["seconds"], [image["bytes"] for image in video["images"]])
        for video in found["frames"]
    ] == [(list(each.frame_times or ()), list(each.frames or ())) for each in (one, other)]


def test_frames_stay_in_the_files_of_the_store(tmp_path: Path) -> None:
    large = Media("video", "1.mp4", frames=(bytes(1 << 16),) * 16, frame_times=(0.0,) * 16)
    store = write(tmp_path / "store", [row(large, name=str(number)) for number in range(32)])

    before = pa.total_allocated_bytes()
    data = mmdata.to_datasets(store, frames="pictures")

    assert len(data) == 32
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_pictures_that_are_files_are_named_by_paths_that_can_be_opened(tmp_path: Path) -> None:
    shots = Media("video", frame_paths=("a/1.jpg", "/b/2.jpg"), clock=CompactTimes(step=0.5))
    store = write(tmp_path / "store", [row(shots)], media_root="/media")

    ((video,),) = (found["frames"] for found in table(store))

    assert video["seconds"] == [0.0, 0.5]
    assert [image["path"] for image in video["images"]] == ["/media/a/1.jpg", "/b/2.jpg"]


def test_seconds_that_are_dropped_are_null(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [row(cached([0.0, 0.4], path="1.mp4"))])

    ((video,),) = (found["frames"] for found in table(store, drop="seconds"))

    assert video["seconds"] is None


def test_a_video_without_cached_frames_is_refused_by_name(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [row(Media("video", "1.mp4")), row(cached([0.0]), name="2")])

    with pytest.raises(DataError, match=r"1 say frames.*1\.mp4 has no cached frames"):
        table(store)


def test_it_holds_what_an_export_holds(tmp_path: Path) -> None:
    from datasets import load_dataset

    store = write(tmp_path / "store", [row(cached([0.0, 0.4])), row(cached([1.0]), name="2")])
    mmdata.export(store, "datasets", tmp_path / "out", frames="pictures")

    read = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "hub"))

    assert mmdata.to_datasets(store, frames="pictures").features == read.features
    assert table(store) == list(read.cast(
        mmdata.to_datasets(store, frames="pictures", decode=False).features
    ))  # fmt: skip
