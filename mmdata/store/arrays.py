"""Arrow arrays from buffers.

Given a list or a numpy array, ``pa.array`` imports pandas first, and so does ``pa.scalar``; that
takes longer than converting ten thousand records. ``there`` is a byte for each place of a column:
1 where it has a value, 0 where it is null.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence, Sized
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "canonical",
    "codes_of",
    "constant",
    "count_row_bytes",
    "dictionary",
    "dictionary_codes",
    "flag_bytes",
    "flags",
    "integers",
    "joined",
    "lengths_of",
    "list_lengths",
    "list_values",
    "lists_of",
    "sparse",
    "struct_fields",
    "text",
    "text_of",
    "valid_bytes",
    "with_nulls",
    "words",
]

_LARGEST: Final = (1 << 31) - 1
"""How many bytes an array of bytes may hold; of more, Arrow says what is wrong."""
_TOGETHER: Final = 512
"""How many texts are joined at a time:
larger blocks of memory come from the system and go back to it each time.
"""


def sparse(values: Sequence[Any], there: bytes, arrow_type: pa.DataType) -> pa.Array:
    """Return an array with the next of ``values`` wherever one is there."""
    import numpy as np
    import pyarrow as pa

    if not values:
        return pa.nulls(len(there), arrow_type)

    if pa.types.is_string(arrow_type):
        return text(values, there)
    if pa.types.is_binary(arrow_type) and sum(map(len, values)) <= _LARGEST:
        starts = _starts(_spread(lengths_of(values), there))
        buffers = [_bits(there), starts, _join_bytes(values)]
        return pa.Array.from_buffers(arrow_type, len(there), buffers)
    if pa.types.is_integer(arrow_type):
        numbers = _spread(np.array(values, f"int{arrow_type.bit_width}"), there)
        return pa.Array.from_buffers(arrow_type, len(there), [_bits(there), pa.py_buffer(numbers)])
    if pa.types.is_boolean(arrow_type):
        bits = _bits(_spread(np.array(values, np.uint8), there).tobytes())
        return pa.Array.from_buffers(arrow_type, len(there), [_bits(there), bits])
    if pa.types.is_list(arrow_type) and pa.types.is_fixed_size_list(arrow_type.value_type):
        return _lists_of_rows(values, there, arrow_type)
    following = iter(values)
    return pa.array([next(following) if here else None for here in there], arrow_type)


def _join_bytes(values: Sequence[bytes | memoryview]) -> pa.Buffer:
    """Return some bytes end to end; without a copy, if they stand so in a buffer of Arrow's."""
    import pyarrow as pa

    if (found := _find_joined(values)) is not None:
        return found

    # Arrow keeps the memory of an earlier batch for the next one. What `bytes.join` asks for comes
    # from the system each time, which clears every page of it: that takes longer than the copy.
    joined = pa.allocate_buffer(sum(map(len, values)))
    view, start = memoryview(joined).cast("B"), 0
    for value in values:
        end = start + len(value)
        view[start:end] = value
        start = end
    return joined


def _find_joined(values: Sequence[bytes | memoryview]) -> pa.Buffer | None:
    """Return the part of a buffer of Arrow's that some views of it make up in order, as do those of
    a table's column of pictures; None if they are anything else.
    """
    import pyarrow as pa

    whole: Any = values[0].obj if isinstance(values[0], memoryview) else None
    if not isinstance(whole, pa.Buffer):
        return None

    end = first = pa.py_buffer(values[0]).address
    for value in values:
        # The memory of another buffer would not be kept, even if it lay behind this one.
        if not isinstance(value, memoryview) or value.obj is not whole:
            return None
        if pa.py_buffer(value).address != end:
            return None
        end += len(value)

    return whole.slice(first - whole.address, end - first)


def _lists_of_rows(values: Sequence[Any], there: bytes, list_type: pa.DataType) -> pa.Array:
    """Return an array with the next of ``values``, lists of as many float32 numbers each, wherever
    one is there.
    """
    import numpy as np
    import pyarrow as pa

    row_type, lengths = list_type.value_type, lengths_of(values)
    numbers = np.fromiter(chain.from_iterable(chain.from_iterable(values)), np.float32)
    children = [pa.Array.from_buffers(pa.float32(), len(numbers), [None, pa.py_buffer(numbers)])]
    count = int(lengths.sum())
    rows = pa.Array.from_buffers(row_type, count, [None], children=children)
    return lists_of(_spread(lengths, there), rows, list_type, there)


def text(values: Sequence[str], there: bytes | None = None) -> pa.Array:
    """Return a string array of ``values``; nulls are between them where one is not there."""
    return text_of(
        (joined(values[n : n + _TOGETHER]) for n in range(0, len(values), _TOGETHER)), there
    )


