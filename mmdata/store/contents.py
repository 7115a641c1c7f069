"""What rows say, as one number each: the same where the same is said about the same media."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from mmdata.store.arrays import flag_bytes, valid_bytes
from mmdata.store.batch import ConversationBatch

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["hash_contents"]

_Bounds: TypeAlias = Sequence[tuple[int, int]]
"""Where what belongs to each row begins in an array, and where it ends."""


def hash_contents(batch: ConversationBatch) -> list[int]:
    """Return for each row a hash of its messages and media, (rows,); rows that differ share one by chance alone.

    A hash is good within one process: Python seeds those of bytes anew in each.
    """
    bounds = [(row, row + 1) for row in range(len(batch))]
    messages, media = (_contents(batch.columns.column(name), bounds) for name in ("messages", "media"))
    return list(map(hash, zip(messages, media, strict=True)))


def _contents(array: pa.Array, bounds: _Bounds) -> list[Hashable]:
    """Return for each row what an array holds of it: something that compares, None where there are but nulls."""
    import numpy as np
    import pyarrow as pa

    if array.null_count == len(array):
        return [None] * len(bounds)
    if pa.types.is_struct(array.type):
        fields = [_contents(array.field(number), bounds) for number in range(array.type.num_fields)]
        return list(zip(*fields, strict=True))

    valid = valid_bytes(array) if array.null_count else None
    if pa.types.is_list(array.type) or pa.types.is_string(array.type) or pa.types.is_binary(array.type):
        starts = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
        lengths, places = np.diff(starts).tobytes(), starts.tolist()
        inside = [(places[start], places[end]) for start, end in bounds]
        if pa.types.is_list(array.type):
            data = _contents(array.values, inside)
        else:
            bytes_of = memoryview(array.buffers()[2] or b"").tobytes()
            data = [bytes_of[start:end] for start, end in inside]
        found: list[Hashable] = [
            (lengths[4 * start : 4 * end], some) for (start, end), some in zip(bounds, data, strict=True)
        ]
    else:
        fixed, width = _fixed_bytes(array)
        found = [fixed[width * start : width * end] for start, end in bounds]

    if valid is None:
        return found
    masks = [valid[start:end] for start, end in bounds]
    return [(mask, some) if 1 in mask else None for mask, some in zip(masks, found, strict=True)]


def _fixed_bytes(array: pa.Array) -> tuple[bytes, int]:
    """Return the values of an array whose values are all of one width, as bytes, and that width."""
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        return flag_bytes(array), 1
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        values, width = _fixed_bytes(array.values.slice(array.offset * size, len(array) * size))
        return values, width * size
    width = array.type.bit_width // 8
    return memoryview(array.buffers()[1]).tobytes()[array.offset * width : (array.offset + len(array)) * width], width
