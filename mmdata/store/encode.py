"""Conversations as Arrow columns; :mod:`mmdata.store.decode` is the way back.

Between the two stand :class:`FlatRows`: plain sequences, one a column, in which nothing is nested. Conversations are
flattened into them, and formats that read many records at once fill them directly; they become Arrow arrays together,
because making twenty-five arrays for four thousand rows costs what making them for one does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import chain, compress, repeat
from operator import attrgetter, is_not
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from msgspec import Struct
from msgspec.structs import astuple

from mmdata.schema import (
    SCHEMA_VERSION,
    Conversation,
    Image,
    Media,
    MediaType,
    Part,
    Region,
    Role,
    Split,
    Text,
    Time,
    Video,
)
from mmdata.store.arrays import codes_of, dictionary, flags, lists_of, sparse, text, words

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "PART_CODES",
    "PART_TYPES",
    "ROLE_CODES",
    "FlatRows",
    "SparseColumn",
    "arrow_schema",
    "encode",
    "encode_extra",
    "flatten",
    "make_structs",
    "media_columns",
    "upgrade",
]

PART_TYPES: Final[dict[type, str]] = {Text: "text", Image: "image", Video: "video", Region: "region", Time: "time"}
"""The kinds of parts, and what a store calls them; text is the first."""
PART_CODES: Final[dict[str, int]] = {name: code for code, name in enumerate(PART_TYPES.values())}
"""The number that stands for each kind of part in :attr:`FlatRows.part_codes`."""
ROLE_CODES: Final[dict[str, int]] = {role: code for code, role in enumerate(get_args(Role))}
"""The number that stands for each role in :attr:`FlatRows.roles`."""

_CODE_OF: Final = {kind: code for code, kind in enumerate(PART_TYPES)}
_PART_FIELDS: Final[dict[str, set[type]]] = {
    "text": {Text, Region},
    "media": {Image, Video, Region, Time},
    "boxes": {Region},
    "start": {Time},
    "end": {Time},
}
"""Which kinds of parts have a value in each column of the parts."""
_HAS: Final = {
    name: bytes(kind in kinds for kind in PART_TYPES).ljust(256, b"\0") for name, kinds in _PART_FIELDS.items()
}
"""The same as tables for ``bytes.translate``: from codes of parts to 1 where there is a value."""
_SPLITS: Final = get_args(Split)
_MEDIA_TYPES: Final = get_args(MediaType)

encode_extra: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
"""How a store spells what a row has besides; TypeError or ValueError where JSON has no such value."""

SparseColumn: TypeAlias = tuple[bytes, Sequence[Any]]
"""A column with gaps: a byte for each place, 1 where there is a value, and the values that are there."""


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


class FlatRows(Struct, frozen=True, eq=False):
    """Some conversations, column by column.

    Of the rows: ``ids``, ``sources``, ``splits``, ``extras``, and how many messages and media each has. Of all
    messages one after the other: ``roles`` and ``train``, a byte each, and how many parts each has. Of all parts:
    ``part_codes``, a byte each, the ``texts`` of those that have one, the numbers of the ``part_media`` of those that
    speak of one, and boxes and times likewise. Of all media: columns by name, with gaps; a name that is not there is a
    column of nothing but gaps.
    """

    ids: Sequence[str]
    sources: Sequence[str]
    splits: Sequence[Split]
    extras: Sequence[Mapping[str, Any]]
    num_messages: Sequence[int]
    num_media: Sequence[int]
    roles: bytes
    train: bytes
    num_parts: Sequence[int]
    part_codes: bytes
    texts: Sequence[str]
    part_media: Sequence[int]
    media_types: Sequence[MediaType]
    media: Mapping[str, SparseColumn]
    boxes: Sequence[Any] = ()
    starts: Sequence[float] = ()
    ends: Sequence[float | None] = ()

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.ids)


def flatten(rows: Sequence[Conversation]) -> FlatRows:
    """Return conversations column by column."""
    messages = [message for row in rows for message in row.messages]
    parts: list[Part] = [part for message in messages for part in message.content]
    media = [medium for row in rows for medium in row.media]
    codes = bytes(map(_CODE_OF.__getitem__, map(type, parts)))
    of_parts = {
        name: list(map(attrgetter(name), compress(parts, codes.translate(_HAS[name])))) for name in _PART_FIELDS
    }
    return FlatRows(
        ids=[row.id for row in rows],
        sources=[row.source for row in rows],
        splits=[row.split for row in rows],
        extras=[row.extra for row in rows],
        num_messages=[len(row.messages) for row in rows],
        num_media=[len(row.media) for row in rows],
        roles=bytes([ROLE_CODES[message.role] for message in messages]),
        train=bytes([message.train for message in messages]),
        num_parts=[len(message.content) for message in messages],
        part_codes=codes,
        texts=of_parts["text"],
        part_media=of_parts["media"],
        media_types=[medium.type for medium in media],
        media=media_columns(media),
        boxes=of_parts["boxes"],
        starts=of_parts["start"],
        ends=of_parts["end"],
    )


def media_columns(media: Sequence[Media]) -> dict[str, SparseColumn]:
    """Return what is known of media besides their types, column by column, with gaps where it is None."""
    if not media:
        return {}
    names = Media.__struct_fields__[1:]
    columns = list(zip(*map(astuple, media), strict=True))[1:]
    found: dict[str, SparseColumn] = {}
    for name, values in zip(names, columns, strict=True):
        there = bytes(map(is_not, values, repeat(None)))
        if any(there):
            found[name] = there, list(compress(values, there))
    return found


def encode(pieces: Sequence[FlatRows]) -> pa.RecordBatch:
    """Return the rows of all pieces, in order, as one record batch of :func:`arrow_schema`."""
    import pyarrow as pa

    schema = arrow_schema()
    sources = _joined(pieces, "sources")
    known_sources = sorted(set(sources))
    columns = [
        text(_joined(pieces, "ids")),
        dictionary(codes_of(sources, known_sources, "int32"), known_sources),
        dictionary(codes_of(_joined(pieces, "splits"), _SPLITS), _SPLITS),
        lists_of(_counts(pieces, "num_messages"), _messages(pieces), schema.field("messages").type),
        lists_of(_counts(pieces, "num_media"), _media(pieces), schema.field("media").type),
        text([encode_extra(extra) if extra else "{}" for extra in _joined(pieces, "extras")]),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _messages(pieces: Sequence[FlatRows]) -> pa.StructArray:
    struct = arrow_schema().field("messages").type.value_type
    roles = b"".join(piece.roles for piece in pieces)
    return make_structs(
        struct,
        role=words(_bytes_as_codes(roles), list(ROLE_CODES)),
        content=lists_of(_counts(pieces, "num_parts"), _parts(pieces), struct.field("content").type),
        train=flags(b"".join(piece.train for piece in pieces)),
    )


def _parts(pieces: Sequence[FlatRows]) -> pa.StructArray:
    struct = arrow_schema().field("messages").type.value_type.field("content").type.value_type
    codes = b"".join(piece.part_codes for piece in pieces)
    columns = {"type": words(_bytes_as_codes(codes), list(PART_CODES))}
    fields = {"text": "texts", "media": "part_media", "boxes": "boxes", "start": "starts", "end": "ends"}
    for name, attribute in fields.items():
        columns[name] = sparse(_joined(pieces, attribute), codes.translate(_HAS[name]), struct.field(name).type)
    return make_structs(struct, **columns)


def _media(pieces: Sequence[FlatRows]) -> pa.StructArray:
    struct = arrow_schema().field("media").type.value_type
    types = _joined(pieces, "media_types")
    columns = {"type": words(codes_of(types, _MEDIA_TYPES), _MEDIA_TYPES)}
    for name in dict.fromkeys(chain.from_iterable(piece.media for piece in pieces)):
        found = [piece.media.get(name, (bytes(len(piece.media_types)), ())) for piece in pieces]
        there, values = b"".join(mask for mask, _ in found), list(chain.from_iterable(some for _, some in found))
        columns[name] = sparse(values, there, struct.field(name).type)
    return make_structs(struct, **columns)


def make_structs(struct_type: pa.DataType, **columns: pa.Array) -> pa.StructArray:
    """Return an array of structs with these columns, and nulls in all others."""
    import pyarrow as pa

    length = len(next(iter(columns.values())))
    arrays = [columns[field.name] if field.name in columns else pa.nulls(length, field.type) for field in struct_type]
    return pa.StructArray.from_arrays(arrays, fields=list(struct_type))


def _bytes_as_codes(codes: bytes) -> Any:
    import numpy as np

    return np.frombuffer(codes, np.int8)


def _counts(pieces: Sequence[FlatRows], column: str) -> Any:
    import numpy as np

    counts = _joined(pieces, column)
    return np.fromiter(counts, np.int32, len(counts))


def _joined(pieces: Iterable[FlatRows], column: str) -> list[Any]:
    """Return a column of all the pieces."""
    return list(chain.from_iterable(map(attrgetter(column), pieces)))
