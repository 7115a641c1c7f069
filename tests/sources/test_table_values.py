"""What tables hold that JSON has not becomes what it has, in one way that is written down."""

from __future__ import annotations

import datetime
import decimal
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata.errors import RecordError
from mmdata.formats import make
from mmdata.formats._batches import read_batches
from mmdata.rejects import Reject
from mmdata.sources._table import pieces_of, read_rows, require_unique_names
from mmdata.sources.parquet import parquet_runs
from mmdata.sources.record import Record
from mmdata.store.batch import BATCH_BYTES
from tests.sources.tables import as_json, chat, write


def values(table: pa.Table) -> list[Any]:
    """Return the records that the rows of a table are, and why one is none."""
    found: list[Any] = []
    for batch in table.to_batches():
        rows = read_rows(batch, file="t", number=len(found), id_key="id")
        found += [row.value if isinstance(row, Record) else row.reason.value for row in rows]
    return found


def column(array: pa.Array) -> list[Any]:
    return values(pa.table({"c": array}))


TURNS = st.fixed_dictionaries(
    {"role": st.none() | st.sampled_from("ab"), "bytes": st.none() | st.binary()}
)


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "text": st.none() | st.text("ab é", max_size=3),
                "numbers": st.none() | st.lists(st.none() | st.integers(-9, 9), max_size=3),
                "turns": st.none()
                | st.lists(
                    st.none()
                    | st.fixed_dictionaries(
                        {
                            "role": st.none() | st.sampled_from("ab"),
                            "bytes": st.none() | st.binary(),
                        }
                    ),
                    max_size=3,
                ),
            }
        ),
        min_size=1,
        max_size=8,
    ),
    st.data(),
)
def test_rows_are_what_arrow_says_without_the_fields_that_are_null(
    rows: list[dict[str, Any]], data: st.DataObject
) -> None:
    types = {
        "text": data.draw(st.sampled_from([pa.string(), pa.large_string()])),
        "numbers": data.draw(st.sampled_from([pa.list_(pa.int64()), pa.large_list(pa.int32())])),
        "turns": pa.list_(pa.struct([("role", pa.string()), ("bytes", pa.binary())])),
    }
    table = pa.Table.from_pylist(rows, schema=pa.schema(types))
    start = data.draw(st.integers(0, len(rows) - 1))

    found = values(table.slice(start))

    assert found == [without_nulls(row) for row in rows[start:]]


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return list(map(without_nulls, value)) if isinstance(value, list) else value


def test_times_decimals_and_numbers_become_what_json_has() -> None:
    moment = datetime.datetime(2024, 2, 3, 4, 5, 6, 789000)
    zone = datetime.timezone(datetime.timedelta(hours=2))

    assert column(pa.array([moment, None])) == [{"c": "2024-02-03T04:05:06.789000"}, {}]
    assert column(pa.array([moment.replace(tzinfo=zone)], pa.timestamp("ms", "+02:00"))) == [
        {"c": "2024-02-03T02:05:06.789Z"}
    ]
    assert column(pa.array([moment.date()])) == [{"c": "2024-02-03"}]
    assert column(pa.array([moment.time()])) == [{"c": "04:05:06.789000"}]
    assert column(pa.array([datetime.timedelta(seconds=1.5)])) == [{"c": 1.5}]
    assert column(pa.array([decimal.Decimal("1.50")])) == [{"c": "1.50"}]
    assert column(pa.array([np.float16(0.5)])) == [{"c": 0.5}]
    assert column(pa.array(["a", None, "a"]).dictionary_encode()) == [{"c": "a"}, {}, {"c": "a"}]
    assert column(pa.array([[1, 2], None], pa.list_(pa.int8(), 2))) == [{"c": [1, 2]}, {}]
    maps = pa.array([[("a", 1), ("b", None)]], pa.map_(pa.string(), pa.int64()))
    assert column(maps) == [{"c": {"a": 1}}]


