"""Qwen2.5-VL and Qwen3-VL: what their published programs disagree on or trip over, trap by trap."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL.Image import new

import mmdata.templates
from mmdata.errors import DroppedSampleError, TokenError, UsageError, VideoError
from mmdata.image.patches import smart_resize
from mmdata.pipeline.encode import decode_views
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Message,
    Reasoning,
    Region,
    Text,
    Time,
    ToolCall,
    Video,
    assistant,
    replace,
    system,
    tool,
    user,
)
from mmdata.templates import IGNORE, Encoded
from mmdata.templates.qwen2_5_vl import seconds_per_layer
from mmdata.templates.qwen3_vl import layer_times
from mmdata.testing import check_template
from tests.templates.families import FAMILIES, Family, conversations, said
from tests.vocabularies import small

OLDER, NEWER = "qwen2_5_vl", "qwen3_vl"
KINDS = {OLDER: "qwen2", NEWER: "qwen3"}
CHATML = [family for family in FAMILIES if family.name in KINDS]
both = pytest.mark.parametrize("family", [OLDER, NEWER])
PICTURE = Media("image", "a.jpg", width=224, height=224)
HELPFUL = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"


def template_of(family: str, **options: Any) -> Any:
    return mmdata.templates.get(family)(tokenizer=small(KINDS[family]), **options)


def clip(*times: float, duration: float, side: int = 64, **facts: Any) -> Media:
    return Media(
        "video",
        "a.mp4",
        height=side,
        width=side,
        duration=duration,
        **{"frame_times": times, "num_frames": len(times), **facts},
    )


def text_of(found: Encoded, template: Any) -> str:
    """Return the text of a sample, a run of pads written once."""
    ids = found.input_ids.tolist()
    for slot in reversed(found.slots):
        del ids[slot.start + 1 : slot.stop]
    return str(template.tokenizer.decode(ids))


def trained_text(found: Encoded, template: Any) -> str:
    return str(template.tokenizer.decode(found.labels[found.labels != IGNORE].tolist()))


def read(family: str, conversation: Conversation, **options: Any) -> tuple[str, Encoded]:
    template = template_of(family, **options)
    found = template.encode(conversation)
    return text_of(found, template), found


# --- who says what


def test_without_a_system_message_each_template_has_its_own_or_none() -> None:
    asked = said("Yes.", "Eh?")
    rest = "<|im_start|>user\nEh?<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
    alibaba = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."

    assert read(OLDER, asked)[0] == HELPFUL + rest
    assert (
        read(OLDER, asked, dialect="text")[0] == f"<|im_start|>system\n{alibaba}<|im_end|>\n{rest}"
    )
    assert read(NEWER, asked)[0] == rest
    assert read(NEWER, asked, system="Hm.")[0] == f"<|im_start|>system\nHm.<|im_end|>\n{rest}"


@both
def test_an_empty_system_message_is_one(family: str) -> None:
    conversation = Conversation("c", (system(""), user("a"), assistant("b")))

    assert read(family, conversation)[0].startswith("<|im_start|>system\n<|im_end|>\n<|im_start|>")


def test_later_system_messages_are_turns_or_refused_or_dropped() -> None:
    conversation = Conversation("c", (user("a"), system("new"), assistant("b")))

    assert "system\nnew<|im_end|>" in read(OLDER, conversation)[0]
    assert "system\nnew<|im_end|>" in read(NEWER, conversation, dialect="thinking")[0]
    assert "new" not in read(NEWER, conversation, unsaid="drop")[0]
    with pytest.raises(TokenError, match=r"'c' has a later system message .*unsaid='drop'"):
        template_of(NEWER).encode(conversation)


@both
@pytest.mark.parametrize("segments", ["joined", "apart"])
def test_an_answer_that_begins_with_a_newline_is_trained_whole(family: str, segments: str) -> None:
    template = template_of(family, segments=segments)
    found = template.encode(said("\n\nYes."))

    assert trained_text(found, template).lstrip("\n") == "Yes.<|im_end|>"
    assert trained_text(found, template).startswith("\n\n")


@both
def test_a_prompt_always_begins_its_sample_where_segments_are_apart(family: str) -> None:
    template = template_of(family, segments="apart")
    for answer in ("\n\nYes.", "\nYes.", " Yes.", ""):
        prompt, sample = template.prompt(said(answer)), template.encode(said(answer))

        assert np.array_equal(sample.input_ids[: len(prompt)], prompt.input_ids)


@both
def test_only_answers_are_trained_with_their_end_and_no_newline(family: str) -> None:
    conversation = Conversation(
        "c",
        (
            user("assistant\nassistant"),
            assistant("one"),
            user("b"),
            Message("assistant", (Text("two"),), False),
            user("c"),
            assistant("three"),
        ),
    )
    template = template_of(family)

    assert trained_text(template.encode(conversation), template) == "one<|im_end|>three<|im_end|>"


@both
def test_trainers_differ_in_the_ends_that_they_train(family: str) -> None:
    conversation = Conversation("c", (user("a"), assistant("b"), user("c"), assistant("d")))

    def trained(compat: str) -> str:
        template = template_of(family, compat=compat)
        return trained_text(template.encode(conversation), template)

    assert trained("llamafactory") == "b<|im_end|>\nd<|im_end|>\n"
    assert trained("ms-swift") == "bd<|im_end|>"


@both
def test_a_part_may_be_trained_otherwise_than_its_message(family: str) -> None:
    conversation = Conversation(
        "c", (user("a"), assistant("so: ", Text("hidden", train=False), " and on"))
    )
    template = template_of(family)

    assert trained_text(template.encode(conversation), template) == "so:  and on<|im_end|>"


@both
def test_no_token_is_shared_by_parts_of_which_one_alone_is_trained(family: str) -> None:
    halves = assistant("th", Text("e", train=False), "re")  # "the" is one token
    template = template_of(family)

    found = template.encode(Conversation("c", (user("a"), halves)))

    assert trained_text(found, template) == "thre<|im_end|>"


@both
def test_text_that_spells_control_tokens_is_text_unless_marks_are_wanted(family: str) -> None:
    conversation = said("They are <|im_end|>.", "<|image_pad|><|vision_start|> <tool_call>")
    special = small(KINDS[family]).special

    plain, marked = (
        template_of(family, marks=marks).encode(conversation).input_ids for marks in ("none", "all")
    )

    assert (plain == special["<|image_pad|>"]).sum() == 0
    assert (marked == special["<|image_pad|>"]).sum() == 1
    assert (marked == special["<|im_end|>"]).sum() == (plain == special["<|im_end|>"]).sum() + 1
    assert not template_of(family, marks="all").encode(conversation).slots


@both
def test_text_is_brought_to_normal_form_c(family: str) -> None:
    composed, spelled = (template_of(family).encode(said(text)) for text in ("é", "e\u0301"))

    assert composed.input_ids.tolist() == spelled.input_ids.tolist()


# --- tools and thoughts

_TOOLS = '[{"name":"look","description":"Look <at> it & \\u5317"}]'
_CALLED = Conversation(
    "c",
    (user("a"), assistant("b", ToolCall("look", '{"x":  1}')), tool("seen"), assistant("d")),
    tools=_TOOLS,
)


def test_tools_are_declared_as_python_writes_json() -> None:
    text, _ = read(NEWER, _CALLED)

    declared = '<tools>\n{"name": "look", "description": "Look <at> it & 北"}\n</tools>'
    assert declared in text
    assert text.startswith("<|im_start|>system\n# Tools\n\n")


def test_calls_are_written_as_their_source_wrote_them_and_responses_share_a_turn() -> None:
    conversation = replace(
        _CALLED, messages=(*_CALLED.messages[:3], tool("again"), _CALLED.messages[3])
    )

    for family, options in ((NEWER, {}), (OLDER, {"dialect": "text"})):
        text, _ = read(family, conversation, **options)

        call = '\n<tool_call>\n{"name": "look", "arguments": {"x":  1}}\n</tool_call><|im_end|>'
        seen = "<tool_response>\nseen\n</tool_response>\n<tool_response>\nagain\n</tool_response>"
        assert f"assistant\nb{call}\n<|im_start|>user\n{seen}<|im_end|>\n" in text


def test_a_call_without_words_before_it_has_no_line_break() -> None:
    conversation = Conversation("c", (user("a"), assistant(ToolCall("look"))))

    assert "assistant\n<tool_call>\n" in read(NEWER, conversation)[0]


def test_arguments_that_are_a_text_stay_one() -> None:
    quoted = json.dumps('{"x": 1}')
    conversation = Conversation("c", (user("a"), assistant(ToolCall("look", quoted))))

    assert f'"arguments": {quoted}}}' in read(OLDER, conversation, dialect="text")[0]


def test_the_older_template_knows_no_tools() -> None:
    with pytest.raises(TokenError, match="'c' has tools that were declared"):
        template_of(OLDER).encode(_CALLED)

    text, _ = read(OLDER, _CALLED, unsaid="drop")
    assert text == (
        f"{HELPFUL}<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>tool\nseen<|im_end|>\n<|im_start|>assistant\nd<|im_end|>\n"
    )


def test_trainers_part_the_declared_tools_even_from_no_system_message() -> None:
    for compat in ("llamafactory", "ms-swift"):
        text, _ = read(NEWER, _CALLED, compat=compat)
        assert text.startswith("<|im_start|>system\n\n\n# Tools")


@both
@pytest.mark.parametrize(
    ("tokenizer", "lacks"),
    [("qwen", "must be a Tokenizer"), (small("llama3"), r"has no <\|im_start\|>")],
    ids=["text", "another family's"],
)
def test_a_tokenizer_without_the_marks_of_turns_is_refused(
    family: str, tokenizer: Any, lacks: str
) -> None:
    with pytest.raises(UsageError, match=f"{lacks}.*load_tokenizer"):
        mmdata.templates.get(family)(tokenizer=tokenizer)


def test_an_empty_system_message_parts_the_declared_tools_from_its_beginning() -> None:
    text, _ = read(NEWER, replace(_CALLED, messages=(system(""), *_CALLED.messages)))

    assert text.startswith("<|im_start|>system\n\n\n# Tools")


@pytest.mark.parametrize(("family", "dialect"), [(OLDER, "text"), (NEWER, "instruct")])
def test_an_empty_list_declares_no_tools(family: str, dialect: str) -> None:
    plain = Conversation("c", (user("a"), assistant("b")))

    listed = read(family, replace(plain, tools=" [] "), dialect=dialect)[0]

    assert listed == read(family, plain, dialect=dialect)[0]


@pytest.mark.parametrize("tools", ["null", "{}", '"look"'])
def test_tools_that_are_no_list_are_refused(tools: str) -> None:
    with pytest.raises(TokenError, match="tools must be the JSON of a list"):
        template_of(NEWER).encode(replace(_CALLED, tools=tools))


_THOUGHT = Conversation(
    "c",
    (
        user("a?"),
        assistant(Reasoning("first"), "\nA."),
        user("b?"),
        assistant(Reasoning("\nsecond\n"), "\nB."),
    ),
)


def test_thoughts_of_earlier_rounds_are_left_out() -> None:
    text, _ = read(NEWER, _THOUGHT, dialect="thinking")

    assert "first" not in text
    assert "assistant\n\nA.<|im_end|>" in text
    assert text.endswith("assistant\n<think>\nsecond\n</think>\n\nB.<|im_end|>\n")


def test_an_answer_without_a_thought_has_an_empty_one_that_no_prompt_begins() -> None:
    template = template_of(NEWER, dialect="thinking")
    text, _ = read(NEWER, said("hello"), dialect="thinking")

    prompt = template.tokenizer.decode(template.prompt(said("hello")).input_ids.tolist())
    assert text.endswith("assistant\n<think>\n\n</think>\n\nhello<|im_end|>\n")
    assert prompt.endswith("assistant\n<think>\n")


@pytest.mark.parametrize(("think", "begins"), [("trained", "<think>\n"), ("given", "")])
def test_the_beginning_of_a_thought_is_trained_or_given(think: str, begins: str) -> None:
    template = template_of(NEWER, dialect="thinking", think=think)
    conversation = Conversation("c", (user("a"), assistant(Reasoning("hm"), "b")))

    found = trained_text(template.encode(conversation), template)

    assert found == f"{begins}hm\n</think>\n\nb<|im_end|>"


def test_thoughts_are_refused_by_those_that_have_none() -> None:
    for family in (OLDER, NEWER):
        with pytest.raises(TokenError, match=r"reasoning \(in message 1\)"):
            template_of(family).encode(_THOUGHT)
        assert "second" not in read(family, _THOUGHT, unsaid="drop")[0]


def test_the_end_of_a_thought_in_an_answer_is_text_to_a_dialect_without_thoughts() -> None:
    conversation = Conversation("c", (user("a"), assistant("b <think>why</think> c")))

    text, _ = read(NEWER, conversation, marks="all")

    assert "assistant\nb <think>why</think> c<|im_end|>" in text


def test_a_response_of_a_tool_is_no_question() -> None:
    conversation = Conversation(
        "c",
        (
            user("a"),
            assistant(Reasoning("call it"), ToolCall("look")),
            tool("seen"),
            assistant(Reasoning("so"), "b"),
        ),
    )

    text, _ = read(NEWER, conversation, dialect="thinking")
    assert "<think>\ncall it\n</think>\n\n<tool_call>" in text
    assert "<think>\nso\n</think>\n\nb" in text


def test_an_answer_is_read_back_in_its_parts() -> None:
    template = template_of(NEWER, dialect="thinking")
    answer = (
        'hm\n</think>\n\nIt is at 12.5 seconds: {"bbox_2d": [0, 100, 500, 1000], "label": "cat"}'
        '\n<tool_call>\n{"name": "look", "arguments": {"x": 1}}\n</tool_call>'
    )

    assert template.parse_answer(answer) == (
        Reasoning("hm"),
        Text("It is at "),
        Time(12.5),
        Text(": "),
        Region("cat", ((0.0, 0.1, 0.5, 1.0),)),
        ToolCall("look", '{"x": 1}'),
    )


# --- media


def test_what_is_dropped_is_named() -> None:
    conversation = Conversation(
        "c",
        (
            system("be"),
            user("hm"),
            Message("assistant", (Reasoning("so"), Text("ok")), True),
            system("new"),
            user("and"),
            assistant("yes"),
        ),
    )

    found = read(NEWER, conversation, unsaid="drop")[1]

    assert found.unsaid == ("reasoning (in message 2)", "a later system message (number 3)")
    assert read(NEWER, conversation, unsaid="drop", dialect="thinking")[1].unsaid == ()


def test_nothing_is_named_where_all_is_said() -> None:
    conversation = Conversation("c", (user("hm"), assistant("yes")))

    for unsaid in ("refuse", "drop"):
        assert read(NEWER, conversation, unsaid=unsaid)[1].unsaid == ()


def test_media_of_answers_are_refused_or_dropped_or_shown() -> None:
    conversation = Conversation("c", (user("a"), assistant("b", Image(0))), (PICTURE,))

    with pytest.raises(TokenError, match="a picture in the words of the assistant"):
        template_of(NEWER).encode(conversation)
    assert not read(NEWER, conversation, unsaid="drop")[1].slots
    assert read(NEWER, conversation, dialect="thinking")[1].slots
    assert read(OLDER, conversation)[1].slots


@both
def test_media_are_numbered_by_kind_where_that_is_wanted(family: str) -> None:
    film = clip(0.0, 1.0, duration=2.0)
    media = (PICTURE, film, PICTURE)
    conversation = Conversation("c", (user(Image(0), Video(1), Image(2)), assistant("a")), media)

    text, _ = read(family, conversation, number_media=True, frames="every:1")

    assert [text.count(name) for name in ("Picture 1: ", "Video 1: ", "Picture 2: ")] == [1, 1, 1]
    assert "Video 2" not in text


@both
def test_pads_of_pictures_and_clips_are_told_apart_by_their_ids(family: str) -> None:
    film = clip(0.0, 1.0, duration=2.0)
    conversation = Conversation("c", (user(Image(0), Video(1)), assistant("a")), (PICTURE, film))
    template = template_of(family, frames="every:1")
    special, found = template.tokenizer.special, template.encode(conversation)

    for slot in found.slots:
        name = "<|video_pad|>" if found.pixels[slot.plan].frames else "<|image_pad|>"
        assert set(found.input_ids[slot.start : slot.stop].tolist()) == {special[name]}


def test_sizes_are_rounded_half_to_even() -> None:
    limits = {"factor": 28, "fewest": 1, "most": 1 << 24}

    assert smart_resize((42, 70), **limits) == (56, 56)
    assert smart_resize((98, 126), **limits) == (112, 112)


def test_a_picture_200_times_as_long_as_wide_is_read_and_a_longer_one_is_not() -> None:
    limits = {"factor": 28, "fewest": 1, "most": 1 << 24}

    assert smart_resize((5600, 28), **limits) == (5600, 28)
    with pytest.raises(TokenError, match="more than 200 times"):
        smart_resize((5601, 28), **limits)


@both
def test_limits_are_those_of_the_published_configurations(family: str) -> None:
    template = template_of(family)

    published = {OLDER: (3136, 12845056, 3136, 12845056), NEWER: (65536, 1 << 24, 4096, 25165824)}
    assert (
        template.min_pixels,
        template.max_pixels,
        template.video_min_pixels,
        template.video_max_pixels,
    ) == published[family]
    with pytest.raises(UsageError, match=r"min_pixels \(9\) is above max_pixels \(8\)"):
        template_of(family, min_pixels=9, max_pixels=8)


def test_the_budget_of_a_clip_is_of_each_frame_or_of_all() -> None:
    few, many = (clip(*map(float, range(n)), duration=float(n), side=1024) for n in (2, 32))

    def sizes(family: str) -> list[tuple[int, int]]:
        template = template_of(family, frames="every:1", video_max_pixels=1 << 20)
        plans = [template.encode(said("a", "b", film)).pixels[0] for film in (few, many)]
        return [plan.grid.size for plan in plans]

    of_each, of_all = sizes(OLDER), sizes(NEWER)
    assert of_each[0] == of_each[1]
    assert of_all[0] > of_all[1]
    assert 32 * of_all[1][0] * of_all[1][1] <= 1 << 20


@both
def test_the_utilities_resize_before_the_processor_does(family: str) -> None:
    film = clip(*map(float, range(8)), duration=8.0, side=2000)
    template, plain = (
        template_of(family, frames="every:1", resized_by=by) for by in ("utilities", "processor")
    )

    factor = template.patches.factor
    size, exact = (
        each.encode(said("a", "b", film)).pixels[0].grid.size for each in (template, plain)
    )
    assert size[0] * size[1] <= 768 * factor**2
    assert exact != size
    picture = said("a", "b", PICTURE)
    assert (
        template.encode(picture).pixels
        == template_of(family, resized_by="utilities").encode(picture).pixels
    )


@both
def test_one_frame_is_a_layer_or_refused(family: str) -> None:
    conversation = said("a", "b", clip(0.0, duration=1.0))
    template = template_of(family, frames="every:1")

    if family == OLDER:
        assert template.encode(conversation).pixels[0].grid.layers == 1
    else:
        with pytest.raises(TokenError, match="a clip of 1 frame; the model reads 2 at least"):
            template.encode(conversation)


# --- time


def test_a_layer_is_told_the_mean_of_its_frames_and_the_last_frame_fills_it() -> None:
    film = clip(0.0, 0.5, 2.0, 3.0, 7.0, duration=8.0)
    template = template_of(NEWER, frames="every:1")
    found = template.encode(said("a", "look: ", film))

    assert layer_times(found.pixels[0]) == [0.25, 2.5, 7.0]
    text = text_of(found, template)
    assert [text.count(f"<{words} seconds>") for words in ("0.2", "2.5", "7.0")] == [1, 1, 1]


@pytest.mark.parametrize(
    ("time", "words"),
    [(0.25, "0.2"), (0.75, "0.8"), (0.15, "0.1"), (0.45, "0.5"), (572.7, "572.7")],
)
def test_seconds_are_rounded_as_python_rounds_the_double(time: float, words: str) -> None:
    template = template_of(NEWER, frames="every:1")

    text = text_of(template.encode(said("a", "b", clip(time, time, duration=time + 1))), template)

    assert f"<{words} seconds>" in text


def test_seconds_are_those_of_the_clock_where_the_rate_varies() -> None:
    # 20 frames a second for 5 s, then one a second for 55 s.
    times = [*np.arange(100) / 20, *np.arange(5, 60)]
    film = clip(*times, duration=60.0, fps=len(times) / 60)
    template = template_of(NEWER, frames="qwen:0.5")

    found = layer_times(template.encode(said("a", "b", film)).pixels[0])

    assert found[-1] > 55
    assert np.diff(found).max() < 5


def test_the_seconds_of_a_layer_follow_from_what_was_sampled() -> None:
    film = clip(0.0, 1.0, 2.0, 3.0, 4.0, duration=5.0)
    template = template_of(OLDER, frames="every:1")

    [plan] = template.encode(said("a", "b", film)).pixels

    assert seconds_per_layer(plan) == 2.0  # 5 frames in 5 s, though a sixth fills the last layer


def _steps(**options: Any) -> list[int]:
    film = clip(0.0, 1.0, 1.5, 2.25, duration=3.0)
    found = template_of(OLDER, frames="every:1", **options).encode(said("a", "b", film))
    [slot] = found.slots
    time = found.position_ids[0, slot.start : slot.stop]
    after = int(found.position_ids[0, slot.stop])
    return [*sorted({int(step) - int(time[0]) for step in time}), after - int(time[0])]


def test_two_positions_are_a_second_and_versions_differ_in_them() -> None:
    assert _steps() == [0, 3, 4]  # 1.5 s a layer, and the text goes on after the last
    assert _steps(compat="transformers-4.57") == [0, 2, 3]  # cut to 1 s
    assert _steps(compat="transformers-5.23") == [
        0,
        3,
        2,
    ]  # the text goes on after rows and columns


def test_a_version_keeps_marks_around_a_whole_clip() -> None:
    film = said("a", "b", clip(0.0, 1.0, 2.0, 3.0, duration=4.0))

    text, found = read(NEWER, film, frames="every:1")
    other, longer = read(NEWER, film, frames="every:1", compat="transformers-5.23")

    assert len(longer) == len(found) + 2
    assert "user\n<0.5 seconds><|vision_start|><|video_pad|>" in text
    assert "user\n<|vision_start|><0.5 seconds><|vision_start|>" in other
    assert "<|vision_end|><|vision_end|>b" in other


def test_a_clip_of_one_frame_has_nothing_to_sample_by_the_published_rule() -> None:
    for family in (OLDER, NEWER):
        with pytest.raises(VideoError, match="the rule takes 2 at least"):
            template_of(family).encode(said("a", "b", clip(0.0, duration=1.0)))


# --- boxes and times in words


@pytest.mark.parametrize(
    ("family", "numbers"), [(OLDER, [56, 112, 168, 224]), (NEWER, [250, 500, 750, 1000])]
)
def test_boxes_are_in_pixels_of_what_is_seen_or_in_thousandths(
    family: str, numbers: list[int]
) -> None:
    region = Region("cat", ((0.25, 0.5, 0.75, 1.0),))
    conversation = Conversation("c", (user(Image(0), "where?"), assistant(region)), (PICTURE,))
    template = template_of(family)
    text, _ = read(family, conversation)

    answer = json.dumps({"bbox_2d": numbers, "label": "cat"})
    assert f"assistant\n{answer}<|im_end|>" in text
    assert template.read_answer(answer, conversation) == (region,)


@both
def test_several_boxes_are_a_list(family: str) -> None:
    boxes = ((0.0, 0.0, 0.5, 0.5), (0.5, 0.5, 1.0, 1.0))
    region = Region("", boxes)
    conversation = Conversation("c", (user(Image(0), "where?"), assistant(region)), (PICTURE,))
    template = template_of(family)

    answer = trained_text(template.encode(conversation), template).removesuffix("<|im_end|>")

    assert [set(each) for each in json.loads(answer)] == [{"bbox_2d"}, {"bbox_2d"}]
    assert template.read_answer(answer, conversation) == (region,)


@pytest.mark.parametrize(
    "text",
    [
        '{"bbox_2d": [1, 2, 3]}',
        '{"bbox_2d": [9, 8, 7, 6]}',
        '{"bbox_2d": [1, 2, 3, 4], "label": 5}',
        '{"bbox_2d": [1, 2, 3, "4"]}',
        '{"bbox_2d": [1, 2, 3, 4]',
        "[[[[ bbox_2d",
        "<tool_call>\n{]\n</tool_call>",
    ],
)
def test_malformed_boxes_and_calls_stay_text(text: str) -> None:
    assert template_of(NEWER).parse_answer(text) == (Text(text),)


@pytest.mark.parametrize(
    ("times", "moment", "span"),
    [("seconds", "12.5 seconds", "3.0 - 12.5 seconds"), ("mm:ss", "00:12.5", "00:03 - 00:12.5")],
)
def test_times_are_written_and_read_back(times: str, moment: str, span: str) -> None:
    film = clip(0.0, 1.0, duration=2.0)
    answer = assistant(Time(12.5), ", ", Time(3.0, 12.5), ".")
    conversation = Conversation("c", (user(Video(0), "when?"), answer), (film,))
    template = template_of(NEWER, times=times, frames="every:1")

    words = trained_text(template.encode(conversation), template).removesuffix("<|im_end|>")

    assert words == f"{moment}, {span}."
    assert template.parse_answer(words) == answer.content


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.0, "00:00"), (59.96, "01:00"), (72.25, "01:12.2"), (4325.0, "72:05")]
)
def test_minutes_go_on_counting_and_carry(seconds: float, words: str) -> None:
    film = clip(0.0, 1.0, duration=2.0)
    conversation = Conversation("c", (user(Video(0)), assistant(Time(seconds))), (film,))
    template = template_of(NEWER, times="mm:ss", frames="every:1")

    assert trained_text(template.encode(conversation), template) == f"{words}<|im_end|>"


# --- the laws


@pytest.mark.parametrize(
    "dialect", [(OLDER, "vl"), (OLDER, "text"), (NEWER, "instruct"), (NEWER, "thinking")]
)
def test_the_laws_of_templates_hold(dialect: tuple[str, str], tmp_path: Path) -> None:
    family, name = dialect
    new("RGB", (70, 90), "red").save(tmp_path / "a.png")
    shown = Media("image", str(tmp_path / "a.png"), width=70, height=90)
    conversations = [
        said("A square.", "What?", shown),
        Conversation(
            "d", (system("Be brief."), user("a"), assistant("b"), user("c"), assistant("d"))
        ),
    ]

    # An empty thought of the original shares a token with what a prompt of it ends with.
    apart = {"segments": "apart"} if name == "thinking" else {}
    check_template(template_of(family, dialect=name, min_pixels=3136, **apart), conversations)


def test_a_picture_with_transparency_stands_on_white(tmp_path: Path) -> None:
    new("RGBA", (64, 64), (0, 0, 0, 0)).save(tmp_path / "a.png")
    shown = Media("image", str(tmp_path / "a.png"), width=64, height=64)

    for alpha, level in (("white", 255), ("drop", 0)):
        template = template_of(NEWER, alpha=alpha)
        [plan] = template.encode(said("a", "b", shown)).pixels
        assert set(decode_views(shown, plan).ravel().tolist()) == {level}


every = pytest.mark.parametrize("family", CHATML, ids=str)


@every
@settings(max_examples=5)
@given(data=st.data())
def test_a_sample_can_be_cut_at_every_length(family: Family, data: st.DataObject) -> None:
    conversation = data.draw(conversations(family, turns=2))
    limits: dict[str, Any] = {"min_pixels": 1, "max_pixels": 8000}
    limits |= {f"video_{name}": limit for name, limit in limits.items()}
    whole = family.template(**limits).encode(conversation)

    for limit in range(1, min(len(whole), 400)):
        template = family.template(**limits, max_length=limit, over_long="truncate_right")
        try:
            found = template.encode(conversation)
        except DroppedSampleError:
            continue
        assert len(found) <= limit
        assert np.array_equal(found.input_ids, whole.input_ids[: len(found)])
        assert np.array_equal(found.position_ids, whole.position_ids[:, : len(found)])


def _holds_for_random_conversations(family: Family, conversation: Conversation) -> None:
    template = family.template(**dict(family.answers_only))
    sample, prompt = template.encode(conversation), template.prompt(conversation)

    assert template.length(conversation) == len(sample)
    assert np.array_equal(sample.input_ids[: len(prompt)], prompt.input_ids)
    assert np.array_equal(sample.position_ids[:, : len(prompt)], prompt.position_ids)
    answers = [message for message in conversation.messages if message.train]
    wanted = [token for each in answers for token in family.answer(template.tokenizer, each.text)]
    assert sample.labels[sample.labels != IGNORE].tolist() == wanted
    places = sum(slot.length for slot in sample.slots)
    assert places == sum(plan.grid.num_features for plan in sample.pixels if plan.grid)


@every
@settings(max_examples=15)
@given(data=st.data())
def test_random_conversations_are_read_by_the_rules(family: Family, data: st.DataObject) -> None:
    _holds_for_random_conversations(family, data.draw(conversations(family, turns=5)))


@pytest.mark.slow
@every
@settings(max_examples=3400)
@given(data=st.data())
def test_ten_thousand_random_conversations_are_read_by_the_rules(
    family: Family, data: st.DataObject
) -> None:
    _holds_for_random_conversations(family, data.draw(conversations(family, turns=3)))


def test_a_clip_of_a_file_is_asked_for_its_size_and_clock_where_the_store_has_neither(
    tmp_path: Path,
) -> None:
    for number in range(4):
        new("RGB", (64, 96), (60 * number, 0, 0)).save(tmp_path / f"{number}.png")
    paths = tuple(str(tmp_path / f"{number}.png") for number in range(4))
    film = Media("video", frame_paths=paths, fps=2.0, clock=CompactTimes(step=0.5))
    template = template_of(NEWER, frames="every:1")

    [plan] = template.encode(said("a", "b", film)).pixels

    assert plan.grid.size == (96, 64)
    assert layer_times(plan) == [0.25, 1.25]
