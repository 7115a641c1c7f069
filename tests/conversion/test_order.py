"""Rows and rejects stand in the order of the records, whatever is looked at on the way."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import mmdata
from mmdata.conversion import Check
from tests.source_files import record

LEVELS = ("none", "exists", "probe", "decode")


def sound(number: int) -> dict[str, Any]:
    return record(number, image="sound.png")


def text(number: int) -> dict[str, Any]:
    return record(
        number,
        image=None,
        conversations=[{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}],
    )


KINDS: dict[str, Any] = {
    "sound": sound,
    "text": text,
    "missing": lambda number: record(number, image="missing.png"),
    "empty": lambda number: record(number, image="empty.png"),
    "no picture": lambda number: record(number, image="words.png"),
    "cut": lambda number: record(number, image="cut.png"),
    "URL": lambda number: record(number, image="https://host.invalid/a.png"),
    "outside": lambda number: record(number, image="../../a.png"),
    "no turns": lambda number: {**sound(number), "conversations": []},
    "other media": lambda number: {**sound(number), "conversations": text(number)["conversations"]},
    "repeated": lambda number: sound(0),
    "same id": lambda number: {**text(number), "id": "r0"},
    "broken": lambda number: None,
}
TOGETHER = [kind for kind in KINDS if kind not in ("no turns", "other media", "broken")]
"""Records that are read many at a time where none of the others is among them."""
LINES = st.lists(st.sampled_from([*KINDS, "sound", "text"]), min_size=1, max_size=25)


def write_media(folder: Path) -> None:
    Image.effect_noise((32, 32), 50).save(folder / "sound.png")
    (folder / "cut.png").write_bytes((folder / "sound.png").read_bytes()[:-100])
    (folder / "words.png").write_text("not a picture")
    (folder / "empty.png").touch()


def write_lines(file: Path, kinds: Sequence[str]) -> None:
    records = [KINDS[kind](number) for number, kind in enumerate(kinds)]
    file.write_text(
        "".join(json.dumps(each) + "\n" if each else '{"id": nope}\n' for each in records)
    )


@pytest.mark.slow
@pytest.mark.parametrize("known", [TOGETHER, [*KINDS]], ids=["together", "one by one"])
@pytest.mark.parametrize("embed", [False, True])
@pytest.mark.parametrize("check", LEVELS)
def test_rejects_and_rows_are_in_the_order_of_the_records(
    tmp_path: Path, check: Check, embed: bool, known: list[str]
) -> None:
    write_media(tmp_path)
    kinds = [*known, *reversed(known), *random.Random(0).choices([*known, "sound", "text"], k=80)]
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for file in files:
        write_lines(file, kinds)

    mmdata.convert(
        "llava", files, tmp_path / "store", check=check, embed=embed, duplicate_ids="reject"
    )

    accounted(
        tmp_path / "store",
        [(file, number, kind) for file in files for number, kind in enumerate(kinds)],
    )


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=LINES, check=st.sampled_from(["none", "exists"]), embed=st.booleans())
def test_any_mixture_of_records_keeps_its_order(
    tmp_path: Path, kinds: list[str], check: Check, embed: bool
) -> None:
    write_media(tmp_path)
    file = tmp_path / "source.jsonl"
    write_lines(file, kinds)

    options: dict[str, Any] = {
        "check": check,
        "embed": embed,
        "duplicate_ids": "reject",
        "overwrite": True,
    }
    mmdata.convert("llava", file, tmp_path / "store", **options)

    accounted(tmp_path / "store", [(file, number, kind) for number, kind in enumerate(kinds)])


def accounted(path: Path, records: Sequence[tuple[Path, int, str]]) -> None:
    """Check that each record is a row or a reject, once,
    and that both come in the order of the records.
    """
    store = mmdata.open(path)
    rejected = [(line["file"], line["record"]) for line in store.rejects()]
    order = [(str(file), number) for file, number, _ in records]
    ids = ["r0" if kind in ("repeated", "same id") else f"r{number}" for _, number, kind in records]

    assert rejected == [place for place in order if place in rejected]
    assert len(rejected) + len(store) == len(records) == store.manifest.records_in
    assert [row.id for row in store] == [
        own for own, place in zip(ids, order, strict=True) if place not in rejected
    ]
