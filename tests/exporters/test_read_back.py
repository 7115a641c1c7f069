"""Words that a reader would take for something else are found at export, by reading them back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

import mmdata
from mmdata.exporters import Exporter, Feature, Row
from mmdata.schema import (
    Conversation,
    Image,
    Media,
    Message,
    Reasoning,
    Text,
    ToolCall,
    assistant,
    replace,
    system,
    tool,
    user,
)
from tests.stores import write

CUP = (Media("image", "m/cup.jpg"),)
ASKED = user(Image(0), "What is it?")
SAID = Conversation("said", (ASKED, assistant("A cup.")), CUP, source="test")
CALLED = Message("assistant", (ToolCall("weather", "{}"),), train=True)


def thinking(thought: str, words: str) -> Message:
    return Message("assistant", (Reasoning(thought), Text(words)), train=True)


def rejects(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "mmdata-rejects.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize(
    "odd",
    [
        replace(SAID, messages=(ASKED, assistant("At <box>(1,2),(3,4)</box>."))),
        replace(SAID, messages=(ASKED, assistant("<text>A cup."))),
        replace(SAID, messages=(user(Image(0), "Why [IMG_END]?"), assistant("A cup."))),
        replace(SAID, messages=(user(Image(0), "Where is ![](m/cup.jpg)?"), assistant("Here."))),
        replace(SAID, messages=(system("Write <bbox>."), ASKED, assistant("A cup."))),
        replace(SAID, messages=(ASKED, thinking("So </think> no.", "A cup."))),
        replace(SAID, messages=(ASKED, CALLED, tool("[SEG] <bbox>"), assistant("A cup."))),
        replace(SAID, rejected=(assistant("<ref>A hat</ref>."),)),
        replace(SAID, rejected=(assistant("[]"),)),
    ],
    ids=["box", "text", "half", "picture", "system", "thought", "tool", "worse", "nothing"],
)
def test_words_that_come_back_otherwise_do_not_leave(odd: Conversation, tmp_path: Path) -> None:
    store = write(tmp_path / "store", [SAID, replace(odd, id="odd")])

    report = mmdata.export(store, "swift", tmp_path / "out")

    assert (report.rows, report.unsayable) == (1, {"marks": 1})
    (reject,) = rejects(tmp_path / "out")
    assert (reject["id"], reject["reason"]) == ("odd", "unsayable")
    assert "the format swift" in reject["detail"]
    assert "--drop marks" in reject["detail"]


def test_the_reject_says_which_words_and_what_they_are_read_as(tmp_path: Path) -> None:
    odd = replace(SAID, messages=(ASKED, assistant("At <box>(1,2),(3,4)</box>.")))
    write(tmp_path / "store", [SAID, replace(odd, id="odd")])

    mmdata.export(tmp_path / "store", "llava", tmp_path / "out")

    (reject,) = rejects(tmp_path / "out")
    assert reject["detail"].startswith(
        "'At <box>(1,2),(3,4)</box>.' is read back by the format llava as a phrase or a box"
    )


def test_words_leave_as_they_are_where_that_is_said_and_are_counted(tmp_path: Path) -> None:
    spelt = replace(SAID, messages=(ASKED, assistant("At <box>(1,2),(3,4)</box>.")), id="spelt")
    harmless = replace(SAID, messages=(ASKED, assistant("See [image 1].")), id="harmless")
    write(tmp_path / "store", [SAID, spelt, harmless])

    report = mmdata.export(tmp_path / "store", "llava", tmp_path / "out", drop="marks")

    assert (report.rows, report.dropped) == (3, {"marks": 1})
    mmdata.convert(
        "llava",
        tmp_path / "out" / "train.json",
        tmp_path / "again",
        check="none",
        options={"boxes": "none", "dataset_name": "test"},
    )
    assert list(mmdata.open(tmp_path / "again")) == [SAID, spelt, harmless]


def test_thoughts_come_back_as_thoughts_in_both_endings_of_a_pair(tmp_path: Path) -> None:
    row = replace(
        SAID,
        messages=(ASKED, thinking("It has a handle.", "A cup.")),
        rejected=(thinking("It has a brim.", "A hat."),),
    )
    write(tmp_path / "store", [row])

    mmdata.export(tmp_path / "store", "llamafactory", tmp_path / "out")

    mmdata.convert(
        "sharegpt",
        tmp_path / "out" / "train_pairs.json",
        tmp_path / "again",
        check="none",
        options={"thoughts": "reasoning", "dataset_name": "test"},
    )
    (again,) = mmdata.open(tmp_path / "again")
    assert (again.messages, again.rejected) == (row.messages, row.rejected)


def test_words_that_spell_a_thought_leave_as_they_came(tmp_path: Path) -> None:
    row = replace(SAID, messages=(ASKED, assistant("<think>\nHm.\n</think>\n\nA cup.")))
    write(tmp_path / "store", [row])

    assert mmdata.export(tmp_path / "store", "swift", tmp_path / "out").rows == 1


class Captions(Exporter):
    """Writes what no format of ours reads."""

    summary: ClassVar[str] = "captions"
    shape: ClassVar[str] = '{"caption": "A cup."}'
    says: ClassVar[frozenset[Feature]] = frozenset()

    def record(self, row: Row) -> Mapping[str, Any]:
        return {"caption": row.conversation.messages[-1].text}


class ReadCaptions(Captions):
    """Says that a format reads them, which does not know a caption."""

    read_by: ClassVar[str | None] = "messages"


def test_only_what_somebody_reads_is_read_back(tmp_path: Path) -> None:
    odd = replace(SAID, messages=(ASKED, assistant("At <box>(1,2),(3,4)</box>.")), id="odd")
    write(tmp_path / "store", [SAID, odd])

    unread = mmdata.export(tmp_path / "store", Captions(), tmp_path / "unread")
    read = mmdata.export(tmp_path / "store", ReadCaptions(), tmp_path / "read")

    assert (unread.rows, read.rows) == (2, 1)
    assert "is refused by the format messages" in rejects(tmp_path / "read")[0]["detail"]
