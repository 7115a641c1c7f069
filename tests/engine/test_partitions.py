"""What is counted and selected of a store in parts is what one pass over it counts and selects,
whoever works on the parts, and however many they are.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mmdata
from mmdata.engine.engine import LostWorkerError
from mmdata.engine.local import LocalEngine
from mmdata.engine.open import map_ranges, split_tapering
from mmdata.engine.partitions import check_store, split_rows, split_store
from mmdata.errors import ConfigError, StoreError, UsageError
from mmdata.mixture import select
from mmdata.rejects import Reason, Reject
from mmdata.report import stats
from mmdata.report.lengths import Lengths, measure_lengths
from mmdata.schema import Conversation, Media, Split, assistant, replace, user
from mmdata.store import Store
from tests.conversations import conversations, plain
from tests.engines import Here, Losing, bytes_of
from tests.stores import numbered, write
from tests.templates.families import FAMILIES, said

NEAR = settings(max_examples=8, deadline=None)
ROWS = st.lists(conversations(), min_size=1, max_size=6)
COUNTS = st.integers(1, 12)


@pytest.fixture(scope="module")
def processes() -> Iterator[LocalEngine]:
    with LocalEngine(2) as engine:
        yield engine


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of several batches, with rows that say the same and rejects."""
    rows = [replace(plain(number % 7000), id=f"{number}") for number in range(9000)]
    reject = Reject(7, "a.json", None, Reason.BAD_BOX, "found")
    return write(tmp_path_factory.mktemp("several") / "store", rows, rejects=[reject])


def written(folder: Path, rows: list[Conversation], *, parquet: bool = False) -> Store:
    """Write rows, half of them twice."""
    again = [*rows, *rows[::2]]
    named = [replace(row, id=f"{number}") for number, row in enumerate(again)]
    return write(folder / "store", named, parquet=parquet)


def spelled(found: Any) -> str:
    """Return what was found as a program would print it: order counts."""
    return json.dumps(asdict(found), default=str)


# --- ranges of rows
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """A store of several shards of several batches each."""
    return in_shards(tmp_path, monkeypatch)


def in_shards(folder: Path, patch: pytest.MonkeyPatch, *, parquet: bool = False) -> Store:
    patch.setattr("mmdata.store.writer._SHARD_BYTES", 9_000 if parquet else 60_000)
    patch.setattr("mmdata.store.writer.BATCH_RECORDS", 16)
    rows = [plain(number, words=60) for number in range(300)]
    reject = Reject(7, "a.json", None, Reason.BAD_BOX, "found")
    store = write(folder / "store", rows, parquet=parquet, rejects=[reject])
    assert len(store.manifest.shards) > 2
    assert len(store.manifest.shards[0].batches) > 1
    return store


@pytest.mark.parametrize("parquet", [True, False])
def test_batches_of_some_rows_are_the_rows_of_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parquet: bool
) -> None:
    store = in_shards(tmp_path, monkeypatch, parquet=parquet)
    table = store.table

    for start, stop in [(0, 300), (0, 0), (20, 20), (15, 17), (16, 32), (10, 290), (299, 300)]:
        batches = list(store.batches(range(start, stop)))

        found = pa.Table.from_batches(batches, schema=table.schema)
        assert found.equals(table.slice(start, stop - start))
        assert all(0 < batch.num_rows <= 16 for batch in batches)


def test_ranges_hold_every_row_once_and_begin_with_batches_where_there_are_as_many(
    several: Store,
) -> None:
    starts = several.batch_starts
    for count in (1, 2, 3, 4, 50, 9000, 20_000):
        ranges = split_rows(several, count)

        assert [row for rows in ranges for row in rows] == list(range(9000))
        assert len(ranges) == min(count, 9000)
        if count < len(starts):
            assert {rows.start for rows in ranges} <= set(starts)


def test_a_store_without_rows_has_no_ranges(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [])

    found = stats(store, engine=Here(), partitions=3)

    assert not split_rows(store, 3)
    assert spelled(found) == spelled(stats(store))


