"""Weights spread over the data-parallel processes (ZeRO-3): each process holds a slice of every
weight of a linear layer and of every embedding, and has the whole of one only while it is used.

A gathered weight is not kept for the backward pass if its layer is computed again there
(`Cell.recompute`), so that spreading weights and recomputing go together. Norms, biases and the few
parameters that stand by themselves stay whole: they are some hundredths of a model.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.common.initializer import initializer
from numpy.typing import NDArray

from models.modules import Embedding, Linear
from models.parallel import Groups, Layout, gather_among


@dataclass(frozen=True)
class DataGroup:
    """The processes that share the slices of flat arrays, and which of them this one is.

    All slices of an array are of one length; the last ones are filled up with zeros.
    """

    size: int
    rank: int
    name: str

    def slice_length(self, numbers: int) -> int:
        """The numbers of a slice of an array of so many."""
        return math.ceil(numbers / self.size)

    def take(self, array: NDArray[Any]) -> NDArray[Any]:
        """The slice of an array that is this process'; of a mapped file nothing else is read."""
        flat = array.reshape(-1)
        length = self.slice_length(flat.size)
        piece = flat[self.rank * length : (self.rank + 1) * length]
        return np.pad(piece, (0, length - len(piece)))


def gather_over(data: DataGroup) -> Any:
    """The slices of all processes one after the other, as a function of this process' slice."""
    return gather_among(data.name, data.size, data.rank)


def data_group(layout: Layout, groups: Groups) -> DataGroup | None:
    """The data-parallel processes of a layout; None where there is but one."""
    if groups.data is None:
        return None
    return DataGroup(layout.data, layout.data_rank, groups.data)


def has_reduce_scatter() -> bool:
    """Whether the device can sum over processes and keep only its slice; MindSpore 2.10 has no
    kernel of `ReduceScatter` for CPUs.
    """
    return bool(ms.get_context("device_target") != "CPU")


class SumSlice(nn.Cell):
    """A process' own slice of the sum over a group: by `ReduceScatter` where the device has it,
    else by `AllReduce`, of which the slice is kept.
    """

    def __init__(self, data: DataGroup) -> None:
        super().__init__()
        self.size, self.rank = data.size, data.rank
        self.scatters = has_reduce_scatter()
        self.sum = (ops.ReduceScatter if self.scatters else ops.AllReduce)(group=data.name)

    def construct(self, flat: Tensor) -> Tensor:
        """(length,) of (size * length,)."""
        if self.scatters:
            return self.sum(flat)
        length = flat.shape[0] // self.size
        start = self.rank * length
        return self.sum(flat)[start : start + length]


class GatherWhole(nn.Cell):
    """From the slices of all processes to the whole flat array; the gradient goes back as the slice
    of its sum, which is made in float32.
    """

    def __init__(self, numbers: int, data: DataGroup) -> None:
        super().__init__()
        self.numbers, self.padding = numbers, -numbers % data.size
        self.gather = gather_over(data)
        self.sum_slice = SumSlice(data)

    def construct(self, piece: Tensor) -> Tensor:
        """(numbers,) of (length,)."""
        return self.gather(piece)[: self.numbers]

    def bprop(self, piece: Tensor, out: Tensor, gradient: Tensor) -> tuple[Tensor]:
        """The gradient of the slice.

        It must be of the slice's own type: in PyNative MindSpore 2.10 casts another one itself, and
        takes it from the beginning of the sum instead of from where the slice begins.
        """
        flat = gradient.astype(ms.float32)
        if self.padding:
            flat = ops.cat((flat, ops.zeros((self.padding,), ms.float32)))
        return (self.sum_slice(flat).astype(piece.dtype),)


class GatheredWeight(nn.Cell):
    """From the slice that a process holds of a weight to the whole.

    `kept` is the type in which the weight is gathered; the slice itself is float32 where it trains,
    and so its own master.
    """

    def __init__(self, shape: Sequence[int], kept: ms.dtype, data: DataGroup) -> None:
        super().__init__()
        self.shape, self.kept, self.data = tuple(shape), kept, data
        self.gather_whole = GatherWhole(math.prod(self.shape), data)

    def construct(self, piece: Tensor) -> Tensor:
        """The weight in its own shape."""
        return self.gather_whole(piece.astype(self.kept)).reshape(self.shape)


