"""Positions beyond the length that a model was trained with."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

from models.decoder import Decoder, DecoderConfig
from models.qwen_vl import PRESETS, QwenDecoder
from tests.models.golden import ints, worst

pytestmark = pytest.mark.mindspore
SMALL = DecoderConfig(
    vocabulary=8, hidden=16, layers=1, heads=2, num_kv_heads=2, head_size=8, mlp=16
)
TRAINED = 64


@pytest.fixture(scope="module")
def qwen() -> QwenDecoder:
    decoder = QwenDecoder(replace(PRESETS["tiny"], language=SMALL, train_length=TRAINED))
    decoder.set_train(False)
    return decoder


def tables(
    decoder: Any, positions: NDArray[Any], length: Tensor | None = None
) -> list[NDArray[Any]]:
    found = decoder.rope(ints(positions), length)
    return [table.asnumpy() for table in found if table is not None]


@pytest.mark.parametrize("factor", [2.0, 4.0])
def test_a_rope_factor_draws_positions_together(factor: float) -> None:
    plain, scaled = Decoder(SMALL), Decoder(replace(SMALL, rope_factor=factor))
    positions = np.arange(9)[None]

    for ours, theirs in zip(
        tables(scaled, positions * int(factor)), tables(plain, positions), strict=True
    ):
        assert worst(ours, theirs) < 1e-6
    assert worst(tables(scaled, positions)[0], tables(plain, positions)[0]) > 0.1


def test_frequencies_slow_down_with_each_doubling_of_the_length_and_not_before(
    qwen: QwenDecoder,
) -> None:
    lengths = [
        1,
        TRAINED - 1,
        TRAINED,
        TRAINED + 1,
        2 * TRAINED,
        2 * TRAINED + 1,
        4 * TRAINED,
        4 * TRAINED + 1,
    ]
    alphas = [1, 1, 1, 3, 3, 7, 7, 15]  # 2^ceil(log2(length / trained) + 1) - 1

    found = qwen.ntk_frequencies(ints(np.array(lengths))).asnumpy()

    for alpha, row in zip(alphas, found[:, 0], strict=True):
        base = 10000.0 * alpha ** (8 / (8 - 2))
        np.testing.assert_allclose(row, [base ** (-2 * j / 8) for j in range(4)], rtol=1e-5)


def test_queries_beyond_the_trained_length_are_sharpened_and_keys_are_not(
    qwen: QwenDecoder,
) -> None:
    positions = np.array([[0, TRAINED - 2, TRAINED - 1, TRAINED, 3 * TRAINED]])
    scales = [
        1,
        1,
        1,
        math.log(TRAINED + 1) / math.log(TRAINED),
        math.log(3 * TRAINED + 1) / math.log(TRAINED),
    ]

    cos, sin, scale = tables(qwen, positions, ints(np.array([9])))

    np.testing.assert_allclose(scale[0, 0, :, 0], scales, rtol=1e-5)
    # The tables, of queries and keys alike, are those of a model that sharpens nothing.
    plain_cos, plain_sin = tables(Decoder(SMALL), positions)
    np.testing.assert_allclose(cos, plain_cos, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(sin, plain_sin, rtol=1e-5, atol=1e-6)


def test_while_training_nothing_is_stretched(qwen: QwenDecoder) -> None:
    positions = np.arange(3 * TRAINED)[None]
    qwen.set_train(True)
    found = tables(qwen, positions)
    qwen.set_train(False)

    for ours, theirs in zip(found, tables(Decoder(SMALL), positions), strict=True):
        assert worst(ours, theirs) == 0
