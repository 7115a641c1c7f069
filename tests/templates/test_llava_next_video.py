from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import TokenError
from mmdata.formats import Record
from mmdata.formats.llava import converse_llava
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Region,
    Text,
    Time,
    Video,
    assistant,
    system,
    user,
)
from mmdata.templates import IGNORE
from mmdata.templates.llava_next_video import LlavaNextVideo
from tests.vocabularies import small

_A = Media("image", "a.jpg", width=640, height=480)
_B = Media("image", "b.jpg", width=480, height=640)
_CLIP = Media("video", "a.mp4", num_frames=100, fps=10.0, clock=CompactTimes(step=1 / 10.0))


def _template(**options: Any) -> LlavaNextVideo:
    return LlavaNextVideo(tokenizer=small("llama2"), **options)


def _text(content: tuple[Any, ...], *media: Media, **options: Any) -> str:
    conversation = Conversation("c", (user(*content), assistant("Yes.")), media)
    text = _template(**options).text(conversation)
    return text.split("USER: ")[1].split(" ASSISTANT:")[0]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ((Image(0), "What?"), "<image>\nWhat?"),
        (("What?", Image(0)), "<image>\nWhat?"),
        (("Look at ", Image(0), " and say."), "<image>\nLook at  and say."),
        ((Image(0),), "<image>"),
        ((Image(0), Image(1), "What changed?"), "<image>\n<image>\nWhat changed?"),
        (("Compare:", Image(0), Image(1)), "Compare:\n<image>\n<image>"),
        (("First: ", Image(0), " second: ", Image(1), "."), "First: <image> second: <image>."),
        ((Image(0), Image(1)), "<image>\n<image>"),
        (("What?",), "What?"),
    ],
)
def test_media_stand_where_the_original_puts_them(content: tuple[Any, ...], text: str) -> None:
    assert _text(content, _A, _B) == text


def test_a_system_message_takes_the_place_of_the_dialects_words() -> None:
    conversation = Conversation("c", (system("Be brief."), user("Hi"), assistant("Yes.")))

    assert _template().text(conversation) == "Be brief. USER: Hi ASSISTANT: Yes.</s>"


def test_the_time_instruction_is_the_same_in_training_and_in_prompts() -> None:
    conversation = Conversation(
        "c", (user(Video(0), "What happens?"), assistant("A man cooks.")), (_CLIP,)
    )
    template = _template(time_instruction=True, frames="uniform:3")

    text = template.text(conversation)
    sample, prompt = template.encode(conversation), template.prompt(conversation)

    assert (
        "USER: <video>\nThe video lasts for 10.00 seconds, "
        "and 3 frames are uniformly sampled from it. "
        "These frames are located at 0.00s,4.90s,9.90s."
        "Please answer the following questions related to this video.\n\n"
        "What happens? "
    ) in text
    assert sample.pixels == prompt.pixels
    assert sample.pixels[0].times == pytest.approx((0.0, 4.9, 9.9))
    assert np.array_equal(sample.input_ids[: len(prompt)], prompt.input_ids)


def test_several_images_are_squared_or_tiled() -> None:
    conversation = Conversation(
        "c", (user(Image(0), Image(1), "What?"), assistant("Yes.")), (_A, _B)
    )

    squared = _template().encode(conversation)
    tiled = _template(several_images="anyres").encode(conversation)

    assert [
        (slot.length, plan.resize) for slot, plan in zip(squared.slots, squared.pixels, strict=True)
    ] == [(577, "pad")] * 2
    assert [slot.length for slot in tiled.slots] == [2340, 2352]
    assert all(plan.tiled for plan in tiled.pixels)
    assert [plan.resize for plan in tiled.pixels] == [_template().tiling] * 2 == ["anyres"] * 2


def test_images_and_videos_have_placeholders_of_their_own() -> None:
    conversation = Conversation(
        "c", (user(Image(0), Video(1), "What?"), assistant("Yes.")), (_A, _CLIP)
    )
    template = _template(frames="uniform:2")

    sample = template.encode(conversation)

    special = template.tokenizer.special
    names = [special["<image>"], special["<video>"]]
    assert [int(sample.input_ids[slot.start]) for slot in sample.slots] == names
    assert sample.slots[1].length == 2 * 144
    assert sample.pixels[1].frames == (0, 99)


def test_an_image_in_an_answer_is_no_target() -> None:
    conversation = Conversation("c", (user("Show it."), assistant(Image(0), "There.")), (_A,))

    sample = _template().encode(conversation)

    slot = sample.slots[0]
    assert (sample.labels[slot.start : slot.stop] == IGNORE).all()
    assert sample.labels[-1] != IGNORE


