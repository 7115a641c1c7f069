"""Answers: where they end, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from mmdata.schema import Conversation, Image, Video, assistant, user
from mmdata.templates import Encoded
from models.cache import drop_caches
from recipes.config import Generation
from recipes.predict import answers, question
from tests.pipeline.test_packed_models import qwen
from tests.pipeline.words import WordTemplate, filmed, shown, text

pytestmark = pytest.mark.mindspore
GENERATION = Generation(length=64, max_new_tokens=6)


@dataclass(frozen=True, kw_only=True)
class Questions(WordTemplate):
    """Words up to the answer, which ends at any of some words."""

    stops: tuple[int, ...] = ()

    @property
    def stop_ids(self) -> tuple[int, ...]:
        return self.stops

    def prompt(self, conversation: Conversation) -> Encoded:
        whole = self.encode(conversation)
        asked = int(np.flatnonzero(whole.labels >= 0)[0])
        return Encoded(
            whole.input_ids[:asked],
            whole.labels[:asked],
            whole.position_ids[:asked],
            whole.slots,
            whole.pixels,
        )


@pytest.fixture(scope="module")
def model() -> Any:
    """A drawn model, its weights wide enough to say different things."""
    ms.set_seed(3)
    drawn = qwen()
    for name, parameter in drawn.parameters_and_names():
        if parameter.ndim > 1 and "positions" not in name:
            parameter.set_data(parameter * 5)
    return drawn


SHORT = Conversation("short", (user("who"), assistant("me")))
ASKED = [shown(1), text(2), filmed(300), shown(700, pictures=2), SHORT]


def answered(
    model: Any, count: int = 5, batch_size: int = 1, stops: tuple[int, ...] = ()
) -> list[list[int]]:
    found = list(answers(model, Questions(stops=stops), ASKED[:count], GENERATION, batch_size))
    drop_caches(model)
    return found


@pytest.fixture(scope="module")
def alone(model: Any) -> list[list[int]]:
    """Every question answered by itself."""
    return answered(model)


@pytest.mark.parametrize(("count", "batch_size"), [(3, 2), (5, 3), (2, 5)])
def test_questions_asked_together_are_answered_as_one_by_one(
    model: Any, alone: list[list[int]], count: int, batch_size: int
) -> None:
    assert answered(model, count, batch_size) == alone[:count]
    assert len({tuple(answer) for answer in alone}) == 5


def test_an_answer_ends_at_any_of_the_stop_ids(model: Any, alone: list[list[int]]) -> None:
    whole = alone[0]
    assert len(set(whole)) > 2

    for stop in (whole[0], whole[2], whole[-1]):
        for stops in ((stop,), (0, 1, stop), (stop, 0)):
            assert answered(model, 1, stops=stops) == [whole[: whole.index(stop)]]


def test_each_batch_is_sampled_anew_and_a_seed_says_how(model: Any) -> None:
    def sampled(seed: int) -> list[list[int]]:
        options = Generation(length=64, max_new_tokens=4, temperature=50.0, seed=seed)
        found = list(answers(model, Questions(), [SHORT, SHORT], options))
        drop_caches(model)
        return found

    first, second = sampled(1)

    assert first != second
    assert sampled(1) == [first, second]
    assert sampled(9) != [first, second]


def test_a_question_shows_its_media_first_and_keeps_the_history_in_order() -> None:
    record = {
        "prompt": "And why?",
        "image": "a.png",
        "video": "b.mp4",
        "history": [["Who?", "He."], ["When?", "Now."]],
    }

    asked = question(record, 7)

    assert [message.role for message in asked.messages] == ["user", "assistant"] * 2 + ["user"]
    assert [message.text for message in asked.messages] == [
        "Who?",
        "He.",
        "When?",
        "Now.",
        "And why?",
    ]
    assert [medium.path for medium in asked.media] == ["a.png", "b.mp4"]
    assert asked.messages[0].content[:2] == (Image(0), Video(1))
    assert all(len(message.content) == 1 for message in asked.messages[1:])
