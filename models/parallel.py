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

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn, ops
from mindspore.nn.utils import no_init_parameters
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


ONE = Layout()
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
    processes); a process' pieces of all parts stand one after the other. `padded`: pieces are
    filled up with zeros to one length, for a vocabulary of any size.

    Raises:
        ValueError: if a part does not divide and is not padded.
    """

    axis: int
    parts: tuple[int, ...]
    size: int
    copies: tuple[int, ...] = ()
    padded: bool = False

    def __post_init__(self) -> None:
        """Check that the parts divide; one copy is what goes without saying."""
        if not self.copies:
            object.__setattr__(self, "copies", (1,) * len(self.parts))
        for part, copies in zip(self.parts, self.copies, strict=True):
            if not self.padded and (self.size % copies or part * copies % self.size):
                raise ValueError(
                    f"{part} rows cannot be divided among {self.size} processes"
                    + (f", {copies} of which hold the same" if copies > 1 else "")
                )

    @property
    def local_parts(self) -> tuple[int, ...]:
        """The lengths of the pieces that a process holds."""
        return tuple(
            -(-part * copies // self.size)
            for part, copies in zip(self.parts, self.copies, strict=True)
        )

    def slices(self, model_rank: int) -> tuple[slice, ...]:
        """Where along the axis of the whole parameter the pieces of a process are, without what
        they are padded with.
        """
        found, start = [], 0
        for part, copies, length in zip(self.parts, self.copies, self.local_parts, strict=True):
            first = model_rank // copies * length
            found.append(slice(start + min(first, part), start + min(first + length, part)))
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
        pieces = []
        for place, length in zip(self.slices(model_rank), self.local_parts, strict=True):
            piece = along[place]
            room = [(0, length - len(piece)), *[(0, 0)] * (piece.ndim - 1)]
            pieces.append(np.pad(piece, room) if self.padded else piece)
        piece = pieces[0] if len(pieces) == 1 else np.concatenate(pieces)
        return np.moveaxis(piece, 0, self.axis)

    def join(self, pieces: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """The whole parameter from what each process of a row holds, in their order: the inverse
        of `take`.
        """
        ends = np.cumsum(self.local_parts)[:-1]
        divided = [np.split(np.moveaxis(piece, self.axis, 0), ends) for piece in pieces]
        whole = []
        for i, (part, copies) in enumerate(zip(self.parts, self.copies, strict=True)):
            joined = np.concatenate([divided[rank][i] for rank in range(0, self.size, copies)])
            whole.append(joined[:part])
        return np.moveaxis(np.concatenate(whole), 0, self.axis)


@dataclass(frozen=True)
class ModelGroup:
    """The processes that hold one model together, and which of them this one is.

    Without a `name` the cells of a divided model say nothing to each other: their shapes are right
    and their results are not, which is enough to reckon what a process will hold.
    """

    size: int = 1
    rank: int = 0
    name: str | None = None


WHOLE = ModelGroup()


def model_group(layout: Layout, groups: Groups) -> ModelGroup:
    """The model group of a process."""
    return ModelGroup(layout.model, layout.model_rank, groups.model)


class Copied(nn.Cell):
    """What every process has, on its way to where each does its part: as it is forward, and
    backward the sum of what the parts have to say of it.
    """

    def __init__(self, group: ModelGroup) -> None:
        super().__init__()
        self.reduce = all_reduce(group)

    def construct(self, x: Tensor) -> Tensor:
        """The same."""
        return x

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """The sum of the gradients."""
        return (self.reduce(dout),)


class Summed(nn.Cell):
    """The sum of what the processes have made, each a part: `Copied` the other way round."""

    def __init__(self, group: ModelGroup) -> None:
        super().__init__()
        self.reduce = all_reduce(group)

    def construct(self, x: Tensor) -> Tensor:
        """The sum, the same everywhere."""
        return self.reduce(x)

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """The gradient of the sum, which all have alike."""
        return (dout,)


class Joined(nn.Cell):
    """The pieces of all processes, one after the other along the last axis; `length` is that of the
    whole, which may be shorter than they are together.
    """

    def __init__(self, group: ModelGroup, length: int) -> None:
        super().__init__()
        self.size, self.rank, self.length = group.size, group.rank, length
        self.gather = all_gather(group)

    def construct(self, x: Tensor) -> Tensor:
        """(…, of a piece) -> (…, length)."""
        pieces = self.gather(x.expand_dims(0))  # (size, …, of a piece)
        return ops.cat([pieces[i] for i in range(self.size)], -1)[..., : self.length]

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """The gradient of this process' piece."""
        rest = self.size * x.shape[-1] - self.length
        if rest:
            dout = ops.cat((dout, ops.zeros((*dout.shape[:-1], rest), dout.dtype)), -1)
        return (ops.chunk(dout, self.size, -1)[self.rank],)


