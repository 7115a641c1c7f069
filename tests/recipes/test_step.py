"""One step of a trainer: the mean over targets, and the loss scale."""

from __future__ import annotations

from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from numpy.typing import NDArray

from recipes.config import LossScale
from recipes.optimizers import AdamW
from recipes.step import Trainer, count_targets

pytestmark = pytest.mark.mindspore


class Line(nn.Cell):
    """A model of one weight: its loss is the weight times the mean of the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = Parameter(Tensor(np.ones(1, np.float32)), name="weight")

    def construct(
        self, ids: Any, labels: Any, positions: Any, segments: Any, pixels: Any, index: Any
    ) -> Any:
        return (self.weight * pixels.mean()).sum()


def batch(value: float, targets: int = 2) -> list[NDArray[Any]]:
    labels = np.where(np.arange(5) <= targets, 7, -100).astype(np.int32)[None]
    same = np.ones((1, 5), np.int32)
    return [same, labels, same, same, np.full((1, 1), value, np.float32), same]


def trainer(**options: Any) -> Trainer:
    model = Line()
    return Trainer(
        model, AdamW(model.trainable_params()), 1e9, LossScale(**options), parallel=False
    )


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


def test_a_step_that_overflows_changes_neither_weights_nor_moments_nor_their_count() -> None:
    scaled = trainer(start=2.0, window=5)
    state = [
        *scaled.optimizer.parameters,
        *scaled.optimizer.first,
        *scaled.optimizer.second,
        scaled.optimizer.step,
    ]
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
