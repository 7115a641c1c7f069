"""The laws that `mmdata.testing` holds formats to: ours keep them, and one that breaks one is found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from mmdata.formats import Record, make
from mmdata.formats.messages import Messages
from mmdata.rejects import Reject
from mmdata.schema import Conversation, replace
from mmdata.sources._run import Way
from mmdata.store.encode import FlatRows
from mmdata.testing import LawError, check_format
from tests.formats.dirt import FORMATS, assemble, faults, good

SAID_OTHERWISE: Final = {"qwen_vl": (r"<box>.*?</box>", r"Picture \d+: ")}
"""What a format says in another way than its records do."""


def write(folder: Path, name: str) -> Path:
    file = folder / "source.json"
    records = [good(name, number) for number in range(5)]
    records[2:2] = [fault.data for fault in faults(name) if fault.reason != "bad_json"][:20]
    file.write_bytes(assemble(name, records))
    return file


@pytest.mark.parametrize("name", FORMATS)
def test_our_formats_keep_the_laws_of_formats(tmp_path: Path, name: str) -> None:
    check_format(make(name), [write(tmp_path, name)], said_otherwise=SAID_OTHERWISE.get(name, ()))


@dataclass(frozen=True)
class LosesAField(Messages):
    """Reads no field besides."""

    def conversation(self, record: Record) -> Conversation:
        return replace(super().conversation(record), extra={})


@dataclass(frozen=True)
class LosesARepeatedTurn(Messages):
    """Reads a text that stands twice once."""

    def conversation(self, record: Record) -> Conversation:
        found = super().conversation(record)
        return replace(found, messages=found.messages[:2])


@dataclass(frozen=True)
class FlattensOtherwise(Messages):
    """Says something else of many records than of one."""

    def conversation(self, record: Record) -> Conversation:
        return super().conversation(record)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        rows = super().flatten(records)
        return rows and replace(rows, sources=["else"] * len(rows))


@dataclass(frozen=True)
class LosesARecord(Messages):
    """Reads one record less when it reads many."""

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        for run in super().runs(sources):
            yield from run

    def runs(self, sources: Sequence[Path], ways: Sequence[Way] = ()) -> Iterator[list[Record | Reject]]:
        yield [*self.records(sources)][1:]


@dataclass(frozen=True)
class CountsWrongly(Messages):
    """Gives every record the number 0."""

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        for record in super().records(sources):
            yield replace(record, number=0) if isinstance(record, Record) else record


@dataclass(frozen=True)
class DrawsLots(Messages):
    """Gives a conversation another id whenever it is read."""

    def conversation(self, record: Record) -> Conversation:
        return replace(super().conversation(record), source=uuid4().hex)


@dataclass(frozen=True)
class ChangesRecords(Messages):
    """Takes fields out of the record that it reads."""

    def conversation(self, record: Record) -> Conversation:
        found = super().conversation(record)
        record.value.clear()
        return found


@dataclass(frozen=True)
class LooksNowhere(Messages):
    """Has no place where a picture may be."""

    def candidates(self, path: str, origin: Any) -> Iterator[str]:
        yield from ()


def answer(number: int) -> dict[str, Any]:
    turns = [{"role": role, "content": "Yes."} for role in ("user", "assistant", "user", "assistant")]
    return {"id": f"r{number}", "messages": turns, "images": ["a.jpg"], "license": {"name": "MIT", "version": number}}


@pytest.mark.parametrize(
    ("broken", "law"),
    [
        (LosesAField(), "nothing vanishes"),
        (LosesARepeatedTurn(), "nothing vanishes"),
        (FlattensOtherwise(), "bulk = single"),
        (LosesARecord(), "account"),
        (CountsWrongly(), "positions"),
        (DrawsLots(), "bulk = single|determinism"),
        (ChangesRecords(), "determinism"),
        (LooksNowhere(), "media"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_format_that_breaks_a_law_is_found(tmp_path: Path, broken: Messages, law: str) -> None:
    file = tmp_path / "source.json"
    file.write_text(json.dumps([answer(number) for number in range(3)]))

    check_format(Messages(), [file])
    with pytest.raises(LawError, match=f"^({law}): "):
        check_format(broken, [file])


def test_a_source_of_which_nothing_can_be_read_shows_nothing(tmp_path: Path) -> None:
    file = tmp_path / "source.json"
    file.write_text('[{"colour": "red"}]')

    with pytest.raises(LawError, match="no record became a conversation"):
        check_format(Messages(), [file])
