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
    """A linear layer with its pairs beside the frozen weight, which keeps its name."""

    def __init__(self, base: Linear, config: LoraConfig) -> None:
        nn.Cell.__init__(self)
        whole = base.weight if base.gathered is None else base.gathered
        outputs, inputs = whole.shape
        self.weight, self.bias, self.rows = base.weight, base.bias, base.rows
        self.gathered = base.gathered
        self.rank, self.scale = config.rank, config.scale
        self.parts = base.rows if config.split else (outputs,)
        uniform = HeUniform(negative_slope=math.sqrt(5))
        self.lora_a = Parameter(
            initializer(uniform, (config.rank * len(self.parts), inputs), ms.float32)
        )
        self.lora_b = constant(0, outputs, config.rank)
        self.dropout = nn.Dropout(p=config.dropout) if config.dropout else None

    def construct(self, x: Tensor) -> Tensor:
        """(…, inputs) -> (…, outputs)."""
        y = super().construct(x)
        x = x if self.dropout is None else self.dropout(x)
        # A part: (…, rank).
        narrow = ops.split(ops.dense(x, self.lora_a.astype(x.dtype)), self.rank, -1)
        rows = ops.split(self.lora_b.astype(x.dtype), self.parts, 0)
        wide = [ops.dense(narrow[i], rows[i]) for i in range(len(self.parts))]
        return y + (wide[0] if len(self.parts) == 1 else ops.cat(wide, -1)) * self.scale


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
                nn.Cell.__init__(plain)
                plain.weight, plain.bias, plain.rows = child.weight, child.bias, child.rows
                plain.gathered = child.gathered
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
    parts = {path: list(layer.parts) for path, layer in layers.items()}
    return {"rank": any_layer.rank, "scale": any_layer.scale, "parts": parts}