class FrozenWeight(nn.Cell):
    """As `GatheredWeight`, for a weight that does not train: nothing goes back."""

    def __init__(self, shape: Sequence[int], data: DataGroup) -> None:
        super().__init__()
        self.shape, self.data = tuple(shape), data
        self.numbers = math.prod(self.shape)
        self.gather = gather_over(data)

    def construct(self, piece: Tensor) -> Tensor:
        """The weight in its own shape."""
        whole = ops.stop_gradient(self.gather(ops.stop_gradient(piece)))
        return whole[: self.numbers].reshape(self.shape)


def slice_weights(model: nn.Cell, data: DataGroup, keep: Sequence[str] = ()) -> None:
    """Replace the weights of linear layers and embeddings by this process' slices of them, all
    frozen so far (see `train_slices`); those whose names begin with one of `keep` stay whole.

    Weights that were drawn are sliced; of those without numbers none are drawn.
    """
    made: dict[int, tuple[Parameter, FrozenWeight]] = {}
    for path, cell in list(model.cells_and_names()):
        if not isinstance(cell, Linear | Embedding) or cell.gathered is not None:
            continue
        if keep and path.startswith(tuple(keep)):
            continue
        weight = cell.weight
        # A head may be the embedding itself.
        if id(weight) not in made:
            made[id(weight)] = _slice(weight, data)
        cell.weight, cell.gathered = made[id(weight)]


def _slice(weight: Parameter, data: DataGroup) -> tuple[Parameter, FrozenWeight]:
    if weight.has_init:
        piece: Any = initializer(0, (data.slice_length(weight.size),), weight.dtype)
    else:
        wide = weight.astype(ms.float32).asnumpy()
        piece = Tensor(data.take(wide).copy()).astype(weight.dtype)
    held = Parameter(piece, name=weight.name, requires_grad=weight.requires_grad)
    return held, FrozenWeight(weight.shape, data)


def train_slices(model: nn.Cell) -> None:
    """Let the slices that train have gradients: each becomes float32, the master of what is
    gathered, which stays in the type that it was in.
    """
    made: dict[int, GatheredWeight] = {}
    for cell in sliced_cells(model).values():
        weight, gathered = cell.weight, cell.gathered
        if not weight.requires_grad:
            continue
        if id(weight) not in made:
            made[id(weight)] = GatheredWeight(gathered.shape, weight.dtype, gathered.data)
            wide = weight.astype(ms.float32)
            weight.set_dtype(ms.float32)
            weight.set_data(wide)
        cell.gathered = made[id(weight)]


def sliced_cells(model: nn.Cell) -> dict[str, Any]:
    """The cells of which this process holds a slice of the weight, by the weight's name."""
    return {
        f"{path}.weight": cell
        for path, cell in model.cells_and_names()
        if isinstance(cell, Linear | Embedding) and cell.gathered is not None
    }


def kept_types(model: nn.Cell) -> dict[str, str]:
    """The type (float32, float16, bfloat16) in which each parameter is kept, by name: of slices
    that train, that in which they are gathered.
    """
    kept = {name: parameter.dtype for name, parameter in model.parameters_and_names()}
    for name, cell in sliced_cells(model).items():
        if isinstance(cell.gathered, GatheredWeight):
            kept[name] = cell.gathered.kept
    return {name: str(each).lower() for name, each in kept.items()}


def recompute_layers(model: nn.Cell) -> int:
    """Have every layer of the towers and decoders computed again in the backward pass, of which
    then only the inputs of layers are kept; how many there are comes back.
    """
    layers = [
        layer
        for path, stack in model.cells_and_names()
        if isinstance(stack, nn.CellList) and path.endswith(".layers")
        for layer in stack
    ]
    for layer in layers:
        # In PyNative the other way takes no tuples, as the rotary tables come in.
        layer.recompute(use_reentrant=False)
    return len(layers)
