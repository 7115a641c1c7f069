"""What a process holds of the arrays of a model and its optimizer: from whole arrays to its parts,
and from the parts of all processes to whole arrays.

A part is known by two divisions, of which either may be none: the cut of a parameter among the
processes that hold one model together (`models.parallel.Cut`), and, of what is left, a slice of the
flattened numbers among the data-parallel processes. Several arrays may lie one after the other in
one flat parameter (`recipes.buckets`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor, nn
from numpy.typing import NDArray

from models.checkpoint import FLOATS, convert_dtype, write_checkpoint
from models.parallel import WHOLE, Cut, Layout, ModelGroup, all_gather, cuts_of, group_of
from models.sharding import DataGroup, gather_over, sliced_cells


class Stored(Protocol):
    """An array of a file."""

    @property
    def dtype(self) -> str:
        """Its type, one of `models.checkpoint.NUMPY_TYPES`."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        ...

    def read(self) -> NDArray[Any]:
        """The array, mapped where it can be."""
        ...


@dataclass(frozen=True, eq=False)
class Held:
    """Where in a parameter this process holds its part of an array.

    `shape` is that of the array after the cut, which is among `model`. With `data` the parameter is
    this process' slice of a flat array that those share, in which the array begins at `start`.
    """

    parameter: Parameter
    shape: tuple[int, ...]
    cut: Cut | None = None
    model: ModelGroup = WHOLE
    data: DataGroup | None = None
    start: int = 0

    @property
    def numbers(self) -> int:
        """How many the array has after the cut."""
        return math.prod(self.shape)

    @property
    def whole_shape(self) -> tuple[int, ...]:
        """The shape of the array in a file."""
        return self.shape if self.cut is None else self.cut.whole_shape(self.shape)

    def overlap(self) -> tuple[int, int]:
        """Which numbers of the array after the cut, from and to, this process holds."""
        if self.data is None:
            return 0, self.numbers
        before = self.data.rank * self.parameter.size
        first = min(max(before - self.start, 0), self.numbers)
        last = min(max(before + self.parameter.size - self.start, 0), self.numbers)
        return first, last

    @property
    def place(self) -> slice:
        """Where these are in the flat parameter."""
        first, last = self.overlap()
        before = 0 if self.data is None else self.data.rank * self.parameter.size
        at = self.start + first - before
        return slice(at, at + last - first)


def fill_held(held: Mapping[str, Held], stored: Mapping[str, Stored]) -> None:
    """Fill parameters, each in its own type, from whole arrays, of which nothing but this process'
    parts is read; every array that lies in one of the parameters must be there.
    """
    for names in _by_parameter(held):
        parameter = held[names[0]].parameter
        if held[names[0]].data is None:
            array = _read_part(stored[names[0]], held[names[0]]).reshape(parameter.shape)
            # `Tensor` copies, so that a mapped file is neither held nor written to.
            parameter.set_data(Tensor(array).astype(parameter.dtype))
            continue

        values = np.zeros(parameter.shape, np.float32)
        for name in names:
            first, last = held[name].overlap()
            if first < last:
                values[held[name].place] = _read_part(stored[name], held[name])
        parameter.set_data(Tensor(values).astype(parameter.dtype))


def _read_part(stored: Stored, held: Held) -> NDArray[Any]:
    """What this process holds of an array, flat; bfloat16, which numpy has not, as float32."""
    array = stored.read()
    if held.cut is not None:
        array = held.cut.take(array, held.model.rank)
    first, last = held.overlap()
    flat = array.reshape(-1)[first:last]
    return convert_dtype(flat, stored.dtype, "F32" if stored.dtype == "BF16" else stored.dtype)


