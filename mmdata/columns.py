"""Rows as Arrow columns; :mod:`mmdata.rows` is the way back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, compress, repeat
from operator import attrgetter, is_not
from typing import TYPE_CHECKING, Any, Final, get_args

from msgspec.structs import astuple

from mmdata.arrays import codes_of, dictionary, flags, lists, lists_of, sparse, text, text_of, words
from mmdata.dialogues import SPEAKERS, Dialogues
from mmdata.schema import (
    SCHEMA_VERSION,
    Conversation,
    Image,
    Media,
    MediaType,
    Message,
    Part,
    Region,
    Role,
    Split,
    Text,
    Time,
    Video,
)

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["PART_TYPES", "arrow_schema", "encode_extra", "to_batch", "upgrade"]

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
_TURNS: Final = tuple(map(_ROLES.index, SPEAKERS))
_SPLITS: Final = get_args(Split)
_MEDIA_TYPES: Final = get_args(MediaType)
_PARTS_OF_MEDIA: Final = tuple(map([*PART_TYPES.values()].index, _MEDIA_TYPES))

encode_extra: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""How a store spells what a row has besides; TypeError or ValueError where JSON has no such value."""


@cache
def arrow_schema(version: int = SCHEMA_VERSION) -> pa.Schema:
    """Return the Arrow schema of a store of a version.

    A later version only adds fields, after those that were there, to a struct or to the columns. :func:`upgrade` makes
    a batch of an earlier version one of this, so a field is added here and nowhere else.
    """
    import pyarrow as pa

    def since(first: int, *fields: tuple[str, pa.DataType]) -> Sequence[tuple[str, pa.DataType]]:
        return fields if version >= first else ()

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
            *since(2, ("size", pa.int64()), ("hash", pa.string())),
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


