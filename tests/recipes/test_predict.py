"""Answers: where they end, and whose they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import mindspore as ms
import numpy as np
import pytest

from mmdata.errors import SampleError
from mmdata.schema import Conversation, Image, Media, Video, assistant, user
from mmdata.schema import replace as replace_fields
from mmdata.templates import Encoded
from mmdata.tokenizers import Tokenizer
from models.cache import drop_caches
from models.checkpoint import write_checkpoint
from recipes.config import Generation, PredictConfig, read
from recipes.defaults import from_hf, generation_of, of_tokenizer
from recipes.predict import Remote, TextSoFar, answers, answers_or_faults
from recipes.questions import question
from tests.pipeline.test_packed_models import qwen
from tests.pipeline.words import WordTemplate, filmed, shown, text
from tests.storage.web import Web, serve

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


def test_what_is_drawn_for_a_question_hangs_on_it_and_the_seed_alone(model: Any) -> None:
    other = replace_fields(SHORT, id="other")

    def sampled(*asked: Conversation, seed: int = 1, batch_size: int = 1) -> list[list[int]]:
        options = Generation(length=64, max_new_tokens=4, temperature=50.0, seed=seed)
        found = answers_or_faults(model, Questions(), asked, options, batch_size)
        said = [one for one in found if not isinstance(one, str)]
        drop_caches(model)
        return said

    first, second = sampled(SHORT, other)

    assert first != second
    assert sampled(other, SHORT) == [second, first]
    assert sampled(other, SHORT, SHORT, batch_size=3) == [second, first, first]
    assert sampled(SHORT, other, seed=9) != [first, second]


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_a_question_that_cannot_be_answered_costs_itself_and_not_the_others(
    model: Any, alone: list[list[int]], batch_size: int
) -> None:
    long = Conversation("long", (user("word " * 90), assistant("me")))
    absent = Conversation(
        "absent", (user(Image(0), "who"), assistant("me")), (Media("image", path="/nowhere.png"),)
    )
    asked = [long, *ASKED[:2], absent, ASKED[2], long, long, *ASKED[3:], absent]

    found = list(answers_or_faults(model, Questions(), asked, GENERATION, batch_size))
    drop_caches(model)

    assert [one for one in found if not isinstance(one, str)] == alone
    assert [number for number, one in enumerate(found) if isinstance(one, str)] == [0, 3, 5, 6, 9]
    assert "long" in str(found[0]) and "tokens" in str(found[0])
    assert "/nowhere.png" in str(found[3]) and "/nowhere.png" in str(found[9])


def test_where_no_question_can_be_answered_each_says_why(model: Any) -> None:
    long = Conversation("long", (user("word " * 90), assistant("me")))

    found = list(answers_or_faults(model, Questions(), [long, long], GENERATION, 2))
    drop_caches(model)

    assert len(found) == 2 and all("tokens" in str(one) for one in found)
    with pytest.raises(SampleError):
        list(answers(model, Questions(), [SHORT, long], GENERATION))
    drop_caches(model)


class Letters:
    """A tokenizer of letters, of which a token may be half of one."""

    def decode(self, ids: Sequence[int], skip_special: bool = False) -> str:
        return bytes(ids).decode("utf-8", "replace")


@pytest.mark.parametrize(
    ("said", "stop", "text"),
    [
        ("one\nTwo: three", ("\nTwo:",), "one"),
        ("one\nTw", ("\nTwo:",), "one\nTw"),
        ("a b ab", ("ab", "b"), "a"),
        ("größe 空", (), "größe 空"),
        ("END", ("END",), ""),
        ("aab", ("ab",), "a"),
    ],
)
def test_a_stop_text_ends_an_answer_before_it_and_nothing_of_it_is_heard(
    said: str, stop: tuple[str, ...], text: str
) -> None:
    heard: list[str] = []
    so_far = TextSoFar(cast("Tokenizer", Letters()), stop, heard.append)
    ids = list(said.encode())

    for count in range(1, len(ids) + 1):
        if so_far(0, ids[:count]):
            break

    assert so_far.finish(ids[:count]) == text.strip()
    assert "".join(heard).strip() == text.strip()
    assert "\ufffd" not in "".join(heard)
    if not stop:
        assert heard == list(said)


def test_an_answer_ends_as_soon_as_its_text_has_the_stop_text(
    model: Any, alone: list[list[int]]
) -> None:
    told: list[tuple[int, int]] = []

    def ended(row: int, ids: Sequence[int]) -> bool:
        told.append((row, len(ids)))
        return len(ids) == (2, 4)[row]

    found = list(
        answers_or_faults(model, Questions(), ASKED[:2], GENERATION, batch_size=2, ended=ended)
    )
    drop_caches(model)

    assert found == [alone[0][:2], alone[1][:4]]
    assert told == [(0, 1), (1, 1), (0, 2), (1, 2), (1, 3), (1, 4)]


def test_a_penalty_keeps_a_model_from_saying_again_what_was_said(model: Any) -> None:
    options = replace(GENERATION, repetition_penalty=1e6, max_new_tokens=12, length=70)

    [found] = answers(model, Questions(), [SHORT], options)
    [free] = answers(model, Questions(), [SHORT], replace(options, repetition_penalty=1.0))
    drop_caches(model)

    assert len(set(found)) == 12 > len(set(free))


def test_what_a_checkpoint_says_of_generation_is_the_default_and_the_yaml_goes_before_it(
    tmp_path: Path,
) -> None:
    told = {
        "do_sample": True,
        "top_p": 0.3,
        "repetition_penalty": 1.1,
        "max_new_tokens": 9,
        "eos_token_id": [7, 8],
        "chat_format": "chatml",
    }
    write_checkpoint(tmp_path / "w.safetensors", [], [], {"generation_config": json.dumps(told)})
    file = tmp_path / "p.yaml"
    file.write_text(f"model: {{weights: {tmp_path / 'w.safetensors'}}}\ngeneration: {{top_k: 3}}")

    found = read(PredictConfig, file, ["generation.top_p=0.5"], below=generation_of).generation

    assert (found.temperature, found.top_k, found.top_p) == (1.0, 3, 0.5)
    assert (found.repetition_penalty, found.max_new_tokens) == (1.1, 9)
    assert found.stop_ids == (7, 8)
    greedy = from_hf({"eos_token_id": 2, "temperature": 0.9, "do_sample": False})
    assert greedy == {"stop_ids": [2]}
    assert generation_of({"model": {"weights": str(tmp_path / "absent")}}) == {}


def test_a_tokenizer_says_where_answers_end_unless_the_generation_config_does(
    tmp_path: Path,
) -> None:
    tokenizer = {
        "model_max_length": 512,
        "eos_token": {"content": "<end>"},
        "added_tokens_decoder": {"5": {"content": "<end>"}, "6": {"content": "<other>"}},
    }
    head = {"tokenizer_config": json.dumps(tokenizer)}
    values = {"model": {"weights": str(tmp_path / "w.safetensors")}}

    write_checkpoint(tmp_path / "w.safetensors", [], [], head)
    assert generation_of(values) == {"generation": {"length": 512, "stop_ids": [5]}}

    head["generation_config"] = json.dumps({"eos_token_id": 8})
    write_checkpoint(tmp_path / "w.safetensors", [], [], head)
    assert generation_of(values) == {"generation": {"length": 512, "stop_ids": [8]}}

    assert of_tokenizer({"model_max_length": 1e30, "eos_token": "</s>"}) == {}
    assert of_tokenizer({**tokenizer, "model_max_length": 8192, "eos_token": "<other>"}) == {
        "stop_ids": [6]
    }


def test_a_question_shows_its_media_first_and_keeps_the_history_in_order() -> None:
    record = {
        "prompt": "And why?",
        "image": "a.png",
        "video": "b.mp4",
        "history": [["Who?", "He."], ["When?", "Now."]],
    }

    asked = question(record)

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


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as web:
        yield web


def test_a_picture_is_read_from_the_web_where_that_is_allowed(
    model: Any, alone: list[list[int]], web: Web
) -> None:
    picture = ASKED[0].media[0].bytes
    assert picture is not None
    web.files["/a.png"] = picture
    web.files["/moved"] = web.url("/a.png")
    web.files["/away"] = web.url("/a.png", "localhost")

    def said(path: str, remote: Remote) -> list[int] | str:
        [medium] = ASKED[0].media
        behind = replace_fields(medium, bytes=None, path=web.url(path))
        asked = replace_fields(ASKED[0], media=(behind,))
        found = list(answers_or_faults(model, Questions(), [asked], GENERATION, remote=remote))
        drop_caches(model)
        return found[0]

    named = Remote(allowed=True, hosts=("127.0.0.1",))
    assert said("/a.png", named) == said("/moved", named) == alone[0]
    assert "is read with --allow-remote alone" in str(said("/a.png", Remote()))
    assert "is a machine of this network" in str(said("/a.png", Remote(allowed=True)))
    assert "--allow-host localhost" in str(said("/away", named))
    assert "404" in str(said("/absent", named))
