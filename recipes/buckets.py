"""Gradients and weights in a few flat arrays, so that a step has tens of collectives and not one a
parameter; and the optimizer's memory in slices of these (ZeRO-1 and 2).
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import mindspore as ms
import numpy as np
from mindspore import Parameter, ParameterTuple, Tensor, nn, ops

from models.sharding import DataGroup, SumSlice, gather_over

LARGEST = 2**26  # numbers of a bucket: 256 MB in float32


@dataclass(frozen=True)
class Bucket:
    """Which of some parameters stand one after the other in a flat array, and their sizes."""

    indices: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def numbers(self) -> int:
        """Numbers in it."""
        return sum(self.sizes)


def fill_buckets(
    sizes: Mapping[int, int], kinds: Mapping[int, Hashable], largest: int = LARGEST
) -> list[Bucket]:
    """Divide parameters of these sizes, by number, among buckets of at most `largest` numbers, or
    of a single parameter; in a bucket all are of one kind, and in order.

    >>> sizes, kinds = {0: 3, 1: 3, 2: 3, 4: 9}, {0: "a", 1: "b", 2: "a", 4: "a"}
    >>> [bucket.indices for bucket in fill_buckets(sizes, kinds, largest=6)]
    [(0, 2), (4,), (1,)]
    """
    buckets = []
    for kind in dict.fromkeys(kinds.values()):
        filled: list[int] = []
        for index in [index for index in sizes if kinds[index] == kind]:
            if filled and sum(sizes[i] for i in filled) + sizes[index] > largest:
                buckets.append(filled)
                filled = []
            filled = [*filled, index]
        buckets.append(filled)
    return [Bucket(tuple(filled), tuple(sizes[i] for i in filled)) for filled in buckets]


class Flatten(nn.Cell):
    """The arrays of a bucket as one, in float32, filled up with zeros to a multiple of `size`."""

    def __init__(self, bucket: Bucket, size: int) -> None:
        super().__init__(auto_prefix=False)
        self.indices, self.padding = bucket.indices, -bucket.numbers % size

    def construct(self, arrays: tuple[Tensor, ...]) -> Tensor:
        """(numbers + padding,) float32; `arrays` are those of all parameters."""
        parts = [arrays[i].astype(ms.float32).reshape(-1) for i in self.indices]
        if self.padding:
            parts.append(ops.zeros((self.padding,), ms.float32))
        return parts[0] if len(parts) == 1 else ops.cat(parts)


class SumGradients(nn.Cell):
    """Gradients summed over a group of processes, those of the `chosen` parameters; the others
    stay as they are.
    """

    def __init__(
        self, parameters: Sequence[Parameter], chosen: Sequence[int], group: str, largest: int
    ) -> None:
        super().__init__(auto_prefix=False)
        sizes = {i: parameters[i].size for i in chosen}
        buckets = fill_buckets(sizes, dict.fromkeys(chosen), largest)
        self.flatten = nn.CellList([Flatten(bucket, 1) for bucket in buckets])
        self.indices = [bucket.indices for bucket in buckets]
        self.sizes = [bucket.sizes for bucket in buckets]
        self.shapes = [tuple(parameter.shape) for parameter in parameters]
        self.reduce = ops.AllReduce(group=group)

    def construct(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The sums, float32, in order."""
        summed = list(gradients)
        for bucket in range(len(self.indices)):
            flat = self.reduce(self.flatten[bucket](gradients))
            parts = ops.split(flat, self.sizes[bucket])
            for i, part in zip(self.indices[bucket], parts, strict=True):
                summed[i] = part.reshape(self.shapes[i])
        return tuple(summed)


class SumSlices(nn.Cell):
    """Of each bucket of gradients, this process' slice of the sum over a group."""

    def __init__(self, buckets: Sequence[Bucket], data: DataGroup) -> None:
        super().__init__(auto_prefix=False)
        self.flatten = nn.CellList([Flatten(bucket, data.size) for bucket in buckets])
        self.sum_slice = SumSlice(data)

    def construct(self, gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Slices, float32, one a bucket."""
        return tuple([self.sum_slice(flatten(gradients)) for flatten in self.flatten])


class GatherWeights(nn.Cell):
    """Parameters from the slices of their masters, which each process has updated."""

    def __init__(
        self,
        parameters: Sequence[Parameter],
        masters: Sequence[Parameter],
        buckets: Sequence[Bucket],
        data: DataGroup,
    ) -> None:
        super().__init__(auto_prefix=False)
        self.parameters, self.masters = ParameterTuple(parameters), ParameterTuple(masters)
        self.indices = [bucket.indices for bucket in buckets]
        self.sizes = [bucket.sizes for bucket in buckets]
        self.numbers = [bucket.numbers for bucket in buckets]
        self.gather = gather_over(data)

    def construct(self) -> bool:
        """Assign all parameters."""
        for bucket in range(len(self.indices)):
            kept = self.parameters[self.indices[bucket][0]].dtype
            flat = self.gather(self.masters[bucket].astype(kept))[: self.numbers[bucket]]
            parts = ops.split(flat, self.sizes[bucket])
            for i, part in zip(self.indices[bucket], parts, strict=True):
                ops.assign(self.parameters[i], part.reshape(self.parameters[i].shape))
        return True


@dataclass(frozen=True, eq=False)
class SlicedMasters:
    """What the optimizer changes where its memory is spread: of each bucket of parameters a slice
    in float32, with the weight decay and the share of the rate that all in the bucket have.
    """

    buckets: list[Bucket]
    masters: list[Parameter]
    decays: list[float]
    rates: list[float]


def slice_masters(
    parameters: Sequence[Parameter],
    decays: Sequence[float],
    rates: Sequence[float],
    data: DataGroup,
    largest: int = LARGEST,
) -> SlicedMasters:
    """The slices of this process."""
    kinds = zip([p.dtype for p in parameters], decays, rates, strict=True)
    sizes = {i: parameter.size for i, parameter in enumerate(parameters)}
    buckets = fill_buckets(sizes, dict(enumerate(kinds)), largest)

    masters = []
    for number, bucket in enumerate(buckets):
        flat = np.concatenate(
            [parameters[i].astype(ms.float32).asnumpy().reshape(-1) for i in bucket.indices]
        )
        piece = Tensor(data.take(flat).copy())
        masters.append(Parameter(piece, name=f"optimizer.bucket.{number}"))
    first = [bucket.indices[0] for bucket in buckets]
    return SlicedMasters(buckets, masters, [decays[i] for i in first], [rates[i] for i in first])
