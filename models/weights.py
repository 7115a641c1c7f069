"""Checkpoints in and out: safetensors, read and written one tensor at a time, so that no model need fit in memory.

The files are read here and not through the `safetensors` package because numpy has no bfloat16: such tensors travel as
their 16 bits, which splitting and stacking leave alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor, nn

from models.lora import lora_delta, lora_metadata
from models.names import Weight

# https://github.com/huggingface/safetensors: the names of types in a file's header.
NUMPY_TYPES = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "BF16": "<u2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "i1",
    "U8": "u1",
    "BOOL": "?",
}
FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class StoredTensor:
    """Where a tensor lies."""

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def read(self) -> np.ndarray:
        """The tensor, mapped and not yet in memory; bfloat16 as uint16."""
        if 0 in self.shape:
            return np.zeros(self.shape, NUMPY_TYPES[self.dtype])
        return np.memmap(self.path, NUMPY_TYPES[self.dtype], "r", self.offset, self.shape)


@dataclass(frozen=True)
class Account:
    """What became of a conversion: every tensor of the source and every parameter of the model is in here once."""

    written: tuple[str, ...]
    unused: tuple[str, ...]  # tensors of the source that nothing was made of
    unfilled: tuple[str, ...]  # parameters of the model that the source says nothing about


def open_checkpoint(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, or of a folder of shards (with an index or without), by name.

    Raises:
        FileNotFoundError: if there is no safetensors file.
        ValueError: for a damaged file, or an index that does not fit its shards.
    """
    if path.is_file():
        return _open_file(path)
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{path}: no .safetensors file; other formats have to be saved as safetensors first")
    tensors: dict[str, StoredTensor] = {}
    for file in files:
        found = _open_file(file)
        if twice := tensors.keys() & found.keys():
            raise ValueError(f"{file}: {min(twice)} is in {tensors[min(twice)].path.name} too; keep one of the files")
        tensors |= found
    for index in path.glob("*.safetensors.index.json"):
        listed = json.loads(index.read_text())["weight_map"]
        if missing := sorted(listed.keys() - tensors.keys()):
            raise ValueError(f"{index}: {missing[0]} should be in {listed[missing[0]]}; fetch that shard again")
    return tensors


def _open_file(path: Path) -> dict[str, StoredTensor]:
    header, start = _header(path)
    header.pop("__metadata__", None)
    size = path.stat().st_size
    return {name: _stored(path, name, entry, start, size) for name, entry in header.items()}


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON at the head of a file and where the data begins."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError(f"{path}: not a safetensors file, or cut short ({size} bytes); fetch it again")
        try:
            return json.loads(file.read(length)), 8 + length
        except ValueError as error:
            raise ValueError(f"{path}: its header is not JSON; this is no safetensors file") from error


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself."""
    return _header(path)[0].get("__metadata__", {})


def _stored(path: Path, name: str, entry: dict[str, Any], start: int, size: int) -> StoredTensor:
    dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype not in NUMPY_TYPES:
        raise ValueError(f"{path}: {name} is {dtype}; known are {', '.join(NUMPY_TYPES)} (no quantised weights)")
    if end - begin != math.prod(shape) * np.dtype(NUMPY_TYPES[dtype]).itemsize or start + end > size:
        raise ValueError(f"{path}: {name} does not fit the file ({size} bytes); fetch it again")
    return StoredTensor(path, dtype, shape, start + begin)


def write_checkpoint(
    path: Path,
    names: Sequence[str],
    tensors: Iterable[tuple[str, np.ndarray]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `tensors`, pairs of a type name and an array in the order of `names`, holding one at a time.

    The file appears whole or not at all.
    """
    header: dict[str, object] = {"__metadata__": {"format": "ms", **(metadata or {})}}
    # The header comes first but is known last: leave room for it, to be filled up with spaces.
    room = len(json.dumps(header)) + sum(len(json.dumps(name)) + 160 for name in names)
    room = 8 * math.ceil(room / 8)
    part = path.with_name(path.name + ".part")
    offset = 0
    with part.open("wb") as file:
        file.seek(8 + room)
        for name, (dtype, array) in zip(names, tensors, strict=True):
            header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [offset, offset + array.nbytes]}
            file.write(np.ascontiguousarray(array).data)
            offset += array.nbytes
        file.seek(0)
        file.write(room.to_bytes(8, "little") + json.dumps(header).encode().ljust(room))
    part.replace(path)


def convert_dtype(array: np.ndarray, stored: str, wanted: str) -> np.ndarray:
    """A float array in another type of `NUMPY_TYPES`; bfloat16 is rounded to nearest, ties to even."""
    if stored == wanted:
        return array
    if stored == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if wanted != "BF16":
        return array.astype(NUMPY_TYPES[wanted])
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)