def test_nan_is_what_is_missing_and_infinity_costs_its_row() -> None:
    assert column(pa.array([1.0, float("nan"), None])) == [{"c": 1.0}, {}, {}]
    assert column(pa.array([1.0, float("inf"), 2.0])) == [{"c": 1.0}, "malformed", {"c": 2.0}]


def test_a_text_that_no_text_may_be_costs_its_row() -> None:
    broken = pa.array([b"fine", b"\xff", b"a\0b", b"too"]).view(pa.string())

    assert column(broken) == [{"c": "fine"}, "bad_encoding", "bad_encoding", {"c": "too"}]


def test_a_name_that_stands_twice_at_any_depth_is_refused(tmp_path: Path) -> None:
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])

    for schema in (
        pa.schema([("a", pa.int8()), ("a", pa.int8())]),
        pa.schema([("b", pa.list_(twice.type))]),
    ):
        with pytest.raises(RecordError, match="'a' stands twice"):
            require_unique_names(schema)
    pq.write_table(pa.table({"b": twice}), tmp_path / "t.parquet")
    [[reject]] = parquet_runs(tmp_path / "t.parquet")
    assert isinstance(reject, Reject)
    assert reject.reason.value == "bad_source"


def test_bytes_that_no_format_reads_are_kept_in_base64_under_their_name(tmp_path: Path) -> None:
    source = write(tmp_path / "s.parquet", "parquet", [chat(0, thumbnail=b"\x89PNG")])

    mmdata.convert("messages", source, tmp_path / "store")

    [row] = mmdata.open(tmp_path / "store")
    assert row.extra["thumbnail"] == as_json(b"\x89PNG")


@pytest.mark.parametrize(
    "kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int8(), pa.binary())]
)
def test_bytes_are_not_copied_before_the_value_of_their_record_is_asked_for(
    kind: pa.DataType,
) -> None:
    pictures = pa.array([b"", b"one", None, b"three"], kind)
    table = pa.table({"picture": pictures, "id": list("abcd")}).slice(1)

    rows = read_rows(table.to_batches()[0], file="t", number=0, id_key="id")

    records = [row for row in rows if isinstance(row, Record)]
    assert [type(record.raw.get("picture")) for record in records] == [
        memoryview,
        type(None),
        memoryview,
    ]
    assert [record.value for record in records] == [
        {"picture": b"one", "id": "b"},
        {"id": "c"},
        {"picture": b"three", "id": "d"},
    ]
    assert type(records[0].value["picture"]) is bytes


@pytest.mark.parametrize(
    ("name", "row"),
    [
        (
            "messages",
            {
                "messages": [
                    {"role": "user", "content": "<image>What?"},
                    {"role": "assistant", "content": "A cup."},
                ],
                "images": [{"bytes": b"picture", "path": "1.jpg"}],
            },
        ),
        (
            "llava",
            {
                "conversations": [
                    {"from": "human", "value": "<image>What?"},
                    {"from": "gpt", "value": "A cup."},
                ],
                "image": {"bytes": b"picture", "path": "1.jpg"},
            },
        ),
    ],
)
def test_what_is_left_of_rows_with_bytes_is_kept_as_of_one_that_is_read_alone(
    tmp_path: Path, name: str, row: dict[str, Any]
) -> None:
    rows = [
        {"id": f"r{number}", **row, "hash": bytes([number]), "marks": {"of": [b"x", None]}}
        for number in range(4)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "all.parquet")
    alone = [tmp_path / f"{number}.parquet" for number in range(4)]
    for place, one in zip(alone, rows, strict=True):
        pq.write_table(pa.Table.from_pylist([one]), place)

    mmdata.convert(name, tmp_path / "all.parquet", tmp_path / "together")
    mmdata.convert(name, alone, tmp_path / "one by one")

    together = list(mmdata.open(tmp_path / "together"))
    assert together == list(mmdata.open(tmp_path / "one by one"))
    assert together[3].media[0].bytes == b"picture"
    assert together[3].extra["hash"] == "Aw=="


