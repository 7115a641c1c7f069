from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import TokenError
from mmdata.schema import Conversation, Image, Media, Region, Text, Video, assistant, user
from mmdata.templates.qwen_vl import QwenVL
from mmdata.templates.toolkit import GRIDS
from tests.vocabularies import small

_A, _B = Media("image", "a.jpg"), Media("image", "b.jpg")


def _template(**options: Any) -> QwenVL:
    return QwenVL(tokenizer=small("qwen"), **options)


def _text(conversation: Conversation, **options: Any) -> str:
    template = _template(**options)
    ids = template.encode(conversation).input_ids.tolist()
    return template.tokenizer.decode(ids).replace("<imgpad>" * template.image_tokens, "")


def test_a_conversation_reads_as_chatml() -> None:
    conversation = Conversation("c", (user(Image(0), "What?"), assistant("A cat.")), (_A,))

    assert _text(conversation) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nPicture 1: <img></img>\nWhat?<|im_end|>\n"
        "<|im_start|>assistant\nA cat.<|im_end|>\n"
    )


def test_pictures_are_counted_through_the_conversation() -> None:
    turns = (user(Image(0), "What?"), assistant("A."), user(Image(1), "And?"), assistant("B."))

    text = _text(Conversation("c", turns, (_A, _B)))

    assert "user\nPicture 1: <img></img>\nWhat?" in text
    assert "user\nPicture 2: <img></img>\nAnd?" in text


@pytest.mark.parametrize(
    ("option", "text"), [("front", "Picture 1: <img></img>\nWhat?"), ("stay", "What?Picture 1: ")]
)
def test_an_image_after_the_words_goes_in_front_of_them_or_stays(option: str, text: str) -> None:
    conversation = Conversation("c", (user("What?", Image(0)), assistant("A.")), (_A,))

    assert f"user\n{text}" in _text(conversation, last_image=option)


def test_the_label_of_a_picture_is_an_option() -> None:
    conversation = Conversation("c", (user(Image(0), "What?"), assistant("A.")), (_A,))

    assert "user\nPicture 1:<img></img>\nWhat?" in _text(
        conversation, picture="Picture {number}:{image}\n"
    )


def test_regions_are_written_with_control_tokens() -> None:
    region = Region("the dog", ((0.1, 0.2, 0.3, 0.4), (0.0, 0.0, 1.0, 1.0)))
    conversation = Conversation("c", (user(Image(0), "Where?"), assistant(region, " there")), (_A,))
    template = _template()

    ids = template.encode(conversation).input_ids.tolist()

    assert (
        "<ref>the dog</ref><box>(100,200),(300,400)</box><box>(0,0),(999,999)</box> there"
        in _text(conversation)
    )
    assert ids.count(template.tokenizer.special["<box>"]) == 2


@pytest.mark.slow
@given(data=st.data())
def test_regions_are_read_back_from_the_ids_of_an_answer(data: st.DataObject) -> None:
    grid = GRIDS["floor_1000"]
    side = st.lists(st.integers(0, 999), min_size=2, max_size=2).map(sorted)
    box = st.builds(lambda x, y: grid.box((x[0], y[0], x[1], y[1])), side, side)
    words = st.text("ab ", min_size=1, max_size=5)
    regions = st.builds(Region, words, st.lists(box, min_size=1, max_size=2).map(tuple))
    pairs = data.draw(st.lists(st.tuples(words.map(Text), regions), max_size=3))
    parts = tuple(part for pair in pairs for part in pair)
    conversation = Conversation("c", (user(Image(0), "?"), assistant(*(parts or ("a",)))), (_A,))
    template = _template(labels="answers")
    sample = template.encode(conversation)

    answer = sample.labels[sample.labels >= 0].tolist()

    assert template.parse_answer(answer) == conversation.messages[1].content


@pytest.mark.parametrize(
    "text",
    [
        "<box>(1,2)</box>",
        "<box>(9,8),(7,6)</box>",
        "<box>(a,b),(c,d)</box>",
        "<ref>x</ref>",
        "<box></box>",
        "</box>",
    ],
)
def test_a_malformed_box_stays_text(text: str) -> None:
    assert _template().parse_answer(text) == (Text(text),)


def test_text_between_a_phrase_and_a_box_parts_them() -> None:
    parts = _template().parse_answer("<ref>x</ref> gap <box>(1,2),(3,4)</box>")

    assert parts[0] == Text("<ref>x</ref> gap ")
    assert isinstance(parts[1], Region)
    assert parts[1].text == ""


def test_a_reference_that_the_model_cannot_read_is_refused() -> None:
    long = Media("image", "x" * 255)
    conversation = Conversation("c", (user(Image(0), "What?"), assistant("A.")), (long,))

    with pytest.raises(TokenError, match="254 bytes"):
        _template(span="path").encode(conversation)


def test_a_reference_is_its_bytes_by_value() -> None:
    conversation = Conversation(
        "c", (user(Image(0), "What?"), assistant("A.")), (Media("image", "é.png"),)
    )

    sample = _template(span="path").encode(conversation)

    slot = sample.slots[0]
    assert sample.input_ids[slot.start : slot.start + 6].tolist() == list("é.png".encode())


def test_a_video_is_refused() -> None:
    clip = Media("video", "a.mp4")
    conversation = Conversation("c", (user(Video(0), "What?"), assistant("A.")), (clip,))

    with pytest.raises(TokenError, match="'c' shows a video"):
        _template().encode(conversation)


def test_raw_text_ends_with_the_end_of_text() -> None:
    conversation = Conversation("c", (user(Image(0), "Describe:"), assistant(" A cat.")), (_A,))

    assert (
        _text(conversation, layout="raw") == "Picture 1: <img></img>\nDescribe: A cat.<|endoftext|>"
    )


@pytest.mark.parametrize("window", range(20, 90, 7))
def test_a_window_leaves_out_the_oldest_pairs_whole(window: int) -> None:
    turns = [
        make(text)
        for number in range(4)
        for make, text in ((user, f"q{number}"), (assistant, f"a{number}"))
    ]
    conversation = Conversation("c", (*turns, user("last")))

    text = _template().tokenizer.decode(
        _template(history=window).prompt(conversation).input_ids.tolist()
    )

    kept = [number for number in range(4) if f"q{number}" in text]
    assert kept == list(range(4 - len(kept), 4))
    assert all((f"a{number}" in text) == (number in kept) for number in range(4))
    assert text.endswith("<|im_start|>user\nlast<|im_end|>\n<|im_start|>assistant\n")
