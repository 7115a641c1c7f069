"""CSV files: every row is a record or a reject that names its line."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata.rejects import Reject
from mmdata.sources.csv import csv_runs
from mmdata.sources.record import Record


def read(path: Path, data: bytes) -> list[Any]:
    """Return the records of a CSV file, and of rejects what they say."""
    path.write_bytes(data)
    return [
        item.value if isinstance(item, Record) else f"{item.reason.value}: {item.detail}"
        for run in csv_runs(path)
        for item in run
    ]


@pytest.mark.slow
@given(
    st.lists(
        st.lists(
            st.text(st.characters(codec="utf-8", exclude_characters="\0\ufeff"), max_size=5),
            min_size=2,
            max_size=2,
        ),
        max_size=6,
    ),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from([",", ";", "\t"]),
)
def test_what_csv_writes_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str, delimiter: str
) -> None:
    rows = [[cell.replace("\r", "") for cell in row] for row in rows]
    file = io.StringIO()
    csv.writer(file, lineterminator=end, delimiter=delimiter).writerows([["a", "b"], *rows])

    found = read(tmp_path_factory.mktemp("csv") / "s.csv", file.getvalue().encode())

    wanted = [{key: cell for key, cell in zip("ab", row, strict=True) if cell} for row in rows]
    assert found == wanted


def test_a_row_that_is_ragged_or_no_text_is_a_reject_that_names_its_line(tmp_path: Path) -> None:
    found = read(
        tmp_path / "s.csv",
        b'query,response\nHi,Hello\n"two\nlines",fine\none\na,b,c\n\xff,b\nx\0,y\nlast,row',
    )

    assert found == [
        {"query": "Hi", "response": "Hello"},
        {"query": "two\nlines", "response": "fine"},
        "malformed: line 5 has 1 cells, the first line 2",
        "malformed: line 6 has 3 cells, the first line 2",
        "bad_encoding: line 7: bytes that are not UTF-8, or a NUL",
        "bad_encoding: line 8: bytes that are not UTF-8, or a NUL",
        {"query": "last", "response": "row"},
    ]


def test_lists_in_cells_are_json_or_the_literals_of_python(tmp_path: Path) -> None:
    found = read(
        tmp_path / "s.csv",
        b"images,messages,response,prompt\n"
        b'"[\'a.jpg\', \'b.jpg\']","[{""role"": ""user""}]",[1],[1]\n'
        b'a.jpg,"[not a list","{}",words\n',
    )

    assert found == [
        {
            "images": ["a.jpg", "b.jpg"],
            "messages": [{"role": "user"}],
            "response": "[1]",
            "prompt": "[1]",
        },
        {"images": "a.jpg", "messages": "[not a list", "response": "{}", "prompt": "words"},
    ]


def test_a_cell_may_be_larger_than_pythons_own_limit(tmp_path: Path) -> None:
    [record] = read(tmp_path / "s.csv", b"a,b\n1," + b"x" * 300_000 + b"\n")

    assert len(record["b"]) == 300_000


def test_packed_and_marked_files_are_read_and_wide_ones_said(tmp_path: Path) -> None:
    assert read(tmp_path / "s.csv.gz", gzip.compress(b"\xef\xbb\xbfa,b\n1,2\n")) == [
        {"a": "1", "b": "2"}
    ]
    [fault] = read(tmp_path / "s.csv", "a,b\n1,2\n".encode("utf-16"))
    assert fault.startswith("bad_source: the file is UTF-16")
    [fault] = read(tmp_path / "s.csv", b"a,a\n1,2\n")
    assert fault == "bad_source: line 1: the column 'a' stands twice"


def test_a_file_of_tabs_is_read_by_its_suffix(tmp_path: Path) -> None:
    assert read(tmp_path / "s.tsv", b"a,x\tb\n1\t2\n") == [{"a,x": "1", "b": "2"}]


def test_a_quote_that_is_never_closed_costs_its_row(tmp_path: Path) -> None:
    found = read(tmp_path / "s.csv", b'a,b\n1,2\n3,"4\n5,6\n')

    assert found[0] == {"a": "1", "b": "2"}
    assert found[1:] == ["malformed: line 3: unexpected end of data"]


def test_numbers_of_records_count_rows_and_ids_are_those_of_the_file(tmp_path: Path) -> None:
    source = tmp_path / "s.csv"
    source.write_text("id,query,response\n7,Hi,Hello\n8,Hi\n9,Hi,There\n")

    mmdata.convert("swift", source, tmp_path / "store")

    store = mmdata.open(tmp_path / "store")
    assert [row.id for row in store] == ["7", "9"]
    assert [reject["record"] for reject in store.rejects()] == [1]
    assert isinstance(next(iter(csv_runs(source)))[1], Reject)
