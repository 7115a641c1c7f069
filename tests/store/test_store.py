from __future__ import annotations

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmdata
from mmdata.errors import SchemaError, StoreError, UsageError
from mmdata.rejects import Reason, Reject
from mmdata.schema import Conversation, Media, assistant, replace, user
from mmdata.store import Store, writer
from mmdata.store.batch import ConversationBatch
from mmdata.store.manifest import Shard
from mmdata.store.writer import Origin, StoreWriter
from tests.conversations import conversations, plain
from tests.stores import numbered, write


@pytest.mark.slow
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
@given(st.lists(conversations(), max_size=6), st.booleans())
def test_any_conversations_come_back_from_a_store_unchanged(
    tmp_path: Path, rows: list[Conversation], parquet: bool
) -> None:
    store = write(tmp_path / "store", rows, parquet=parquet, overwrite=True)

    assert list(store) == rows
    assert [store[n] for n in range(len(rows))] == rows


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return numbered(tmp_path_factory.mktemp("stores") / "thousand", 1300)


def test_rows_are_reached_at_random_from_both_ends(thousand: Store) -> None:
    assert thousand[0] == plain(0)
    assert thousand[777] == plain(777)
    assert thousand[-1] == plain(1299)
    assert thousand[-1300] == plain(0)
    for index in (1300, -1301):
        with pytest.raises(IndexError, match="of 1300 rows"):
            thousand[index]


def test_slices_are_rows_that_are_decoded_later(thousand: Store) -> None:
    rows = thousand[510:520]

    assert len(rows) == 10
    assert list(rows) == [plain(n) for n in range(510, 520)]
    assert list(rows[::-3]) == [plain(n) for n in range(519, 509, -3)]
    assert rows[-1] == plain(519)


def test_a_store_travels_to_other_processes_as_its_path(thousand: Store) -> None:
    travelled = pickle.loads(pickle.dumps(thousand))

    assert travelled[1234] == plain(1234)
    assert len(pickle.dumps(thousand)) < 1000


def test_slices_of_located_rows_are_located(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [plain(number) for number in range(4)])

    located = [store.located(number) for number in range(4)]
    assert list(store.rows(located=True)) == located
    assert list(store.rows(located=True)[1:][::-1]) == located[:0:-1]
    assert list(store.rows()[1:]) == [plain(number) for number in range(1, 4)]


def test_a_store_that_travels_keeps_where_its_media_are_now(tmp_path: Path) -> None:
    write(tmp_path / "store", [plain(1)])

    for root in (None, tmp_path, tmp_path / "moved", "moved"):
        store = mmdata.open(tmp_path / "store", media_root=root)
        travelled = pickle.loads(pickle.dumps(store))
        [medium] = store[0].media
        assert (
            travelled.locate(medium)
            == store.locate(medium)
            == str(Path(root or "/media") / str(medium.path))
        )
        assert travelled.located(0) == store.located(0)
        assert travelled.media_root == store.media_root


@pytest.mark.parametrize("parquet", [False, True])
def test_a_store_that_travels_has_the_same_rows_rejects_and_fingerprint(
    tmp_path: Path, parquet: bool
) -> None:
    reject = Reject(3, "a.json", "x", Reason.MISSING_MEDIA, "there is no image")
    store = write(
        tmp_path / "store", [plain(n) for n in range(5)], rejects=[reject], parquet=parquet
    )

    travelled = pickle.loads(pickle.dumps(store))

    assert list(travelled) == list(store)
    assert list(travelled.rejects()) == list(store.rejects())
    assert (travelled.fingerprint, travelled.path, travelled.manifest) == (
        store.fingerprint,
        store.path,
        store.manifest,
    )


def test_the_table_is_the_store(thousand: Store) -> None:
    assert thousand.table.num_rows == 1300
    assert thousand.table.column("id").to_pylist() == [f"c{n}" for n in range(1300)]


