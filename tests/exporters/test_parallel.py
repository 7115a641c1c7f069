"""An export of many rows is written in parts at the same time, and nobody can tell but by the names
of its files.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import mmdata
from mmdata.errors import RecordError
from mmdata.exporters._parallel import cut_rows
from mmdata.exporters._parquet import make_batch
from mmdata.exporters.datasets import Datasets
from mmdata.schema import Conversation, Image, Media, Region, assistant, user
from mmdata.store import Store
from tests.conversations import plain
from tests.stores import numbered, write

ROWS = 20_000
UNSAYABLE = (3, 7_000, 12_900, 19_999)
"""Rows with a box, which Parquet's columns cannot say, in both parts."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Enough rows for two parts, a few of which cannot be written."""
    rows = [plain(number) for number in range(ROWS)]
    box = Region("a cup", ((0.0, 0.0, 0.5, 0.5),))
    for number in UNSAYABLE:
        said = user(Image(0), "What is it?"), assistant("It is ", box, ".")
        rows[number] = Conversation(f"b{number}", said, (Media("image", "cup.png"),))
    return write(tmp_path_factory.mktemp("many") / "store", rows)


def export(store: Store, place: Path, **settings: Any) -> mmdata.exporters.run.ExportReport:
    return mmdata.export(store, "datasets", place, media="reference", **settings)


def ids_of(files: list[Path]) -> list[str]:
    return [each for file in files for each in pq.read_table(file)["id"].to_pylist()]


def digests(folder: Path) -> dict[str, str]:
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_many_rows_are_several_files_that_say_how_many_and_keep_the_order(
    store: Store, tmp_path: Path
) -> None:
    report = export(store, tmp_path / "out")

    files = sorted((tmp_path / "out" / "data").iterdir())
    assert [file.name for file in files] == [
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    written = [f"c{number}" for number in range(ROWS) if number not in UNSAYABLE]
    assert ids_of(files) == written
    assert report.rows == len(written)


def test_what_waits_in_memory_is_a_row_group_of_a_few_thousand_rows(tmp_path: Path) -> None:
    said = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    exporter = Datasets()
    records = [{"id": str(number), "messages": said} for number in range(3_000)]
    batch = make_batch(records, exporter.schema)

    with closing(exporter.open_part(tmp_path, 0)) as writer:
        for _ in range(9):
            writer.write("train", batch)

    (file,) = (tmp_path / "data").iterdir()
    groups = pq.read_metadata(file)
    rows = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
    assert rows == [15_000, 12_000]


def test_large_media_of_many_rows_are_written_before_they_fill_a_column(tmp_path: Path) -> None:
    """Rows are written 64 at a time, and these would be 128 MiB."""
    (tmp_path / "cup.png").write_bytes(bytes(2 << 20))
    cup = (Media("image", "cup.png"),)
    said = (user(Image(0), "What?"), assistant("That."))
    rows = [Conversation(str(number), said, cup) for number in range(64)]
    store = write(tmp_path / "store", rows, media_root=str(tmp_path))

    mmdata.export(store, "datasets", tmp_path / "out")

    (file,) = (tmp_path / "out" / "data").iterdir()
    groups = pq.read_metadata(file)
    counts = [groups.row_group(number).num_rows for number in range(groups.num_row_groups)]
    assert counts == [32, 32]


def test_few_rows_are_one_file(tmp_path: Path) -> None:
    export(numbered(tmp_path / "store", 3), tmp_path / "out")

    (file,) = (tmp_path / "out" / "data").iterdir()
    assert file.name == "train-00000-of-00001.parquet"


def test_rejects_of_all_parts_are_listed_in_the_order_of_the_store(
    store: Store, tmp_path: Path
) -> None:
    report = export(store, tmp_path / "out")

    lines = (tmp_path / "out" / "mmdata-rejects.jsonl").read_text().splitlines()
    found = [(reject["record"], reject["id"]) for reject in map(json.loads, lines)]
    assert found == [(number, f"b{number}") for number in UNSAYABLE]
    assert report.rejects == {"unsayable": len(UNSAYABLE)}
    assert report.rows_in == ROWS


def test_one_processor_writes_the_same_files(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, cores in (("many", {0, 1, 2, 3}), ("one", {0})):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: cores, raising=False)
        export(store, tmp_path / name)

    assert digests(tmp_path / "many") == digests(tmp_path / "one")


def test_of_several_failures_the_first_in_the_store_is_told(store: Store, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="row 3, id 'b3'"):
        export(store, tmp_path / "out", strict=True)

    assert list(tmp_path.iterdir()) == []


def test_one_that_is_stopped_leaves_neither_files_nor_threads(store: Store, tmp_path: Path) -> None:
    def stop(done: int, rejects: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(store, tmp_path / "out", progress=stop)

    assert list(tmp_path.iterdir()) == []
    assert not [each for each in threading.enumerate() if each.name.startswith("mmdata-export")]


def test_progress_is_of_all_parts_and_is_told_by_the_thread_that_asked(
    store: Store, tmp_path: Path
) -> None:
    said: list[tuple[int, int]] = []
    threads = set()

    def update(done: int, rejects: int) -> None:
        said.append((done, rejects))
        threads.add(threading.current_thread())

    export(store, tmp_path / "out", progress=update)

    assert said == sorted(said)
    assert said[-1] == (ROWS, len(UNSAYABLE))
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_parts_hold_every_row_once_and_no_batch_is_in_two(store: Store, most: int) -> None:
    parts = cut_rows(store, most)

    assert [row for part in parts for row in part] == list(range(ROWS))
    assert {part.start for part in parts} <= set(store.batch_starts)
    assert len(parts) == min(most, 2)