def import_weights(
    source: Path,
    target: Path,
    weights: Sequence[Weight],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    canonical_name: Callable[[str], str] = str,
    dtype: str | None = None,
) -> Account:
    """Make a checkpoint in our names from one in the names of `weights`.

    `shapes` are those of the model (`parameter_shapes`); parameters of which the source holds nothing are left out and
    named in the account. `dtype` (float32, float16, bfloat16) casts; None keeps each tensor's own type.

    Raises:
        ValueError: if a tensor has the wrong shape, or only some of those that make up a parameter are there.
    """
    tensors = {canonical_name(name): tensor for name, tensor in open_checkpoint(source).items()}
    filled = [weight for weight in weights if any(name in tensors for name in weight.sources)]
    for weight in filled:
        if missing := [name for name in weight.sources if name not in tensors]:
            raise ValueError(f"{source}: {missing[0]} is missing, but {weight.name} needs it beside {weight.sources}")

    def joined() -> Iterator[tuple[str, np.ndarray]]:
        for weight in filled:
            parts = [tensors[name] for name in weight.sources]
            wanted = FLOATS[dtype] if dtype else parts[0].dtype
            arrays = [convert_dtype(part.read(), part.dtype, wanted) for part in parts]
            yield wanted, weight.join(arrays, shapes[weight.name])

    names = [weight.name for weight in filled]
    write_checkpoint(target, names, joined())
    used = {name for weight in filled for name in weight.sources}
    return Account(tuple(names), tuple(sorted(tensors.keys() - used)), tuple(sorted(shapes.keys() - set(names))))


def export_weights(source: Path, target: Path, weights: Sequence[Weight]) -> Account:
    """Make a checkpoint in the names of `weights` from one in ours: the inverse of `import_weights`, bit for bit."""
    tensors = open_checkpoint(source)
    filled = [weight for weight in weights if weight.name in tensors]

    def split() -> Iterator[tuple[str, np.ndarray]]:
        for weight in filled:
            tensor = tensors[weight.name]
            yield from ((tensor.dtype, part) for part in weight.split(tensor.read()))

    names = [name for weight in filled for name in weight.sources]
    write_checkpoint(target, names, split())
    known = {weight.name for weight in weights}
    unfilled = {name for weight in weights for name in weight.sources} - set(names)
    return Account(tuple(names), tuple(sorted(tensors.keys() - known)), tuple(sorted(unfilled)))


def parameter_shapes(model: nn.Cell) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter; a model built under `no_init_parameters()` costs no memory for it."""
    return {name: tuple(parameter.shape) for name, parameter in model.parameters_and_names()}


def load_weights(model: nn.Cell, source: Path, dtype: str | None = None) -> Account:
    """Fill the model's parameters from a checkpoint in our names; `dtype` is how to keep them (None: as stored).

    Raises:
        ValueError: if a tensor's shape is not the parameter's.
    """
    tensors = open_checkpoint(source)
    parameters = dict(model.parameters_and_names())
    filled = [name for name in tensors if name in parameters]
    for name in filled:
        tensor, parameter = tensors[name], parameters[name]
        if tensor.shape != tuple(parameter.shape):
            raise ValueError(f"{tensor.path}: {name} is {tensor.shape}, the model's is {tuple(parameter.shape)}")
        array = convert_dtype(tensor.read(), tensor.dtype, "F32" if tensor.dtype == "BF16" else tensor.dtype)
        kept = dtype or {code: name for name, code in FLOATS.items()}[tensor.dtype]
        parameter.set_dtype(getattr(ms, kept))
        parameter.set_data(Tensor(np.array(array)).astype(getattr(ms, kept)))
    unused, unfilled = tensors.keys() - parameters.keys(), parameters.keys() - set(filled)
    return Account(tuple(filled), tuple(sorted(unused)), tuple(sorted(unfilled)))


def save_weights(
    model: nn.Cell,
    target: Path,
    names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write the parameters, or those of `names`, to a safetensors file in our names."""
    parameters = dict(model.parameters_and_names())
    names = list(parameters) if names is None else names

    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for name in names:
            code = FLOATS[str(parameters[name].dtype).lower()]
            array = parameters[name].astype(ms.float32).asnumpy()
            yield code, convert_dtype(array, "F32", code)

    write_checkpoint(target, names, arrays(), metadata)


def save_lora(model: nn.Cell, target: Path) -> None:
    """Write the LoRA pairs alone, with what `merge_lora_file` must know about them."""
    names = [name for name, _ in model.parameters_and_names() if name.endswith((".lora_a", ".lora_b"))]
    save_weights(model, target, names, {"lora": json.dumps(lora_metadata(model))})


def merge_lora_file(base: Path, adapter: Path, target: Path) -> list[str]:
    """Write the checkpoint `base` with the adapter of `save_lora` added in; the paths of the changed layers come back.

    Sums are in float32, stored as `base` is; one layer is in memory at a time.

    Raises:
        ValueError: if `adapter` was not written by `save_lora`, or does not fit `base`.
    """
    if "lora" not in (metadata := read_metadata(adapter)):
        raise ValueError(f"{adapter}: not a LoRA file of ours (nothing about its rank and scale in it)")
    lora = json.loads(metadata["lora"])
    tensors, pairs = open_checkpoint(base), open_checkpoint(adapter)
    if missing := sorted(path for path in lora["parts"] if f"{path}.weight" not in tensors):
        raise ValueError(f"{base}: no {missing[0]}.weight, which {adapter.name} wants to change; is it of this model?")

    def merged() -> Iterator[tuple[str, np.ndarray]]:
        for name, tensor in tensors.items():
            array, path = tensor.read(), name.removesuffix(".weight")
            if path in lora["parts"] and name.endswith(".weight"):
                a, b = pairs[f"{path}.lora_a"].read(), pairs[f"{path}.lora_b"].read()
                delta = lora_delta(a, b, tuple(lora["parts"][path])) * np.float32(lora["scale"])
                array = convert_dtype(convert_dtype(array, tensor.dtype, "F32") + delta, "F32", tensor.dtype)
            yield tensor.dtype, array

    write_checkpoint(target, list(tensors), merged())
    return sorted(lora["parts"])
