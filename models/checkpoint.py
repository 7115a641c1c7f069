"""Checkpoint files: safetensors, torch's zip format and MindSpore's `.ckpt`, one tensor at a time.

They are read here and not through the `safetensors` package because numpy has no bfloat16: such
tensors travel as their 16 bits, which splitting and stacking leave alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

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

    def read(self) -> NDArray[Any]:
        """The tensor, mapped and not yet in memory; bfloat16 as uint16."""
        if 0 in self.shape:
            return np.zeros(self.shape, NUMPY_TYPES[self.dtype])
        return np.memmap(self.path, NUMPY_TYPES[self.dtype], "r", self.offset, self.shape)


def open_checkpoint(path: Path) -> dict[str, StoredTensor]:
    """The tensors by name of a file (safetensors, torch's or MindSpore's) or of a folder of shards:
    its safetensors files, else its `pytorch_model*.bin`.

    Raises:
        FileNotFoundError: if there is no such file, or a shard that an index names is missing.
        ValueError: for a damaged file, or an index that does not fit its shards.
    """
    if not path.is_dir():
        return _open_file(path)

    files = sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))
    if not files:
        raise FileNotFoundError(
            f"{path}: no .safetensors file and no pytorch_model*.bin; "
            "name a .pt, .bin or .ckpt file itself"
        )

    tensors: dict[str, StoredTensor] = {}
    for file in files:
        found = _open_file(file)
        if twice := tensors.keys() & found.keys():
            raise ValueError(
                f"{file}: {min(twice)} is in {tensors[min(twice)].path.name} too; "
                "keep one of the files"
            )
        tensors |= found

    for index in path.glob(f"*{files[0].suffix}.index.json"):
        listed = json.loads(index.read_text())["weight_map"]
        if missing := sorted(listed.keys() - tensors.keys()):
            raise ValueError(
                f"{index}: {missing[0]} should be in {listed[missing[0]]}; fetch that shard again"
            )
    return tensors


def _open_file(path: Path) -> dict[str, StoredTensor]:
    if path.suffix in (".pt", ".pth", ".bin"):
        from models.torch_file import open_torch_file

        return open_torch_file(path)
    if path.suffix == ".ckpt":
        from models.mindspore_file import open_mindspore_file

        return open_mindspore_file(path)
    return _open_safetensors(path)


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    header, start = _header(path)
    header.pop("__metadata__", None)
    size = path.stat().st_size
    return {name: _stored_tensor(path, name, entry, start, size) for name, entry in header.items()}


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The JSON at the head of a file and where the data begins."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= size - 8:
            raise ValueError(
                f"{path}: not a safetensors file, or cut short ({size} bytes); fetch it again"
            )
        try:
            return json.loads(file.read(length)), 8 + length
        except ValueError as error:
            raise ValueError(
                f"{path}: its header is not JSON; this is no safetensors file"
            ) from error


def read_metadata(path: Path) -> dict[str, str]:
    """What a safetensors file says about itself."""
    metadata: dict[str, str] = _header(path)[0].get("__metadata__", {})
    return metadata


def _stored_tensor(
    path: Path, name: str, entry: dict[str, Any], start: int, size: int
) -> StoredTensor:
    dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
    if dtype not in NUMPY_TYPES:
        raise ValueError(
            f"{path}: {name} is {dtype}; known are {', '.join(NUMPY_TYPES)} (no quantised weights)"
        )
    if (
        end - begin != math.prod(shape) * np.dtype(NUMPY_TYPES[dtype]).itemsize
        or start + end > size
    ):
        raise ValueError(f"{path}: {name} does not fit the file ({size} bytes); fetch it again")
    return StoredTensor(path, dtype, shape, start + begin)


def write_checkpoint(
    path: Path,
    names: Sequence[str],
    tensors: Iterable[tuple[str, NDArray[Any]]],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write `tensors`, pairs of a type name and an array
    in the order of `names`, holding one at a time: as MindSpore's if `path` ends in `.ckpt`, else
    as safetensors.

    The file appears whole or not at all.

    Raises:
        ValueError: for metadata, of which `.ckpt` has none.
    """
    if path.suffix == ".ckpt" and metadata:
        raise ValueError(
            f"{path}: a .ckpt file has no room for {', '.join(metadata)}; write a .safetensors file"
        )
    header: dict[str, object] = {"__metadata__": {"format": "ms", **(metadata or {})}}
    # The header comes first but is known last: leave room for it, to be filled up with spaces.
    room = len(json.dumps(header)) + sum(len(json.dumps(name)) + 160 for name in names)
    room = 8 * math.ceil(room / 8)
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            if path.suffix == ".ckpt":
                from models.mindspore_file import write_values

                write_values(file, names, tensors)
            else:
                _write(file, room, header, names, tensors)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write(
    file: BinaryIO,
    room: int,
    header: dict[str, object],
    names: Sequence[str],
    tensors: Iterable[tuple[str, NDArray[Any]]],
) -> None:
    offset = 0
    file.seek(8 + room)
    for name, (dtype, array) in zip(names, tensors, strict=True):
        header[name] = {
            "dtype": dtype,
            "shape": array.shape,
            "data_offsets": [offset, offset + array.nbytes],
        }
        file.write(np.ascontiguousarray(array).data)
        offset += array.nbytes
    file.seek(0)
    file.write(room.to_bytes(8, "little") + json.dumps(header).encode().ljust(room))


def convert_dtype(array: NDArray[Any], stored: str, wanted: str) -> NDArray[Any]:
    """A float array in another type of `NUMPY_TYPES`;
    bfloat16 is rounded to nearest, ties to even.
    """
    if stored == wanted:
        return array
    if stored == "BF16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if wanted != "BF16":
        return array.astype(NUMPY_TYPES[wanted])
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(array), np.uint16(0x7FC0), rounded)
