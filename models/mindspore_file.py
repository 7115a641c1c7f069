"""MindSpore's `.ckpt` files, read and written one tensor at a time, without MindSpore.

Such a file is one protobuf message (mindspore/train/checkpoint.proto):

    message Checkpoint { repeated Value value = 1; }
    message Value { required string tag = 1; optional TensorProto tensor = 2; }
    message TensorProto {
      repeated int64 dims = 1; required string tensor_type = 2; required bytes tensor_content = 3;
    }

It is walked here and not parsed by the `protobuf` package, which would copy every tensor into
memory to tell where it lies, and knows no message beyond 2 GB. A tensor of more than 512 MB is
several values of one tag, in order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from models.checkpoint import NUMPY_TYPES, StoredTensor

TYPES = {
    "Float64": "F64",
    "Float32": "F32",
    "Float16": "F16",
    "BFloat16": "BF16",
    "Int64": "I64",
    "Int32": "I32",
    "Int16": "I16",
    "Int8": "I8",
    "UInt8": "U8",
    "Bool": "BOOL",
}
SLICE_BYTES = 512 * 2**20  # as MindSpore cuts

# https://protobuf.dev/programming-guides/encoding: what follows the number of a field.
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
CHECKSUM = b"crc_num"  # after the message, with `crc_check`: this and ten bytes


@dataclass(frozen=True)
class SlicedTensor(StoredTensor):
    """A tensor in several pieces, each with where it begins and its bytes."""

    pieces: tuple[tuple[int, int], ...] = ()

    def read(self) -> NDArray[Any]:
        """The tensor; in memory, as its pieces do not lie side by side."""
        joined = np.empty(math.prod(self.shape), NUMPY_TYPES[self.dtype])
        room, done = joined.view(np.uint8), 0
        with self.path.open("rb") as file:
            for offset, size in self.pieces:
                file.seek(offset)
                room[done : done + size] = np.frombuffer(file.read(size), np.uint8)
                done += size
        return joined.reshape(self.shape)


@dataclass(frozen=True)
class _Field:
    """One field of a message: its number, and the number that it holds or where its bytes lie."""

    number: int
    value: int
    start: int
    end: int


def open_mindspore_file(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a `.ckpt` file, by name; texts beside them are left out.

    Raises:
        ValueError: for a file that is encrypted, damaged or none of MindSpore's.
    """
    end = path.stat().st_size
    pieces: dict[str, list[tuple[int, int]]] = {}
    kinds: dict[str, tuple[str, tuple[int, ...]]] = {}
    with path.open("rb") as file:
        if end > 17:
            file.seek(end - 17)
            end -= 17 if file.read(7) == CHECKSUM else 0
        try:
            for value in _fields(file, 0, end):
                name, kind, shape, piece = _value(file, value)
                kinds[name] = kind, shape
                pieces.setdefault(name, []).append(piece)
        except (EOFError, KeyError, UnicodeDecodeError) as error:
            raise ValueError(
                f"{path}: not a .ckpt file of MindSpore, or cut short or encrypted "
                f"({end:,} bytes); fetch it again, or save it without a key"
            ) from error

    return {
        name: _stored_tensor(path, name, *kinds[name], pieces[name])
        for name in kinds
        if kinds[name][0] != "str"
    }


def _stored_tensor(
    path: Path, name: str, kind: str, shape: tuple[int, ...], pieces: Sequence[tuple[int, int]]
) -> StoredTensor:
    if kind not in TYPES:
        raise ValueError(f"{path}: {name} is {kind}; known are {', '.join(TYPES)}")

    dtype = TYPES[kind]
    wanted = math.prod(shape) * np.dtype(NUMPY_TYPES[dtype]).itemsize
    # A single number has the dimension 0.
    if shape == (0,) and pieces[0][1]:
        shape, wanted = (), np.dtype(NUMPY_TYPES[dtype]).itemsize
    if sum(size for _, size in pieces) != wanted:
        raise ValueError(f"{path}: {name} does not fill its shape {shape}; fetch the file again")

    offset = pieces[0][0]
    if len(pieces) == 1:
        return StoredTensor(path, dtype, shape, offset)
    return SlicedTensor(path, dtype, shape, offset, tuple(pieces))


def _value(file: BinaryIO, value: _Field) -> tuple[str, str, tuple[int, ...], tuple[int, int]]:
    """Name, type, shape and place of one value."""
    fields = {field.number: field for field in _fields(file, value.start, value.end)}
    name = _text(file, fields[1])

    dims, kind, content = [], "", None
    for field in _fields(file, fields[2].start, fields[2].end):
        if field.number == 1:
            dims.append(field.value)
        elif field.number == 2:
            kind = _text(file, field)
        elif field.number == 3:
            content = field.start, field.end - field.start
    if content is None:
        raise KeyError("tensor_content")
    return name, kind, tuple(dims), content


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[_Field]:
    """The fields of the message between two places of a file."""
    place = start
    while place < end:
        file.seek(place)
        key = _varint(file)
        number, wire = key >> 3, key & 7
        value = _varint(file) if wire in (VARINT, BYTES) else 0
        begin = file.tell()
        sizes = {VARINT: 0, BYTES: value, FIXED64: 8, FIXED32: 4}
        if wire not in sizes or begin + sizes[wire] > end:
            raise EOFError
        place = begin + sizes[wire]
        yield _Field(number, value, begin, place)


def _varint(file: BinaryIO) -> int:
    """A number in groups of seven bits, the lowest first; the last one has no eighth bit."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise EOFError
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise EOFError


def _text(file: BinaryIO, field: _Field) -> str:
    file.seek(field.start)
    return file.read(field.end - field.start).decode()


def write_values(
    file: BinaryIO, names: Sequence[str], tensors: Iterable[tuple[str, NDArray[Any]]]
) -> None:
    """Write tensors, pairs of a type name and an array, one after the other."""
    kinds = {code: kind for kind, code in TYPES.items()}
    for name, (dtype, array) in zip(names, tensors, strict=True):
        flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        dims = b"".join(_number(1, size) for size in array.shape or (0,))
        for start in range(0, max(1, flat.nbytes), SLICE_BYTES):
            content = flat[start : start + SLICE_BYTES]
            head = dims + _bytes(2, kinds[dtype].encode()) + _length(3, content.nbytes)
            value = _bytes(1, name.encode()) + _length(2, len(head) + content.nbytes) + head
            file.write(_length(1, len(value) + content.nbytes) + value)
            file.write(content.data)


def _number(field: int, value: int) -> bytes:
    return _encode(field << 3 | VARINT) + _encode(value)


def _length(field: int, size: int) -> bytes:
    return _encode(field << 3 | BYTES) + _encode(size)


def _bytes(field: int, content: bytes) -> bytes:
    return _length(field, len(content)) + content


def _encode(value: int) -> bytes:
    groups = bytearray()
    while value >= 0x80:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
