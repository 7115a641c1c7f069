"""Conversations as Arrow columns; :mod:`mmdata.rows` is the way back."""

from __future__ import annotations

import json
from collections.abc import Hashable, Mapping, Sequence, Sized
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, get_args

from mmdata.schema import Conversation, Image, MediaType, Message, Part, Region, Role, Split, Text, Time, Video

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["arrow_schema", "to_batch"]

_PART_TYPES: Final[dict[type, str]] = {Text: "text", Image: "image", Video: "video", Region: "region", Time: "time"}
_PART_FIELDS: Final[dict[str, set[type]]] = {
    "media": {Image, Video, Region, Time},
    "boxes": {Region},
    "start": {Time},
    "end": {Time},
}
_ROLES: Final = {role: role for role in get_args(Role)}
_SPLITS: Final = {split: split for split in get_args(Split)}
_MEDIA_TYPES: Final = {kind: kind for kind in get_args(MediaType)}

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
        _dictionary([c.source for c in conversations], {source: source for source in sources}, pa.int32()),
        _dictionary([c.split for c in conversations], _SPLITS, pa.int8()),
        _messages(conversations, schema.field("messages").type),
        _media(conversations, schema.field("media").type),
        _text([_encode_extra(c.extra) if c.extra else "{}" for c in conversations]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _messages(conversations: Sequence[Conversation], list_type: pa.DataType) -> pa.Array:
    import pyarrow as pa

    messages = [message for c in conversations for message in c.messages]
    struct_type = list_type.value_type
    columns = [
        _words([m.role for m in messages], _ROLES),
        _parts(messages, struct_type.field("content").type),
        pa.Array.from_buffers(pa.bool_(), len(messages), [None, _bits([m.train for m in messages])]),
    ]
    values = pa.StructArray.from_arrays(columns, fields=list(struct_type))
    return _lists([c.messages for c in conversations], values, list_type)


def _parts(messages: Sequence[Message], list_type: pa.DataType) -> pa.Array:
    import pyarrow as pa

    parts = [part for message in messages for part in message.content]
    kinds = list(map(type, parts))
    struct_type = list_type.value_type
    columns = [
        _words(kinds, _PART_TYPES),
        _text(_attribute(parts, kinds, "text", {Text, Region})),
        *(
            _sparse(_attribute(parts, kinds, name, having), struct_type.field(name).type)
            for name, having in _PART_FIELDS.items()
        ),
    ]
    values = pa.StructArray.from_arrays(columns, fields=list(struct_type))
    return _lists([message.content for message in messages], values, list_type)


def _attribute(parts: Sequence[Part], kinds: Sequence[type], name: str, having: set[type]) -> list[Any]:
    """Return an attribute of the parts that are of a kind that has it, None for the others."""
    if having.isdisjoint(kinds):
        return [None] * len(parts)
    get = attrgetter(name)
    return [get(part) if kind in having else None for part, kind in zip(parts, kinds, strict=True)]


def _media(conversations: Sequence[Conversation], list_type: pa.DataType) -> pa.Array:
    import pyarrow as pa

    media = [medium for c in conversations for medium in c.media]
    struct_type = list_type.value_type
    columns = [
        _words([m.type for m in media], _MEDIA_TYPES),
        _text([m.path for m in media]),
        *(_sparse(list(map(attrgetter(field.name), media)), field.type) for field in list(struct_type)[2:]),
    ]
    values = pa.StructArray.from_arrays(columns, fields=list(struct_type))
    return _lists([c.media for c in conversations], values, list_type)


# The makers of arrays below hand Arrow buffers: given a list or a numpy array, `pa.array` imports pandas first, which
# takes longer than converting ten thousand records.


def _text(values: Sequence[str | None]) -> pa.Array:
    """Return a string array, null where a value is None."""
    import pyarrow as pa

    encoded = [b"" if value is None else value.encode() for value in values]
    valid = _bits([value is not None for value in values]) if None in values else None
    offsets = pa.py_buffer(_starts(encoded))
    return pa.StringArray.from_buffers(len(encoded), offsets, pa.py_buffer(b"".join(encoded)), valid)


def _words(values: Sequence[Hashable], words: Mapping[Any, str]) -> pa.Array:
    """Return a string array of the word of each value; the words are few."""
    import pyarrow as pa

    return _dictionary(values, words, pa.int8()).dictionary_decode()


def _dictionary(values: Sequence[Hashable], words: Mapping[Any, str], index_type: pa.DataType) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    place = {value: index for index, value in enumerate(words)}
    indices = np.array([place[value] for value in values], f"int{index_type.bit_width}")
    encoded = pa.Array.from_buffers(index_type, len(values), [None, pa.py_buffer(indices)])
    return pa.DictionaryArray.from_arrays(encoded, _text(list(words.values())))


def _sparse(values: Sequence[Any], arrow_type: pa.DataType) -> pa.Array:
    """Return an array of values most of which, or all, are usually None."""
    import pyarrow as pa

    if values.count(None) == len(values):
        return pa.nulls(len(values), arrow_type)
    return _integers(values, arrow_type) if pa.types.is_integer(arrow_type) else pa.array(values, arrow_type)


def _integers(values: Sequence[int | None], arrow_type: pa.DataType) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    valid = _bits([value is not None for value in values]) if None in values else None
    numbers = np.array([value or 0 for value in values], f"int{arrow_type.bit_width}")
    return pa.Array.from_buffers(arrow_type, len(values), [valid, pa.py_buffer(numbers)])


def _lists(children: Sequence[Sized], values: pa.Array, list_type: pa.DataType) -> pa.Array:
    """Return a list array: as many of ``values`` for each of ``children`` as that has."""
    import pyarrow as pa

    offsets = pa.py_buffer(_starts(children))
    return pa.Array.from_buffers(list_type, len(children), [None, offsets], children=[values])


def _starts(children: Sequence[Sized]) -> NDArray[np.int32]:
    """Return where each child begins when they are joined, and where the last ends, (children + 1,) int32."""
    import numpy as np

    starts = np.zeros(len(children) + 1, np.int32)
    starts[1:] = list(map(len, children))
    return starts.cumsum(dtype=np.int32)


def _bits(flags: Sequence[bool]) -> pa.Buffer:
    import numpy as np
    import pyarrow as pa

    return pa.py_buffer(np.packbits(np.array(flags, np.bool_), bitorder="little"))