def test_media_are_located_under_the_media_root_or_where_they_have_moved(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [plain(1)])

    assert store.locate(store[0].media[0]) == "/media/images/000001.jpg"
    assert store.located(0).media[0].path == "/media/images/000001.jpg"
    assert store.locate(Media("image", "/elsewhere/a.jpg")) == "/elsewhere/a.jpg"
    assert store.locate(Media("image", "https://host/a.jpg")) == "https://host/a.jpg"
    assert (
        mmdata.open(store.path, media_root="/moved").located(0).media[0].path
        == "/moved/images/000001.jpg"
    )


@pytest.mark.slow
def test_large_rows_are_written_in_small_batches(tmp_path: Path) -> None:
    large = [plain(n, words=300_000) for n in range(20)]

    store = write(tmp_path / "store", large)

    assert max(store.manifest.shards[0].batches) < 20
    assert list(store) == large


def test_rows_with_large_media_are_written_in_small_batches(tmp_path: Path) -> None:
    rows = [
        replace(plain(n), media=(Media("image", bytes=bytes([n]) * (3 << 20)),)) for n in range(12)
    ]
    frames = tuple(b"frame" * (1 << 17) for _ in range(5))
    cached = [Media("video", frames=frames, frame_times=(0.0, 1.0, 2.0, 3.0, 4.0))]
    clips = [
        Conversation(f"v{n}", (user("What?"), assistant("That.")), tuple(cached), "numbers")
        for n in range(12)
    ]

    store = write(tmp_path / "store", [*rows, *clips])

    assert len(store.manifest.shards[0].batches) >= 4
    assert [row.id for row in store] == [row.id for row in (*rows, *clips)]


@pytest.mark.slow
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=15, deadline=None
)
@given(st.lists(conversations(), min_size=1, max_size=12), st.data())
def test_a_shard_has_the_same_bytes_however_its_rows_came_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: list[Conversation], data: st.DataObject
) -> None:
    monkeypatch.setattr(writer, "BATCH_RECORDS", data.draw(st.integers(1, 12)))
    place = data.draw(st.integers(0, len(rows)))

    shards = {
        shards_of(tmp_path / name, pieces)
        for name, pieces in (("one", [rows]), ("two", [rows[:place], rows[place:]]))
    }

    assert len(shards) == 1


def shards_of(path: Path, pieces: list[list[Conversation]]) -> tuple[Shard, ...]:
    sources = sorted({row.source for rows in pieces for row in rows})
    with StoreWriter(path, sources=sources, origin=Origin("test", {}), overwrite=True) as store:
        for rows in pieces:
            store.write(ConversationBatch.from_conversations(rows))
    return mmdata.open(path).manifest.shards


def test_the_manifest_accounts_for_every_record(tmp_path: Path) -> None:
    reject = Reject(3, "a.json", "x", Reason.MISSING_MEDIA, "there is no image at 'a\udcff.jpg'")

    store = write(tmp_path / "store", [plain(0), plain(1)], rejects=[reject])

    assert store.manifest.records_in == 3
    assert store.manifest.rejects == {"missing_media": 1}
    assert store.manifest.splits == {"train": 2}
    assert store.manifest.sources == {"numbers": 2}
    (line,) = store.rejects()
    assert line["record"] == 3
    assert line["reason"] == "missing_media"


def test_a_store_of_nothing_is_a_store(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [])

    assert list(store) == []
    assert store.table.num_rows == 0
    assert mmdata.check(store.path) == []


def test_a_failed_writer_leaves_nothing_and_the_old_store_untouched(tmp_path: Path) -> None:
    write(tmp_path / "store", [plain(0)])

    writer = StoreWriter(
        tmp_path / "store", sources=["numbers"], origin=Origin("t", {}), overwrite=True
    )
    with pytest.raises(ZeroDivisionError), writer:
        writer.write_conversations([plain(1)])
        raise ZeroDivisionError

    assert list(mmdata.open(tmp_path / "store")) == [plain(0)]
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_a_store_is_replaced_only_when_asked(tmp_path: Path) -> None:
    write(tmp_path / "store", [plain(0)])

    with pytest.raises(UsageError, match="--overwrite"):
        write(tmp_path / "store", [plain(1)])
    store = write(tmp_path / "store", [plain(2)], overwrite=True)

    assert list(store) == [plain(2)]