def test_boxes_and_times_are_written_in_the_words_of_the_data() -> None:
    content = (Video(0), "Who is at ", Time(1.5, 3.0), "?")
    answer = Region("The man", ((0.1, 0.2, 0.3, 0.4),))
    conversation = Conversation("c", (user(*content), assistant(answer)), (_CLIP,))

    text = _template().text(conversation)

    assert "Who is at 1.50s-3.00s?" in text
    assert "ASSISTANT: The man [0.10, 0.20, 0.30, 0.40]</s>" in text


def test_a_question_that_waits_for_its_answer_is_not_trained() -> None:
    turns = (user("One?"), assistant("1"))

    answered = _template().encode(Conversation("c", turns))
    waiting = _template().encode(Conversation("c", (*turns, user("Two?"))))

    assert np.array_equal(answered.input_ids, waiting.input_ids)


def test_a_dialect_of_another_vocabulary_says_which_token_is_missing() -> None:
    with pytest.raises(
        TokenError, match=r"no token <\|im_start\|>, which the dialect qwen_1_5 needs"
    ):
        _template(dialect="qwen_1_5").encode(Conversation("c", (user("Hi"), assistant("Yes."))))


def test_the_dialect_without_an_end_is_for_prompts_only() -> None:
    conversation = Conversation("c", (user("Hi"), assistant("Yes.")))

    with pytest.raises(TokenError, match="for prompts only"):
        _template(dialect="hf_chat").encode(conversation)
    assert len(_template(dialect="hf_chat").prompt(conversation))


def test_times_in_an_answer_are_read_back() -> None:
    assert _template().parse_answer("From 1.00s to 2.50s.")[1] == Time(1.0, 2.5)


def _as_llava_next_has_it(value: str) -> str:
    """What the original's ``preprocess_multimodal`` makes of a turn."""
    if value.count("<image>") == 1 and not value.startswith("<image>"):
        value = "<image>\n" + value.replace("<image>", "").strip()
        value = value.strip()
    return value.replace("QA_GT_caption_based_noisy", "")


@given(
    st.lists(st.sampled_from(["QA_GT_caption_based_noisy", " ", "\n", "What?", "cup"]), max_size=6),
    st.lists(st.sampled_from(["QA_GT_caption_based_noisy", " ", "\n", "What?", "cup"]), max_size=6),
)
def test_the_mark_of_noisy_texts_goes_and_the_white_space_around_it_stays(
    before: list[str], after: list[str]
) -> None:
    value = f"{''.join(before)} cup {''.join(before)}<image>{''.join(after)}"
    turns = [
        {"from": "human", "value": value},
        {"from": "gpt", "value": " QA_GT_caption_based_noisy It.\n"},
    ]
    conversation = converse_llava(
        Record({"image": "a.jpg", "conversations": turns}, "a.json", 0), "s"
    )

    text = _template().text(conversation)

    assert text.split("USER: ")[1] == f"{_as_llava_next_has_it(value)} ASSISTANT:   It.\n</s>"
    assert "noisy" in _template(compat="mindformers").text(conversation)


def _as_the_chat_template_has_it(
    messages: list[tuple[str, list[str]]], *, add_generation_prompt: bool
) -> str:
    """What transformers' template for LLaVA-NeXT-Video writes;
    an image is ``<image>``, all else text.
    """
    text = ""
    for role, content in messages:
        text += f"{role.upper()}: "
        text += "".join("<image>\n" for part in content if part == "<image>")
        text += "".join(f"{part} " for part in content if part != "<image>")
    return text + "ASSISTANT:" * add_generation_prompt


@given(
    st.lists(
        st.lists(st.sampled_from(["<image>", "What?", " so", "Yes."]), min_size=1, max_size=4),
        min_size=1,
    )
)
def test_hf_chat_writes_what_the_chat_template_writes_to_the_last_blank(
    contents: list[list[str]],
) -> None:
    roles = ["user", "assistant"]
    speakers = {"user": user, "assistant": assistant}
    messages = [(roles[number % 2], content) for number, content in enumerate(contents)]
    images = sum(content.count("<image>") for content in contents)
    media = iter(range(images))
    said = [
        speakers[role](
            *[Image(next(media)) if part == "<image>" else Text(part) for part in content]
        )
        for role, content in messages
    ]
    conversation = Conversation("c", tuple(said), (_A,) * images)
    asks = len(messages) % 2 == 1

    text = _template(dialect="hf_chat", system="").text(conversation)

    assert text == _as_the_chat_template_has_it(messages, add_generation_prompt=asks)


def test_hf_chat_is_tokenized_as_one_text() -> None:
    template = _template(dialect="hf_chat", system="")
    conversation = Conversation("c", (user("What is it?"), assistant("A cup."), user("Why?")))

    ids = template.prompt(conversation).input_ids.tolist()

    written = template.tokenizer.encode("USER: What is it? ASSISTANT: A cup. USER: Why? ASSISTANT:")
    assert ids[-len(written) :] == written
    assert len(ids) - len(written) == 1