def text_of(
    blocks: Iterable[tuple[bytes, NDArray[np.int32]]], there: bytes | None = None
) -> pa.Array:
    """Return a string array of the texts that :func:`joined` has made blocks of;
    nulls where one is not there.
    """
    import numpy as np
    import pyarrow as pa

    # Arrow's stream grows where it stands; blocks joined in Python would be held twice.
    stream, sizes = pa.BufferOutputStream(), [np.zeros(0, np.int32)]  # none: there may be no block
    for data, lengths_of_block in blocks:
        stream.write(data)
        sizes.append(lengths_of_block)
    lengths = np.concatenate(sizes) if there is None else _spread(np.concatenate(sizes), there)
    valid = None if there is None else _bits(there)
    return pa.StringArray.from_buffers(len(lengths), _starts(lengths), stream.getvalue(), valid)


def joined(texts: Sequence[str]) -> tuple[bytes, NDArray[np.int32]]:
    """Return texts end to end in UTF-8, and how many bytes of it each has, (texts,) int32."""
    text = "".join(texts)
    data = text.encode()
    # As many bytes as characters: it is ASCII, and lengths in bytes are those that strings know.
    return data, lengths_of(texts if len(data) == len(text) else [each.encode() for each in texts])


def words(codes: NDArray[np.int8], known: Collection[str]) -> pa.Array:
    """Return a string array of the words that codes stand for."""
    import numpy as np
    import pyarrow as pa

    spelled = [word.encode() for word in known]
    # numpy's array of bytes has one width, to which it fills shorter words up with NUL; none of
    # ours has one of its own, so that taking out every NUL leaves the words end to end.
    data = np.take(np.array(spelled), codes).tobytes().translate(None, b"\0")
    starts = _starts(np.take(lengths_of(spelled), codes))
    return pa.StringArray.from_buffers(len(codes), starts, pa.py_buffer(data))


def integers(values: NDArray[np.signedinteger[Any]]) -> pa.Array:
    """Return an array of integers of the type that they have."""
    import pyarrow as pa

    return pa.Array.from_buffers(
        pa.from_numpy_dtype(values.dtype), len(values), [None, pa.py_buffer(values)]
    )


def dictionary(codes: NDArray[np.signedinteger[Any]], known: Collection[str]) -> pa.Array:
    """Return a dictionary array of the words that codes stand for."""
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(integers(codes), text(list(known)))


def dictionary_codes(array: pa.DictionaryArray) -> NDArray[np.signedinteger[Any]]:
    """Return the place of each value in the dictionary of an array without nulls, (values,)."""
    import numpy as np

    # A slice shares the buffers of the whole: it begins at its offset.
    indices = array.indices
    width = indices.type.bit_width // 8
    return np.frombuffer(indices.buffers()[1], f"i{width}")[
        indices.offset : indices.offset + len(indices)
    ]


def constant(word: str) -> pa.StringScalar:
    """Return a text as an argument of Arrow's compute functions.

    >>> constant("a").as_py()
    'a'
    """
    return text([word])[0]


