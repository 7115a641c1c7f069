"""What crosses between devices in a training step, by the layout and by what is spread."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal

import mindspore as ms
from mindspore import Parameter, Tensor, nn, ops
from mindspore.communication import GlobalComm

from models.held import held_weights
from models.model import VisionLanguageModel
from models.parallel import Cut, Layout
from models.sharding import DataGroup, has_reduce_scatter, train_slices
from recipes.buckets import (
    LARGEST,
    Bucket,
    GatherWeights,
    SumGradients,
    SumSlices,
    slice_masters,
)
from recipes.optimizers import AdamW, weight_decays

Shard = Literal["none", "optimizer", "weights"]


# From, to and share: how much of each of the numbers from one place to another of a flattened
# gradient this process counts, so that what several processes hold is counted once by all together.
Shares = tuple[tuple[int, int, float], ...]


class GlobalNorm(nn.Cell):
    """The norm of the gradients of all processes together; `shares` are those of each gradient."""

    def __init__(self, shares: Sequence[Shares], group: str) -> None:
        super().__init__(auto_prefix=False)
        self.shares = tuple(shares)
        self.reduce = ops.AllReduce(group=group)

    def construct(self, gradients: tuple[Tensor, ...]) -> Tensor:
        """A float32 scalar, the same on all processes."""
        total = Tensor(0.0, ms.float32)
        for i in range(len(self.shares)):
            squares = ops.square(gradients[i].astype(ms.float32)).reshape(-1)
            for first, last, share in self.shares[i]:
                total = total + squares[first:last].sum() * share
        return ops.sqrt(self.reduce(total))


def count_once(shape: Sequence[int], cut: Cut | None, layout: Layout) -> Shares:
    """The shares of a gradient of this shape, cut among the processes that hold one model.

    >>> count_once((4, 2), None, Layout(model=2))
    ((0, 8, 0.5),)
    """
    numbers = math.prod(shape)
    if cut is None:
        return ((0, numbers, 1 / layout.model),)
    # Parts with different numbers of copies are rows of a fused projection, and rows follow each
    # other in a flat array.
    if len(set(cut.copies)) == 1:
        return ((0, numbers, 1 / cut.copies[0]),)
    row, found, start = numbers // shape[0], [], 0
    for rows, copies in zip(cut.local_parts, cut.copies, strict=True):
        found.append((start, start + rows * row, 1 / copies))
        start += rows * row
    return tuple(found)


def slice_shares(shares: Shares, first: int, last: int) -> Shares:
    """The shares of the numbers from `first` to `last` of a gradient, counted from `first`."""
    clipped = [(max(a, first) - first, min(b, last) - first, share) for a, b, share in shares]
    return tuple([each for each in clipped if each[0] < each[1]])


def join_shares(parts: Sequence[Shares]) -> Shares:
    """The shares of several gradients, one after the other; neighbours that are alike are one."""
    found: list[tuple[int, int, float]] = []
    start = 0
    for part in parts:
        for first, last, share in part:
            if found and found[-1][1:] == (start + first, share):
                found[-1] = (found[-1][0], start + last, share)
            else:
                found.append((start + first, start + last, share))
        start += part[-1][1]
    return tuple(found)


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
    data: DataGroup | None,
    shard: Shard,
    largest: int = LARGEST,
) -> Sharding:
    """How the trained parameters of a model are updated by the processes of a layout.

    `decay` is the weight decay of matrices, `rates` are those of each trained parameter, `largest`
    is the most numbers of a bucket. Weights to be spread are slices already
    (`models.sharding.slice_weights`); here those that train become float32.
    """
    parameters = list(model.trainable_params())
    held = held_weights(model)
    decays = weight_decays([len(held[p.name].shape) for p in parameters], decay)
    train_slices(model)
    if layout.size == 1:
        return Sharding(parameters, decays, list(rates))

    everyone = str(GlobalComm.WORLD_COMM_GROUP)
    counted = [count_once(held[p.name].shape, held[p.name].cut, layout) for p in parameters]
    if data is None:
        return Sharding(
            parameters, decays, list(rates), Exchange(norm=GlobalNorm(counted, everyone))
        )

    if shard == "optimizer":
        sliced = slice_masters(parameters, decays, rates, data, largest)
        shares = []
        for bucket in sliced.buckets:
            length = data.slice_length(bucket.numbers)
            whole = join_shares([counted[i] for i in bucket.indices])
            shares.append(slice_shares(whole, data.rank * length, (data.rank + 1) * length))
        exchange = Exchange(
            sum_loss=SumOver(data.name),
            slice_gradients=SumSlices(sliced.buckets, data),
            norm=GlobalNorm(shares, everyone),
            gather_weights=GatherWeights(parameters, sliced.masters, sliced.buckets, data),
        )
        return Sharding(sliced.masters, sliced.decays, sliced.rates, exchange, sliced.buckets)

    unsliced = [i for i in range(len(parameters)) if held[parameters[i].name].data is None]
    exchange = Exchange(
        sum_loss=SumOver(data.name),
        sum_gradients=SumGradients(parameters, unsliced, data.name, largest),
        norm=GlobalNorm(
            [
                slice_shares(shares, *held[parameter.name].overlap())
                if held[parameter.name].data is not None
                else tuple([(a, b, share / layout.data) for a, b, share in shares])
                for parameter, shares in zip(parameters, counted, strict=True)
            ],
            everyone,
        ),
    )
    return Sharding(parameters, decays, list(rates), exchange)


@dataclass(frozen=True)
class HeldBytes:
    """How many bytes of arrays this process has between steps and, of gradients, at the end of
    one.
    """

    weights: int
    gradients: int
    optimizer: int


def count_bytes(model: VisionLanguageModel, optimizer: AdamW, sharding: Sharding) -> HeldBytes:
    """What this process holds. Gradients are counted as the optimizer takes them, float32: with
    `shard: optimizer` those of one batch are whole for a while before they are slices.
    """
    weights = sum(parameter.nbytes for parameter in model.get_parameters())
    memory = {
        id(parameter): parameter.nbytes
        for parameter in (*optimizer.updated, *optimizer.first, *optimizer.second)
    }
    # Weights that the optimizer changes itself are counted as weights.
    for parameter in model.get_parameters():
        memory.pop(id(parameter), None)
    gradients = sum(parameter.size * 4 for parameter in sharding.parameters)
    return HeldBytes(weights, gradients, sum(memory.values()))


def describe_sharding(sharding: Sharding, held: HeldBytes, layout: Layout, shard: Shard) -> str:
    """What a run says of how it is spread."""
    if layout.data == 1:
        what = "every process holds all of its part"
    else:
        what = {
            "none": "every data-parallel process holds all",
            "optimizer": f"the optimizer is spread in {len(sharding.buckets or ())} buckets",
            "weights": "weights and the optimizer are spread",
        }[shard]
        way = "ReduceScatter" if has_reduce_scatter() else "AllReduce, as there is no ReduceScatter"
        what += f"; gradients are summed by {'AllReduce' if shard == 'none' else way}"
    mega = [f"{each / 1e6:,.1f} MB of {name}" for name, each in asdict(held).items()]
    return f"data {layout.data} x model {layout.model}: {what}; here {', '.join(mega)}"
