from __future__ import annotations

import json
import random
import re
from dataclasses import fields, replace
from itertools import chain
from typing import Any

import numpy as np
import pytest

from mmdata.errors import ConfigError
from mmdata.pipeline import Batch, Stream
from tests.pipeline.words import (
    PER_VIEW,
    Conversations,
    WordTemplate,
    WordTokenizer,
    broken,
    mixed,
    text,
    unspeakable,
)

GLOBAL_BATCH = 12
EPOCHS = 2
CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "filled": {"drop_last": False},
    "packed": {"packing": True, "window": 48},
    "packed in a small window": {"packing": True, "window": 1, "drop_last": False},
    "by length": {"group_by": "length", "window": 40},
    "by modality": {"group_by": "modality", "window": 40, "drop_last": False},
    "skipping": {"on_error": "skip", "drop_last": False},
    "masking": {"on_error": "mask"},
    "packed and masking": {"on_error": "mask", "packing": True, "window": 48},
}


def samples(options: dict[str, Any]) -> Conversations:
    found = mixed(94)
    if "on_error" in options:
        for number in (3, 50, 51, 52, 93):
            found[number] = broken(number)
        found[77] = unspeakable(77)
    return found


def make(
    found: Conversations, options: dict[str, Any], ranks: int, rank: int, workers: int
) -> Stream:
    return Stream(
        found,
        WordTemplate(),
        seq_length=48,
        batch_size=GLOBAL_BATCH // ranks,
        rank=rank,
        world_size=ranks,
        workers=workers,
        seed=5,
        **options,
    )


def rows(batch: Batch) -> list[tuple[Any, ...]]:
    """Each row of a batch, all that is in it, in bytes."""
    views = iter(batch["pixel_values"])
    found = []
    for number, samples_of_row in enumerate(batch.ids):
        index = batch["media_index"][number]
        pixels = [next(views).tobytes() for _ in range(len(index[index >= 0]) // PER_VIEW)]
        texts = [
            batch[name][number].tobytes()
            for name in ("input_ids", "labels", "position_ids", "segment_ids")
        ]
        offset = index[index >= 0].min(initial=1 << 30)
        # A rank counts the views of its own rows.
        local = np.where(index >= 0, index - offset, -1).tobytes()
        found.append((samples_of_row, *texts, local, *pixels))
    return found


def run(streams: list[Stream], steps: int) -> list[list[Any]]:
    """The global batches of the next steps, put together from the ranks."""
    return [
        list(chain.from_iterable(map(rows, parts)))
        for parts in zip(*(stream.take(steps) for stream in streams), strict=True)
    ]


def total(found: Conversations, options: dict[str, Any]) -> list[list[Any]]:
    alone = make(found, options, 1, 0, 0)
    return [rows(batch) for _ in range(EPOCHS) for batch in alone]


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_a_killed_run_goes_on_with_the_same_bytes_on_any_number_of_ranks(name: str) -> None:
    options, chance = CONFIGS[name], random.Random(name)
    found = samples(options)
    uninterrupted = total(found, options)
    divisors = [1, 2, 3, 4, 6, 12]

    for _ in range(23):  # more than 200 in all
        killed = chance.randrange(len(uninterrupted))
        before, after = chance.choice(divisors), chance.choice(divisors)
        workers = chance.choice([0, 0, 1, 3])
        streams = [make(found, options, before, rank, workers) for rank in range(before)]
        done = run(streams, killed)
        state = json.loads(json.dumps(chance.choice(streams).state_dict()))

        successors = [make(found, options, after, rank, workers) for rank in range(after)]
        for stream in successors:
            stream.load_state_dict(state)
        rest = run(successors, len(uninterrupted) - killed)

        assert done + rest == uninterrupted


@pytest.mark.parametrize("name", CONFIGS)
def test_every_state_that_a_stream_had_leads_to_the_same_rest(name: str) -> None:
    options = CONFIGS[name]
    found = samples(options)
    stream = make(found, options, 1, 0, 0)
    passes = [
        [(batch.step, rows(batch), stream.state_dict()) for batch in stream] for _ in range(2)
    ]
    batches = list(chain.from_iterable(passes))

    for step, _, state in batches:
        successor = make(found, options, 1, 0, 0)
        successor.load_state_dict(state)
        following = next(iter(successor), None)
        assert following is not None
        assert successor.step == step + 1
        if step < len(batches):
            assert rows(following) == batches[step][1]
            assert successor.state_dict() == batches[step][2]


def test_a_state_is_small() -> None:
    stream = make(mixed(500), CONFIGS["packed"], 1, 0, 0)

    sizes = [len(json.dumps(stream.state_dict())) for _ in stream]

    assert max(sizes) < 3000


def test_the_state_of_an_earlier_step_can_be_had_by_those_who_read_ahead() -> None:
    stream = make(mixed(130), {}, 1, 0, 0)
    states = [stream.state_dict() for _ in stream]

    assert stream.state_dict(step=4) == states[3]
    with pytest.raises(
        ConfigError,
        match="the state after step 400 is not known; known are those after steps 0 to 10",
    ):
        stream.state_dict(step=400)


@pytest.mark.parametrize(
    ("count", "drop_last", "whole"), [(60, True, 5), (60, False, 5), (70, True, 5), (70, False, 6)]
)
def test_the_steps_that_are_left_are_those_that_come(
    count: int, drop_last: bool, whole: int
) -> None:
    stream = make(mixed(count), {"drop_last": drop_last}, 1, 0, 0)

    for left in [*range(whole, 0, -1)] * 2:
        assert stream.steps_left == left
        successor = make(mixed(count), {"drop_last": drop_last}, 1, 0, 0)
        successor.load_state_dict(stream.state_dict())
        assert (successor.steps_left, len(list(successor))) == (left, left)
        list(stream.take(1))


def test_counts_go_on_after_a_restart() -> None:
    found = samples({"on_error": "skip"})
    first, second = (make(found, {"on_error": "skip"}, 1, 0, 0) for _ in range(2))
    batches = iter(first)
    for _ in range(6):
        next(batches)
    second.load_state_dict(first.state_dict())

    list(batches)
    list(second)

    assert first.state_dict() == second.state_dict()
    assert first.state_dict()["left_out"] == {
        "unreadable_media": 5,
        "not_encodable": 1,
        "dropped_last": 4,
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 6}, "seed was 5 and is 6"),
        ({"seq_length": 50}, "seq_length was 48 and is 50"),
        ({"batch_size": 3}, "global_batch was 12 and is 3"),
        ({"template": WordTemplate(frames=3)}, "template.frames was '2' and is '3'"),
        (
            {"template": WordTemplate(tokenizer=WordTokenizer(vocab_size=7))},
            "template.tokenizer was",
        ),
        ({"mixture": Conversations(map(text, range(130)))}, "fingerprint was"),
        ({"mixture": mixed(131)}, "samples was 130 and is 131"),
    ],
)
def test_the_state_of_another_stream_is_refused_with_what_differs(
    changes: dict[str, Any], told: str
) -> None:
    stream = make(mixed(130), {}, 1, 0, 0)
    options = {
        "seq_length": 48,
        "batch_size": 12,
        "seed": 5,
        "mixture": mixed(130),
        "template": WordTemplate(),
    }
    other = Stream(**{**options, **changes})

    with pytest.raises(ConfigError, match=f"belongs to another stream: .*{told}"):
        other.load_state_dict(stream.state_dict())


