"""What holds for every family and every conversation."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import DroppedSampleError, TokenError
from mmdata.schema import (
    Audio,
    Conversation,
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
from mmdata.templates import IGNORE, Encoded, Template
from tests.templates.families import FAMILIES, Family, Vocabulary, conversations, pictures, said

every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)
few = settings(max_examples=12)


@every_family
def test_each_family_is_a_template(family: Family, vocabulary: Vocabulary) -> None:
    assert isinstance(family.template(vocabulary), Template)


@pytest.mark.slow
@every_family
@few
@given(data=st.data())
def test_the_training_prefix_of_every_turn_is_its_prompt(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    conversation = data.draw(conversations(family, turns=6))
    # LLaVA's Qwen dialects join newlines else.
    template = family.template(vocabulary, **dict(family.answers_only))
    first = 1 if conversation.messages[0].role == "system" else 0

    for stop in range(first + 2, len(conversation.messages) + 1, 2):
        part = replace(conversation, messages=conversation.messages[:stop])
        sample, prompt = template.encode(part), template.prompt(part)

        assert np.array_equal(sample.input_ids[: len(prompt)], prompt.input_ids)
        assert np.array_equal(sample.position_ids[..., : len(prompt)], prompt.position_ids)
        assert prompt.slots == tuple(slot for slot in sample.slots if slot.stop <= len(prompt))
        assert prompt.trained == 0


@pytest.mark.slow
@every_family
@few
@given(data=st.data())
def test_the_prompt_of_every_turn_begins_the_whole_sample_where_every_turn_is_trained(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    if not family.every_turn:
        return
    conversation = data.draw(conversations(family, turns=4))
    template = family.template(vocabulary, **dict(family.answers_only))
    whole = template.encode(conversation)

    for stop in range(len(conversation.messages), 1, -2):
        images = [replace(medium) for medium in conversation.media]
        part = replace(conversation, messages=conversation.messages[:stop], media=tuple(images))
        if _images(part) in (_images(conversation), 0):
            prompt = template.prompt(part)
            assert np.array_equal(whole.input_ids[: len(prompt)], prompt.input_ids)


@every_family
@few
@given(data=st.data())
def test_labels_are_the_answers_and_their_ends(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    conversation = data.draw(conversations(family))
    tokenizer = vocabulary(family.kind)
    answers = [message for message in conversation.messages if message.role == "assistant"]
    answers = [
        message for message in (answers if family.every_turn else answers[-1:]) if message.train
    ]

    sample = family.template(vocabulary, **dict(family.answers_only)).encode(conversation)

    wanted = [token for message in answers for token in family.answer(tokenizer, message.text)]
    assert sample.labels[sample.labels != IGNORE].tolist() == wanted


@every_family
@few
@given(data=st.data())
def test_a_label_is_the_id_at_its_place(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    sample = family.template(vocabulary).encode(data.draw(conversations(family)))

    trained = sample.labels != IGNORE

    assert np.array_equal(sample.labels[trained], sample.input_ids[trained])
    assert not any(trained[slot.start : slot.stop].any() for slot in sample.slots)


@every_family
def test_the_stop_token_is_a_target(family: Family, vocabulary: Vocabulary) -> None:
    template = family.template(vocabulary)

    sample = template.encode(said("Yes."))

    assert all(stop in sample.labels for stop in template.stop_ids[:1])


@pytest.mark.slow
@every_family
@few
@given(data=st.data())
def test_slots_are_apart_and_every_medium_has_its_own(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    conversation = data.draw(conversations(family))
    sample = family.template(vocabulary).encode(conversation)

    ends = [0, *(slot.stop for slot in sample.slots)]
    assert all(
        slot.start >= end and slot.length > 0 for slot, end in zip(sample.slots, ends, strict=False)
    )
    assert ends[-1] <= len(sample)
    assert sorted(plan.media for plan in sample.pixels) == list(range(len(conversation.media)))
    assert {slot.plan for slot in sample.slots} == set(range(len(sample.pixels)))
    assert all(sample.pixels[slot.plan].media == slot.media for slot in sample.slots)
    assert all(
        len({*sample.input_ids[slot.start : slot.stop].tolist()}) == 1 for slot in sample.slots
    )


@pytest.mark.slow
@every_family
@few
@given(data=st.data())
def test_arrays_have_the_shapes_and_types_that_are_promised(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    sample = family.template(vocabulary).encode(data.draw(conversations(family)))

    assert {array.dtype for array in (sample.input_ids, sample.labels, sample.position_ids)} == {
        np.dtype(np.int32)
    }
    assert sample.labels.shape == sample.input_ids.shape == (len(sample),)
    assert sample.position_ids.shape[-1] == len(sample)
    if sample.token_types is not None:
        assert sample.token_types.dtype == np.int8
        assert int(sample.token_types.sum()) == sum(slot.length for slot in sample.slots)


@pytest.mark.slow
@every_family
@few
@given(data=st.data())
def test_encoding_is_a_function_of_the_conversation(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    conversation = data.draw(conversations(family))

    assert _same(
        family.template(vocabulary).encode(conversation),
        family.template(vocabulary).encode(conversation),
    )


@pytest.mark.slow
@every_family
@few
@given(data=st.data())
def test_the_length_is_known_before(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    conversation = data.draw(conversations(family))

    assert family.template(vocabulary).length(conversation) == len(
        family.template(vocabulary).encode(conversation)
    )


@pytest.mark.slow
@every_family
@few
@given(data=st.data())
def test_text_of_users_adds_no_control_token(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    conversation = data.draw(conversations(family, turns=4))
    template = family.template(vocabulary)
    harmless = replace(conversation, messages=tuple(map(_harmless, conversation.messages)))

    assert _controls(template, conversation) == _controls(template, harmless)


@pytest.mark.slow
@every_family
@few
@given(data=st.data())
def test_a_cut_never_goes_through_a_medium(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    conversation = data.draw(conversations(family, turns=3))
    whole = family.template(vocabulary).encode(conversation)
    limit = data.draw(st.integers(1, len(whole)))
    template = family.template(vocabulary, max_length=limit, over_long="truncate_right")

    try:
        cut = template.encode(conversation)
    except DroppedSampleError as dropped:
        assert dropped.reason == "nothing_to_learn"
        return

    assert len(cut) <= limit
    assert cut.cut == len(whole) - len(cut)
    assert np.array_equal(cut.input_ids, whole.input_ids[: len(cut)])
    assert np.array_equal(cut.labels, whole.labels[: len(cut)])
    assert cut.slots == whole.slots[: len(cut.slots)]
    assert cut.pixels == whole.pixels[: len(cut.pixels)]
    assert {slot.plan for slot in whole.slots[len(cut.slots) :]}.isdisjoint(range(len(cut.pixels)))
    assert all(slot.stop <= len(cut) for slot in cut.slots)


@pytest.mark.slow
@every_family
@given(data=st.data())
@settings(max_examples=10)
def test_a_cut_that_leaves_nothing_to_learn_is_a_dropped_sample(
    family: Family, vocabulary: Vocabulary, data: st.DataObject
) -> None:
    conversation = said("Yes.", "What?", data.draw(pictures(family)))
    room = len(family.template(vocabulary).prompt(conversation))
    options = dict(family.answers_only)

    with pytest.raises(DroppedSampleError) as caught:
        family.template(vocabulary, max_length=room, over_long="truncate_right", **options).encode(
            conversation
        )

    assert caught.value.reason == "nothing_to_learn"


@every_family
def test_too_long_a_sample_is_dropped_or_an_error_as_asked(
    family: Family, vocabulary: Vocabulary
) -> None:
    conversation = said("Yes.")
    length = family.template(vocabulary).length(conversation)

    with pytest.raises(
        DroppedSampleError, match=f"'c' has {length} tokens, the limit is {length - 1}"
    ) as dropped:
        family.template(vocabulary, max_length=length - 1, over_long="drop").encode(conversation)
    with pytest.raises(TokenError, match="over_long='truncate_right'") as refused:
        family.template(vocabulary, max_length=length - 1).encode(conversation)

    assert dropped.value.reason == "too_long"
    assert not isinstance(refused.value, DroppedSampleError)
    assert len(family.template(vocabulary, max_length=length).encode(conversation)) == length


@every_family
@few
@given(answer=st.text("abc \n", max_size=20))
def test_an_answer_is_read_back_from_its_ids(
    family: Family, vocabulary: Vocabulary, answer: str
) -> None:
    template = family.template(vocabulary)
    words = template.tokenizer.encode(answer)
    ids = [*words, *template.stop_ids[:1], *(words if template.stop_ids else ())]

    parts = template.parse_answer(ids)

    assert "".join(part.text for part in parts if isinstance(part, Text)).strip() == answer.strip()


@every_family
def test_a_question_alone_has_a_prompt_and_is_no_sample_but_where_marks_are_trained(
    family: Family, vocabulary: Vocabulary
) -> None:
    template = family.template(vocabulary)
    question = Conversation("c", (user("What?"),))

    assert len(template.prompt(question))
    if family.marks_trained:  # some ChatML families train the marks of every turn
        assert template.encode(question).trained
    else:
        with pytest.raises(TokenError, match="'c' has no answer to train on"):
            template.encode(question)


def _images(conversation: Conversation) -> int:
    return sum(
        type(part).__name__ == "Image"
        for message in conversation.messages
        for part in message.content
    )


def _harmless(message: Message) -> Message:
    content = tuple(
        Text("a" * bool(part.text)) if isinstance(part, Text) else part for part in message.content
    )
    return replace(message, content=content)


def _controls(template: Template, conversation: Conversation) -> Counter[int]:
    special = set(template.tokenizer.special.values()) - {template.tokenizer.special.get("<unk>")}
    return Counter(
        token for token in template.encode(conversation).input_ids.tolist() if token in special
    )


def _same(one: Encoded, other: Encoded) -> bool:
    arrays = ("input_ids", "labels", "position_ids")
    return (one.slots, one.pixels) == (other.slots, other.pixels) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


_SOUND = (Media("audio", "a.wav"),)
_UNSAID: dict[str, tuple[tuple[Message, ...], dict[str, Any]]] = {
    "a message of a tool": ((user("a"), assistant("b"), tool("c")), {}),
    "a call of the tool 'look'": ((user("a"), assistant(ToolCall("look"))), {}),
    "reasoning": ((user("a"), assistant(Reasoning("hm"), "b")), {}),
    "audio": ((user(Audio(0), "a"), assistant("b")), {"media": _SOUND}),
    "a later system message": ((user("a"), system("b"), user("c"), assistant("d")), {}),
    "a later system message (number 1)": (
        (system("a"), system("b"), user("c"), assistant("d")),
        {},
    ),
    "two messages of the user in a row": ((user("a"), user("b"), assistant("c")), {}),
    "two messages of the assistant in a row": ((user("a"), assistant("b"), assistant("c")), {}),
    "an answer that comes first": ((assistant("a"), user("b"), assistant("c")), {}),
    "a part with a 'train' of its own": ((user("a"), assistant("b", Text("c", train=False))), {}),
    "a part with a 'train' of its own (in message 0)": (
        (user(Text("a", train=True)), assistant("b")),
        {},
    ),
    "tools that were declared": ((user("a"), assistant("b")), {"tools": "[]"}),
}


@every_family
@pytest.mark.parametrize("what", _UNSAID)
def test_what_a_family_cannot_say_is_refused_by_name(
    family: Family, vocabulary: Vocabulary, what: str
) -> None:
    messages, others = _UNSAID[what]
    conversation = Conversation("c1", messages, **others)
    template = family.template(vocabulary)
    if what in family.says:
        assert len(template.encode(conversation)) == template.length(conversation)
        assert len(template.prompt(conversation))
        return

    for read in (template.encode, template.prompt, template.length):
        with pytest.raises(TokenError, match=re.escape(f"'c1' has {what}")):
            read(conversation)


@every_family
def test_a_part_that_is_trained_as_its_message_is_and_a_rejected_ending_change_no_sample(
    family: Family, vocabulary: Vocabulary
) -> None:
    template = family.template(vocabulary)
    plain = Conversation("c1", (user("a"), assistant("b")))
    spelled = Conversation(
        "c1",
        (user(Text("a", train=False)), assistant(Text("b", train=True))),
        rejected=(assistant(Reasoning("c")),),
    )

    assert np.array_equal(template.encode(plain).input_ids, template.encode(spelled).input_ids)
    assert np.array_equal(template.encode(plain).labels, template.encode(spelled).labels)
