"""Conversations as Arrow columns; :mod:`mmdata.rows` is the way back."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence, Sized
from functools import cache
from itertools import chain, compress, repeat
from operator import attrgetter, is_not
from typing import TYPE_CHECKING, Any, Final, get_args

from msgspec.structs import astuple

from mmdata.schema import Conversation, Image, Media, MediaType, Message, Part, Region, Role, Split, Text, Time, Video

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["PART_TYPES", "arrow_schema", "to_batch"]

PART_TYPES: Final[dict[type, str]] = {Text: "text", Image: "image", Video: "video", Region: "region", Time: "time"}
"""The kinds of parts, and what a store calls them; text is the first."""
_PART_FIELDS: Final[dict[str, set[type]]] = {
    "text": {Text, Region},
    "media": {Image, Video, Region, Time},
    "boxes": {Region},
    "start": {Time},
    "end": {Time},
}
_ROLES: Final = get_args(Role)
_SPLITS: Final = get_args(Split)
_MEDIA_TYPES: Final = get_args(MediaType)

_encode_extra: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@cache
def arrow_schema() -> pa.Schema:
    """Return the Arrow schema of a store, version 1 (the table of the design page)."""
    import pyarrow as pa

    box = pa.list_(pa.float32(), 4)
    part = pa.struct(
        [
            ("type", pa.string()),
            ("text", pa.string()),
            ("media", pa.int32()),
            ("boxes", pa.list_(box)),
            ("start", pa.float64()),
            ("end", pa.float64()),
        ]
    )
    message = pa.struct([("role", pa.string()), ("content", pa.list_(part)), ("train", pa.bool_())])
    media = pa.struct(
        [
            ("type", pa.string()),
            ("path", pa.string()),
            ("bytes", pa.binary()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("duration", pa.float64()),
            ("fps", pa.float64()),
            ("num_frames", pa.int64()),
            ("start", pa.float64()),
            ("end", pa.float64()),
            ("times", pa.string()),
            ("frame_times", pa.list_(pa.float64())),
            ("frames", pa.list_(pa.binary())),
        ]
    )
    return pa.schema(
        [
            pa.field("id", pa.string(), nullable=False),
            pa.field("source", pa.dictionary(pa.int32(), pa.string())),
            pa.field("split", pa.dictionary(pa.int8(), pa.string())),
            pa.field("messages", pa.list_(message)),
            pa.field("media", pa.list_(media)),
            pa.field("extra", pa.string()),
        ]
    )


def to_batch(conversations: Sequence[Conversation], sources: Sequence[str]) -> pa.RecordBatch:
    """Return the conversations as one record batch of :func:`arrow_schema`.

    ``sources`` is the dictionary of the column ``source``; it is given, not gathered, so that every batch of a store
    shares it.
    """
    import pyarrow as pa

    schema = arrow_schema()
    columns = [
        _text([c.id for c in conversations]),
        _dictionary(_codes([c.source for c in conversations], sources, "int32"), sources),
        _dictionary(_codes([c.split for c in conversations], _SPLITS), _SPLITS),
        _lists([c.messages for c in conversations], _messages, schema.field("messages").type),
        _lists([c.media for c in conversations], _media, schema.field("media").type),
        _text([_encode_extra(c.extra) if c.extra else "{}" for c in conversations]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _messages(messages: Sequence[Message], struct_type: pa.DataType) -> pa.Array:
    import pyarrow as pa

    columns = [
        _words(_codes([m.role for m in messages], _ROLES), _ROLES),
        _lists([m.content for m in messages], _parts, struct_type.field("content").type),
        pa.Array.from_buffers(pa.bool_(), len(messages), [None, _bits(bytes([m.train for m in messages]))]),
    ]
    return pa.StructArray.from_arrays(columns, fields=list(struct_type))


def _parts(parts: Sequence[Part], struct_type: pa.DataType) -> pa.Array:
    import pyarrow as pa

    codes = _codes(list(map(type, parts)), PART_TYPES)
    columns = [_words(codes, tuple(PART_TYPES.values()))]
    for name, kinds in _PART_FIELDS.items():
        there = codes.tobytes().translate(bytes(kind in kinds for kind in PART_TYPES).ljust(256, b"\0"))
        values = list(map(attrgetter(name), compress(parts, there)))
        columns.append(_sparse(values, there, struct_type.field(name).type))
    return pa.StructArray.from_arrays(columns, fields=list(struct_type))


def _media(media: Sequence[Media], struct_type: pa.DataType) -> pa.Array:
    import pyarrow as pa

    kind, *known = zip(*map(astuple, media), strict=True) if media else [()] * struct_type.num_fields
    columns = [_words(_codes(kind, _MEDIA_TYPES), _MEDIA_TYPES)]
    for values, field in zip(known, list(struct_type)[1:], strict=True):
        there = bytes(map(is_not, values, repeat(None)))
        columns.append(_sparse(list(compress(values, there)), there, field.type))
    return pa.StructArray.from_arrays(columns, fields=list(struct_type))


# The makers of arrays below hand Arrow buffers: given a list or a numpy array, `pa.array` imports pandas first, which
# takes longer than converting ten thousand records. ``there`` is a byte for each place of a column: 1 where it has a
# value, 0 where it is null.


def _sparse(values: Sequence[Any], there: bytes, arrow_type: pa.DataType) -> pa.Array:
    """Return an array with the next of ``values`` wherever one is there."""
    import numpy as np
    import pyarrow as pa

    if not values:
        return pa.nulls(len(there), arrow_type)
    if pa.types.is_string(arrow_type):
        return _text(values, there)
    if pa.types.is_integer(arrow_type):
        numbers = _spread(np.array(values, f"int{arrow_type.bit_width}"), there)
        return pa.Array.from_buffers(arrow_type, len(there), [_bits(there), pa.py_buffer(numbers)])
    following = iter(values)
    return pa.array([next(following) if here else None for here in there], arrow_type)


def _text(values: Sequence[str], there: bytes | None = None) -> pa.Array:
    """Return a string array of ``values``; nulls are between them where one is not there."""
    import pyarrow as pa

    joined = "".join(values)
    data = joined.encode()
    pieces = values if len(data) == len(joined) else [value.encode() for value in values]
    lengths = _lengths(pieces)
    if there is not None:
        lengths = _spread(lengths, there)
    valid = None if there is None else _bits(there)
    return pa.StringArray.from_buffers(len(lengths), _starts(lengths), pa.py_buffer(data), valid)


def _words(codes: NDArray[np.int8], words: Collection[str]) -> pa.Array:
    """Return a string array of the words that codes stand for."""
    return _dictionary(codes, words).dictionary_decode()


def _dictionary(codes: NDArray[np.signedinteger[Any]], words: Collection[str]) -> pa.Array:
    import pyarrow as pa

    index_type = pa.from_numpy_dtype(codes.dtype)
    indices = pa.Array.from_buffers(index_type, len(codes), [None, pa.py_buffer(codes)])
    return pa.DictionaryArray.from_arrays(indices, _text(list(words)))


def _codes(values: Sequence[Hashable], known: Iterable[Hashable], dtype: str = "int8") -> NDArray[Any]:
    """Return the place of each value among those ``known``, (values,) of ``dtype``."""
    import numpy as np

    place = {value: index for index, value in enumerate(known)}
    return np.fromiter(map(place.__getitem__, values), dtype, len(values))


def _lists(
    lists: Sequence[Sequence[Any]], to_array: Callable[[list[Any], pa.DataType], pa.Array], list_type: pa.DataType
) -> pa.Array:
    """Return an array of lists, whose items ``to_array`` makes an array of."""
    import pyarrow as pa

    items = to_array(list(chain.from_iterable(lists)), list_type.value_type)
    return pa.Array.from_buffers(list_type, len(lists), [None, _starts(_lengths(lists))], children=[items])


def _lengths(things: Sequence[Sized]) -> NDArray[np.int32]:
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


def _bits(flags: bytes) -> pa.Buffer:
    import numpy as np
    import pyarrow as pa

    return pa.py_buffer(np.packbits(np.frombuffer(flags, np.uint8), bitorder="little"))
