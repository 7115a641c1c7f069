"""Several devices: how they are laid out, what each holds of a divided parameter, and what crosses
between them.

Processes stand in a grid of `data` rows and `model` columns. Those of a row hold one model together
(attention heads, MLPs and the vocabulary are divided among them) and see the same samples; those of
a column hold the same part of it and see different samples. Neighbouring ranks are of one row,
since they have most to say to each other: rank = data_rank * model + model_rank.

A parameter is either whole on every process of a row, or divided by a `Cut`; `cuts_of` gives the
cuts of a model by the names of its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mindspore import nn
from numpy.typing import NDArray


@dataclass(frozen=True)
class Layout:
    """The grid of processes, and which of them this one is.

    Raises:
        ValueError: for a side below one, or a rank outside of the grid.
    """

    data: int = 1
    model: int = 1
    rank: int = 0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.data < 1 or self.model < 1:
            raise ValueError(
                f"a layout of data {self.data} x model {self.model} processes: "
                "both must be at least 1"
            )
        if not 0 <= self.rank < self.size:
            raise ValueError(
                f"rank {self.rank} is outside of data {self.data} x model {self.model} "
                f"= {self.size} processes"
            )

    @property
    def size(self) -> int:
        """How many processes there are."""
        return self.data * self.model

    @property
    def data_rank(self) -> int:
        """The row of this process: which samples it sees."""
        return self.rank // self.model

    @property
    def model_rank(self) -> int:
        """The column of this process: which part of the model it holds."""
        return self.rank % self.model

    @property
    def model_ranks(self) -> list[int]:
        """The processes that hold one model together with this one."""
        first = self.data_rank * self.model
        return list(range(first, first + self.model))

    @property
    def data_ranks(self) -> list[int]:
        """The processes that hold the same part of the model as this one."""
        return list(range(self.model_rank, self.size, self.model))


@dataclass(frozen=True)
class Groups:
    """Names of the groups that collectives of this process run in; None where it would be alone."""

    model: str | None = None
    data: str | None = None


ALONE = Groups()


def create_groups(layout: Layout) -> Groups:
    """Make the groups of a layout, once, after `mindspore.communication.init`; of a single process
    nothing is made.
    """
    return Groups(
        _create_group(f"model-{layout.data_rank}", layout.model_ranks, layout),
        _create_group(f"data-{layout.model_rank}", layout.data_ranks, layout),
    )


def _create_group(name: str, ranks: list[int], layout: Layout) -> str | None:
    from mindspore.communication import GlobalComm, create_group

    if len(ranks) == 1:
        return None
    if len(ranks) == layout.size:
        return str(GlobalComm.WORLD_COMM_GROUP)
    create_group(name, ranks)
    return name


@dataclass(frozen=True)
class Cut:
    """How a parameter is divided among `size` processes, along one axis.

    `parts` are the lengths along the axis, in the whole parameter, of what is divided each for
    itself: queries, keys and values of a fused projection, else one part. Of a part with `copies`
    c, c neighbouring processes hold the same piece (key heads, where there are fewer than
    processes); a process' pieces of all parts stand one after the other.

    Raises:
        ValueError: if a part does not divide.
    """

    axis: int
    parts: tuple[int, ...]
    size: int
    copies: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts divide; one copy is what goes without saying."""
        if not self.copies:
            object.__setattr__(self, "copies", (1,) * len(self.parts))
        for part, copies in zip(self.parts, self.copies, strict=True):
            if self.size % copies or part * copies % self.size:
                raise ValueError(
                    f"{part} rows cannot be divided among {self.size} processes"
                    + (f", {copies} of which hold the same" if copies > 1 else "")
                )

    @property
    def local_parts(self) -> tuple[int, ...]:
        """The lengths of the pieces that a process holds."""
        return tuple(
            part * copies // self.size for part, copies in zip(self.parts, self.copies, strict=True)
        )

    def slices(self, model_rank: int) -> tuple[slice, ...]:
        """Where along the axis of the whole parameter the pieces of a process are."""
        found, start = [], 0
        for part, copies, length in zip(self.parts, self.copies, self.local_parts, strict=True):
            first = start + model_rank // copies * length
            found.append(slice(first, first + length))
            start += part
        return tuple(found)

    def local_shape(self, whole: Sequence[int]) -> tuple[int, ...]:
        """The shape of what a process holds of a parameter of the shape `whole`."""
        shape = list(whole)
        shape[self.axis] = sum(self.local_parts)
        return tuple(shape)

    def whole_shape(self, local: Sequence[int]) -> tuple[int, ...]:
        """The shape of the parameter of which a process holds the shape `local`."""
        shape = list(local)
        shape[self.axis] = sum(self.parts)
        return tuple(shape)

    def take(self, whole: NDArray[Any], model_rank: int) -> NDArray[Any]:
        """What a process holds of the parameter; of a mapped file nothing else is read."""
        along = np.moveaxis(whole, self.axis, 0)
        pieces = [np.moveaxis(along[place], 0, self.axis) for place in self.slices(model_rank)]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, self.axis)

    def join(self, pieces: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The whole parameter from what each process of a row holds, in their order: the inverse
        of `take`.
        """
        ends = np.cumsum(self.local_parts)[:-1]
        divided = [np.split(piece, ends, self.axis) for piece in pieces]
        return np.concatenate(
            [
                divided[rank][part]
                for part, copies in enumerate(self.copies)
                for rank in range(0, self.size, copies)
            ],
            self.axis,
        )


class Divisible(nn.Cell):
    """A cell that says which of its own parameters are divided, and how: `cuts`, by attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.cuts: Mapping[str, Cut] = {}


def cuts_of(model: nn.Cell) -> dict[str, Cut]:
    """The cuts of the divided parameters of a model, by name; what is not in it is whole."""
    return {
        f"{path}.{name}".lstrip("."): cut
        for path, cell in model.cells_and_names()
        if isinstance(cell, Divisible)
        for name, cut in cell.cuts.items()
    }