def test_pieces_of_a_batch_are_small_and_lose_nothing() -> None:
    chance = random.Random(0)
    table = pa.table({"c": [chance.randbytes(1 << 20) for _ in range(40)]})
    [batch] = table.to_batches()

    pieces = list(pieces_of(batch))

    assert max(piece.num_rows for piece in pieces) << 20 <= BATCH_BYTES
    assert pa.Table.from_batches(pieces).equals(table)


def test_a_large_row_group_is_read_page_by_page(tmp_path: Path) -> None:
    """What is held at once is a small part of the row group, however large that is."""
    chance = random.Random(0)
    table = pa.table({"c": [chance.randbytes(1 << 21) for _ in range(48)]})
    source = tmp_path / "t.parquet"
    # a row, a page: the writer ends pages between batches alone
    pq.write_table(table, source, data_page_size=1 << 21, write_batch_size=1, use_dictionary=False)
    before = pa.total_allocated_bytes()

    most = 0
    for run in parquet_runs(source):
        most = max(most, pa.total_allocated_bytes() - before)
        assert len(run) << 21 <= BATCH_BYTES

    assert most < table.nbytes / 2


def test_a_batch_has_no_more_of_a_table_than_what_a_batch_takes(tmp_path: Path) -> None:
    chance = random.Random(0)
    rows = [chat(number) for number in range(8)]
    for row in rows:
        row["images"] = [{"bytes": chance.randbytes(3 << 20), "path": "1.jpg"}]
    source = tmp_path / "t.parquet"
    pq.write_table(pa.Table.from_pylist(rows), source, row_group_size=4)

    batches = list(read_batches(make("messages"), [source]))

    assert [len(batch) for batch in batches] == [4, 4]
    shown = [row.media[0].bytes for batch in batches for row in batch.conversations()]
    assert shown == [row["images"][0]["bytes"] for row in rows]


def test_of_a_damaged_page_the_rows_before_are_kept_and_each_after_it_is_a_reject(
    tmp_path: Path,
) -> None:
    source = tmp_path / "t.parquet"
    rows = [chat(number) for number in range(30)]
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, source, row_group_size=10, compression="snappy", write_page_checksum=True)
    group = pq.ParquetFile(source).metadata.row_group(1)
    place = group.column(1).data_page_offset
    data = bytearray(source.read_bytes())
    data[place + 30 : place + 40] = bytes(10)
    source.write_bytes(data)

    report = mmdata.convert("messages", source, tmp_path / "store")

    assert report.records_in == 30
    assert report.rejects == {"bad_source": 30 - report.rows}
    assert report.rows >= 20
    kept = [row.id for row in mmdata.open(tmp_path / "store")]
    assert [name for name in kept if int(name[1:]) // 10 != 1] == [
        f"r{number}" for number in range(30) if number // 10 != 1
    ]
    lost = [reject["record"] for reject in mmdata.open(tmp_path / "store").rejects()]
    assert lost == list(range(20 - len(lost), 20))


def test_the_rows_before_a_damaged_page_are_kept_though_they_are_read_with_it(
    tmp_path: Path,
) -> None:
    source = tmp_path / "t.parquet"
    table = pa.table({"id": [f"r{number}" for number in range(8)], "c": [bytes(900)] * 8})
    options: dict[str, Any] = {"write_batch_size": 1, "data_page_size": 1, "compression": None}
    pq.write_table(table, source, use_dictionary=False, **options)
    data = bytearray(source.read_bytes())
    column = pq.ParquetFile(source).metadata.row_group(0).column(1)
    page = column.total_compressed_size // 8
    start = column.data_page_offset + 5 * page
    data[start : start + 40] = b"\xff" * 40
    source.write_bytes(data)

    found = [item for run in parquet_runs(source) for item in run]

    assert [item.id for item in found if isinstance(item, Record)] == [
        f"r{number}" for number in range(5)
    ]
    assert [item.record for item in found if isinstance(item, Reject)] == [5, 6, 7]