# --- what is found
# --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@NEAR
@given(rows=ROWS, count=COUNTS, parquet=st.booleans())
def test_the_numbers_of_any_partitions_are_those_of_the_whole(
    rows: list[Conversation], count: int, parquet: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    store = written(tmp_path_factory.mktemp("stats"), rows, parquet=parquet)

    engine = Here()
    found = stats(store, engine=engine, partitions=count)

    assert spelled(found) == spelled(stats(store))
    assert engine.submitted == min(count, len(store))


TURN = assistant("Yes, there is one.")
NOT_ENCODED = said("yes", "What?", Media("video", "a.mp4"))
SELECTIONS: list[dict[str, Any]] = [
    {},
    {"drop_duplicates": True},
    {"where": "turns > 2 or media_per_row > 0", "drop_duplicates": True},
    {"where": "id = (select max(id) from rows) and turns > 1"},
    {"where": "split = 'train' or characters < 20", "sample": "random:50%", "seed": 3},
    {"sample": "end:2", "parquet": True},
]


@pytest.mark.slow
@pytest.mark.parametrize("options", SELECTIONS, ids=str)
def test_the_bytes_selected_of_any_partitions_are_those_of_the_whole(
    options: dict[str, Any], tmp_path: Path
) -> None:
    rows = [talk(number) for number in range(30)]
    store = written(tmp_path, rows, parquet=len(options) == 2)
    whole = select(store, tmp_path / "whole", **options)

    for count in (1, 5):
        parts = select(
            store, tmp_path / "parts", engine=Here(), partitions=count, overwrite=True, **options
        )

        assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")
        assert asdict(parts) == {**asdict(whole), "store": parts.store}
    assert whole.selected > 0


def talk(number: int) -> Conversation:
    """Return a conversation of some turns, with or without media, in one split or the other."""
    turns = [text for turn in range(number % 3 + 1) for text in (user(f"{number}?"), TURN)]
    media = (Media("image", f"{number}.png"),) if number % 4 == 0 else ()
    split: Split = "val" if number % 5 == 0 else "train"
    return Conversation(f"{number}", tuple(turns), media, source="s", split=split)


@NEAR
@example(rows=[1, 0, 2, 0], count=3)
@given(rows=st.lists(st.integers(0, 3), max_size=9), count=COUNTS)
def test_lengths_of_any_partitions_are_those_of_the_whole(rows: list[int], count: int) -> None:
    talks = [said("yes " * words) if words else NOT_ENCODED for words in rows]
    template = FAMILIES[0].template()

    whole = measure_lengths(talks, template)
    parts = measure_lengths(talks, template, engine=Here(), partitions=count)

    assert as_lists(parts) == as_lists(whole)
    assert len(whole.failed) == rows.count(0)


def as_lists(lengths: Lengths) -> list[Any]:
    columns = (lengths.tokens, lengths.trained, lengths.visual)
    return [*((column.tolist(), column.dtype) for column in columns), lengths.failed]


@pytest.mark.slow
def test_processes_of_this_machine_find_the_same(
    several: Store, tmp_path: Path, processes: LocalEngine
) -> None:
    options: dict[str, Any] = {
        "where": "turns < 3 and id like '%1%'",
        "drop_duplicates": True,
        "sample": "random:30%",
    }
    whole = stats(several)
    select(several, tmp_path / "whole", **options)

    for count in (2, 7):
        assert spelled(stats(several, engine=processes, partitions=count)) == spelled(whole)
        select(several, tmp_path / "parts", engine=processes, partitions=count, **options)
        assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")
        (tmp_path / "parts").rename(tmp_path / f"parts-{count}")


def test_rows_of_a_store_are_encoded_by_processes_as_they_are_here(
    several: Store, processes: LocalEngine
) -> None:
    rows, template = several.rows(located=True)[:30], FAMILIES[0].template()

    found = measure_lengths(rows, template, engine=processes)

    assert as_lists(found) == as_lists(measure_lengths(rows, template))


# --- what becomes of workers, and of what is wrong
# --------------------------------------------------------------------------------------------------


def test_workers_that_are_lost_change_no_number_and_no_byte(several: Store, tmp_path: Path) -> None:
    # One of two attempts at a partition fails, not both.
    lost = [number % 3 == 0 for number in range(60)]
    select(several, tmp_path / "whole", drop_duplicates=True)

    engine = Losing(lost, workers=1)
    select(several, tmp_path / "parts", engine=engine, partitions=9, drop_duplicates=True)

    assert bytes_of(tmp_path / "parts") == bytes_of(tmp_path / "whole")
    assert engine.submitted > 9 + 3
    found = stats(several, engine=Losing(lost, workers=1), partitions=9)
    assert spelled(found) == spelled(stats(several))


def look(trace: Path, rows: range) -> list[int | str]:
    """Note which rows are looked at, one of which ends the process."""
    with trace.open("a") as opened:
        opened.write(f"{rows}\n")
    if 2 in rows:
        os.abort()
    return list(rows)


@pytest.mark.slow
def test_a_row_that_ends_its_workers_is_found_and_all_others_are_kept(
    tmp_path: Path, processes: LocalEngine
) -> None:
    def explain(error: LostWorkerError) -> str:
        return str(error)

    found = list(
        map_ranges(
            partial(look, tmp_path / "trace"),
            range(1, 5),
            together=2,
            lost=explain,
            engine=processes,
        )
    )

    assert [found[0], *found[2:]] == [1, 3, 4]
    assert "SIGABRT" in str(found[1])
    looked_at = (tmp_path / "trace").read_text().splitlines()
    assert looked_at.count("range(2, 3)") == 2  # one row alone has another chance


@pytest.mark.parametrize(("partitions", "pieces"), [(None, 3), (1, 1), (2, 2), (4, 4), (50, 5)])
def test_rows_come_in_as_many_parts_as_are_asked_for(partitions: int | None, pieces: int) -> None:
    engine = Here()

    found = map_ranges(
        list, range(10, 15), together=2, lost=lambda _: 0, engine=engine, partitions=partitions
    )

    assert list(found) == [10, 11, 12, 13, 14]
    assert engine.submitted == pieces


def test_rows_come_in_shorter_parts_to_the_end_where_that_is_asked_for() -> None:
    engine = Here(workers=2)

    found = map_ranges(list, range(100), together=16, least=4, lost=lambda _: 0, engine=engine)

    assert list(found) == list(range(100))
    assert engine.submitted == 11  # 16, 16, 16, 13, 10, 8, 6, 4, 4, 4, 3


@given(
    length=st.integers(0, 500),
    workers=st.integers(1, 8),
    together=st.integers(1, 64),
    least=st.integers(1, 8),
)
def test_ranges_get_shorter_to_the_end_and_hold_all_in_order(
    length: int, workers: int, together: int, least: int
) -> None:
    found = split_tapering(length, workers, together=together, least=min(least, together))

    assert list(chain.from_iterable(found)) == list(range(length))
    sizes = [len(some) for some in found]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes, default=0) <= together
    assert all(size >= min(least, together) for size in sizes[:-1])
    if length > together:  # no more than half of what was left for each worker
        assert all(
            size <= max(least, -(-sum(sizes[place:]) // (2 * workers)))
            for place, size in enumerate(sizes)
        )


def end(store: Store, rows: range) -> None:
    os.abort()


@pytest.mark.slow
def test_rows_that_lose_two_workers_are_named(several: Store, processes: LocalEngine) -> None:
    with (
        split_store(several, engine=processes, partitions=2) as parts,
        pytest.raises(LostWorkerError, match=r"store, rows 0 to 4095: .*SIGABRT"),
    ):
        list(parts.map(end))


def test_files_are_checked_on_an_engine_as_they_are_here(shards: Store) -> None:
    engine = Here()
    assert check_store(shards.path, engine=engine) == []
    assert engine.submitted == len(shards.manifest.shards) + 1

    for name in (shards.manifest.shards[1].name, "rejects.jsonl"):
        with (shards.path / name).open("r+b") as file:
            file.seek((shards.path / name).stat().st_size // 2)
            file.write(b"!")
    found = check_store(shards.path, engine=Here())

    assert list(map(str, found)) == list(map(str, mmdata.check(shards.path)))
    assert len(found) == 2
    assert found[0].path == str(shards.path / "data-00001.arrow")


def test_a_store_that_was_replaced_meanwhile_is_refused(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 5)
    write(store.path, [plain(1)], overwrite=True)

    with pytest.raises(StoreError, match="another store"):
        stats(store, engine=Here(), partitions=2)


@pytest.mark.parametrize("where", ["nothing = 1", "turns >", "cast('x' || id as integer) = 1"])
def test_a_wrong_expression_is_refused_on_an_engine_and_nothing_is_written(
    where: str, several: Store, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="where"):
        select(several, tmp_path / "some", where=where, engine=Here(), partitions=2)

    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_small_store_is_worked_on_here_unless_partitions_are_named(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 5)

    with split_store(store, workers=2) as parts:
        assert parts.engine is None
    with split_store(store, workers=2, partitions=3) as parts:
        assert isinstance(parts.engine, LocalEngine)
        assert list(parts.map(length_of)) == [1, 2, 2]


def length_of(store: Store, rows: range) -> int:
    return sum(batch.num_rows for batch in store.batches(rows))


def test_an_address_without_a_cluster_is_refused_before_anything_is_done(several: Store) -> None:
    for work in (stats, measure_lengths):
        with pytest.raises(UsageError, match="--engine ray"):
            work(several, *([FAMILIES[0].template()] * (work is measure_lengths)), address="a:1")


def test_progress_counts_rows_whatever_works_on_them(several: Store) -> None:
    here: list[int] = []
    apart: list[int] = []

    mmdata.stats(several, progress=lambda rows, _: here.append(rows))
    stats(several, engine=Here(), partitions=4, progress=lambda rows, _: apart.append(rows))

    assert here == [4096, 8192, 9000]
    assert apart == [2250, 4500, 6750, 9000]
