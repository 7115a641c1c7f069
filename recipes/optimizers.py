"""AdamW, with and without bias correction, and gradient clipping; all state in float32.

Weights in half precision have a float32 master beside their moments: it takes the update, and the
weight is the master rounded. Without one, an update below half a unit in the last place of a weight
(some 1/2,000 of it in float16, 1/250 in bfloat16) would be lost, at every step anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import mindspore as ms
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops
from mindspore.common.initializer import initializer


class AdamW(nn.Cell):
    """Adam with decoupled weight decay.

    With `bias_correction` it is torch's AdamW, without it MindSpore's AdamWeightDecay (the recipes
    of MindFormers), whose first steps are some three times as long. `decay_matrices_only` spares
    norms and biases. `masters` are the float32 copies of those parameters that are kept in half
    precision, as they are when this is made. `rates` are what the learning rate of each parameter
    is multiplied with (`layer_rates`), by default 1; `decays` are the weight decays of each, where
    its shape does not say whether it is spared (a slice of a flat array).
    """

    def __init__(
        self,
        parameters: Sequence[Parameter],
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        bias_correction: bool = True,
        decay_matrices_only: bool = True,
        rates: Sequence[float] | None = None,
        decays: Sequence[float] | None = None,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.parameters = ParameterTuple(parameters)
        self.beta1, self.beta2 = betas
        self.eps, self.bias_correction = eps, bias_correction
        if decays is None:
            decays = weight_decays([p.ndim for p in parameters], weight_decay, decay_matrices_only)
        self.decays = list(decays)
        self.rates = [1.0] * len(parameters) if rates is None else list(rates)
        self.first = ParameterTuple([_moment(p, "first") for p in parameters])
        self.second = ParameterTuple([_moment(p, "second") for p in parameters])
        self.masters = ParameterTuple([_master(p) for p in parameters if p.dtype != ms.float32])
        # What the kernel changes: it wants weight, moments and gradient of one type.
        masters = iter(self.masters)
        self.updated = ParameterTuple(
            [p if p.dtype == ms.float32 else next(masters) for p in parameters]
        )
        self.halves = [i for i, p in enumerate(parameters) if p.dtype != ms.float32]
        self.step = Parameter(Tensor(0.0, ms.float32), name="optimizer.step", requires_grad=False)
        self.update = ops.AdamWeightDecay()  # one fused kernel a parameter

    def construct(self, gradients: tuple[Tensor, ...], rate: Tensor) -> Tensor:
        """Change the parameters by one step of `rate`, a float32 scalar;
        the number of steps made so far, float32.

        The kernel knows no bias correction, but rate, epsilon and decay can carry it: with c1 = 1 -
        beta1^step and c2 = 1 - beta2^step they become rate * sqrt(c2) / c1, eps * sqrt(c2) and
        decay * c1 / sqrt(c2).
        """
        step = self.step + 1
        ops.assign(self.step, step)
        first, second = 1 - ops.pow(self.beta1, step), ops.sqrt(1 - ops.pow(self.beta2, step))
        if not self.bias_correction:
            first, second = ops.ones_like(first), ops.ones_like(second)

        rate, eps = rate * second / first, self.eps * second
        for i, gradient in enumerate(gradients):
            decay = self.decays[i] * first / second
            self.update(
                self.updated[i],
                self.first[i],
                self.second[i],
                rate * self.rates[i],
                self.beta1,
                self.beta2,
                eps,
                decay,
                gradient.astype(ms.float32),
            )

        for i in self.halves:
            ops.assign(self.parameters[i], self.updated[i].astype(self.parameters[i].dtype))

        return step


def weight_decays(
    dimensions: Sequence[int], decay: float, matrices_only: bool = True
) -> list[float]:
    """The weight decay of parameters with so many dimensions each; norms and biases may have none.

    >>> weight_decays([2, 1], 0.1)
    [0.1, 0.0]
    """
    return [decay if count > 1 or not matrices_only else 0.0 for count in dimensions]


LAYER = re.compile(r"^(\w+)\.layers\.(\d+)\.")

# What comes before the layers of a tower or a decoder; a tower's `norm` is that of its embeddings.
BEFORE_LAYERS = re.compile(
    r"^(\w+\.(embedding\.weight|patch\.\w+|positions|class_token|query)|vision\.norm\.\w+)$"
)


def layer_rates(names: Sequence[str], decay: float, all_names: Iterable[str]) -> list[float]:
    """What each parameter's learning rate is multiplied with, the less the further from the output:
    MindFormers' `layer_decay`.

    In each tower and decoder, layer i of n has `decay ** (n - i)`, what comes before the layers
    `decay ** (n + 1)`; everything else has 1. MindFormers knows layers of classifiers alone and
    leaves other models as they are, with a warning. `all_names` are those of the whole model.
    """
    counts: dict[str, int] = {}
    for name in all_names:
        if found := LAYER.match(name):
            counts[found[1]] = max(counts.get(found[1], 0), int(found[2]) + 1)

    rates = []
    for name in names:
        layer, stack = LAYER.match(name), name.partition(".")[0]
        if layer is not None:
            rates.append(decay ** (counts[stack] - int(layer[2])))
        elif stack in counts and BEFORE_LAYERS.match(name):
            rates.append(decay ** (counts[stack] + 1))
        else:
            rates.append(1.0)
    return rates


def _master(parameter: Parameter) -> Parameter:
    wide = Tensor(parameter.astype(ms.float32).asnumpy().copy())
    return Parameter(wide, name=f"optimizer.master.{parameter.name}", requires_grad=False)


def _moment(parameter: Parameter, kind: str) -> Parameter:
    zeros = initializer(0, parameter.shape, ms.float32)
    return Parameter(zeros, name=f"optimizer.{kind}.{parameter.name}", requires_grad=False)


def clip_by_norm(
    gradients: tuple[Tensor, ...], limit: float, norm: Tensor | None = None
) -> tuple[tuple[Tensor, ...], Tensor]:
    """The gradients, shortened together so that their joint norm is at most `limit`;
    and that norm before, float32. `norm` is given where they are divided among processes.
    """
    norm = global_norm(gradients) if norm is None else norm
    # As torch.nn.utils.clip_grad_norm_.
    factor = ops.minimum(limit / (norm + 1e-6), ops.ones_like(norm))
    return tuple([(gradient * factor).astype(gradient.dtype) for gradient in gradients]), norm


def global_norm(gradients: tuple[Tensor, ...]) -> Tensor:
    """The norm of all gradients together, a float32 scalar."""
    total = Tensor(0.0, ms.float32)
    for gradient in gradients:
        total = total + ops.square(gradient.astype(ms.float32)).sum()
    return ops.sqrt(total)
