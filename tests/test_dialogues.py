from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.arrays import joined
from mmdata.columns import to_batch
from mmdata.dialogues import Dialogues
from mmdata.schema import Conversation, Image, Media, Message, Video, assistant, system, user
from tests.conversations import conversations, json_values, plain, texts, words


@st.composite
def dialogues(draw: st.DrawFn) -> Dialogues:
    said = draw(st.lists(st.lists(texts, min_size=1, max_size=5), max_size=4))
    paths = [draw(st.just("") | texts) for _ in said]
    return Dialogues(
        [draw(words) for _ in said],
        *joined([text for turns in said for text in turns]),
        [len(turns) for turns in said],
        paths,
        [draw(st.booleans()) for _ in said],
        [draw(st.dictionaries(texts, json_values, max_size=2)) for _ in said],
        draw(st.sampled_from(["image", "video"])),
        draw(texts),
        draw(st.sampled_from(["train", "val", "test"])),
    )


def said(dialogues: Dialogues) -> list[Conversation]:
    return list(dialogues.conversations())


@given(dialogues())
def test_each_dialogue_alone_says_what_its_conversation_says(some: Dialogues) -> None:
    again = [Dialogues.of(conversation) for conversation in some.conversations()]

    assert [said(one) for one in again if one] == [[conversation] for conversation in said(some)]


@given(dialogues(), st.data())
def test_dialogues_that_are_taken_say_what_they_said(some: Dialogues, data: st.DataObject) -> None:
    places = data.draw(st.lists(st.sampled_from(range(len(some))))) if len(some) else []

    taken = some.take(places)

    assert len(taken) == len(places)
    assert said(taken) == [said(some)[place] for place in places]


@given(dialogues())
def test_contents_are_alike_where_messages_and_media_are(some: Dialogues) -> None:
    alone = [one.contents() for conversation in said(some) if (one := Dialogues.of(conversation))]
    spoken = [(conversation.messages, conversation.media) for conversation in said(some)]

    assert alone == [[content] for content in some.contents()]
    for content, what in zip(some.contents(), spoken, strict=True):
        assert [c == content for c in some.contents()] == [w == what for w in spoken]


def test_contents_differ_by_where_the_medium_stands_its_type_and_its_path() -> None:
    question, answer = "What?", "A cup."
    media = [Media(kind, path) for kind in ("image", "video") for path in ("a", "b")]
    parts = [Image(0) if medium.type == "image" else Video(0) for medium in media]
    beside = [
        Conversation("c", (user(*content), assistant(answer)), (medium,))
        for medium, part in zip(media, parts, strict=True)
        for content in ((part, question), (question, part))
    ]
    alone = Conversation("c", (user(question), assistant(answer)))

    contents = [one.contents()[0] for said in [*beside, alone] if (one := Dialogues.of(said))]

    assert len(contents) == len(set(contents)) == 9


@given(conversations())
def test_a_conversation_is_a_dialogue_only_if_nothing_is_lost(conversation: Conversation) -> None:
    dialogue = Dialogues.of(conversation)

    assert dialogue is None or said(dialogue) == [conversation]


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
    assert Dialogues.of(Conversation("1", messages, media)) is None


@given(st.lists(dialogues() | conversations(), max_size=6))
def test_dialogues_become_the_columns_of_their_conversations(rows: list[Conversation | Dialogues]) -> None:
    opened = [one for some in rows for one in (said(some) if isinstance(some, Dialogues) else [some])]
    sources = sorted({row.source for row in rows})

    batch = to_batch(rows, sources)

    batch.validate(full=True)
    assert batch.equals(to_batch(opened, sources))


def test_the_ordinary_conversation_is_a_dialogue() -> None:
    dialogue = Dialogues.of(plain(3))

    assert dialogue is not None
    assert dialogue.data == b"What is 3?word3 word3 word3 word3"
    assert dialogue.lengths.tolist() == [10, 23]
    assert (dialogue.turns, dialogue.paths, dialogue.leads) == ([2], ["images/000003.jpg"], [True])
