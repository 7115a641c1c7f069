"""What rows say, as one number each: the same where the same is said about the same media.

Hashing a million rows object by object would take longer than reading them. Here numbers are hashed
by numpy, a whole column at once, and only the bytes of texts row by row.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from mmdata.store.arrays import (
    flag_bytes,
    list_lengths,
    list_values,
    struct_fields,
    valid_bytes,
)
from mmdata.store.batch import ConversationBatch

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Hashes: TypeAlias = NDArray[np.uint64]

__all__ = ["hash_besides_texts", "hash_contents", "hash_media", "hash_rows", "mix", "part_bounds"]

_WORDS: Final = frozenset({"role", "type"})
"""Columns of words which the first four letters tell apart;
what else is text is hashed byte for byte.
"""

_SAID: Final = ("messages", "media", "tools", "rejected", "desirable")
"""The columns of what a row says; the others say what it is called and where it is from."""


def hash_contents(batch: ConversationBatch) -> list[int]:
    """Return :func:`hash_rows` of a batch as a list."""
    found: list[int] = hash_rows(batch.columns).tolist()
    return found


def hash_rows(columns: pa.RecordBatch) -> Hashes:
    """Return for each row 64 bits that stand for what it says and about which media,
    (rows,) uint64.

    That is messages, media, tools, what was rejected, and the judgement.

    They depend on the row alone, not on its batch or the process; rows that differ share them by
    chance alone.
    """
    import numpy as np

    bounds = np.arange(columns.num_rows + 1)
    total = np.zeros(columns.num_rows, np.uint64)
    for name in _SAID:
        total += _hash(columns.column(name), bounds, name)
    return mix(total)


def hash_media(columns: pa.RecordBatch) -> Hashes:
    """Return for each medium of all rows 64 bits that stand for all that is known of it, (media,)
    uint64.
    """
    import numpy as np

    media = list_values(columns.column("media"))
    return _hash(media, np.arange(len(media) + 1), "media")


def hash_besides_texts(columns: pa.RecordBatch, media: Hashes) -> Hashes:
    """Return for each row 64 bits that stand for what it holds besides its texts, (rows,) uint64:
    the boxes and times in it, its tools and judgement, and its media, for each of which ``media``,
    (media,), has a number.
    """
    import numpy as np

    rows = np.arange(columns.num_rows + 1)
    total = sum(
        (_hash(columns.column(name), rows, name) for name in ("tools", "desirable")),
        np.zeros(columns.num_rows, np.uint64),
    )
    of_rows = np.concatenate([[0], np.cumsum(list_lengths(columns.column("media")))])
    total += _sum(media, np.ones(len(media), np.uint64), of_rows, "media")

    for name in ("messages", "rejected"):
        messages = columns.column(name)
        if messages.null_count == len(messages):
            continue
        content = list_values(messages).field("content")
        bounds = part_bounds(messages)
        for field in ("boxes", "start", "end"):
            total += _hash(list_values(content).field(field), bounds, f"{name}.{field}")
    return mix(total)


def part_bounds(messages: pa.ListArray) -> NDArray[Any]:
    """Return where among all parts of the messages those of each row begin, and where the last
    end, (rows + 1,).
    """
    import numpy as np

    parts = list_lengths(list_values(messages).field("content"))
    of_messages = np.concatenate([[0], np.cumsum(parts)])
    of_rows = np.concatenate([[0], np.cumsum(list_lengths(messages))])
    found: NDArray[Any] = of_messages[of_rows]
    return found


def _hash(array: pa.Array, bounds: NDArray[Any], path: str) -> Hashes:
    """Return a hash of what an array holds for each row:
    of its elements ``bounds[row]`` to ``bounds[row + 1]``.

    Nulls add nothing, so that a column which is not there counts as one of nulls. ``path`` is what
    the column is called, with what holds it: the same values hash to others in another column.
    """
    import numpy as np
    import pyarrow as pa

    total = np.zeros(len(bounds) - 1, np.uint64)
    if array.null_count == len(array):
        return total
    if pa.types.is_struct(array.type):
        for field, values in zip(array.type, struct_fields(array), strict=True):
            total += _hash(values, bounds, f"{path}.{field.name}")
        return total

    there = np.frombuffer(valid_bytes(array), np.uint8).astype(np.uint64)
    if (
        pa.types.is_list(array.type)
        or pa.types.is_string(array.type)
        or pa.types.is_binary(array.type)
    ):
        starts = np.frombuffer(array.buffers()[1], np.int32)[
            array.offset : array.offset + len(array) + 1
        ]
        lengths = np.diff(starts).astype(np.uint64)
        if path.rpartition(".")[2] in _WORDS:
            return _sum(lengths + _first_letters(array, starts[:-1]), there, bounds, path)
        total += _sum(lengths, there, bounds, path)
        inside = starts[bounds]
        if pa.types.is_list(array.type):
            return total + _hash(array.values, inside, f"{path}.")
        return total + _hash_bytes(array, inside, path)

    columns = _as_numbers(array)  # (elements, numbers of each) uint64
    for number in range(columns.shape[1]):
        total += _sum(columns[:, number], there, bounds, f"{path}.{number}")
    return total


@cache
def _salt(path: str) -> int:
    import xxhash

    return xxhash.xxh3_64_intdigest(path.encode())


def _sum(values: Hashes, there: Hashes, bounds: NDArray[Any], path: str) -> Hashes:
    """Return for each row the sum of hashes of its values,
    each hashed with its place in the row.
    """
    import numpy as np

    # Without its place, a value would count the same wherever in its row it stands.
    counts = np.diff(bounds)
    places = np.arange(bounds[0], bounds[-1]) - np.repeat(bounds[:-1], counts)
    salted = mix(values[bounds[0] : bounds[-1]] + np.uint64(_salt(path)))
    salted += places.astype(np.uint64)
    hashes = mix(salted) * there[bounds[0] : bounds[-1]]  # nulls add nothing

    # Running sums overflow, and so do their differences: modulo 2**64 these are the rows' sums.
    ends = np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])
    found: Hashes = np.diff(ends[bounds - bounds[0]])
    return found


def _hash_bytes(array: pa.Array, inside: NDArray[Any], path: str) -> Hashes:
    """Return a hash of the bytes of each row, those of all its texts one after the other;
    0 where there are none.
    """
    import numpy as np
    import xxhash

    digest, places = xxhash.xxh3_64_intdigest, inside.tolist()
    data = memoryview(array.buffers()[2] or b"")
    hashes = [digest(data[start:end]) for start, end in pairwise(places)]
    found: Hashes = mix(np.array(hashes, np.uint64) + np.uint64(_salt(path))) * (
        np.diff(inside) > 0
    )
    return found


def _first_letters(array: pa.Array, starts: NDArray[Any]) -> Hashes:
    """Return the first four letters of each word as a number."""
    import numpy as np

    data = np.frombuffer(array.buffers()[2], np.uint8)
    found = np.zeros(len(starts), np.uint64)
    # A null at the end begins behind the data; what is read for it counts nothing.
    for letter in range(4):
        found = found << np.uint64(8) | data[np.minimum(starts + letter, len(data) - 1)]
    return found << np.uint64(8)


def _as_numbers(array: pa.Array) -> Hashes:
    """Return the values of an array whose values are all of one width,
    (elements, numbers of each) uint64.
    """
    import numpy as np
    import pyarrow as pa

    if pa.types.is_boolean(array.type):
        return np.frombuffer(flag_bytes(array), np.uint8).astype(np.uint64)[:, None]
    if pa.types.is_fixed_size_list(array.type):
        size = array.type.list_size
        values = _as_numbers(array.values.slice(array.offset * size, len(array) * size))
        return values.reshape(len(array), -1)
    width = array.type.bit_width // 8
    data = np.frombuffer(array.buffers()[1], f"u{width}")[array.offset : array.offset + len(array)]
    return data.astype(np.uint64)[:, None]


def mix(values: Hashes) -> Hashes:
    """Return values scattered over all 64 bits:
    the finalizer of SplitMix64 (Steele, Lea and Flood, 2014).
    """
    import numpy as np

    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