def test_what_is_not_a_store_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")

    with pytest.raises(UsageError, match="not a store"):
        write(tmp_path / "home", [plain(0)], overwrite=True)

    assert (tmp_path / "home" / "thesis.tex").read_text() == "years of work"
    assert [entry.name for entry in tmp_path.iterdir()] == ["home"]


def test_the_second_of_two_writers_is_refused(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "store", sources=["numbers"], origin=Origin("t", {})) as first:
        first.write_conversations([plain(0)])
        with pytest.raises(StoreError, match="another process is writing"):
            write(tmp_path / "store", [plain(1)])

    assert list(mmdata.open(tmp_path / "store")) == [plain(0)]


def test_an_open_store_outlives_its_replacement(tmp_path: Path) -> None:
    old = write(tmp_path / "store", [plain(n) for n in range(600)])

    write(tmp_path / "store", [plain(9)], overwrite=True)

    assert old[599] == plain(599)


def test_a_place_without_a_store_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mmdata convert"):
        mmdata.open(tmp_path / "nowhere")
    with pytest.raises(StoreError, match=r"manifest\.json"):
        mmdata.open(tmp_path)


def test_a_store_of_a_later_version_is_refused_by_number(tmp_path: Path) -> None:
    store = write(tmp_path / "store", [plain(0)])
    manifest = store.path / "manifest.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "schema_version": 99}))

    with pytest.raises(StoreError, match="version 99"):
        mmdata.open(store.path)


def test_other_tools_read_a_store_as_it_is(tmp_path: Path) -> None:
    import duckdb
    import polars

    store = numbered(tmp_path / "store", 700)
    shard = str(store.path / "data-00000.arrow")
    rows = store.table

    found = duckdb.sql("select count(*), count(distinct id), max(source) from rows")
    assert found is not None
    assert found.fetchall() == [(700, 700, "numbers")]
    frame = polars.read_ipc(shard)
    assert frame["id"].to_list() == [f"c{n}" for n in range(700)]
    assert rows.num_rows == 700


@pytest.mark.filterwarnings("ignore")
def test_hugging_face_datasets_reads_a_store_as_it_is(tmp_path: Path) -> None:
    import datasets

    store = numbered(tmp_path / "store", 700)
    loaded = datasets.load_dataset(
        "arrow",
        data_files=str(store.path / "*.arrow"),
        cache_dir=str(tmp_path / "cache"),
        split="train",
    )

    assert loaded.num_rows == 700
    assert loaded[699]["messages"][1]["content"][0]["text"].startswith("word699")


@pytest.mark.slow
@pytest.mark.parametrize("parquet", [False, True])
def test_threads_may_read_a_store_at_once(tmp_path: Path, parquet: bool) -> None:
    rows = [plain(number) for number in range(8)]
    path = write(tmp_path / "store", rows, parquet=parquet).path

    for _ in range(50):
        store, start = mmdata.open(path), threading.Barrier(4)

        def first_rows(
            number: int, store: Store = store, start: threading.Barrier = start
        ) -> list[Conversation]:
            start.wait()
            return [store[number], store[number + 4]]

        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(first_rows, range(4)))

        assert found == [[rows[number], rows[number + 4]] for number in range(4)]


def test_a_row_of_a_source_that_was_not_declared_is_refused_by_name(tmp_path: Path) -> None:
    stray = replace(plain(1), source="elsewhere")
    origin = Origin("acme", {})

    with (
        pytest.raises(
            SchemaError,
            match=f"conversation {stray.id!r}: its source 'elsewhere' was not declared, only "
            "'numbers'. The format acme",
        ),
        StoreWriter(tmp_path / "store", sources=["numbers"], origin=origin) as writer,
    ):
        writer.write_conversations([plain(0), stray])

    assert not (tmp_path / "store").exists()


def test_a_source_that_only_rejects_had_need_not_be_declared(tmp_path: Path) -> None:
    rows = [plain(0), replace(plain(1), source="elsewhere")]
    batch = ConversationBatch.from_conversations(rows).select([0])

    with StoreWriter(tmp_path / "a", sources=["numbers"], origin=Origin("acme", {})) as writer:
        writer.write(batch)

    assert list(mmdata.open(tmp_path / "a")) == [plain(0)]