def flags(values: bytes) -> pa.Array:
    """Return a boolean array of bytes that are 0 or 1."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def lists_of(
    lengths: NDArray[np.int32], items: pa.Array, list_type: pa.DataType, there: bytes | None = None
) -> pa.Array:
    """Return an array of lists of such ``lengths``, (lists,) int32, which hold all the ``items``.

    One that is not ``there`` is null, and has the length 0.
    """
    import pyarrow as pa

    valid = None if there is None else _bits(there)
    return pa.Array.from_buffers(
        list_type, len(lengths), [valid, _starts(lengths)], children=[items]
    )


def with_nulls(texts: pa.StringArray, there: bytes) -> pa.StringArray:
    r"""Return texts of which none is null, null where one is not ``there``; none is copied.

    >>> with_nulls(text(["a", "b"]), b"\1\0").to_pylist()
    ['a', None]
    """
    import pyarrow as pa

    _, starts, data = texts.buffers()
    first = texts.offset * 4  # a place in the text of int32
    own = starts.slice(first, 4 * (len(texts) + 1))
    return pa.StringArray.from_buffers(len(texts), own, data, _bits(there))


def canonical(array: pa.Array) -> pa.Array:
    """Return an array laid out as one that was made at once:
    equal values are equal bytes of a file, however they came.

    Arrays that were sliced, taken or joined may hold offsets that do not start at 0, or bitmaps of
    nothing but ones.
    """
    import pyarrow as pa

    if array.null_count == len(array):
        return pa.nulls(len(array), array.type)

    there = valid_bytes(array) if array.null_count else None
    if pa.types.is_struct(array.type):
        children = list(map(canonical, struct_fields(array)))
        valid = None if there is None else _bits(there)
        return pa.Array.from_buffers(array.type, len(array), [valid], children=children)
    if pa.types.is_list(array.type):
        return lists_of(list_lengths(array), canonical(list_values(array)), array.type, there)
    return array


def count_row_bytes(columns: pa.RecordBatch) -> NDArray[np.int64]:
    """Return about how many bytes each row takes, (rows,) int64: the same in whatever batch it
    stands, which those that Arrow counts of a slice are not.
    """
    import numpy as np

    bounds = np.arange(columns.num_rows + 1)
    total = np.zeros(columns.num_rows, np.int64)
    for column in columns.columns:
        total += _count_bytes(column, bounds)
    return total


def _count_bytes(array: pa.Array, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the bytes of the items ``bounds[row]`` to ``bounds[row + 1]`` of an array for each
    row, (rows,) int64.
    """
    import numpy as np
    import pyarrow as pa

    counts = np.diff(bounds)
    kind = array.type
    if array.null_count == len(array):
        return np.zeros(len(counts), np.int64)
    if pa.types.is_dictionary(kind):
        kind = kind.index_type
    if pa.types.is_struct(kind):
        total = np.zeros(len(counts), np.int64)
        for number in range(kind.num_fields):
            total += _count_bytes(array.field(number), bounds)
        return total
    if pa.types.is_fixed_size_list(kind):
        width: int = kind.list_size * kind.value_type.bit_width // 8
        return counts * width
    if not (pa.types.is_list(kind) or pa.types.is_string(kind) or pa.types.is_binary(kind)):
        bits: int = kind.bit_width
        return counts * ((bits + 7) // 8)

    offsets = np.frombuffer(array.buffers()[1], np.int32)[
        array.offset : array.offset + len(array) + 1
    ]
    inside = offsets[bounds].astype(np.int64)
    content = _count_bytes(array.values, inside) if pa.types.is_list(kind) else np.diff(inside)
    return content + counts * offsets.itemsize


def list_values(array: pa.ListArray) -> pa.Array:
    """Return the items of all lists of an array, one after the other;
    lists that are null have none.

    Arrow's own ``flatten`` would import its compute functions, which takes longer than a small
    conversion.
    """
    import numpy as np

    offsets = np.frombuffer(array.buffers()[1], np.int32)[
        array.offset : array.offset + len(array) + 1
    ]
    first, last = offsets[[0, -1]].tolist()
    return array.values.slice(first, last - first)


def struct_fields(array: pa.StructArray) -> list[pa.Array]:
    """Return the fields of an array of structs, null where a struct is:
    below one that is, Arrow may hold a zero.
    """
    if array.null_count:
        return list(array.flatten())
    return [array.field(number) for number in range(array.type.num_fields)]


def list_lengths(array: pa.ListArray) -> NDArray[np.int32]:
    """Return how many items each list has, (lists,) int32."""
    import numpy as np

    offsets = np.frombuffer(array.buffers()[1], np.int32)[
        array.offset : array.offset + len(array) + 1
    ]
    return np.diff(offsets)


def valid_bytes(array: pa.Array) -> bytes:
    """Return a byte for each place of an array: 1 where it has a value, 0 where it is null."""
    if not array.null_count:
        return b"\1" * len(array)
    return _unpack(array.buffers()[0], array)


def flag_bytes(array: pa.BooleanArray) -> bytes:
    """Return a byte for each place of a boolean array, 0 or 1; nulls are either."""
    return _unpack(array.buffers()[1], array)


def _unpack(bits: pa.Buffer, array: pa.Array) -> bytes:
    import numpy as np

    # Bits are counted from the start of the buffer: an offset may lie within a byte.
    end = array.offset + len(array)
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=end, bitorder="little")[
        array.offset :
    ].tobytes()


def codes_of(
    values: Sequence[Hashable], known: Iterable[Hashable], dtype: str = "int8"
) -> NDArray[Any]:
    """Return the place of each value among those ``known``, (values,) of ``dtype``."""
    import numpy as np

    place = {value: index for index, value in enumerate(known)}
    return np.fromiter(map(place.__getitem__, values), dtype, len(values))


def lengths_of(things: Sequence[Sized]) -> NDArray[np.int32]:
    """Return how long each thing is, (things,) int32."""
    import numpy as np

    return np.fromiter(map(len, things), np.int32, len(things))


def _starts(lengths: NDArray[np.int32]) -> pa.Buffer:
    """Return where each of some things begins when they are joined, and where the last ends."""
    import numpy as np
    import pyarrow as pa

    starts = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=starts[1:])
    return pa.py_buffer(starts)


def _spread(values: NDArray[Any], there: bytes) -> NDArray[Any]:
    """Return the values where they are, 0 elsewhere."""
    import numpy as np

    spread = np.zeros(len(there), values.dtype)
    spread[np.frombuffer(there, np.bool_)] = values
    return spread


def _bits(there: bytes) -> pa.Buffer:
    import numpy as np
    import pyarrow as pa

    return pa.py_buffer(np.packbits(np.frombuffer(there, np.uint8), bitorder="little"))
