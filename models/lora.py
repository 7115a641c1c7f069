"""LoRA: y = W x + b + alpha / rank * B A x,
with only A and B trained (https://arxiv.org/abs/2106.09685).

A fused projection can have one pair for all its outputs or a pair for each of query, key and value;
the two train differently, and published adapters exist for both.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import HeUniform, initializer
from numpy.typing import NDArray

from models.model import name_by_path
from models.modules import Linear, constant
from models.parallel import Copied, Divisible, take_piece


@dataclass(frozen=True)
class LoraConfig:
    """`targets` is a pattern for paths of linear layers, or `all` (every one but the head).

    `split`: fused projections get a pair for each of their parts.
    """

    rank: int
    alpha: float
    targets: str
    split: bool
    dropout: float = 0.0

    @property
    def scale(self) -> float:
        """What the product of the pair is multiplied with."""
        return self.alpha / self.rank


class LoraLinear(Linear):
    """A linear layer with its pairs beside the frozen weight, which keeps its name.

    Of a layer that is divided by outputs, B is divided as the weight is and A is whole; of one
    divided by inputs, A is divided and B is whole.
    """

    def __init__(self, base: Linear, config: LoraConfig) -> None:
        Divisible.__init__(self)
        self.take_from(base)
        outputs, inputs = (base.weight if base.gathered is None else base.gathered).shape
        self.rank, self.scale = config.rank, config.scale
        self.parts = base.rows if config.split else (outputs,)
        uniform = HeUniform(negative_slope=math.sqrt(5))
        cut = base.cuts.get("weight")
        if cut is not None:
            inputs = cut.whole_shape((outputs, inputs))[1]
        lora_a = Parameter(
            initializer(uniform, (config.rank * len(self.parts), inputs), ms.float32)
        )
        self.lora_b = constant(0, outputs, config.rank)
        self.copied: Any = None  # or a Copied, of the one of the pair that is whole
        if cut is not None:
            self.copied = Copied(base.group)
        if cut is not None and cut.axis == 0:
            self.cuts = {**base.cuts, "lora_b": cut}
        elif cut is not None:
            lora_a = take_piece(lora_a, cut, base.group.rank)
            self.cuts = {**base.cuts, "lora_a": cut}
        self.lora_a = lora_a
        self.dropout = nn.Dropout(p=config.dropout) if config.dropout else None

    def product(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """What this process makes of its inputs."""
        y = super().product(x, bias)
        x = x if self.dropout is None else self.dropout(x)
        lora_a, lora_b = self.pair()
        # A part: (…, rank).
        narrow = ops.split(ops.dense(x, lora_a.astype(x.dtype)), self.rank, -1)
        rows = ops.split(lora_b.astype(x.dtype), self.parts, 0)
        wide = [ops.dense(narrow[i], rows[i]) for i in range(len(self.parts))]
        return y + (wide[0] if len(self.parts) == 1 else ops.cat(wide, -1)) * self.scale

    def pair(self) -> tuple[Tensor, Tensor]:
        """A and B; each process knows a part of the gradient of the one that is whole."""
        if self.copied is None:
            return self.lora_a, self.lora_b
        if self.summed is None:
            return self.copied(self.lora_a), self.own(self.lora_b)
        return self.lora_a, self.copied(self.lora_b)

    @property
    def whole_parts(self) -> tuple[int, ...]:
        """The rows of each part in the layer that is not divided."""
        cut = self.cuts.get("lora_b")
        if cut is None:
            return self.parts
        return cut.parts if len(self.parts) > 1 else (sum(cut.parts),)


def add_lora(model: nn.Cell, config: LoraConfig) -> list[str]:
    """Put pairs beside the model's target layers and freeze everything else;
    the layers' paths come back.

    Raises:
        ValueError: if no linear layer fits the targets.
    """
    paths = []
    for path, parent in list(model.cells_and_names()):
        for name, child in list(parent.name_cells().items()):
            place = f"{path}.{name}".lstrip(".")
            if type(child) is Linear and _is_target(place, config.targets):
                setattr(parent, name, LoraLinear(child, config))
                paths.append(place)
    if not paths:
        raise ValueError(
            f"no linear layer fits the LoRA targets {config.targets!r}; 'all' takes every one"
        )
    name_by_path(model)
    for name, parameter in model.parameters_and_names():
        parameter.requires_grad = name.endswith((".lora_a", ".lora_b"))
    return paths


def _is_target(path: str, targets: str) -> bool:
    return (
        not path.endswith(".head") if targets == "all" else re.fullmatch(targets, path) is not None
    )


def merge_lora(model: nn.Cell) -> None:
    """Add the pairs to their weights and take them out again:
    the model computes the same, in plain linear layers.
    """
    for _, parent in list(model.cells_and_names()):
        for name, child in list(parent.name_cells().items()):
            if isinstance(child, LoraLinear):
                a, b = child.lora_a.asnumpy(), child.lora_b.asnumpy()
                weight = (
                    child.weight.astype(ms.float32).asnumpy()
                    + lora_delta(a, b, child.parts) * child.scale
                )
                child.weight.set_data(Tensor(weight).astype(child.weight.dtype))
                plain = Linear.__new__(Linear)
                Divisible.__init__(plain)
                plain.take_from(child)
                kept = [key for key in child.cuts if not key.startswith("lora_")]
                plain.cuts = {key: child.cuts[key] for key in kept}
                setattr(parent, name, plain)
    name_by_path(model)


def lora_delta(a: NDArray[Any], b: NDArray[Any], parts: tuple[int, ...]) -> NDArray[Any]:
    """B A, one block of rows a part:
    (outputs, inputs) of `a` (parts * rank, inputs) and `b` (outputs, rank).
    """
    blocks = zip(np.split(a, len(parts)), np.split(b, np.cumsum(parts)[:-1]), strict=True)
    return np.concatenate([rows @ pair for pair, rows in blocks])


def lora_metadata(model: nn.Cell) -> dict[str, object]:
    """What a file of pairs must say beside them:
    rank, scale and the parts of each layer, by its path.
    """
    layers = {path: cell for path, cell in model.cells_and_names() if isinstance(cell, LoraLinear)}
    any_layer = next(iter(layers.values()))
    parts = {path: list(layer.whole_parts) for path, layer in layers.items()}
    return {"rank": any_layer.rank, "scale": any_layer.scale, "parts": parts}
