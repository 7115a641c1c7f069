from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import TokenError
from mmdata.schema import Conversation, Image, Media, Text, assistant, user
from mmdata.templates.visualglm import VisualGLM
from tests.vocabularies import small

_A = Media("image", "a.jpg")
words = st.text("问答：:, a的\n", max_size=40)


def _template(**options: Any) -> VisualGLM:
    return VisualGLM(tokenizer=small("chatglm"), **options)


def _shown(question: str, answer: str = "是") -> Conversation:
    return Conversation("c", (user(Image(0), question), assistant(answer)), (_A,))


@pytest.mark.slow
@pytest.mark.parametrize("language", ["zh", "en"])
@given(question=words, room=st.integers(0, 60))
def test_a_question_is_shortened_and_the_words_that_ask_stay(
    language: str, question: str, room: int
) -> None:
    whole = _template(language=language).encode(_shown(question))
    # <n> 答 : [gMASK] <sop>
    tail = _template(language=language).prompt(_shown("")).input_ids[-5:].tolist()
    limit = 60 + room

    cut = _template(language=language, max_source=limit).encode(_shown(question))

    assert cut.prefix <= limit + 1
    assert cut.input_ids[cut.prefix - 4 : cut.prefix + 1].tolist() == tail
    assert cut.cut == len(whole) - len(cut)
    assert cut.slots == whole.slots


def test_the_original_cuts_the_words_that_ask_and_the_cut_is_counted() -> None:
    cut = _template(max_source=50, source_cut="asking").encode(_shown("很" * 100))
    kept = _template(max_source=50).encode(_shown("很" * 100))

    assert cut.cut == kept.cut > 0
    assert not np.array_equal(cut.input_ids, kept.input_ids)


def test_a_limit_with_no_room_for_the_image_is_refused() -> None:
    with pytest.raises(TokenError, match="max_source=20 has no room for the image"):
        _template(max_source=20).encode(_shown("?"))


def test_an_answer_is_cut_before_its_end_token() -> None:
    template = _template(max_target=10)

    sample = template.encode(_shown("?", "很" * 100))

    assert sample.trained == 1 + 8 + 1
    assert sample.labels[-1] == template.stop_ids[0]


def test_positions_count_the_prefix_and_what_comes_after_it() -> None:
    sample = _template().encode(_shown("?", "很很"))
    first = sample.prefix

    assert sample.position_ids[0].tolist() == [*range(first), *[first - 1] * (len(sample) - first)]
    assert sample.position_ids[1].tolist() == [*[0] * first, *range(1, len(sample) - first + 1)]


def test_two_images_are_refused() -> None:
    conversation = Conversation("c", (user(Image(0), Image(1), "?"), assistant("是")), (_A, _A))

    with pytest.raises(TokenError, match="shows 2 media"):
        _template().encode(conversation)


def test_an_answer_is_what_stands_after_the_last_words_that_ask() -> None:
    assert _template().parse_answer("问:你好\n答: 好,很好") == (Text("好，很好"),)
    assert _template(language="en").parse_answer("Q:Hi\nA: Yes.") == (Text("Yes."),)
