"""What changes a question of ms-swift's, and is not understood, makes its record a reject."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import mmdata

CHOICES = {"A": "A cup.", "B": "A hat.", "C": "A dog.", "D": "A cat."}


def convert(folder: Path, record: Any, **options: Any) -> mmdata.Store:
    (folder / "source.json").write_text(json.dumps([record]))
    mmdata.convert("swift", folder / "source.json", folder / "store", check="none", **options)
    return mmdata.open(folder / "store")


@pytest.mark.parametrize(
    ("record", "named"),
    [
        ({"question": "What?", "answer": "A", **CHOICES}, [*CHOICES]),
        ({"query": "What?", "response": "A", **CHOICES}, [*CHOICES]),
        ({"question": "What?", "answer": "A", "options": ["A cup.", "A hat."]}, ["options"]),
        ({"query": "What?", "prompt": "Be brief.", "response": "A cup."}, ["prompt"]),
    ],
)
def test_choices_and_a_second_prompt_are_named_unless_they_are_admitted(
    tmp_path: Path, record: dict[str, Any], named: list[str]
) -> None:
    store = convert(tmp_path, record)

    [reject] = store.rejects()
    assert (len(store), reject["reason"]) == (0, "unsupported_field")
    assert reject["detail"].startswith(", ".join(map(repr, named)))
    [row] = convert(tmp_path, record, allow_fields=named, overwrite=True)
    assert set(row.extra) == set(named)


def test_choices_that_a_table_has_no_value_for_are_none(tmp_path: Path) -> None:
    record = {"question": "What?", "answer": "A cup.", "A": "", "B": None, "options": None}

    assert len(convert(tmp_path, record)) == 1


def test_a_prompt_alone_is_the_question(tmp_path: Path) -> None:
    [row] = convert(tmp_path, {"prompt": "What?", "response": "A cup."})

    assert row.extra == {}
