"""One step of a trainer: the mean over targets, and the loss scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from numpy.typing import NDArray

from mmdata.pipeline.collate import COLUMNS
from models.weights import cast_parameters
from recipes.checkpoints import Trained, held_optimizer, restore, save
from recipes.config import LossScale
from recipes.optimizers import AdamW
from recipes.step import Trainer, count_targets
from tests.models import samples

pytestmark = pytest.mark.mindspore


class Line(nn.Cell):
    """A model of one weight: its loss is the weight times the mean of the pixels."""

    def __init__(self, dtype: ms.dtype = ms.float32) -> None:
        super().__init__()
        self.weight = Parameter(Tensor(np.ones(1), dtype), name="weight")

    def construct(
        self, ids: Any, labels: Any, positions: Any, segments: Any, pixels: Any, index: Any
    ) -> Any:
        return (self.weight * pixels.mean().astype(self.weight.dtype)).astype(ms.float32).sum()


def batch(value: float, targets: int = 2) -> list[NDArray[Any]]:
    labels = np.where(np.arange(5) <= targets, 7, -100).astype(np.int32)[None]
    same = np.ones((1, 5), np.int32)
    return [same, labels, same, same, np.full((1, 1), value, np.float32), same]


def trainer(dtype: ms.dtype = ms.float32, **options: Any) -> Trainer:
    model = Line(dtype)
    return Trainer(model, AdamW(model.trainable_params()), 1e9, LossScale(**options))


def state_of(one: Trainer) -> list[Parameter]:
    """The weights and all that the optimizer remembers."""
    trained = Trained(one.model, ["weight"], one.optimizer)
    return [
        *one.optimizer.parameters,
        *(each.parameter for each in held_optimizer(trained).values()),
    ]


def test_targets_are_labels_that_a_token_of_their_own_sample_comes_before() -> None:
    labels = np.array([[5, 5, -100, 5, 5, 5]])
    segments = np.array([[1, 1, 1, 2, 2, 0]])

    assert count_targets([labels, labels, labels, segments]) == 2


def test_the_loss_of_batches_together_is_the_mean_over_their_targets() -> None:
    loss, norm = trainer().step([batch(1.0, targets=3), batch(5.0, targets=1)], 0.0)

    assert loss == pytest.approx((3 * 1.0 + 1 * 5.0) / 4)
    assert norm == pytest.approx(2.0)


def test_the_loss_scale_grows_after_so_many_good_steps_and_shrinks_at_once_but_not_below_one() -> (
    None
):
    scaled = trainer(start=4.0, factor=4.0, window=2)
    good, bad = batch(1.0), batch(np.inf)

    scales = []
    for one in (good, good, good, bad, good, good, bad, bad, bad, good, good):
        loss, _ = scaled.step([one], 0.0)
        scales.append(scaled.scale)
        assert loss == pytest.approx(1.0) or one is bad

    assert scales == [4, 16, 16, 4, 4, 16, 4, 1, 1, 1, 4]


def test_a_loss_scale_without_a_window_stays() -> None:
    scaled = trainer(start=8.0, window=0)

    for one in (batch(np.inf), *[batch(1.0)] * 3):
        scaled.step([one], 0.0)

    assert scaled.scale == 8.0


@pytest.mark.parametrize("dtype", [ms.float32, ms.float16])
def test_a_step_that_overflows_changes_neither_weights_nor_moments_nor_their_count(
    dtype: ms.dtype,
) -> None:
    scaled = trainer(dtype, start=2.0, window=5)
    state = state_of(scaled)
    scaled.step([batch(1.0)], 0.1)
    before = [parameter.asnumpy().copy() for parameter in state]

    _, norm = scaled.step([batch(1.0), batch(np.inf)], 0.1)

    assert not np.isfinite(norm)
    for parameter, earlier in zip(state, before, strict=True):
        np.testing.assert_array_equal(parameter.asnumpy(), earlier)
    scaled.step([batch(1.0)], 0.1)
    assert all(
        not np.array_equal(parameter.asnumpy(), earlier)
        for parameter, earlier in zip(state, before, strict=True)
    )


def test_a_rate_of_zero_changes_no_weight() -> None:
    still = trainer()

    still.step([batch(3.0)], 0.0)

    assert ms.ops.equal(still.optimizer.parameters[0], 1.0).all()


def test_the_scale_is_that_of_the_mean_so_that_many_targets_do_not_overflow_half_precision() -> (
    None
):
    scaled = trainer(ms.float16, start=65536.0)

    loss, norm = scaled.step([batch(0.5, targets=4), batch(0.25, targets=4)], 0.0)

    assert loss == pytest.approx((0.5 + 0.25) / 2)
    assert norm == pytest.approx((0.5 + 0.25) / 2)


def test_updates_too_small_for_a_half_precision_weight_add_up_in_its_master() -> None:
    wide, half = trainer(), trainer(ms.float16)

    for _ in range(100):
        for one in (wide, half):
            one.step([batch(1.0)], 1e-5)  # float16 has no number between 1 and 0.99951

    expected = wide.optimizer.parameters[0].asnumpy()
    assert expected == pytest.approx(0.999, abs=3e-6)
    assert half.optimizer.masters[0].asnumpy() == pytest.approx(expected, abs=1e-7)
    assert half.optimizer.parameters[0].asnumpy() == expected.astype(np.float16)
    assert not wide.optimizer.masters


def test_weights_and_masters_come_back_from_a_checkpoint_to_the_bit(tmp_path: Path) -> None:
    first, again = trainer(ms.float16), trainer(ms.float16)
    for _ in range(3):
        first.step([batch(1.0)], 1e-5)

    save(tmp_path / "made", Trained(first.model, ["weight"], first.optimizer), {})
    restore(tmp_path / "made", Trained(again.model, ["weight"], again.optimizer))

    for one in (first, again):
        one.step([batch(2.0)], 1e-5)
    kept, back = state_of(first), state_of(again)
    assert [value.asnumpy().tobytes() for value in kept] == [
        value.asnumpy().tobytes() for value in back
    ]
    assert float(first.optimizer.masters[0].asnumpy()[0]) < 1 - 1e-6


# What their published recipes start with.
SCALES = {
    "cogvlm2_video": 1.0,
    "llava_next_video": 1.0,
    "qwen2_5_vl": 1.0,
    "qwen3_vl": 1.0,
    "qwen_vl": 64.0,
    "visualglm": 65536.0,
}


@pytest.mark.slow
@samples.ALL_FAMILIES
def test_a_model_in_half_precision_trains_as_one_in_float32(family: str) -> None:
    names = (*COLUMNS, "media_layout")
    made = {}
    for dtype in ("float32", "float16"):
        model = samples.smallest(family, dtype=dtype)
        cast_parameters(model, dtype)
        drawn = samples.batch(model, [[samples.sample(model, seed)] for seed in (0, 1)], 64)
        arrays = [drawn[name].asnumpy() for name in names if name in drawn]
        rule = LossScale(start=SCALES[family], window=10)
        one = Trainer(model, AdamW(model.trainable_params()), 1.0, rule)
        made[dtype] = [one.step([arrays, arrays], 2e-4) for _ in range(3)]
        assert {str(parameter.dtype).lower() for parameter in model.get_parameters()} == {dtype}
        assert one.scale == SCALES[family]

    losses, norms = zip(*made["float16"], strict=True)
    assert losses == pytest.approx([loss for loss, _ in made["float32"]], rel=3e-2)
    assert norms[0] == pytest.approx(made["float32"][0][1], rel=2e-2)
    assert losses[2] < losses[0]
