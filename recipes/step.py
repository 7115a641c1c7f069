"""One training step:
the gradient of the mean loss over all targets of the global batch, and the update.

The mean is over targets and not over rows, devices or accumulated batches, so that the same global
batch gives the same step however it is divided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import mindspore as ms
from mindspore import Tensor, nn, ops
from numpy.typing import NDArray

from models.model import VisionLanguageModel
from recipes.config import LossScale
from recipes.optimizers import AdamW, clip_by_norm

Arrays = Sequence[NDArray[Any]]
Gradients = tuple[Tensor, ...]


class SummedLoss(nn.Cell):
    """The loss summed over targets, and scaled."""

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__(auto_prefix=False)
        self.model = model

    def construct(self, count: Tensor, scale: Tensor, *batch: Tensor) -> Tensor:
        """A float32 scalar: the model's mean loss times `count` and `scale`, float32 scalars."""
        return self.model(*batch) * count * scale


class Add(nn.Cell):
    """Two sets of gradients added."""

    def construct(self, first: Gradients, second: Gradients) -> Gradients:
        """The sums, in order."""
        return tuple([first[i] + second[i] for i in range(len(first))])


class Update(nn.Cell):
    """From summed gradients to changed parameters, on all devices alike."""

    def __init__(self, optimizer: AdamW, clip: float, parallel: bool) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer, self.clip = optimizer, clip
        self.reduce = ops.AllReduce() if parallel else None

    def construct(
        self, gradients: Gradients, loss: Tensor, count: Tensor, rate: Tensor, scale: Tensor
    ) -> tuple[Tensor, ...]:
        """(mean loss, norm of the gradients, whether they were finite):
        where not, nothing has changed.
        """
        if self.reduce is not None:
            gradients = tuple([self.reduce(gradient) for gradient in gradients])
            loss, count = self.reduce(loss), self.reduce(count)
        unit = scale * ops.maximum(count, 1.0)
        gradients = tuple([gradient.astype(ms.float32) / unit for gradient in gradients])
        gradients, norm = clip_by_norm(gradients, self.clip)
        finite = ops.isfinite(norm)
        if finite:
            self.optimizer(gradients, rate)
        return loss / unit, norm, finite


class Trainer:
    """A model with its optimizer; `scale` and `good_steps` are the loss scale's state."""

    def __init__(
        self,
        model: VisionLanguageModel,
        optimizer: AdamW,
        clip: float,
        loss_scale: LossScale,
        parallel: bool,
    ) -> None:
        self.optimizer, self.loss_scale = optimizer, loss_scale
        self.scale, self.good_steps = loss_scale.start, 0
        parameters = list(optimizer.parameters)
        summed = SummedLoss(model)
        summed.set_train(True)
        self.gradient: Callable[..., Any] = ms.value_and_grad(summed, None, parameters)
        self.add = Add()
        self.update = Update(optimizer, clip, parallel)

    def step(self, batches: Sequence[Arrays], rate: float) -> tuple[float, float]:
        """Train on the batches together, each in the order of `mmdata.pipeline.collate.COLUMNS`.

        The mean loss and the norm of the gradients come back; the norm is infinite or NaN if the
        step was left out.
        """
        scale = Tensor(self.scale, ms.float32)
        loss, gradients = self._gradient(batches[0], scale)
        for batch in batches[1:]:
            more, others = self._gradient(batch, scale)
            loss, gradients = loss + more, self.add(ms.mutable(gradients), ms.mutable(others))
        count = Tensor(sum(count_targets(batch) for batch in batches), ms.float32)
        # Else they are constants to the compiler, and every step compiles anew.
        gradients = ms.mutable(gradients)
        mean, norm, finite = self.update(gradients, loss, count, Tensor(rate, ms.float32), scale)
        self._adapt_scale(bool(finite))
        return float(mean), float(norm)

    def _gradient(self, batch: Arrays, scale: Tensor) -> tuple[Tensor, Gradients]:
        count = Tensor(count_targets(batch), ms.float32)
        result: tuple[Tensor, Gradients] = self.gradient(count, scale, *map(Tensor, batch))
        return result

    def _adapt_scale(self, finite: bool) -> None:
        rule = self.loss_scale
        if not rule.window:
            return
        self.good_steps = self.good_steps + 1 if finite else 0
        if not finite:
            self.scale = max(1.0, self.scale / rule.factor)
        elif self.good_steps == rule.window:
            self.scale, self.good_steps = self.scale * rule.factor, 0


def count_targets(batch: Arrays) -> int:
    """How many positions `models.modules.next_token_loss` counts in a batch."""
    labels, segments = batch[1], batch[3]
    return int(((labels[:, 1:] != -100) & (segments[:, 1:] == segments[:, :-1])).sum())