def upgrade(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of an earlier version as one of :func:`arrow_schema`: what it does not have is null."""
    import pyarrow as pa

    schema = arrow_schema()
    if batch.schema.equals(schema):
        return batch
    columns = [_upgraded(batch.column(f.name) if f.name in batch.schema.names else None, len(batch), f) for f in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _upgraded(array: pa.Array | None, length: int, field: pa.Field) -> pa.Array:
    """Return an array as one of the type of ``field``, of the fields of whose structs it may lack some; or nulls.

    Arrow's own cast does this too, but only in later releases than some that we run with.
    """
    import pyarrow as pa

    if array is None:
        return pa.nulls(length, field.type)
    if array.type.equals(field.type):
        return array
    if pa.types.is_struct(field.type):
        names = {child.name for child in array.type}
        children = [_upgraded(array.field(f.name) if f.name in names else None, len(array), f) for f in field.type]
        return pa.StructArray.from_arrays(children, fields=list(field.type))
    items = _upgraded(array.values, len(array.values), field.type.value_field)
    # the buffers as they are: offsets of a batch that was sliced do not begin at 0, and lists may be null
    return pa.Array.from_buffers(field.type, len(array), array.buffers()[:2], offset=array.offset, children=[items])


def to_batch(rows: Sequence[Conversation | Dialogues], sources: Sequence[str]) -> pa.RecordBatch:
    """Return the rows as one record batch of :func:`arrow_schema`.

    ``sources`` is the dictionary of the column ``source``; it is given, not gathered, so that every batch of a store
    shares it.
    """
    dialogues = [some for some in rows if isinstance(some, Dialogues)]
    conversations = [one for one in rows if isinstance(one, Conversation)]
    if not dialogues:
        return _of_conversations(conversations, sources)
    if not conversations:
        return _of_dialogues(dialogues, sources)
    return _merged([_of_dialogues(dialogues, sources), _of_conversations(conversations, sources)], rows)


def _merged(batches: Sequence[pa.RecordBatch], rows: Sequence[Conversation | Dialogues]) -> pa.RecordBatch:
    """Return one batch in the order of ``rows``: the first of two has the dialogues of them, the second all others."""
    import numpy as np
    import pyarrow as pa

    second = np.array([*chain.from_iterable([0] * len(r) if isinstance(r, Dialogues) else [1] for r in rows)], np.bool_)
    places = np.argsort(np.argsort(second, kind="stable"))
    indices = pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places)])
    (batch,) = pa.Table.from_batches(batches).take(indices).combine_chunks().to_batches()
    return pa.RecordBatch.from_arrays([_laid_out(column) for column in batch.columns], schema=batch.schema)


def _laid_out(array: pa.Array) -> pa.Array:
    """Return an array as it is laid out in memory when made in one: the same rows are the same bytes of a store."""
    import pyarrow as pa

    if array.null_count == len(array):
        return pa.nulls(len(array), array.type)
    if pa.types.is_struct(array.type):
        return _structs(array.type, **{field.name: _laid_out(array.field(field.name)) for field in array.type})
    if pa.types.is_list(array.type) and not array.null_count:
        return pa.ListArray.from_arrays(array.offsets, _laid_out(array.values), type=array.type)
    return array


def _of_conversations(rows: Sequence[Conversation], sources: Sequence[str]) -> pa.RecordBatch:
    import pyarrow as pa

    schema = arrow_schema()
    columns = [
        text([row.id for row in rows]),
        dictionary(codes_of([row.source for row in rows], sources, "int32"), sources),
        dictionary(codes_of([row.split for row in rows], _SPLITS), _SPLITS),
        lists([row.messages for row in rows], _messages, schema.field("messages").type),
        lists([row.media for row in rows], _media, schema.field("media").type),
        _extras([row.extra for row in rows]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _extras(extras: Iterable[Mapping[str, Any]]) -> pa.Array:
    return text([encode_extra(extra) if extra else "{}" for extra in extras])


def _messages(messages: Sequence[Message], struct_type: pa.DataType) -> pa.Array:
    role = words(codes_of([m.role for m in messages], _ROLES), _ROLES)
    content = lists([m.content for m in messages], _parts, struct_type.field("content").type)
    return _structs(struct_type, role=role, content=content, train=flags(bytes([m.train for m in messages])))


def _parts(parts: Sequence[Part], struct_type: pa.DataType) -> pa.Array:
    codes = codes_of(list(map(type, parts)), PART_TYPES)
    columns = {"type": words(codes, PART_TYPES.values())}
    for name, kinds in _PART_FIELDS.items():
        there = codes.tobytes().translate(bytes(kind in kinds for kind in PART_TYPES).ljust(256, b"\0"))
        values = list(map(attrgetter(name), compress(parts, there)))
        columns[name] = sparse(values, there, struct_type.field(name).type)
    return _structs(struct_type, **columns)


def _media(media: Sequence[Media], struct_type: pa.DataType) -> pa.Array:
    kind, *known = zip(*map(astuple, media), strict=True) if media else [()] * struct_type.num_fields
    columns = {"type": words(codes_of(kind, _MEDIA_TYPES), _MEDIA_TYPES)}
    for values, field in zip(known, list(struct_type)[1:], strict=True):
        there = bytes(map(is_not, values, repeat(None)))
        columns[field.name] = sparse(list(compress(values, there)), there, field.type)
    return _structs(struct_type, **columns)


def _of_dialogues(rows: Sequence[Dialogues], sources: Sequence[str]) -> pa.RecordBatch:
    """Return the batch that the dialogues' conversations make."""
    import numpy as np
    import pyarrow as pa

    schema, counts = arrow_schema(), list(map(len, rows))
    paths = _all("paths", rows)
    shown = np.fromiter(map(bool, paths), np.bool_, len(paths))  # (dialogues,) whether it is about a medium
    types = np.repeat(codes_of([some.type for some in rows], _MEDIA_TYPES), counts)[shown]
    media = schema.field("media").type
    pictures = _structs(media.value_type, type=words(types, _MEDIA_TYPES), path=text(list(compress(paths, shown))))
    columns = [
        text(_all("ids", rows)),
        dictionary(np.repeat(codes_of([some.source for some in rows], sources, "int32"), counts), sources),
        dictionary(np.repeat(codes_of([some.split for some in rows], _SPLITS), counts), _SPLITS),
        _said(rows, shown, types, schema.field("messages").type),
        lists_of(shown.astype(np.int32), pictures, media),
        _extras(_all("extras", rows)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _said(
    rows: Sequence[Dialogues], shown: NDArray[np.bool_], types: NDArray[np.int8], list_type: pa.DataType
) -> pa.Array:
    """Return the column ``messages`` of dialogues, of which those ``shown`` something are about media of ``types``."""
    import numpy as np

    sizes, leads = np.array(_all("turns", rows), np.int32), np.array(_all("leads", rows), np.bool_)
    firsts = np.cumsum(sizes) - sizes
    answers = ((np.arange(sizes.sum()) - np.repeat(firsts, sizes)) % 2).astype(np.int8)  # (turns,) 0 or 1
    contents = np.ones(len(answers), np.int32)  # (turns,) how many parts each has
    contents[firsts[shown]] = 2
    places = (np.cumsum(contents) - contents)[firsts[shown]] + ~leads[shown]  # (media,) where each one's part is
    codes = np.zeros(contents.sum(), np.int8)  # (parts,) text unless said otherwise
    codes[places] = np.take(np.array(_PARTS_OF_MEDIA, np.int8), types)

    message = list_type.value_type
    content = message.field("content").type
    parts = _structs(
        content.value_type,
        type=words(codes, PART_TYPES.values()),
        text=text_of([(some.data, some.lengths) for some in rows], (codes == 0).tobytes()),
        media=sparse([0] * len(places), (codes != 0).tobytes(), content.value_type.field("media").type),
    )
    role = words(np.take(np.array(_TURNS, np.int8), answers), _ROLES)
    turns = _structs(message, role=role, content=lists_of(contents, parts, content), train=flags(answers.tobytes()))
    return lists_of(sizes, turns, list_type)


def _all(column: str, rows: Sequence[Dialogues]) -> list[Any]:
    """Return a column of all the dialogues."""
    return list(chain.from_iterable(map(attrgetter(column), rows)))


def _structs(struct_type: pa.DataType, **columns: pa.Array) -> pa.Array:
    """Return an array of structs with these columns, and nulls in all others."""
    import pyarrow as pa

    length = len(next(iter(columns.values())))
    arrays = [columns[f.name] if f.name in columns else pa.nulls(length, f.type) for f in struct_type]
    return pa.StructArray.from_arrays(arrays, fields=list(struct_type))
