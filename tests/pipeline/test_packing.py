from __future__ import annotations

from collections import Counter
from itertools import chain
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.pipeline import Stream
from mmdata.pipeline.encode import Place
from mmdata.pipeline.packing import pack
from mmdata.schema import Conversation, assistant, user
from mmdata.templates import IGNORE, Encoded
from tests.pipeline.words import Conversations, WordTemplate, mixed, text
from tests.templates.families import FAMILIES, Family


def place(position: int, tokens: int) -> Place:
    row = np.zeros(tokens, np.int32)
    return Place(position, position, Encoded(row, row, row))


@given(st.lists(st.integers(1, 50), max_size=60), st.integers(50, 120))
def test_every_sample_is_in_one_row_and_no_row_is_too_long(lengths: list[int], room: int) -> None:
    rows = pack([place(n, length) for n, length in enumerate(lengths)], room, None)

    assert sorted(p.position for row in rows for p in row) == list(range(len(lengths)))
    assert all(sum(p.tokens for p in row) <= room for row in rows)
    assert all(list(row) == sorted(row, key=lambda p: p.position) for row in rows)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(50, 120))
def test_no_two_rows_would_fit_into_one(lengths: list[int], room: int) -> None:
    rows = pack([place(n, length) for n, length in enumerate(lengths)], room, None)

    fills = sorted(sum(p.tokens for p in row) for row in rows)
    assert len(fills) < 2 or fills[0] + fills[1] > room


def packs(family: Family) -> bool:
    return family.template().packs


def packing(samples: Conversations, **options: Any) -> Stream:
    settings = {
        "seq_length": 64,
        "batch_size": 2,
        "packing": True,
        "window": 32,
        "drop_last": False,
        "workers": 0,
    }
    return Stream(samples, WordTemplate(), **{**settings, **options})


@pytest.mark.slow
@given(st.integers(1, 70), st.integers(0, 9), st.integers(1, 40))
def test_no_token_is_lost_or_doubled(count: int, seed: int, window: int) -> None:
    samples, template = mixed(count), WordTemplate()

    tokens: Counter[str] = Counter()
    for batch in packing(samples, seed=seed, window=window):
        for row in range(2 - batch.repeated):
            for segment, name in enumerate(batch.ids[row], 1):
                here = batch["segment_ids"][row] == segment
                expected = template.encode(next(s for s in samples if s.id == name))
                np.testing.assert_array_equal(batch["input_ids"][row][here], expected.input_ids)
                np.testing.assert_array_equal(batch["labels"][row][here][1:], expected.labels[1:])
                np.testing.assert_array_equal(
                    batch["position_ids"][row][here], expected.position_ids
                )
                tokens[name] += int(here.sum())
            assert (
                batch["input_ids"][row][batch["segment_ids"][row] == 0] == template.pad_id
            ).all()

    assert tokens == {sample.id: len(template.encode(sample)) for sample in samples}


def test_the_first_token_of_a_packed_sample_is_no_target_of_the_one_before() -> None:
    samples = Conversations(map(text, range(6)))

    for batch in packing(samples):
        starts = np.diff(batch["segment_ids"], prepend=1) > 0
        assert (batch["labels"][starts] == -100).all()


@pytest.mark.parametrize("family", [family for family in FAMILIES if packs(family)], ids=str)
def test_no_first_token_is_a_target_of_the_sample_before_whatever_the_family_trains(
    family: Family,
) -> None:
    template = family.template()
    samples = [
        Conversation(f"c{n}", (user(f"Say {n}"), assistant("n" * (n + 1)))) for n in range(4)
    ]
    encoded = [template.encode(sample) for sample in samples]

    [batch] = Stream(
        Conversations(samples), template, seq_length=sum(map(len, encoded)), batch_size=1,
        packing=True, workers=0, shuffle=False,
    )  # fmt: skip

    expected = np.concatenate([sample.labels for sample in encoded])
    expected[np.cumsum([len(sample) for sample in encoded])[:-1]] = IGNORE
    assert batch.ids == (("c0", "c1", "c2", "c3"),)
    np.testing.assert_array_equal(batch["labels"], [expected])
    if family.name == "qwen_vl":
        # The original trains it, which is what makes the difference.
        assert encoded[1].labels[0] != IGNORE


def test_a_row_takes_no_more_pictures_than_it_has_room_for() -> None:
    for batch in packing(mixed(100), max_views=3, seq_length=200):
        assert batch["pixel_values"].shape == (6, 8, 8, 3)


def test_packing_and_modality_can_go_together() -> None:
    for batch in packing(mixed(120), group_by="modality", window=80, drop_last=True):
        assert len({name[0] for name in chain.from_iterable(batch.ids)}) == 1


# LLaVA-1.5's mix: thousands of records (its paper's table), tokens of the picture, and, estimated,
# median and spread (of the logarithm) of the text: instructions, VQAv2, knowledge, RefCOCO, GQA,
# OCR-VQA, TextCaps, VG, ShareGPT.
LLAVA_MIX = [
    (158, 576, 250, 0.5),
    (83, 576, 130, 0.5),
    (75, 576, 60, 0.5),
    (48, 576, 250, 0.5),
    (72, 576, 150, 0.5),
    (80, 576, 130, 0.4),
    (22, 576, 60, 0.5),
    (86, 576, 400, 0.6),
    (41, 0, 800, 0.8),
]


def llava_lengths(count: int) -> list[int]:
    """Lengths in tokens of samples of the mix."""
    chance, shares = np.random.default_rng(0), np.array([part[0] for part in LLAVA_MIX])
    parts = np.array(LLAVA_MIX)[chance.choice(len(LLAVA_MIX), count, p=shares / shares.sum())]
    texts = 40 + chance.lognormal(np.log(parts[:, 2]), parts[:, 3])
    return list(map(int, (parts[:, 1] + texts).clip(8, 2048)))


@pytest.mark.slow
def test_packed_rows_of_a_llava_shaped_mix_are_full_where_single_ones_are_mostly_empty() -> None:
    samples = Conversations(
        text(n, words=length - 2) for n, length in enumerate(llava_lengths(4000))
    )

    batches = list(packing(samples, seq_length=4096, batch_size=8, window=1024, drop_last=True))
    real = sum(batch.tokens for batch in batches) / sum(
        batch["input_ids"].size for batch in batches
    )
    single = sum(llava_lengths(4000)) / (4096 * len(samples))

    assert real >= 0.95, real
    assert single < 0.25, single