def gather_arrays(held: Mapping[str, Held]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The whole arrays by name, float32 (one of a flat parameter after the other, so not in the
    order of `held`); all processes that hold parts must go through all of them, together.
    """
    for names in _by_parameter(held):
        parameter, data = held[names[0]].parameter, held[names[0]].data
        flat = parameter.reshape(-1) if data is None else gather_over(data)(parameter)
        for name in names:
            one = held[name]
            part = flat[one.start : one.start + one.numbers]
            if one.cut is None:
                yield name, part.astype(ms.float32).asnumpy().reshape(one.shape)
                continue
            parts = all_gather(one.model)(part).astype(ms.float32).asnumpy()
            yield name, one.cut.join(list(parts.reshape(one.model.size, *one.shape)))


def write_held(
    target: Path,
    held: Mapping[str, Held],
    kept: Mapping[str, str],
    metadata: Mapping[str, str] | None = None,
    *,
    writes: bool = True,
) -> None:
    """Write whole arrays to a checkpoint file, in the type (float32, float16, bfloat16) that `kept`
    has for each; all processes that hold parts call this together, and one of them `writes`.
    """

    def arrays() -> Iterator[tuple[str, NDArray[Any]]]:
        for name, array in gather_arrays(held):
            code = FLOATS[kept[name]]
            yield code, convert_dtype(array, "F32", code)

    if writes:
        names = [name for together in _by_parameter(held) for name in together]
        write_checkpoint(target, names, arrays(), metadata)
    else:
        for _ in arrays():
            pass


def held_weights(model: nn.Cell) -> dict[str, Held]:
    """What this process holds of the parameters of a model, by name."""
    cuts, group, slices = cuts_of(model), group_of(model), sliced_cells(model)
    held = {}
    for name, parameter in model.parameters_and_names():
        if ".cache." in name:
            continue
        gathered = slices[name].gathered if name in slices else None
        held[name] = Held(
            parameter,
            tuple(parameter.shape if gathered is None else gathered.shape),
            cuts.get(name),
            group,
            None if gathered is None else gathered.data,
        )
    return held


@dataclass(frozen=True)
class Piece:
    """What one process holds of an array: the numbers from `start` on of what is left of it after
    the cut, as process `model_rank` of those that the cut divides it among has it.
    """

    start: int
    shape: tuple[int, ...]
    cut: Cut | None
    model_rank: int


def own_pieces(held: Mapping[str, Held], layout: Layout) -> dict[str, Piece]:
    """What this process should write, by name, so that all processes together write everything
    once.
    """
    found = {}
    for turn, (name, one) in enumerate(held.items()):
        first, last = one.overlap()
        # Of what is not divided, processes have copies; one writes it, each in turn.
        copied = one.data is None and turn % layout.data != layout.data_rank
        if first < last and not copied and (one.cut is not None or layout.model_rank == 0):
            found[name] = Piece(first, one.shape, one.cut, layout.model_rank)
    return found


def read_own(held: Held) -> NDArray[Any]:
    """The numbers that this process holds of an array, flat and float32."""
    flat: NDArray[Any] = held.parameter.astype(ms.float32).asnumpy().reshape(-1)
    return flat[held.place]


@dataclass(frozen=True, eq=False)
class Pieced:
    """An array of which processes have written pieces, put together when it is read."""

    name: str
    pieces: tuple[tuple[Piece, Stored], ...]

    @property
    def dtype(self) -> str:
        """The type of its numbers."""
        return self.pieces[0][1].dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the whole array."""
        piece, _ = self.pieces[0]
        return piece.shape if piece.cut is None else piece.cut.whole_shape(piece.shape)

    def read(self) -> NDArray[Any]:
        """The whole array.

        Raises:
            ValueError: if numbers are missing.
        """
        piece, stored = self.pieces[0]
        parts = 1 if piece.cut is None else piece.cut.size
        flat = np.zeros((parts, math.prod(piece.shape)), stored.read().dtype)
        found = np.zeros(parts, np.int64)
        for piece, stored in self.pieces:
            values = stored.read()
            flat[piece.model_rank, piece.start : piece.start + len(values)] = values
            found[piece.model_rank] += len(values)

        if (found != flat.shape[1]).any():
            raise ValueError(
                f"{self.name}: {found.sum():,} of {flat.size:,} numbers are there; "
                "a process' file is missing"
            )
        arrays = list(flat.reshape(parts, *piece.shape))
        return arrays[0] if piece.cut is None else piece.cut.join(arrays)


def _by_parameter(held: Mapping[str, Held]) -> list[list[str]]:
    """The names, those that lie in one parameter together."""
    together: dict[int, list[str]] = {}
    for name, one in held.items():
        together.setdefault(id(one.parameter), []).append(name)
    return list(together.values())