OTHERWISE: dict[str, Any] = {
    "mixture": mixed(131),
    "template": WordTemplate(frames=3),
    "seq_length": 50,
    "batch_size": 6,
    "seed": 6,
    "world_size": 2,
    "shuffle": False,
    "packing": True,
    "group_by": "modality",
    "window": 48,
    "drop_last": False,
    "on_error": "mask",
    "layout": "mindformers",
    "dynamic": True,
    "max_views": 9,
    "pixels": "float32",
    "resize": "fast",
    "on_damage": "keep",
}
CHANGES_NOTHING = {
    "rank",
    "workers",
    "prefetch",
    "isolated",
    "deadline",
    "on_error_limit",
    "skipped",
    "memory",
    "max_pixels",
    "media_cache",
}


def test_every_option_either_is_a_fact_of_the_state_or_changes_no_batch() -> None:
    options = {option.name for option in fields(Stream) if option.init}

    assert OTHERWISE.keys() | CHANGES_NOTHING == options
    assert not OTHERWISE.keys() & CHANGES_NOTHING


@pytest.mark.parametrize("option", OTHERWISE)
def test_a_state_is_refused_by_a_stream_that_differs_in_a_single_option(option: str) -> None:
    options: dict[str, Any] = {"mixture": mixed(130), "template": WordTemplate(), "seed": 5}
    state = json.loads(json.dumps(Stream(**options).state_dict()))
    other = Stream(**{**options, option: OTHERWISE[option]})

    with pytest.raises(ConfigError, match="belongs to another stream"):
        other.load_state_dict(state)


@pytest.mark.parametrize(
    "template",
    [
        WordTemplate(tokenizer=WordTokenizer(special={"<pad>": 0, "<end>": 1, "<picture>": 7})),
        WordTemplate(tokenizer=WordTokenizer(first=1)),
        WordTemplate(max_length=9),
        WordTemplate(over_long="drop"),
        WordTemplate(axes=2),
    ],
    ids=["control tokens", "words", "max_length", "over_long", "axes"],
)
def test_a_state_is_refused_by_a_template_that_differs_in_a_single_option(
    template: WordTemplate,
) -> None:
    state = make(mixed(130), {}, 1, 0, 0).state_dict()
    other = Stream(mixed(130), template, seq_length=48, batch_size=GLOBAL_BATCH, seed=5)

    with pytest.raises(ConfigError, match=r"belongs to another stream: template\.\w+ was"):
        other.load_state_dict(state)


FACTS = sorted(make(mixed(130), {}, 1, 0, 0).state_dict()["facts"])


@pytest.mark.parametrize("fact", FACTS)
def test_a_state_with_a_single_fact_changed_or_gone_is_refused_by_its_name(fact: str) -> None:
    stream = make(mixed(130), {}, 1, 0, 0)
    state = stream.state_dict()
    changed, gone = ({**state, "facts": dict(state["facts"])} for _ in range(2))
    changed["facts"][fact] = "something else"
    del gone["facts"][fact]
    stream.load_state_dict(state)

    for other in (changed, gone) if stream.state_dict()["facts"][fact] is not None else (changed,):
        with pytest.raises(ConfigError, match=f"another stream: {re.escape(fact)} was"):
            stream.load_state_dict(other)


def test_a_fact_that_this_library_does_not_know_is_refused() -> None:
    stream = make(mixed(130), {}, 1, 0, 0)
    state = stream.state_dict()
    state["facts"]["order"] = "backwards"

    with pytest.raises(ConfigError, match="order was 'backwards'"):
        stream.load_state_dict(state)


def test_ranks_workers_and_prefetch_are_no_part_of_the_state() -> None:
    one = make(mixed(130), {}, 1, 0, 0)
    other = Stream(
        mixed(130),
        replace(WordTemplate()),
        seq_length=48,
        batch_size=4,
        rank=2,
        world_size=3,
        seed=5,
        prefetch=9,
    )

    other.load_state_dict(one.state_dict())

    assert other.state_dict() == one.state_dict()
