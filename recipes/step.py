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
from models.parallel import ALONE, ONE, Groups, Layout, cuts_of, model_group
from recipes.config import LossScale
from recipes.optimizers import AdamW, DividedNorm, clip_by_norm, global_norm

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
    """From the gradients of this device's mean loss to changed parameters, on all devices alike.

    `norm` finds the norm of gradients that are divided among devices; None of whole ones.
    """

    def __init__(
        self, optimizer: AdamW, clip: float, groups: Groups, norm: DividedNorm | None = None
    ) -> None:
        super().__init__(auto_prefix=False)
        self.optimizer, self.clip, self.norm = optimizer, clip, norm
        self.reduce = None if groups.data is None else ops.AllReduce(group=groups.data)

    def construct(
        self, gradients: Gradients, loss: Tensor, count: Tensor, rate: Tensor, scale: Tensor
    ) -> tuple[Tensor, ...]:
        """(mean loss, norm of the gradients, whether they were finite):
        where not, nothing has changed.
        """
        gradients = tuple([gradient.astype(ms.float32) / scale for gradient in gradients])
        loss = loss / scale
        if self.reduce is not None:
            total = ops.maximum(self.reduce(count), 1.0)
            gradients = tuple([self.reduce(gradient * count) / total for gradient in gradients])
            loss = self.reduce(loss * count) / total
        norm = global_norm(gradients) if self.norm is None else self.norm(gradients)
        gradients, norm = clip_by_norm(gradients, self.clip, norm)
        finite = ops.isfinite(norm)
        if finite:
            self.optimizer(gradients, rate)
        return loss, norm, finite


class Trainer:
    """A model with its optimizer, at this process' place in a layout; `scale` and `good_steps` are
    the loss scale's state.
    """

    def __init__(
        self,
        model: VisionLanguageModel,
        optimizer: AdamW,
        clip: float,
        loss_scale: LossScale,
        layout: Layout = ONE,
        groups: Groups = ALONE,
    ) -> None:
        self.model, self.optimizer, self.loss_scale = model, optimizer, loss_scale
        self.scale, self.good_steps = loss_scale.start, 0
        parameters = list(optimizer.parameters)
        scaled = ScaledLoss(model)
        scaled.set_train(True)
        self.gradient: Callable[..., Any] = ms.value_and_grad(scaled, None, parameters)
        self.add = Add()
        norm = None
        if layout.model > 1:
            norm = DividedNorm(parameters, cuts_of(model), model_group(layout, groups))
        self.update = Update(optimizer, clip, groups, norm)

    def step(self, batches: Sequence[Arrays], rate: float) -> tuple[float, float]:
        """Train on the batches together, each as `recipes.inputs.model_inputs` orders it.

        The mean loss and the norm of the gradients come back; the norm is infinite or NaN if the
        step was left out.
        """
        scale = Tensor(self.scale, ms.float32)
        counts = [count_targets(batch) for batch in batches]
        shares = [Tensor(count / max(1, sum(counts)), ms.float32) for count in counts]
        loss, gradients = self.gradient(shares[0], scale, *map(Tensor, batches[0]))
        for share, batch in zip(shares[1:], batches[1:], strict=True):
            more, others = self.gradient(share, scale, *map(Tensor, batch))
            loss, gradients = loss + more, self.add(ms.mutable(gradients), ms.mutable(others))
        count = Tensor(sum(counts), ms.float32)
        # Else they are constants to the compiler, and every step compiles anew.
        gradients = ms.mutable(gradients)
        mean, norm, finite = self.update(gradients, loss, count, Tensor(rate, ms.float32), scale)
        self._adapt_scale(bool(finite))
        return float(mean), float(norm)

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
