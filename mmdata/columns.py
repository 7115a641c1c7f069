"""Rows as Arrow columns; :mod:`mmdata.rows` is the way back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from itertools import chain, compress, repeat
from operator import attrgetter, is_not
from typing import TYPE_CHECKING, Final, get_args

from msgspec.structs import astuple

from mmdata.arrays import codes_of, dictionary, flags, lengths_of, lists, lists_of, sparse, text, words
from mmdata.dialogue import SPEAKERS, Dialogue, Row
from mmdata.schema import Conversation, Image, Media, MediaType, Message, Part, Region, Role, Split, Text, Time, Video

if TYPE_CHECKING:
    import pyarrow as pa

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
_TURNS: Final = tuple(map(_ROLES.index, SPEAKERS))
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


def to_batch(rows: Sequence[Row], sources: Sequence[str]) -> pa.RecordBatch:
    """Return the rows as one record batch of :func:`arrow_schema`.

    ``sources`` is the dictionary of the column ``source``; it is given, not gathered, so that every batch of a store
    shares it.
    """
    dialogues = [row for row in rows if isinstance(row, Dialogue)]
    conversations = [row for row in rows if isinstance(row, Conversation)]
    if not dialogues:
        return _batch(conversations, _conversation_columns(conversations), sources)
    if not conversations:
        return _batch(dialogues, _dialogue_columns(dialogues), sources)
    return _merged([to_batch(dialogues, sources), to_batch(conversations, sources)], rows)


def _merged(batches: Sequence[pa.RecordBatch], rows: Sequence[Row]) -> pa.RecordBatch:
    """Return one batch in the order of ``rows``: the first of two has the dialogues of them, the second all others."""
    import numpy as np
    import pyarrow as pa

    second = np.fromiter([not isinstance(row, Dialogue) for row in rows], np.bool_, len(rows))
    places = np.argsort(np.argsort(second, kind="stable"))
    indices = pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(places)])
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


def _batch(rows: Sequence[Row], messages_and_media: Iterable[pa.Array], sources: Sequence[str]) -> pa.RecordBatch:
    import pyarrow as pa

    columns = [
        text([row.id for row in rows]),
        dictionary(codes_of([row.source for row in rows], sources, "int32"), sources),
        dictionary(codes_of([row.split for row in rows], _SPLITS), _SPLITS),
        *messages_and_media,
        text([_encode_extra(row.extra) if row.extra else "{}" for row in rows]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=arrow_schema())


def _conversation_columns(conversations: Sequence[Conversation]) -> tuple[pa.Array, pa.Array]:
    """Return the columns ``messages`` and ``media``."""
    schema = arrow_schema()
    return (
        lists([c.messages for c in conversations], _messages, schema.field("messages").type),
        lists([c.media for c in conversations], _media, schema.field("media").type),
    )


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


def _dialogue_columns(dialogues: Sequence[Dialogue]) -> tuple[pa.Array, pa.Array]:
    """Return the columns ``messages`` and ``media``, the same that the dialogues' conversations have."""
    import numpy as np

    messages, media = arrow_schema().field("messages").type, arrow_schema().field("media").type
    sizes = lengths_of([dialogue.texts for dialogue in dialogues])
    firsts = np.cumsum(sizes) - sizes
    answers = ((np.arange(sizes.sum()) - np.repeat(firsts, sizes)) % 2).astype(np.int8)  # (turns,) 0 or 1
    shown = np.fromiter([dialogue.path != "" for dialogue in dialogues], np.bool_, len(dialogues))
    about = list(compress(dialogues, shown))

    contents = np.ones(len(answers), np.int32)  # (turns,) how many parts each has
    contents[firsts[shown]] = 2
    places = (np.cumsum(contents) - contents)[firsts[shown]]  # (media,) where each one's part is
    places += np.fromiter([not dialogue.leads for dialogue in about], np.bool_, len(about))
    codes = np.zeros(contents.sum(), np.int8)  # (parts,) text unless said otherwise
    codes[places] = codes_of([dialogue.type for dialogue in about], PART_TYPES.values())

    said = list(chain.from_iterable([dialogue.texts for dialogue in dialogues]))
    part_type = messages.value_type.field("content").type.value_type
    parts = _structs(
        part_type,
        type=words(codes, PART_TYPES.values()),
        text=text(said, (codes == 0).tobytes()),
        media=sparse([0] * len(about), (codes != 0).tobytes(), part_type.field("media").type),
    )
    turns = _structs(
        messages.value_type,
        role=words(np.take(np.array(_TURNS, np.int8), answers), _ROLES),
        content=lists_of(contents, parts, messages.value_type.field("content").type),
        train=flags(answers.tobytes()),
    )
    kind = words(codes_of([dialogue.type for dialogue in about], _MEDIA_TYPES), _MEDIA_TYPES)
    pictures = _structs(media.value_type, type=kind, path=text([dialogue.path for dialogue in about]))
    return lists_of(sizes, turns, messages), lists_of(shown.astype(np.int32), pictures, media)


def _structs(struct_type: pa.DataType, **columns: pa.Array) -> pa.Array:
    """Return an array of structs with these columns, and nulls in all others."""
    import pyarrow as pa

    length = len(next(iter(columns.values())))
    arrays = [columns[f.name] if f.name in columns else pa.nulls(length, f.type) for f in struct_type]
    return pa.StructArray.from_arrays(arrays, fields=list(struct_type))
