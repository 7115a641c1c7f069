"""What is said is heard: no field that changes what a record means is kept without a word."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmdata.formats import make, registry
from mmdata.formats._batches import ReadOptions, read_batches
from mmdata.formats._format import Format
from mmdata.formats._meaning import MEANING_FIELDS, spell
from mmdata.schema import Conversation, replace
from tests.formats.dirt import GOOD, assemble

Place = tuple[str | int, ...]
Outcome = Conversation | str

NAMES: Final = sorted(MEANING_FIELDS)


def _cauldron(number: int) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "images": [f"media/{number}.jpg"],
        "texts": [{"user": "What is it?", "assistant": f"It is {number}."}],
    }


def _cogvlm_sft(number: int) -> dict[str, Any]:
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": f"{number}."}]
    return {"id": f"r{number}", "conversations": turns}


def _with_parts(number: int) -> dict[str, Any]:
    question = [
        {"type": "image", "image": f"media/{number}.jpg"},
        {"type": "video", "video": {"path": f"media/{number}.mp4"}},
        {"type": "text", "text": "What?"},
    ]
    answer = [{"type": "text", "text": f"It is {number}."}]
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": f"r{number}", "messages": turns}


def _with_listed_objects(number: int) -> dict[str, Any]:
    turns = [
        {"role": "user", "content": "<image><video>What?"},
        {"role": "assistant", "content": f"It is {number}."},
    ]
    return {
        "id": f"r{number}",
        "messages": turns,
        "images": [{"path": f"media/{number}.jpg"}],
        "videos": [{"path": f"media/{number}.mp4"}],
    }


RECORDS: Final = {
    **{name: (name, make_record) for name, make_record in GOOD.items()},
    "cauldron": ("cauldron", _cauldron),
    "cogvlm_sft": ("cogvlm_sft", _cogvlm_sft),
    "messages, of parts": ("messages", _with_parts),
    "messages, of listed objects": ("messages", _with_listed_objects),
    "swift, of listed objects": ("swift", _with_listed_objects),
}
"""The format of each kind of record, and what makes one by its number."""

VALUES: Final[tuple[Any, ...]] = (
    True, False, 0, 1, 2.5, "some words", "true", "a.jpg", [1, 2], [0.5, 1.5],
    [0, 0, 10, 10], ["a.jpg"], [{"role": "assistant", "content": "No."}], {"a": 1},
)  # fmt: skip
"""The kinds of values that people give to fields."""
NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})
"""What tables hold where a field says nothing."""


def places(value: object, path: Place = ()) -> Iterator[Place]:
    """Yield the way to each object in a record, itself first."""
    if isinstance(value, dict):
        yield path
    inner: Any = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in inner:
        yield from places(item, (*path, key))


def add_field(record: dict[str, Any], place: Place, name: str, value: object) -> dict[str, Any]:
    """Return a record with one more field in the object at a place."""
    whole = copy.deepcopy(record)
    target: Any = whole
    for key in place:
        target = target[key]
    target[name] = value
    return whole


def spellings(name: str) -> list[str]:
    """Return what people may write for a field."""
    first, *others = name.split("_")
    return list(dict.fromkeys([name, first + "".join(map(str.capitalize, others))]))


@dataclass(frozen=True)
class Converter:
    """Reads files of records, many at once or one by one."""

    folder: Path

    def __call__(
        self, reader: Format, name: str, records: Sequence[dict[str, Any]], *allowed: str
    ) -> list[Outcome]:
        """Return what becomes of each record: its conversation, or the reason against it."""
        file = self.folder / "labels" / "1.json"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(assemble(name, [json.dumps(record).encode() for record in records]))
        options = ReadOptions(allowed_fields=frozenset(allowed))
        found: dict[int, Outcome] = {}
        for batch in read_batches(reader, [file], options):
            numbers = batch.origins.numbers
            found |= dict(zip(numbers, batch.conversations(), strict=True))
            found |= {reject.record: reject.reason.value for _, reject in batch.rejects}
        return [found[number] for number in sorted(found)]


@pytest.fixture(scope="module")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Converter:
    return Converter(tmp_path_factory.mktemp("meaning"))


def one_by_one(name: str) -> Format:
    """Return a format that reads every record by itself."""
    kind = registry.get(name)
    return cast(Format, type(kind.__name__, (kind,), {"flatten": None})())


def names_in(value: object) -> set[str]:
    """Return the names of all fields, however deep."""
    if isinstance(value, Mapping):
        return set(value).union(*map(names_in, value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(names_in, value))
    return set()


def at(record: Any, place: Place) -> dict[str, Any]:
    """Return the object at a place of a record."""
    for key in place:
        record = record[key]
    return cast(dict[str, Any], record)


def is_told(place: Place) -> bool:
    """Return whether a place is of the record, a turn, a part or a medium; the captions of
    keyframes are kept, and none of a conversation.
    """
    return place != ("captions", 0)


def harmless(name: str) -> frozenset[str]:
    """Return the fields that a format says are harmless."""
    return getattr(registry.get(name), "harmless_fields", frozenset())


@st.composite
def fields_added(draw: st.DrawFn, values: Sequence[Any]) -> tuple[str, Place, str, Any]:
    """Draw a kind of record, a place in it, and a field that changes its meaning and is not there
    yet, with its value.
    """
    kind = draw(st.sampled_from(sorted(RECORDS)))
    name, make_record = RECORDS[kind]
    record = make_record(1)
    place = draw(st.sampled_from([place for place in places(record) if is_told(place)]))
    there = set(map(spell, at(record, place))) | harmless(name)
    names = [field for field in NAMES if field not in there]
    is_part = any(isinstance(key, int) for key in place) and name != "coco"
    field = draw(st.sampled_from([*names, "index"] if is_part else names))
    return kind, place, draw(st.sampled_from(spellings(field))), draw(st.sampled_from(values))


def is_same_row(one: Outcome, other: Outcome) -> bool:
    """Return whether two outcomes are rows that say the same, whatever is in ``extra``."""
    if isinstance(one, str) or isinstance(other, str):
        return False
    return replace(one, extra={}) == replace(other, extra={})


def goes_without_saying(field: str, value: Any, outcome: Conversation) -> bool:
    """Return whether a field says of a turn what is so without it: answers are trained on, and
    questions are not.
    """
    is_flag = spell(field) in ("train", "loss", "weight") and value in (0, 1)
    return is_flag and field not in names_in(outcome.extra)


@given(fields_added(VALUES))
@example(("messages, of parts", ("messages", 0, "content", 0), "video", {"a": 1}))
@example(("messages, of listed objects", ("images", 0), "start", 1))
@example(("messages", (), "system", 0))
@example(("swift", (), "history", False))
@example(("qwen_vl", ("conversations", 0), "image", {"a": 1}))
@example(("coco", (), "bbox", 0))
@example(("lavis", (), "video", 0))
@settings(max_examples=400)
def test_a_field_that_changes_the_meaning_makes_another_row_or_a_reject(
    convert: Converter, case: tuple[str, Place, str, Any]
) -> None:
    kind, place, field, value = case
    name, make_record = RECORDS[kind]
    plain, more = make_record(1), add_field(make_record(1), place, field, value)

    before, found, after = convert(make(name), name, [make_record(0), more, make_record(2)])

    (expected,) = convert(make(name), name, [plain])
    assert not isinstance(before, str) and not isinstance(after, str)
    assert isinstance(expected, Conversation)
    if not isinstance(found, str) and is_same_row(found, expected):
        assert goes_without_saying(field, value, found)
    alone = convert(one_by_one(name), name, [make_record(0), more, make_record(2)])
    assert alone == [before, found, after]


@given(fields_added(NOTHING))
@settings(max_examples=200)
def test_a_field_that_says_nothing_changes_nothing(
    convert: Converter, case: tuple[str, Place, str, Any]
) -> None:
    kind, place, field, value = case
    name, make_record = RECORDS[kind]
    more = add_field(make_record(1), place, field, value)

    (found,) = convert(make(name), name, [more])

    assert is_same_row(found, convert(make(name), name, [make_record(1)])[0])
    assert convert(one_by_one(name), name, [more]) == [found]


@pytest.mark.parametrize("kind", sorted(RECORDS))
def test_a_field_that_is_allowed_by_name_is_kept_and_changes_nothing(
    convert: Converter, kind: str
) -> None:
    name, make_record = RECORDS[kind]
    plain, more = make_record(1), make_record(1) | {"startFrame": 3}

    refused, (kept,) = (convert(make(name), name, [more], *some) for some in ((), ["start_frame"]))

    assert refused == ["unsupported_field"]
    assert is_same_row(kept, convert(make(name), name, [plain])[0])
    assert isinstance(kept, Conversation) and "startFrame" in names_in(kept.extra)
