"""What crosses between devices in a training step, by the layout and by what is spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.communication import GlobalComm

from models.model import VisionLanguageModel
from models.parallel import Groups, Layout, cuts_of
from models.sharding import has_reduce_scatter, sliced_cells, train_slices
from recipes.buckets import (
    LARGEST,
    Bucket,
    GatherWeights,
    SumGradients,
    SumSlices,
    fill_buckets,
    slice_masters,
)
from recipes.optimizers import weight_decays

Shard = Literal["none", "optimizer", "weights"]


class GlobalNorm(nn.Cell):
    """The norm of all gradients together, of which other processes may hold parts.

    `groups` names for each gradient the group of processes that divide it; None where this process
    has all of it.
    """

    def __init__(self, groups: Sequence[str | None] = ()) -> None:
        super().__init__(auto_prefix=False)
        names = list(dict.fromkeys(groups))
        self.members = [[i for i in range(len(groups)) if groups[i] == name] for name in names]
        self.sums = nn.CellList([SumOver(name) for name in names])

    def construct(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """A float32 scalar."""
        total = Tensor(0.0, ms.float32)
        for i in range(len(self.members)):
            part = Tensor(0.0, ms.float32)
            for member in self.members[i]:
                part = part + ops.square(gradients[member].astype(ms.float32)).sum()
            total = total + self.sums[i](part)
        return ops.sqrt(total)


class SumOver(nn.Cell):
    """The sum over a group of processes; over none, the number itself."""

    def __init__(self, group: str | None) -> None:
        super().__init__(auto_prefix=False)
        self.reduce = None if group is None else ops.AllReduce(group=group)

    def construct(self, number: Tensor) -> Tensor:
        """A float32 scalar of a float32 scalar."""
        return number if self.reduce is None else self.reduce(number)


@dataclass(frozen=True, eq=False)
class Exchange:
    """The steps in which something crosses; None is for those in which nothing does.

    `sum_loss` adds up a number of the data-parallel processes. `slice_gradients`, after every
    batch, leaves slices of the sums of gradients, `sum_gradients`, after the last, whole sums.
    `norm` is that of all gradients; `gather_weights` makes weights whole after the update.
    """

    sum_loss: SumOver | None = None
    slice_gradients: SumSlices | None = None
    sum_gradients: SumGradients | None = None
    norm: GlobalNorm | None = None
    gather_weights: GatherWeights | None = None


ALONE = Exchange()


@dataclass(frozen=True, eq=False)
class Sharding:
    """What the optimizer changes: parameters, each with its weight decay and its share of the rate;
    and what crosses. `buckets`: where the trained parameters of the model are in those of the
    optimizer, if these are slices of flat arrays.
    """

    parameters: list[Parameter]
    decays: list[float]
    rates: list[float]
    exchange: Exchange = ALONE
    buckets: list[Bucket] | None = None


def shard_training(
    model: VisionLanguageModel,
    decay: float,
    rates: Sequence[float],
    layout: Layout,
    groups: Groups,
    shard: Shard,
    largest: int = LARGEST,
) -> Sharding:
    """How the trained parameters of a model are updated by the processes of a layout.

    `decay` is the weight decay of matrices, `rates` are those of each trained parameter, `largest`
    is the most numbers of a bucket. Weights to be spread are slices already
    (`models.sharding.slice_weights`); here those that train become float32.
    """
    parameters = list(model.trainable_params())
    slices = sliced_cells(model)
    dimensions = [
        len(slices[p.name].gathered.shape) if p.name in slices else p.ndim for p in parameters
    ]
    decays = weight_decays(dimensions, decay)
    train_slices(model)
    cuts = cuts_of(model)
    divided = [parameter.name in cuts for parameter in parameters]
    if groups.data is None:
        norm = None if groups.model is None else GlobalNorm(_either(divided, groups.model))
        return Sharding(parameters, decays, list(rates), Exchange(norm=norm))

    everyone = groups.data if groups.model is None else str(GlobalComm.WORLD_COMM_GROUP)
    if shard == "optimizer":
        sliced = slice_masters(parameters, decays, rates, divided, layout, largest)
        first = [bucket.indices[0] for bucket in sliced.buckets]
        exchange = Exchange(
            sum_loss=SumOver(groups.data),
            slice_gradients=SumSlices(sliced.buckets, groups.data, layout),
            norm=GlobalNorm([everyone if divided[i] else groups.data for i in first]),
            gather_weights=GatherWeights(parameters, sliced.masters, sliced.buckets, groups.data),
        )
        return Sharding(sliced.masters, sliced.decays, sliced.rates, exchange, sliced.buckets)

    whole = [i for i in range(len(parameters)) if parameters[i].name not in slices]
    shapes = [tuple(parameter.shape) for parameter in parameters]
    buckets = fill_buckets([math.prod(shapes[i]) for i in whole], ["whole"] * len(whole), largest)
    buckets = [Bucket(tuple(whole[i] for i in bucket.indices), bucket.sizes) for bucket in buckets]
    holders = _either(divided, groups.model)
    for i in set(range(len(parameters))) - set(whole):
        holders[i] = everyone if divided[i] else groups.data
    exchange = Exchange(
        sum_loss=SumOver(groups.data),
        sum_gradients=SumGradients(buckets, shapes, groups.data),
        norm=GlobalNorm(holders),
    )
    return Sharding(parameters, decays, list(rates), exchange)


def _either(divided: Sequence[bool], group: str | None) -> list[str | None]:
    return [group if each else None for each in divided]


def describe_sharding(sharding: Sharding, layout: Layout, shard: Shard) -> str:
    """What a run says of how it is spread."""
    if layout.data == 1:
        return f"data {layout.data} x model {layout.model}"
    held = {
        "none": "every process holds all",
        "optimizer": f"the optimizer's memory is spread in {len(sharding.buckets or ())} buckets",
        "weights": "weights and the optimizer's memory are spread",
    }[shard]
    way = "ReduceScatter" if has_reduce_scatter() else "AllReduce (the device has no ReduceScatter)"
    summed = "AllReduce" if shard == "none" else way
    return f"data {layout.data} x model {layout.model}: {held}; gradients are summed by {summed}"
