from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from mmdata.schema import Conversation, Image, Media, Message, Region, Text, assistant, replace, user
from mmdata.store.batch import ConversationBatch
from mmdata.store.contents import hash_contents
from tests.conversations import conversations


def hashes(rows: Sequence[Conversation]) -> list[int]:
    return hash_contents(ConversationBatch.from_conversations(rows))


@given(st.lists(conversations(), max_size=6))
def test_a_content_is_the_rows_own_whatever_stands_beside_it(rows: list[Conversation]) -> None:
    assert hashes(rows) == [content for row in rows for content in hashes([row])]


@given(st.lists(conversations(), max_size=6), st.data())
def test_a_content_is_the_same_in_a_slice(rows: list[Conversation], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows)))
    batch = ConversationBatch.from_conversations(rows)

    assert hash_contents(batch.slice(start, len(rows))) == hash_contents(batch)[start:]


@given(st.lists(conversations(), max_size=6))
def test_contents_are_alike_just_where_messages_and_media_are(rows: list[Conversation]) -> None:
    found = hashes(rows)

    for row, content in zip(rows, found, strict=True):
        same = [(row.messages, row.media) == (other.messages, other.media) for other in rows]
        assert [content == other for other in found] == same


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
    ]

    assert len(set(hashes(rows))) == len(rows)
    assert {type(part) for part in BASE.messages[0].content} == {Image, Text}
