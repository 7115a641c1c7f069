"""Stores of schema version 2 open and give the rows that they were made from."""

from __future__ import annotations

from pathlib import Path

import mmdata
from mmdata.store.encode import arrow_schema
from tests.store.stores_v2.rows import ROWS

FOLDER = Path(__file__).parent / "stores_v2"


def test_an_earlier_store_gives_the_rows_it_was_made_from() -> None:
    store = mmdata.open(FOLDER / "arrow")

    assert store.manifest.schema_version == 2
    assert tuple(store) == ROWS
    assert mmdata.check(FOLDER / "arrow") == []


def test_its_table_is_of_this_schema() -> None:
    table = mmdata.open(FOLDER / "arrow").table

    assert table.schema.equals(arrow_schema())
    table.validate(full=True)