class SharedPieces(nn.Cell):
    """A parameter of which some parts are held by several processes: as it is forward, and
    backward the sum of what those have to say of a piece that they share.
    """

    def __init__(self, cut: Cut, group: ModelGroup) -> None:
        super().__init__()
        self.axis, self.copies, self.local_parts = cut.axis, cut.copies, cut.local_parts
        # How many pieces a part has, and which one is here.
        self.pieces = tuple(group.size // copies for copies in cut.copies)
        self.mine = tuple(group.rank // copies for copies in cut.copies)
        self.reduce = all_reduce(group)

    def construct(self, x: Tensor) -> Tensor:
        """The same."""
        return x

    def bprop(self, x: Tensor, out: Tensor, dout: Tensor) -> tuple[Tensor]:
        """The gradient, that of shared pieces summed.

        The whole group adds up the whole part, each its own piece in a field of zeros: groups of
        those alone that share a piece would be as many more to make.
        """
        found = []
        for i, part in enumerate(ops.split(dout, self.local_parts, self.axis)):
            if self.copies[i] == 1:
                found.append(part)
            else:
                zeros = ops.zeros_like(part)
                field = [part if n == self.mine[i] else zeros for n in range(self.pieces[i])]
                summed = self.reduce(ops.cat(field, self.axis))
                found.append(ops.chunk(summed, self.pieces[i], self.axis)[self.mine[i]])
        return (ops.cat(found, self.axis),)


class DividedScores(nn.Cell):
    """The logarithms of the probabilities of targets, of logits that are divided by vocabulary:
    what crosses is three numbers a position, never the logits.
    """

    def __init__(self, group: ModelGroup, vocabulary: int) -> None:
        super().__init__()
        self.rank = group.rank
        # Which of the rows here are tokens, where some only fill up the piece.
        length = -(-vocabulary // group.size)
        tokens = np.arange(length) + group.rank * length < vocabulary
        self.tokens = None if vocabulary % group.size == 0 else Tensor(tokens)
        self.gather = all_gather(group)
        self.summed = Summed(group)

    def construct(self, logits: Tensor, targets: Tensor) -> Tensor:
        """(batch, length) float32 of logits (batch, length, vocabulary / size) float32 and targets
        (batch, length).
        """
        if self.tokens is not None:
            logits = ops.where(self.tokens, logits, Tensor(-3e38, ms.float32))

        # The maximum by AllGather, since on a CPU AllReduce can do nothing but add. It only keeps
        # the exponentials small; no gradient goes through it.
        highest = ops.stop_gradient(ops.amax(logits, -1))
        highest = ops.stop_gradient(ops.amax(self.gather(highest.expand_dims(0)), 0))
        logits = logits - highest.expand_dims(-1)
        total = ops.log(self.summed(ops.exp(logits).sum(-1)))

        rows = logits.shape[-1]
        local = targets - self.rank * rows
        inside = ops.logical_and(local >= 0, local < rows)
        places = ops.where(inside, local, 0).expand_dims(-1)
        picked = ops.gather_elements(logits, -1, places).squeeze(-1)
        return self.summed(picked * inside.astype(ms.float32)) - total


def all_reduce(group: ModelGroup) -> Any:
    """The sum over the group, as a function of a tensor."""
    return ops.identity if group.name is None else ops.AllReduce(group=group.name)


def all_gather(group: ModelGroup) -> Any:
    """The tensors of the group joined along the first axis, as a function of a tensor."""
    if group.name is None:
        return Repeated(group.size)
    return gather_among(group.name, group.size, group.rank)


def gather_among(name: str, size: int, rank: int) -> Any:
    """The tensors of a group of processes joined along the first axis, as a function of a float
    tensor.

    On a CPU MindSpore 2.10 gathers among all processes only ("AllGather only support
    mccl_world_group on CPU"); in smaller groups it can sum, and a field of zeros with one's own
    tensor in its place sums up to all of them, bit for bit.
    """
    from mindspore.communication import GlobalComm

    if ms.get_context("device_target") == "CPU" and name != GlobalComm.WORLD_COMM_GROUP:
        return GatherBySum(name, size, rank)
    return ops.AllGather(group=name)


class GatherBySum(nn.Cell):
    """The tensors of a group joined along the first axis, where groups know nothing but sums."""

    def __init__(self, name: str, size: int, rank: int) -> None:
        super().__init__()
        self.size, self.rank = size, rank
        self.reduce = ops.AllReduce(group=name)

    def construct(self, x: Tensor) -> Tensor:
        """(size * length, …) of (length, …)."""
        zeros = ops.zeros_like(x)
        field = [x if i == self.rank else zeros for i in range(self.size)]
        return self.reduce(ops.cat(field, 0))


class Repeated(nn.Cell):
    """What stands for the tensors of others where nobody speaks: one's own."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def construct(self, x: Tensor) -> Tensor:
        """(count * length, …) of (length, …)."""
        return ops.cat([x for _ in range(self.count)], 0)


def check_divides(count: int, what: str, group: ModelGroup) -> None:
    """See that a group can divide so many among itself.

    Raises:
        ValueError: if it cannot.
    """
    if count % group.size:
        raise ValueError(f"{count} {what} cannot be divided among {group.size} processes")


class Divisible(nn.Cell):
    """A cell that says which of its own parameters are divided, and how: `cuts`, by attribute.

    `group` is who holds the rest of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.cuts: Mapping[str, Cut] = {}
        self.group = WHOLE


def cuts_of(model: nn.Cell) -> dict[str, Cut]:
    """The cuts of the divided parameters of a model, by name; what is not in it is whole."""
    names = {name for name, _ in model.parameters_and_names()}
    found = {
        f"{path}.{name}".lstrip("."): cut
        for path, cell in model.cells_and_names()
        if isinstance(cell, Divisible)
        for name, cut in cell.cuts.items()
    }
    # A tied head has no parameter of its own.
    return {name: cut for name, cut in found.items() if name in names}


def group_of(model: nn.Cell) -> ModelGroup:
    """Who holds the rest of a divided model; of a whole one, nobody else."""
    groups = [
        cell.group
        for _, cell in model.cells_and_names()
        if isinstance(cell, Divisible) and cell.cuts
    ]
    return groups[0] if groups else WHOLE


def take_piece(parameter: Parameter, cut: Cut, rank: int) -> Parameter:
    """The piece of a parameter that a process holds, as another parameter; of one that has not been
    drawn yet, one that has not either (`draw_piece`).
    """
    if parameter.has_init:
        rule = parameter.init_mode.init
        shape = cut.local_shape(parameter.shape)
        with no_init_parameters():
            return Parameter(
                Tensor(shape=shape, dtype=parameter.dtype, init=rule),
                parameter.name,
                parameter.requires_grad,
            )

    piece = cut.take(parameter.astype(ms.float32).asnumpy(), rank)
    return Parameter(
        Tensor(piece.copy()).astype(parameter.dtype), parameter.name, parameter.requires_grad
    )


def draw_piece(parameter: Parameter, cut: Cut, rank: int) -> None:
    """Draw the whole of a parameter of `take_piece` and keep this process' piece: what is drawn
    does not depend on the layout.
    """
    shape = cut.whole_shape(parameter.shape)
    # Only once: `init_data` goes on in numpy's sequence of numbers.
    whole = Tensor(shape=shape, dtype=parameter.dtype, init=parameter.init_mode.init).init_data()
    parameter.set_data(Tensor(cut.take(whole.asnumpy(), rank).copy()))


def join_pieces(piece: NDArray[Any], cut: Cut, group: ModelGroup) -> NDArray[Any]:
    """The whole array from the pieces of the group, all of whose processes call this together; in
    one of the types that collectives know everywhere, float32, float16 or int32.
    """
    pieces = all_gather(group)(Tensor(np.ascontiguousarray(piece)[None])).asnumpy()
    return cut.join(list(pieces))
