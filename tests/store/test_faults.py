from __future__ import annotations

import math
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from mmdata.errors import SchemaError
from mmdata.schema import Conversation, Media, Reasoning, Text, ToolCall, assistant, replace, user
from mmdata.store.batch import ConversationBatch
from mmdata.store.writer import Origin, StoreWriter
from tests.conversations import plain

HALF = "\ud800"


def nested(depth: int) -> list[Any]:
    inner: list[Any] = []
    for _ in range(depth):
        inner = [inner]
    return inner


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"extra": {"a": math.nan}}, r"extra\['a'\] is nan, which JSON does not have; leave"),
        ({"extra": {"a": [1, {"b": -math.inf}]}}, r"extra\['a'\]\[1\]\['b'\] is -inf"),
        ({"extra": {"a": {1}}}, r"extra\['a'\] is \{1\}"),
        ({"extra": {"a": {b"k": 1}}}, r"extra\['a'\] has the key b'k'; keys of JSON are strings"),
        ({"extra": {"a": HALF}}, r"extra\['a'\] holds half a character, '\\ud800'"),
        ({"extra": {HALF: 1}}, "a key of extra holds half a character"),
        ({"extra": {"a": nested(100_000)}}, "extra is nested too deep"),
        ({"messages": (user("a", HALF),)}, r"messages\[0\].content\[1\].text holds half"),
        ({"messages": (assistant(Reasoning(HALF)),)}, r"content\[0\].text holds half"),
        ({"messages": (assistant(ToolCall(HALF)),)}, r"content\[0\].name holds half"),
        ({"messages": (user(Text(5)),)}, r"messages\[0\].content\[0\].text is 5, .*Expected `str`"),  # type: ignore[arg-type]
        ({"rejected": (assistant(HALF),)}, r"rejected\[0\].content\[0\].text holds half"),
        ({"media": (Media("image", "\udcff.jpg"),)}, r"media\[0\].path holds half"),
        ({"media": (Media("video", frame_paths=("a", HALF)),)}, r"media\[0\].frame_paths\[1\]"),
        ({"source": HALF}, "source holds half"),
    ],
)
def test_a_row_that_no_store_can_hold_is_named_with_its_field(
    changes: dict[str, Any], fault: str
) -> None:
    rows = [plain(number) for number in range(9)]
    row = Conversation("guilty", (user("Hi"), assistant("Hello")))
    rows[6] = replace(row, **changes)

    with pytest.raises(SchemaError, match=rf"^conversation 'guilty': .*{fault}"):
        ConversationBatch.from_conversations(rows)


def test_an_id_that_no_store_can_hold_is_shown_escaped() -> None:
    with pytest.raises(SchemaError, match=r"conversation '\\ud800': id holds half a character"):
        ConversationBatch.from_conversations([plain(0), replace(plain(1), id=HALF)])


def test_a_row_that_cannot_be_stored_leaves_no_store(tmp_path: Path) -> None:
    with (
        pytest.raises(SchemaError, match="'c1'"),
        StoreWriter(tmp_path / "s", sources=["numbers"], origin=Origin("test", {})) as writer,
    ):
        writer.write_conversations([plain(0), replace(plain(1), extra={"a": math.nan})])

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("extra", [{"a": "x\0y"}, MappingProxyType({"a": 2**80})])
def test_odd_values_that_a_store_can_hold_come_back(extra: Any) -> None:
    row = replace(plain(0), extra=extra, messages=(user("a\0b"), assistant("c")))

    assert list(ConversationBatch.from_conversations([row]).conversations()) == [row]
