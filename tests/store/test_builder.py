"""What cannot be written in a store is refused before it is among others."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from mmdata.errors import SchemaError
from mmdata.formats._batches import read_records
from mmdata.formats.messages import Messages
from mmdata.schema import (
    Conversation,
    Image,
    Media,
    Message,
    Reasoning,
    Region,
    Text,
    ToolCall,
    assistant,
    user,
)
from mmdata.sources.record import Record
from mmdata.store.builder import BatchBuilder

HALF = "half \ud83d of a smile"
PICTURE = (Media("image", "a.png"),)


def said(*parts: Text | Reasoning | Region | ToolCall) -> Conversation:
    return Conversation("c", (user(Image(0), "What?"), Message("assistant", parts, True)), PICTURE)


ODD = {
    "text": said(Text(HALF)),
    "thought": said(Reasoning(HALF), Text("yes")),
    "phrase": said(Region(HALF, ((0, 0, 1, 1),))),
    "id": Conversation(HALF, (user("hi"), assistant("hello"))),
    "path": Conversation("c", (user(Image(0)), assistant("hello")), (Media("image", HALF),)),
    "worse ending": Conversation(
        "c", (user("hi"), assistant("hello")), rejected=(assistant(HALF),)
    ),
}


@pytest.mark.parametrize("place", ODD)
def test_a_lone_surrogate_is_refused_wherever_it_stands_and_nothing_is_added(place: str) -> None:
    builder = BatchBuilder()

    with pytest.raises(SchemaError, match=r"a lone surrogate, .* in 'half \\ud83d") as found:
        builder.append(ODD[place], file="a.json", record=0, id=None)

    assert found.value.reason == "bad_encoding"
    assert len(builder.build()) == 0


@dataclass(frozen=True)
class Said(Messages):
    """A format whose records are conversations already."""

    def conversation(self, record: Record) -> Conversation:
        assert isinstance(record.raw, Conversation)
        return record.raw


def test_a_format_that_says_half_a_character_loses_that_record_alone() -> None:
    builder = BatchBuilder()
    sound = [Conversation(f"c{n}", (user("hi"), assistant("hello"))) for n in range(2)]
    records = [Record(row, "a.json", n) for n, row in enumerate([sound[0], ODD["text"], sound[1]])]

    read_records(records, Said(), builder)

    batch = builder.build()
    assert list(batch.conversations()) == sound
    [(position, reject)] = batch.rejects
    assert (position, reject.record, reject.reason.value) == (1, 1, "bad_encoding")
