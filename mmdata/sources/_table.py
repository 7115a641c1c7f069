"""The rows of Arrow tables as the records that JSON would give.

Arrow's own ``to_pylist`` makes a scalar object of each value. Here columns are turned into lists as
a whole and nested ones are cut out of them, which is several times faster, and values that JSON
does not have become what it has:

- null is an absent field, in a row as in a struct; so is NaN, which pandas writes for what is
  missing. In a list both are null.
- Dates, times and timestamps are text as ISO 8601 spells it, those with a time zone in UTC;
  durations are seconds; decimals are text, digit by digit.
- Bytes are views of the column that they stand in, which :attr:`Record.value` copies: a format that
  reads many records at once makes media of them without a copy of each picture.
- Infinite numbers, intervals of months and maps with doubled keys cost their record.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise, repeat
from typing import TYPE_CHECKING, Any, Final

from mmdata.errors import RecordError
from mmdata.rejects import Reason, Reject
from mmdata.sources._json import identity
from mmdata.sources.record import Record
from mmdata.store.arrays import list_lengths, list_values, valid_bytes
from mmdata.store.batch import BATCH_BYTES

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "PIECE_BYTES",
    "PIECE_ROWS",
    "bad_source",
    "pieces_of",
    "read_rows",
    "require_unique_names",
]

PIECE_ROWS: Final = 1024
PIECE_BYTES: Final = BATCH_BYTES
"""How much is turned into Python values at once, at the most; of pictures, which stay where they
are, as much as a batch takes: one that a single piece has filled is made without a copy of them.
"""


def read_rows(
    batch: pa.RecordBatch, *, file: str, number: int, id_key: str
) -> list[Record | Reject]:
    """Return the rows of a batch as records, the first of which has the ``number``; a reject where
    one cannot be read.
    """
    rows = _rows(batch)
    size = batch.nbytes // max(1, len(rows))
    has_views = any(map(_holds_views, batch.schema.types))
    found: list[Record | Reject] = []
    for place, value in enumerate(rows, number):
        if isinstance(value, RecordError):
            found.append(Record(None, file, place).rejected(value))
        else:
            own = identity(value, id_key)
            found.append(Record(value, file, place, own, size, has_views=has_views))
    return found


def pieces_of(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield a batch in pieces that are small enough to be turned into Python values at once."""
    each = max(1, batch.nbytes // max(1, batch.num_rows))
    rows = max(1, min(PIECE_ROWS, PIECE_BYTES // each))
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def bad_source(file: str, number: int, what: str) -> Reject:
    """Return the reject that stands for what of a file cannot be read, at record ``number``."""
    return Reject(number, file, None, Reason.BAD_SOURCE, what)


def require_unique_names(schema: pa.Schema) -> None:
    """Refuse a schema in which a name stands twice: a record can keep but one of them.

    Raises:
        RecordError: it does.
    """
    _require_unique(schema.names)
    for field in schema:
        _require_unique_below(field.type)


def _require_unique_below(kind: pa.DataType) -> None:
    import pyarrow as pa

    children = [kind.field(place) for place in range(kind.num_fields)]
    if pa.types.is_struct(kind):
        _require_unique([child.name for child in children])
    for child in children:
        _require_unique_below(child.type)


def _require_unique(names: Sequence[str]) -> None:
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise RecordError(f"the column {twice[0]!r} stands twice in the file")


def _rows(batch: pa.RecordBatch) -> list[dict[str, Any] | RecordError]:
    """Return the rows of a batch; what cannot be read is looked for by halves."""
    try:
        columns = [_column(batch, name) for name in batch.schema.names]
        return _structs(batch.schema.names, columns, gaps=_may_have_gaps(batch.columns))
    except RecordError as error:
        if batch.num_rows == 1:
            return [error]
    half = batch.num_rows // 2
    return [*_rows(batch.slice(0, half)), *_rows(batch.slice(half))]


def _column(batch: pa.RecordBatch, name: str) -> list[Any]:
    import pyarrow as pa

    try:
        return _values(batch.column(name))
    except RecordError as error:
        raise RecordError(f"the column {name!r}: {error}", reason=error.reason) from error
    except (pa.ArrowException, ValueError, OverflowError) as error:
        raise RecordError(f"the column {name!r}: {error}") from error


def _values(array: pa.Array) -> list[Any]:
    """Return the values of an array as JSON has them, None where there is none."""
    import pyarrow as pa
    from pyarrow import types

    # Most of Arrow's methods (`cast`, `flatten`, `is_valid`) import its compute functions, which
    # takes longer than a thousand rows: what every table has, texts and lists, is read without.
    kind = array.type
    if array.null_count == len(array):
        return [None] * len(array)
    if isinstance(kind, pa.BaseExtensionType):
        return _values(array.storage)
    if types.is_dictionary(kind):
        return _values(array.dictionary_decode())
    if types.is_run_end_encoded(kind):
        return _values(_decode_runs(array))
    if types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind):
        return _texts(array)
    if types.is_binary(kind) or types.is_large_binary(kind):
        return _views(array)
    if types.is_struct(kind):
        return _nested_structs(array)
    if types.is_map(kind):
        return _maps(array)
    if types.is_nested(kind) and not types.is_union(kind):
        return _lists(array)
    if types.is_floating(kind):
        return _floats(array)
    if types.is_timestamp(kind):
        return _timestamps(array)
    if types.is_duration(kind):
        return _durations(array)
    if types.is_temporal(kind) or types.is_decimal(kind):
        return _texts(array.cast(pa.string()))
    return array.to_pylist()  # type: ignore[no-any-return]


def _holds_views(kind: pa.DataType) -> bool:
    """Return whether values of a type may have views in them."""
    import pyarrow as pa
    from pyarrow import types

    if isinstance(kind, pa.BaseExtensionType):
        return _holds_views(kind.storage_type)
    if types.is_dictionary(kind) or types.is_run_end_encoded(kind):
        return _holds_views(kind.value_type)
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return types.is_binary(kind) or types.is_large_binary(kind) or any(map(_holds_views, inner))


def _views(array: pa.Array) -> list[Any]:
    """Return the values of an array of bytes as views of it, which keep its memory."""
    import numpy as np
    import pyarrow as pa

    _, offsets, data = array.buffers()
    width = np.int32 if pa.types.is_binary(array.type) else np.int64
    places = np.frombuffer(offsets, width)[array.offset :][: len(array) + 1].tolist()
    whole = memoryview(b"" if data is None else data).cast("B")
    return _with_nulls([whole[start:end] for start, end in pairwise(places)], array)


def _decode_runs(array: pa.RunEndEncodedArray) -> pa.Array:
    import pyarrow.compute as pc

    return pc.run_end_decode(array)


def _texts(array: pa.Array) -> list[Any]:
    import numpy as np
    import pyarrow as pa

    if array.null_count:
        found = iter(_texts(array.drop_null()))
        return [next(found) if valid else None for valid in valid_bytes(array)]

    # From the buffers: `to_pylist` makes a scalar of each value, and the way through numpy imports
    # pandas.
    if not pa.types.is_string(array.type):
        array = array.cast(pa.string())
    _, offsets, characters = array.buffers()
    places = np.frombuffer(offsets, np.int32)[array.offset :][: len(array) + 1]
    first, last = places[[0, -1]].tolist()
    data = b"" if characters is None else characters[first:last].to_pybytes()
    bounds = pairwise((places - first).tolist())
    try:
        text = data.decode()
        if len(text) == len(data):
            texts: list[Any] = [text[start:end] for start, end in bounds]
        else:
            texts = [data[start:end].decode() for start, end in bounds]
    except UnicodeDecodeError as error:
        raise RecordError("bytes that are not UTF-8", reason="bad_encoding") from error
    if "\0" in text:
        raise RecordError("a text with a NUL", reason="bad_encoding")
    return texts


def _floats(array: pa.Array) -> list[Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    numbers = array.cast(pa.float64())
    if pc.any(pc.is_inf(numbers)).as_py():
        raise RecordError("an infinite number")
    return [None if number != number else number for number in numbers.to_pylist()]


def _timestamps(array: pa.Array) -> list[Any]:
    import pyarrow as pa

    # To a type without time zone first: Arrow then needs no data base of them, and the instants
    # stay those of UTC.
    end = "" if array.type.tz is None else "Z"
    texts = array.cast(pa.timestamp(array.type.unit)).cast(pa.string()).to_pylist()
    return [None if text is None else text.replace(" ", "T") + end for text in texts]


def _durations(array: pa.Array) -> list[Any]:
    import pyarrow as pa

    seconds = {"s": 1, "ms": 1e3, "us": 1e6, "ns": 1e9}[array.type.unit]
    counts = array.cast(pa.int64()).to_pylist()
    return [None if count is None else count / seconds for count in counts]


def _nested_structs(array: pa.Array) -> list[Any]:
    names = [field.name for field in array.type]
    children = array.flatten()
    columns = [_values(child) for child in children]
    rows: list[Any] = _structs(names, columns, gaps=_may_have_gaps(children))
    if not names:
        rows = [{} for _ in range(len(array))]
    return _with_nulls(rows, array)


def _may_have_gaps(arrays: Sequence[pa.Array]) -> bool:
    """Return whether there may be None among the values of some arrays: in those of other types
    than these it may stand for what Arrow counts as no null, such as NaN.
    """
    from pyarrow import types

    return any(
        array.null_count
        or not (
            types.is_string(array.type)
            or types.is_binary(array.type)
            or types.is_list(array.type)
            or types.is_struct(array.type)
        )
        for array in arrays
    )


def _structs(names: Sequence[str], columns: Sequence[list[Any]], *, gaps: bool) -> list[Any]:
    """Return columns as objects, without the fields that are null; without ``gaps`` none is."""
    # Nearly always all are there: one search of a whole column is many times faster than of each
    # object.
    gaps = gaps and any(None in column for column in columns)
    rows = zip(*columns, strict=True)
    if not gaps and len(names) == 2:
        # Turns and pictures, which are most of all objects: written out they take a third.
        one, other = names
        return [{one: first, other: second} for first, second in rows]
    if not gaps:
        # `map` makes them in C, without a step of Python's own for each of many small objects.
        return list(map(dict, map(zip, repeat(names), rows)))
    return [
        {name: value for name, value in zip(names, row, strict=True) if value is not None}
        for row in rows
    ]


def _lists(array: pa.Array) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_list(array.type) and not array.null_count and len(array):
        values = _values(list_values(array))
        lengths = list_lengths(array).tolist()
    else:
        # Both leave out what is null, and what a slice does not show.
        values = _values(array.flatten())
        lengths = array.value_lengths().to_pylist()
    bounds = pairwise(accumulate((length or 0 for length in lengths), initial=0))
    return _with_nulls([values[start:end] for start, end in bounds], array)


def _maps(array: pa.Array) -> list[Any]:
    found: list[Any] = []
    for pairs in array.to_pylist(maps_as_pydicts=None):
        if pairs is None:
            found.append(None)
            continue
        keys = [key for key, _ in pairs]
        if not all(isinstance(key, str) for key in keys) or len(set(keys)) < len(keys):
            raise RecordError("a map must have texts as keys, each once")
        found.append({key: value for key, value in pairs if value is not None})
    return found


def _with_nulls(values: list[Any], array: pa.Array) -> list[Any]:
    if not array.null_count:
        return values
    there = valid_bytes(array)
    return [value if valid else None for value, valid in zip(values, there, strict=True)]
