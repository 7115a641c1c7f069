from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Message,
    Reasoning,
    Region,
    Text,
    ToolCall,
    assistant,
    replace,
    tool,
    user,
)
from mmdata.store.batch import ConversationBatch
from mmdata.store.contents import hash_contents
from tests.conversations import conversations


def hashes(rows: Sequence[Conversation]) -> list[int]:
    return hash_contents(ConversationBatch.from_conversations(rows))


@pytest.mark.slow
@given(st.lists(conversations(), max_size=6))
def test_a_content_is_the_rows_own_whatever_stands_beside_it(rows: list[Conversation]) -> None:
    assert hashes(rows) == [content for row in rows for content in hashes([row])]


@pytest.mark.slow
@given(st.lists(conversations(), max_size=6), st.data())
def test_a_content_is_the_same_in_a_slice(rows: list[Conversation], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows)))
    batch = ConversationBatch.from_conversations(rows)

    assert hash_contents(batch.slice(start, len(rows))) == hash_contents(batch)[start:]


@pytest.mark.slow
@given(st.lists(conversations(), max_size=6))
def test_contents_are_alike_just_where_the_same_is_said(rows: list[Conversation]) -> None:
    found = hashes(rows)

    for row, content in zip(rows, found, strict=True):
        same = [_said(row) == _said(other) for other in rows]
        assert [content == other for other in found] == same


def _said(row: Conversation) -> tuple[object, ...]:
    return row.messages, row.media, row.tools, row.rejected, row.desirable


CUP, BUS = Media("image", "cup.jpg"), Media("image", "bus.jpg")
BASE = Conversation("1", (user(Image(0), "ab", "c"), assistant("d")), (CUP, BUS))


def test_whatever_differs_in_a_row_shows_in_its_content() -> None:
    def saying(*messages: Message) -> Conversation:
        return replace(BASE, messages=messages)

    region = Region("c", ((0.1, 0.2, 0.3, 0.4),))
    rows = [
        BASE,
        saying(user(Image(1), "ab", "c"), assistant("d")),
        saying(user("ab", Image(0), "c"), assistant("d")),
        saying(user(Image(0), "a", "bc"), assistant("d")),
        saying(user(Image(0), "abc"), assistant("d")),
        saying(user(Image(0), "ab"), assistant("cd")),
        saying(user(Image(0), "ab", "c"), assistant("d", train=False)),
        saying(user(Image(0), "ab", "c", train=True), assistant("d")),
        saying(user(Image(0), "ab", region), assistant("d")),
        saying(user(Image(0), "ab", Region("c", ((0.2, 0.2, 0.3, 0.4),))), assistant("d")),
        saying(user(Image(0), "ab", Region("c", ())), assistant("d")),
        saying(user(Image(0), "ab", Region("c", (), 1)), assistant("d")),
        replace(BASE, media=(BUS, CUP)),
        replace(BASE, media=(CUP,)),
        replace(BASE, media=(replace(CUP, width=3), BUS)),
        replace(BASE, media=(CUP, replace(BUS, width=3))),
        replace(BASE, media=(replace(CUP, height=3), BUS)),
        replace(BASE, media=(Media("image", bytes=b"cup.jpg"), BUS)),
        saying(user(Image(0), "ab", Text("c", train=False)), assistant("d")),
        saying(user(Image(0), "ab", Text("c", train=True)), assistant("d")),
        saying(user(Image(0), Text("ab", train=True), "c"), assistant("d")),
        saying(user(Image(0), "ab", Reasoning("c")), assistant("d")),
        saying(user(Image(0), "ab", ToolCall("c")), assistant("d")),
        saying(user(Image(0), "ab", ToolCall("c", "[]")), assistant("d")),
        saying(user(Image(0), "ab", ToolCall("c", "{}", "e")), assistant("d")),
        saying(user(Image(0), "ab", "c"), tool("d")),
        replace(BASE, tools="[]"),
        replace(BASE, tools="{}"),
        replace(BASE, rejected=(assistant("e"),)),
        replace(BASE, rejected=(assistant("f"),)),
        replace(BASE, desirable=True),
        replace(BASE, messages=(*BASE.messages[:1], assistant("d", train=False)), desirable=False),
        replace(BASE, media=(CUP, Media("video", "bus.jpg"))),
        replace(BASE, media=(CUP, Media("audio", "bus.jpg"))),
        replace(BASE, media=(CUP, Media("video", frame_paths=("bus.jpg",)))),
        replace(BASE, media=(CUP, Media("video", "bus.jpg", clock=CompactTimes(step=1.0)))),
        replace(
            BASE, media=(CUP, Media("video", "bus.jpg", clock=CompactTimes(deltas=(), unit=1.0)))
        ),
        replace(
            BASE, media=(CUP, Media("video", "bus.jpg", clock=CompactTimes(deltas=(0,), unit=1.0)))
        ),
    ]

    assert len(set(hashes(rows))) == len(rows)
    assert {type(part) for part in BASE.messages[0].content} == {Image, Text}
