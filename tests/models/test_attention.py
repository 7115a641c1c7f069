"""Attention: the plain way, and that what goes to the device's fused operator is what it takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn, ops
from mindspore.nn.utils import no_init_parameters

from models import FAMILIES, family_module
from models.attention import Attend
from models.cache import CachedAttention
from models.generate import Generator, Prompt
from models.patches import PatchAttention
from models.qwen_vl import Resampler
from models.visualglm import CrossAttention
from models.vit import SelfAttention
from models.weights import cast_parameters
from tests.models.samples import ALL_FAMILIES, batch, sample, small

pytestmark = pytest.mark.mindspore
EVERY_PRESET = [(family, size) for family in FAMILIES for size in family_module(family).PRESETS]


class StandIn:
    """Holds each call to what `flash_attention_score` documents, and computes it in float32."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, ...]] = []

    def __call__(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        head_num: int,
        *,
        attn_mask: Tensor | None,
        scalar_value: float,
        input_layout: str,
    ) -> Tensor:
        many, heads, length, size = query.shape
        _, num_kv_heads, keys, _ = key.shape
        assert query.dtype == key.dtype == value.dtype
        assert query.dtype in (ms.float16, ms.bfloat16)
        assert input_layout == "BNSD" and head_num == heads <= 256
        assert size % 16 == 0 and size <= 512
        assert key.shape == value.shape == (many, num_kv_heads, keys, size)
        assert heads % num_kv_heads == 0
        if attn_mask is not None:
            assert attn_mask.dtype in (ms.bool_, ms.uint8)
            assert attn_mask.shape in (
                (many, heads, length, keys),
                (many, 1, length, keys),
                (length, keys),
            )
        self.calls.append(query.shape)
        key, value = [
            ops.repeat_interleave(x.astype(ms.float32), heads // num_kv_heads, 1)
            for x in (key, value)
        ]
        scores = ops.matmul(query.astype(ms.float32) * scalar_value, key.swapaxes(-1, -2))
        if attn_mask is not None:
            scores = scores.masked_fill(attn_mask, -3e38)
        return ops.matmul(ops.softmax(scores, -1), value).astype(query.dtype)


def attentions(model: nn.Cell) -> Iterator[tuple[int, int, int]]:
    """Heads, heads of keys, and head size of every attention of a model."""
    for _, cell in model.cells_and_names():
        if isinstance(cell, CachedAttention):
            yield getattr(cell, "heads", cell.num_kv_heads), cell.num_kv_heads, cell.head_size
        elif isinstance(cell, (SelfAttention, CrossAttention, PatchAttention, Resampler)):
            yield cell.heads, cell.heads, cell.out.weight.shape[1] // cell.heads


def drawn(many: int, heads: int, num_kv_heads: int, size: int, dtype: ms.dtype) -> list[Tensor]:
    rng = np.random.default_rng(size)
    shapes = ((many, heads, 5, size), (many, num_kv_heads, 5, size), (many, num_kv_heads, 5, size))
    return [Tensor(rng.normal(size=shape), dtype) for shape in shapes]


@pytest.mark.parametrize(("family", "size"), EVERY_PRESET)
def test_every_attention_of_every_preset_is_one_that_the_operator_takes(
    family: str, size: str
) -> None:
    module = family_module(family)
    with no_init_parameters():
        model = module.MODEL(module.PRESETS[size])
    owners = sum(isinstance(cell, Attend) for _, cell in model.cells_and_names())
    shapes = list(attentions(model))
    operator = StandIn()

    for heads, num_kv_heads, head_size in set(shapes):
        query, key, value = drawn(2, heads, num_kv_heads, head_size, ms.float16)
        for mask in (None, *masks(2, 5)):
            fused = Attend(operator)(query, key, value, mask)
            plain = Attend()(query, key, value, mask)

            np.testing.assert_allclose(fused.asnumpy(), plain.asnumpy(), atol=4e-3)

    assert len(shapes) == owners
    assert len(operator.calls) == 3 * len(set(shapes))


def masks(many: int, length: int) -> list[Tensor]:
    """One for the whole batch, and one for each of it; everyone sees somebody."""
    lower = np.tril(np.ones((length, length), bool))
    apart = np.stack([lower, lower & (np.arange(length) >= np.arange(length)[:, None] - 1)])
    return [Tensor(lower[None, None]), Tensor(apart[:many, None])]


def test_the_heads_that_are_padded_are_those_of_three_towers() -> None:
    padded = {}
    for family, size in EVERY_PRESET:
        module = family_module(family)
        with no_init_parameters():
            shapes = set(attentions(module.MODEL(module.PRESETS[size])))
        if odd := {head_size for _, _, head_size in shapes if head_size % 16}:
            padded[family, size] = odd

    assert padded[("visualglm", "6b")] == {88}
    assert padded[("qwen_vl", "9.6b")] == {104}
    assert padded[("qwen3_vl", "8b")] == {72}
    assert {size for _, size in padded} <= {"6b", "8b", "9.6b", "tiny"}


@pytest.mark.parametrize(
    ("heads", "size", "dtype"), [(300, 16, ms.float16), (2, 528, ms.float16), (2, 16, ms.float32)]
)
def test_what_the_operator_does_not_take_goes_the_plain_way(
    heads: int, size: int, dtype: ms.dtype
) -> None:
    operator = StandIn()
    query, key, value = drawn(1, heads, 1, size, dtype)

    found = Attend(operator)(query, key, value)

    assert not operator.calls
    np.testing.assert_array_equal(found.asnumpy(), Attend()(query, key, value).asnumpy())


@pytest.mark.slow
@ALL_FAMILIES
def test_a_model_hands_the_operator_what_it_takes_when_it_trains_and_when_it_answers(
    family: str,
) -> None:
    model, operator = small(family, dtype="float16"), StandIn()
    cast_parameters(model, "float16")
    inputs = batch(model, [[sample(model, 0)], [sample(model, 1)]], 64)
    plain = float(model(**inputs))
    alone = {name: inputs[name] for name in ("input_ids", "position_ids")}
    plain_alone = model(**alone).asnumpy()
    for _, cell in model.cells_and_names():
        if isinstance(cell, Attend):
            cell.operator = operator

    assert float(model(**inputs)) == pytest.approx(plain, rel=5e-3)
    # Without segments, the mask is one for the batch.
    np.testing.assert_allclose(model(**alone).asnumpy(), plain_alone, atol=0.1)
    layers = sum(isinstance(cell, Attend) for _, cell in model.cells_and_names())
    assert len(operator.calls) > layers
    answers(model, inputs)
    assert {shape[2] for shape in operator.calls} >= {1, 64}


def answers(model: Any, inputs: dict[str, Tensor]) -> None:
    """Two tokens for each of two prompts."""
    lengths = (inputs["segment_ids"].asnumpy() > 0).sum(1)
    arrays = {
        name: inputs[name].asnumpy()
        for name in ("input_ids", "position_ids", "pixel_values", "media_index", "media_layout")
        if name in inputs
    }
    Generator(model, 2, 96).generate(Prompt(lengths=lengths, **arrays), 2)
