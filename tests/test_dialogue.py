from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.columns import to_batch
from mmdata.dialogue import Dialogue
from mmdata.schema import Conversation, Image, Media, Message, assistant, system, user
from tests.conversations import conversations, json_values, plain, texts, words

dialogues = st.builds(
    Dialogue,
    words,
    st.lists(texts, min_size=1, max_size=5).map(tuple),
    st.sampled_from(["image", "video"]),
    texts,
    st.booleans(),
    texts,
    st.sampled_from(["train", "val", "test"]),
    st.dictionaries(texts, json_values, max_size=2),
)


@given(dialogues)
def test_a_dialogue_says_what_its_conversation_says(dialogue: Dialogue) -> None:
    again = Dialogue.of(dialogue.conversation())

    assert again is not None
    assert again.conversation() == dialogue.conversation()


@given(conversations())
def test_a_conversation_is_a_dialogue_only_if_nothing_is_lost(conversation: Conversation) -> None:
    dialogue = Dialogue.of(conversation)

    assert dialogue is None or dialogue.conversation() == conversation


CUP = Media("image", "cup.jpg")


@pytest.mark.parametrize(
    ("messages", "media"),
    [
        ((user("a", "b"), assistant("c")), ()),
        ((system("a"), user("b"), assistant("c")), ()),
        ((user("a"), assistant("b", train=False)), ()),
        ((user("a", Image(0), "b"), assistant("c")), (CUP,)),
        ((user("a"), assistant(Image(0), "c")), (CUP,)),
        ((user(Image(0)), assistant("c")), (CUP,)),
        ((user(Image(0), "b"), assistant("c")), (CUP, CUP)),
        ((user(Image(0), "b"), assistant("c")), (Media("image", "cup.jpg", width=3),)),
        ((user(Image(0), "b"), assistant("c")), (Media("image", bytes=b"b"),)),
        ((user("a"), assistant("c")), (CUP,)),
    ],
)
def test_what_is_not_so_plain_is_no_dialogue(messages: tuple[Message, ...], media: tuple[Media, ...]) -> None:
    assert Dialogue.of(Conversation("1", messages, media)) is None


@given(st.lists(dialogues | conversations(), max_size=6))
def test_dialogues_become_the_columns_of_their_conversations(rows: list[Dialogue | Conversation]) -> None:
    opened = [row.conversation() if isinstance(row, Dialogue) else row for row in rows]
    sources = sorted({row.source for row in rows})

    batch = to_batch(rows, sources)

    batch.validate(full=True)
    assert batch.equals(to_batch(opened, sources))


def test_the_ordinary_conversation_is_a_dialogue() -> None:
    said = "What is 3?", "word3 word3 word3 word3"

    assert Dialogue.of(plain(3)) == Dialogue("c3", said, "image", "images/000003.jpg", leads=True, source="numbers")
