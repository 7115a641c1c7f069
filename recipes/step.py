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
from recipes.optimizers import AdamW, clip_by_norm, global_norm
from recipes.sharding import ALONE, Exchange

Arrays = Sequence[NDArray[Any]]
Gradients = tuple[Tensor, ...]


class ScaledLoss(nn.Cell):
    """The share of one batch in the mean loss over the targets of several, scaled.

    The mean is scaled and not the sum: of thousands of targets, the gradients of the sum overflow
    float16 at the scale that published recipes start with, 65,536.
    """

    def __init__(self, model: VisionLanguageModel) -> None:
        super().__init__(auto_prefix=False)
        self.model = model

    def construct(self, share: Tensor, scale: Tensor, *batch: Tensor) -> Tensor:
        """A float32 scalar: the model's mean loss times `share` and `scale`, float32 scalars."""
        return self.model(*batch) * share * scale


class Add(nn.Cell):
    """Two sets of gradients added, in float32 whatever they come in."""

    def construct(self, first: Gradients, second: Gradients) -> Gradients:
        """The sums, in order."""
        wide = [gradient.astype(ms.float32) for gradient in second]
        return tuple([first[i].astype(ms.float32) + wide[i] for i in range(len(first))])


class Update(nn.Cell):
    """From the gradients of this device's part of the mean loss to changed parameters, on all
    devices alike.
    """

    def __init__(self, optimizer: AdamW, clip: float, exchange: Exchange) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer, self.clip = optimizer, clip
        self.sum_loss, self.sum_gradients = exchange.sum_loss, exchange.sum_gradients
        self.norm = global_norm if exchange.norm is None else exchange.norm

    def construct(
        self, gradients: Gradients, loss: Tensor, rate: Tensor, scale: Tensor
    ) -> tuple[Tensor, ...]:
        """(mean loss, norm of the gradients, whether they were finite):
        where not, nothing has changed.
        """
        gradients = tuple([gradient.astype(ms.float32) / scale for gradient in gradients])
        loss = loss / scale
        if self.sum_gradients is not None:
            gradients = self.sum_gradients(gradients)
        if self.sum_loss is not None:
            loss = self.sum_loss(loss)
        gradients, norm = clip_by_norm(gradients, self.clip, self.norm(gradients))
        finite = ops.isfinite(norm)
        if finite:
            self.optimizer(gradients, rate)
        return loss, norm, finite


class Trainer:
    """A model with its optimizer; `scale` and `good_steps` are the loss scale's state.

    `exchange` is what crosses between devices (`recipes.sharding`); on one, nothing does.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        optimizer: AdamW,
        clip: float,
        loss_scale: LossScale,
        exchange: Exchange = ALONE,
    ) -> None:
        self.model, self.optimizer, self.loss_scale = model, optimizer, loss_scale
        self.scale, self.good_steps = loss_scale.start, 0
        self.exchange = exchange
        scaled = ScaledLoss(model)
        scaled.set_train(True)
        self.value_and_grad: Callable[..., Any] = ms.value_and_grad(
            scaled, None, model.trainable_params()
        )
        self.add = Add()
        self.update = Update(optimizer, clip, exchange)

    def step(self, batches: Sequence[Arrays], rate: float) -> tuple[float, float]:
        """Train on the batches together, each as `recipes.inputs.model_inputs` orders it.

        The mean loss and the norm of the gradients come back; the norm is infinite or NaN if the
        step was left out.
        """
        scale = Tensor(self.scale, ms.float32)
        counts = [count_targets(batch) for batch in batches]
        total = max(1.0, self._sum_devices(sum(counts)))
        shares = [Tensor(count / total, ms.float32) for count in counts]
        loss, gradients = self.gradient(shares[0], scale, batches[0])
        for share, batch in zip(shares[1:], batches[1:], strict=True):
            more, others = self.gradient(share, scale, batch)
            loss, gradients = loss + more, ms.mutable(self.add(gradients, others))
        mean, norm, finite = self.update(gradients, loss, Tensor(rate, ms.float32), scale)
        if finite and self.exchange.gather_weights is not None:
            self.exchange.gather_weights()
        self._adapt_scale(bool(finite))
        return float(mean), float(norm)

    def gradient(self, share: Tensor, scale: Tensor, batch: Arrays) -> tuple[Tensor, Gradients]:
        """The scaled loss of one batch times its share, and the gradients: of spread parameters
        this process' slices.
        """
        loss, gradients = self.value_and_grad(share, scale, *map(Tensor, batch))
        # Else they are constants to the compiler, and every step compiles anew.
        gradients = ms.mutable(gradients)
        if self.exchange.slice_gradients is not None:
            gradients = ms.mutable(self.exchange.slice_gradients(gradients))
        return loss, gradients

    def _sum_devices(self, count: int) -> float:
        if self.exchange.sum_loss is None:
            return float(count)
        return float(self.exchange.sum_loss(Tensor(count, ms.float32)))

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
