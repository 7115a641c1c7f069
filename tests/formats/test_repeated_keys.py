"""A key that stands twice in one object costs a value, wherever it is read:
the record is refused in the same words, be it a line of JSON, a cell of a table or text in a turn.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata.errors import RecordError, SchemaError
from mmdata.formats import make
from mmdata.formats.toolkit import read_literal
from mmdata.sources.record import Record

TURNS = (
    '[{"role": "user", "content": "Hi", "content": "Hello"}, '
    '{"role": "assistant", "content": "Yes"}]'
)
CALL = '{"name": "f", "arguments": {"a": 1, "a": 2}}'


def turns(*said: str, **more: Any) -> dict[str, Any]:
    roles = ["user", "assistant"] * len(said)
    return {
        "messages": [
            {"role": role, "content": text} for role, text in zip(roles, said, strict=False)
        ],
        **more,
    }


def with_turn(**turn: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", **turn}]}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("messages", {"messages": TURNS}),
        ("messages", {"messages": TURNS.replace('"', "'")}),
        ("sharegpt", {"conversations": TURNS.replace("role", "from").replace("content", "value")}),
        ("swift", {"query": "Q", "response": "A", "history": '[["Hi", {"a": 1, "a": 2}]]'}),
        ("swift", {"query": "Q", "response": "A", "history": "[['Hi', {'a': 1, 'a': 2}]]"}),
        (
            "swift",
            turns(
                "<image>Where is it?",
                "<ref-object>",
                images=["a.jpg"],
                objects='{"ref": ["cup"], "ref": ["dog"], "bbox": []}',
            ),
        ),
        ("messages", turns("Hi", "Yes", tools='[{"name": "f", "name": "g"}]')),
        ("messages", turns("Hi", "Yes", tools=r'[{"name": "\"f\"", "name": "g"}]')),
        ("messages", with_turn(content="", tool_calls=f"[{CALL}]")),
        (
            "messages",
            with_turn(
                content="",
                tool_calls=[{"function": {"name": "f", "arguments": '{"a": "b", "a": 2}'}}],
            ),
        ),
        (
            "swift",
            {
                "messages": [
                    {"role": "user", "content": "Hi"},
                    {"role": "tool_call", "content": CALL},
                ]
            },
        ),
        ("messages", turns("Hi", "Yes", images='[{"path": "a.jpg", "path": "b.jpg"}]')),
    ],
)
def test_text_in_a_record_in_which_a_key_stands_twice_is_refused(
    name: str, value: dict[str, Any]
) -> None:
    with pytest.raises((RecordError, SchemaError), match=r"'\w+' stands twice in one") as caught:
        make(name).conversation(Record(value, "a.json", 0))

    assert isinstance(caught.value, RecordError | SchemaError)
    assert caught.value.reason == "bad_json"


def test_boxes_in_words_in_which_a_key_stands_twice_are_refused() -> None:
    words = '```json\n{"bbox_2d": [1, 2, 3, 4], "bbox_2d": [5, 6, 7, 8], "label": "cup"}\n```'
    value = turns("<image>Where?", words, images=["a.jpg"])

    with pytest.raises(RecordError, match="'bbox_2d' stands twice in one object"):
        make("messages", {"boxes": "qwen3"}).conversation(Record(value, "a.json", 0))


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_key_that_stands_twice_costs_its_record_in_every_kind_of_source(
    tmp_path: Path, suffix: str
) -> None:
    source = tmp_path / f"source.{suffix}"
    sound = TURNS.replace(', "content": "Hello"', "")
    if suffix == "jsonl":
        source.write_text(f'{{"messages": {sound}}}\n{{"messages": {TURNS}}}\n')
    elif suffix == "csv":
        with source.open("w", newline="") as file:
            csv.writer(file).writerows([["messages"], [sound], [TURNS]])
    else:
        pq.write_table(pa.table({"messages": [sound, TURNS]}), source)

    result = mmdata.convert("messages", source, tmp_path / "store")

    said = json.loads((tmp_path / "store" / "rejects.jsonl").read_text())
    assert (result.rows, dict(result.rejects)) == (1, {"bad_json": 1})
    assert "the key 'content' stands twice in one object" in said["detail"]


def test_a_cell_of_words_that_only_looks_like_an_object_stays_words(tmp_path: Path) -> None:
    source = tmp_path / "source.csv"
    with source.open("w", newline="") as file:
        csv.writer(file).writerows([["prompt", "completion"], ['{"a": 1, "a": 2}', "Twice."]])

    result = mmdata.convert("messages", source, tmp_path / "store")

    assert result.rows == 1
    assert mmdata.open(tmp_path / "store")[0].messages[0].text == '{"a": 1, "a": 2}'


KEYS = st.sampled_from(["a", "b", "c", 'd"', "é"])
OBJECTS = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["", "x", 'y"']),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(st.tuples(KEYS, inner), max_size=3).map(
            tuple  # the pairs of an object, so that a key may stand in it twice
        )
    ),
    max_leaves=8,
)


def spell(value: Any, *, as_json: bool) -> str:
    if isinstance(value, tuple):
        pairs = (f"{spell(k, as_json=as_json)}: {spell(v, as_json=as_json)}" for k, v in value)
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{', '.join(spell(item, as_json=as_json) for item in value)}]"
    return json.dumps(value) if as_json else repr(value)


def build(value: Any) -> Any:
    if isinstance(value, tuple):
        return {key: build(item) for key, item in value}
    return list(map(build, value)) if isinstance(value, list) else value


def repeats(value: Any) -> bool:
    if isinstance(value, tuple):
        keys = [key for key, _ in value]
        return len(set(keys)) < len(keys) or any(repeats(item) for _, item in value)
    return isinstance(value, list) and any(map(repeats, value))


@given(OBJECTS, st.booleans())
def test_text_is_read_as_what_it_spells_or_refused_where_that_would_lose_a_value(
    value: Any, as_json: bool
) -> None:
    text = spell(value, as_json=as_json)

    if repeats(value):
        with pytest.raises(RecordError, match="stands twice in one object"):
            read_literal(text, "a cell")
    else:
        assert read_literal(text, "a cell") == build(value)
