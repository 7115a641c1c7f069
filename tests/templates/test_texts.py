"""What each family writes around questions and answers, word for word, and what it counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Text,
    Video,
    assistant,
    system,
    user,
)
from mmdata.templates import Template
from mmdata.templates._grid import GRIDS, GridName
from mmdata.templates.cogvlm2_video import CogVLM2Video
from mmdata.templates.llava_next_video import LlavaNextVideo
from mmdata.templates.qwen_vl import QwenVL
from mmdata.templates.toolkit import merge_texts
from mmdata.templates.visualglm import VisualGLM
from mmdata.tokenizers import SentencePieceTokenizer
from tests.vocabularies import _sentencepiece, small

_A, _B = (
    Media("image", "a.jpg", width=640, height=480),
    Media("image", "b.jpg", width=640, height=480),
)
_CLIP = Media("video", "a.mp4", num_frames=100, fps=10.0, clock=CompactTimes(step=1 / 10.0))
_TURNS = (user(Image(0), "Hi?"), assistant("Yes."), user("Why?"), assistant("So."))
_WORDS = (user("Hi?"), assistant("Yes."), user("Why?"), assistant("So."))


def read(template: Template, conversation: Conversation) -> str:
    return template.tokenizer.decode(template.encode(conversation).input_ids.tolist())


NOISE = "QA_GT_caption_based_noisy"

# --- LLaVA-NeXT-Video
# ------------------------------------------------------------------------------------------------

_CHATML = (
    "<|im_start|>system\nSYSTEM<|im_end|>\n<|im_start|>user\n<image>\nHi?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
    "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>\n"
)
_CHAT = (
    "A chat between a curious HUMAN and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the HUMAN's questions. "
    "USER: <image>\nHi? ASSISTANT: Yes.</s>USER: Why? ASSISTANT: So.</s>"
)
_LLAMA = (
    "You are a helpful language and vision assistant. "
    "You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)
TEXTS = {
    "vicuna_v1": _CHAT.replace("HUMAN", "user"),
    "llava_v1": _CHAT.replace("HUMAN", "human"),
    "mistral_instruct": "[INST] <image>\nHi? [/INST] Yes. </s>[INST] Why? [/INST] So. </s>",
    "llava_llama_2": (
        f"[INST] <<SYS>>\n{_LLAMA}\n<</SYS>>\n\n<image>\nHi? [/INST] Yes. </s>"
        "<s>[INST] Why? [/INST] So. </s>"
    ),
    "plain": "<image>Yes.\nSo.\n",
    "qwen_1_5": _CHATML.replace("SYSTEM", "You are a helpful assistant."),
    "qwen_2": _CHATML.replace("SYSTEM", "You are a helpful assistant."),
    "qwen_2_5": _CHATML.replace(
        "SYSTEM", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
    ),
    "chatml_direct": _CHATML.replace("SYSTEM", "Answer the questions.").replace(
        "<|im_end|>\n", "<|im_end|>"
    ),
    "mistral_direct": _CHATML.replace("SYSTEM", "Answer the questions.").replace(
        "<|im_end|>\n", "<|im_end|>"
    ),
}


def _llava(dialect: str, **options: Any) -> LlavaNextVideo:
    kind = "qwen" if "<|im_start|>" in TEXTS.get(dialect, "") else "llama2"
    names = {"image_token": "<|extra_0|>", "video_token": "<|extra_1|>"} if kind == "qwen" else {}
    return LlavaNextVideo(tokenizer=small(kind), dialect=dialect, **names, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("dialect", TEXTS)
def test_a_dialect_of_llava_reads_word_for_word(dialect: str) -> None:
    assert _llava(dialect).text(Conversation("c", _TURNS, (_A,))) == TEXTS[dialect]


@pytest.mark.parametrize("dialect", TEXTS)
def test_the_ids_of_a_dialect_of_llava_are_those_of_its_text(dialect: str) -> None:
    """In pieces between control tokens, media and turns,
    for which only the blanks at their edges differ.
    """
    template = _llava(dialect)
    names = (template.image_token, template.video_token, "<s>")

    ids = template.encode(Conversation("c", _TURNS, (_A,))).input_ids.tolist()

    written = template.tokenizer.decode(ids).replace("<image>", "")
    for name in names:
        written = written.replace(name, "")
    expected = TEXTS[dialect].replace("<image>", "").replace("<s>", "")
    assert "".join(written.split()) == "".join(expected.split())


def test_the_script_of_hugging_face_says_the_system_twice() -> None:
    conversation = Conversation("c", (system("Be brief."), user("Hi?")))

    assert _llava("hf_chat").text(conversation).startswith("Be brief.Be brief. USER: Hi?")


def test_words_around_a_medium_that_moves_are_stripped() -> None:
    turns = (user(" What? ", Image(0), "\n"), assistant("Yes."))

    assert " USER: <image>\nWhat? ASSISTANT:" in _llava("vicuna_v1").text(
        Conversation("c", turns, (_A,))
    )


def test_the_plain_dialect_shows_the_first_medium_alone() -> None:
    turns = (user(Image(0), Image(1), "What?"), assistant("Yes."))

    assert _llava("plain").text(Conversation("c", turns, (_A, _B))) == "<image>Yes.\n"


@pytest.mark.parametrize(
    ("dialect", "later"), [("vicuna_v1", "USER"), ("mistral_instruct", "[INST]")]
)
def test_text_after_an_answer_has_no_blank_before_it_unless_the_tokenizer_is_legacy(
    dialect: str, later: str
) -> None:
    added = {"<video>": 32000, "<image>": 32001}
    ids = {}
    for legacy in (True, False):
        tokenizer = SentencePieceTokenizer(_sentencepiece(), added=added, legacy=legacy)
        template = LlavaNextVideo(tokenizer=tokenizer, dialect=dialect)  # type: ignore[arg-type]
        sample = template.encode(Conversation("c", _WORDS)).input_ids.tolist()
        stop = sample.index(tokenizer.special["</s>"])
        ids[legacy] = sample[stop + 1 :]
        expected = tokenizer.encode_after_special(later)
        assert ids[legacy][: len(expected)] == expected
    assert ids[True] != ids[False]


def test_an_answer_that_begins_with_a_picture_has_the_blank_before_it() -> None:
    template = _llava("vicuna_v1")
    conversation = Conversation("c", (user("Show."), assistant(Image(0), "There.")), (_A,))

    sample = template.encode(conversation)

    blank = int(sample.input_ids[sample.slots[0].start - 1])
    assert template.tokenizer.decode([blank, *template.tokenizer.encode("x")]).startswith(" ")
    assert sample.labels[sample.slots[0].start - 1] == blank


def test_padding_is_the_unknown_token_of_llama_and_the_end_of_text_of_qwen() -> None:
    for dialect, name in (("vicuna_v1", "<unk>"), ("qwen_1_5", "<|endoftext|>")):
        template = _llava(dialect)
        assert template.pad_id == template.tokenizer.special[name]
    elsewhere = SentencePieceTokenizer(_sentencepiece(), added={"<unk>": 32002})
    assert LlavaNextVideo(tokenizer=elsewhere).pad_id == 32002


@pytest.mark.parametrize(
    ("options", "media", "stays"),
    [
        ({}, (_A,), False),
        ({"placement": "llava_1_5"}, (_A,), True),
        ({"compat": "mindformers"}, (_A,), True),
        ({}, (), True),
    ],
)
def test_a_mark_of_noise_is_deleted_where_llava_next_deletes_it(
    options: dict[str, Any], media: tuple[Media, ...], stays: bool
) -> None:
    shown = [Image(number) for number in range(len(media))]
    conversation = Conversation("c", (user(*shown, f"What {NOISE} now?"), assistant("Yes.")), media)

    text = _llava("vicuna_v1", **options).text(conversation)

    assert (NOISE in text) == stays
    assert "What " in text
    assert " now?" in text


@pytest.mark.parametrize("pool", ["average", "max", "bilinear"])
@pytest.mark.parametrize("newline", ["no_token", "one_token", "frame", "grid"])
@pytest.mark.parametrize("stride", [1, 2, 5, 7])
def test_a_video_takes_the_tokens_of_its_pooled_frames_and_newlines(
    pool: str, newline: str, stride: int
) -> None:
    """Bilinear pooling rounds the side of a frame up, the others down;
    a newline ends rows, frames or the video.
    """
    template = _llava(
        "vicuna_v1", pool=pool, stride=stride, video_newline=newline, frames="uniform:3"
    )

    [slot] = template.encode(
        Conversation("c", (user(Video(0), "?"), assistant("!")), (_CLIP,))
    ).slots

    side = {"bilinear": {1: 24, 2: 12, 5: 5, 7: 4}}.get(pool, {1: 24, 2: 12, 5: 4, 7: 3})[stride]
    newlines = {"no_token": 0, "one_token": 1, "frame": 3, "grid": 3 * side}[newline]
    assert slot.length == 3 * side * side + newlines


def test_neighbouring_texts_are_one_and_empty_ones_are_none() -> None:
    assert merge_texts(["", Image(0), "a", "", "b", Image(1), "", ""]) == [Image(0), "ab", Image(1)]


# --- Qwen-VL
# --------------------------------------------------------------------------------------------------


def test_prompts_of_roles_stand_before_the_texts_of_their_own() -> None:
    words = "<|im_start|>user\nU>Hi?<|im_end|>\n<|im_start|>assistant\nA>Yes.<|im_end|>\n"
    template = QwenVL(tokenizer=small("qwen"), user_prompt="U>", assistant_prompt="A>")

    assert words in read(template, Conversation("c", _WORDS))


def test_the_last_of_several_images_stays_where_it_is() -> None:
    conversation = Conversation(
        "c", (user(Image(0), "One, two: ", Image(1)), assistant("Yes.")), (_A, _B)
    )

    text = read(QwenVL(tokenizer=small("qwen")), conversation).replace("<imgpad>", "")

    assert "user\nPicture 1: <img></img>\nOne, two: Picture 2: <img></img>\n<|im_end|>" in text


@pytest.mark.parametrize("window", range(1, 5))
def test_a_pair_is_in_the_window_if_all_with_it_is_shorter(window: int) -> None:
    """``make_context`` of Qwen:
    ``if current_context_size < max_window_size``, of the system and the pairs after it.
    """
    turns = [
        make(f"{text}{number}")
        for number in range(4)
        for make, text in ((user, "q"), (assistant, "a"))
    ]
    conversation = Conversation("c", (*turns, user("last")))
    none, all_pairs = (len(_prompt(conversation, history)) for history in (1, 10**9))
    pair = (all_pairs - none) // 4
    words = small("qwen").encode("system\nYou are a helpful assistant.")
    size = 2 + len(words) + window * pair  # the newline after the system is not counted

    assert len(_prompt(conversation, size)) == none + (window - 1) * pair
    assert len(_prompt(conversation, size + 1)) == none + window * pair


def _prompt(conversation: Conversation, history: int) -> list[int]:
    prompt = QwenVL(tokenizer=small("qwen"), history=history).prompt(conversation)
    return [int(token) for token in prompt.input_ids]


def test_a_reference_is_brought_to_the_composed_form() -> None:
    conversation = Conversation(
        "c", (user(Image(0), "?"), assistant("!")), (Media("image", "e\u0301.png"),)
    )

    sample = QwenVL(tokenizer=small("qwen"), span="path").encode(conversation)

    start = sample.slots[0].start
    assert sample.input_ids[start : start + 6].tolist() == list("\u00e9.png".encode())


@pytest.mark.parametrize("text", ["Yes.", "\n\nYes.", ""])
def test_a_role_is_no_target_where_it_is_read_with_its_text(text: str) -> None:
    template = QwenVL(tokenizer=small("qwen"), compat="mindformers", labels="answers")
    conversation = Conversation("c", (user("Hi?"), assistant(Text(text))))

    sample = template.encode(conversation)

    whole = template.tokenizer.encode(f"assistant\n{text}")
    head = len(template.tokenizer.encode("assistant")) + 1
    end = [template.tokenizer.special["<|im_end|>"], *template.tokenizer.encode("\n")]
    assert sample.labels[sample.labels >= 0].tolist() == [*whole[head:], *end]
    assert sample.input_ids.tolist()[-len(whole) - 2 :] == [*whole, *end]


def test_an_empty_answer_is_learned_by_its_end() -> None:
    conversation = Conversation("c", (user("Hi?"), assistant(""), user("Why?"), assistant("So.")))
    template = QwenVL(tokenizer=small("qwen"))
    length = template.length(Conversation("c", conversation.messages[:2]))

    cut = QwenVL(tokenizer=small("qwen"), max_length=length, over_long="truncate_right").encode(
        conversation
    )

    assert len(cut) == length


# --- CogVLM2-Video
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        ("chat", "Question: Hi? Answer: Yes.\nQuestion: Why? Answer:So."),
        ("vqa", "Question: Hi? Short answer: Yes.\nQuestion: Why? Short answer:So."),
        ("base", "Why?So."),
    ],
)
def test_a_dialect_of_cogvlm2_video_reads_word_for_word(dialect: str, text: str) -> None:
    template = CogVLM2Video(tokenizer=small("llama3"), dialect=dialect)  # type: ignore[arg-type]

    assert read(template, Conversation("c", _WORDS)) == f"<|begin_of_text|>{text}<|end_of_text|>"


def test_mindformers_reads_text_in_the_composed_form() -> None:
    composed, apart = (
        Conversation("c", (user(f"{letter}?"), assistant(f"{letter}!")))
        for letter in ("\u00e9", "e\u0301")
    )
    for compat, same in (("mindformers", True), (None, False)):
        template = CogVLM2Video(tokenizer=small("llama3"), compat=compat)  # type: ignore[arg-type]
        one, other = (template.encode(conversation).input_ids for conversation in (composed, apart))
        assert np.array_equal(one, other) == same


def test_mindformers_repeats_the_frames_of_a_short_clip() -> None:
    clip = Media("video", "a.mp4", num_frames=7, fps=25.0, clock=CompactTimes(step=1 / 25.0))
    template = CogVLM2Video(tokenizer=small("llama3"), compat="mindformers")

    [plan] = template.encode(
        Conversation("c", (user(Video(0), "?"), assistant("!")), (clip,))
    ).pixels

    assert plan.frames == tuple(6 * number // 23 for number in range(24))


# --- VisualGLM
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "ask", "answer"), [("zh", "问:", "答:"), ("en", "Q:", "A:")])
def test_visualglm_reads_word_for_word(language: str, ask: str, answer: str) -> None:
    template = VisualGLM(tokenizer=small("chatglm"), language=language)  # type: ignore[arg-type]
    words = f"{ask}Hi?\n{answer}Yes.\n{ask}Why?\n{answer} So."

    assert read(template, Conversation("c", _WORDS)) == words
    assert read(template, Conversation("c", _TURNS, (_A,))) == f"<img> </img>{words}"


def test_what_visualglm_leaves_out_is_counted_of_question_and_answer() -> None:
    conversation = Conversation("c", (user("很" * 50), assistant("是" * 40)))
    whole = VisualGLM(tokenizer=small("chatglm")).encode(conversation)

    limits: list[dict[str, Any]] = [
        {"max_target": 10},
        {"max_source": 40},
        {"max_source": 40, "max_target": 10},
    ]
    for options in limits:
        cut = VisualGLM(tokenizer=small("chatglm"), **options).encode(conversation)
        assert cut.cut == len(whole) - len(cut) > 0


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        ("好,很好", "好，很好"),
        ("好, ok", "好， ok"),
        ("ok,好", "ok，好"),
        ("a,b!c:d;e?f", "a,b!c:d;e?f"),
        ("好!好;好?", "好！好；好？"),
        ("[[训练时间]]的", "2023年的"),
    ],
)
def test_an_answer_has_wide_marks_on_either_side_of_chinese(answer: str, text: str) -> None:
    assert VisualGLM(tokenizer=small("chatglm")).parse_answer(answer) == (Text(text),)


# --- boxes
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "scale"), [("floor_1000", 1000), ("round_1000", 1000), ("floor_999", 999)]
)
def test_a_number_of_the_grid_stands_for_its_fraction_of_the_scale(
    name: GridName, scale: int
) -> None:
    grid = GRIDS[name]

    assert [grid.from_grid(number) for number in range(grid.last + 1)] == [
        n / scale for n in range(grid.last + 1)
    ]


@pytest.mark.parametrize("fraction", [0.0625, 0.1875, 0.3125, 0.4375, 0.5625])
def test_a_half_of_the_rounded_grid_goes_to_the_even_number(fraction: float) -> None:
    """``int(round(x / size * 1000))`` of ms-swift, in Python's arithmetic;
    all of these are exact as floats.
    """
    assert (
        GRIDS["round_1000"].to_grid(fraction) == round(fraction * 1000) == 2 * round(fraction * 500)
    )
