from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmdata.sources.sample import sample_file

TRICKY = 'q [ { " \\ }] , {"id": 7}, {} [{"id": "no"}] 中文 🐱 \n\t end'


def make_records(count: int, length: int) -> list[dict[str, Any]]:
    """Return records that all begin alike, as do the objects in them."""
    turns = [{"id": turn, "value": TRICKY * (turn % 3)} for turn in range(3)]
    return [{"id": f"r{n}", "turns": turns, "text": "x" * length} for n in range(count)]


LAYOUTS: Final[dict[str, Callable[[list[dict[str, Any]]], str]]] = {
    "array": json.dumps,
    "array in UTF-8": lambda records: json.dumps(records, ensure_ascii=False),
    "array printed": lambda records: json.dumps(records, indent=2),
    "array a line a record": lambda records: "[" + ",\n".join(map(json.dumps, records)) + "]\n",
    "lines": lambda records: "\n".join(map(json.dumps, records)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_records_of_a_large_file_come_from_its_head_its_middle_and_its_end(
    tmp_path: Path, layout: str
) -> None:
    records = make_records(2000, 200)
    file = tmp_path / "a.json"
    file.write_text(LAYOUTS[layout](records), encoding="utf-8")

    found = sample_file(file, 5)

    assert len(found.records) == 15
    assert all(record in records for record in found.records)
    numbers = [int(record["id"][1:]) for record in found.records]
    assert numbers[:5] == [0, 1, 2, 3, 4]
    assert all(800 < number < 1300 for number in numbers[5:10])
    assert numbers[10:] == [1995, 1996, 1997, 1998, 1999]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(0, 2000), st.integers(0, 400), st.sampled_from(sorted(LAYOUTS)), st.integers(1, 30)
)
def test_what_is_sampled_are_records_of_the_file_and_its_last_is_one(
    tmp_path: Path, count: int, length: int, layout: str, sampled: int
) -> None:
    records = make_records(count, length)
    file = tmp_path / "a.json"
    file.write_text(LAYOUTS[layout](records), encoding="utf-8")

    found = sample_file(file, sampled).records

    ids = {record["id"] for record in records}
    assert all(record.get("id") in ids and "turns" in record for record in found)
    assert found[-1:] == tuple(records[-1:])
    assert len(found) == len({record["id"] for record in found})


def test_of_a_packed_file_the_head_is_taken_and_that_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl.gz"
    file.write_bytes(gzip.compress(LAYOUTS["lines"](make_records(3000, 200)).encode()))

    found = sample_file(file, 5)

    assert [record["id"] for record in found.records] == ["r0", "r1", "r2", "r3", "r4"]
    assert found.places == ("the head (it is packed)",)


@pytest.mark.parametrize("text", ["", "[]", "[", "{", '[{"a": 1}, {"b": ', "\n\n", "nothing"])
def test_an_odd_file_has_the_records_that_can_be_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a.json"
    file.write_text(text)

    assert all(record == {"a": 1} for record in sample_file(file, 3).records)


def test_a_file_that_is_one_large_object_has_a_head_and_no_records(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text(json.dumps({"images": [], "annotations": make_records(3000, 200)}))

    found = sample_file(file, 5)

    assert found.records == ()
    assert found.head.startswith('{"images": [], "annotations":')
