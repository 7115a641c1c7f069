"""Conversations as Arrow columns; :mod:`mmdata.store.decode` is the way back.

Between the two stand :class:`FlatRows`: plain sequences, one a column, in which nothing is nested.
Conversations are flattened into them, and formats that read many records at once fill them
directly; they become Arrow arrays together, because making twenty-five arrays for four thousand
rows costs what making them for one does.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, compress, repeat
from operator import attrgetter, is_not
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import astuple

from mmdata.schema import (
    SCHEMA_VERSION,
    Audio,
    Conversation,
    Image,
    Media,
    MediaType,
    Message,
    Part,
    Reasoning,
    Region,
    Role,
    Split,
    Text,
    Time,
    ToolCall,
    Video,
)
from mmdata.store.arrays import codes_of, dictionary, flags, lists_of, sparse, text, words
from mmdata.store.clocks import clock_row

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "PART_CODES",
    "PART_TYPES",
    "ROLE_CODES",
    "FlatMessages",
    "FlatRows",
    "SparseColumn",
    "arrow_schema",
    "encode",
    "encode_extra",
    "encode_json_lines",
    "flatten",
    "make_structs",
    "media_columns",
    "upgrade",
]

PART_TYPES: Final[dict[type, str]] = {
    Text: "text",
    Image: "image",
    Video: "video",
    Region: "region",
    Time: "time",
    Audio: "audio",
    Reasoning: "reasoning",
    ToolCall: "tool_call",
}
"""The kinds of parts, and what a store calls them; text is the first."""
PART_CODES: Final[dict[str, int]] = {name: code for code, name in enumerate(PART_TYPES.values())}
"""The number that stands for each kind of part in :attr:`FlatRows.part_codes`."""
ROLE_CODES: Final[dict[str, int]] = {role: code for code, role in enumerate(get_args(Role))}
"""The number that stands for each role in :attr:`FlatRows.roles`."""

_CODE_OF: Final = {kind: code for code, kind in enumerate(PART_TYPES)}
_PART_FIELDS: Final[dict[str, set[type]]] = {
    "text": {Text, Region, Reasoning},
    "media": {Image, Video, Region, Time, Audio},
    "boxes": {Region},
    "start": {Time},
    "end": {Time},
    "name": {ToolCall},
    "arguments": {ToolCall},
    "call_id": {ToolCall},
}
"""Which kinds of parts have a value in each column of the parts."""
_HAS: Final = {
    name: bytes(kind in kinds for kind in PART_TYPES).ljust(256, b"\0")
    for name, kinds in _PART_FIELDS.items()
}
"""The same as tables for ``bytes.translate``: from codes of parts to 1 where there is a value."""
_FLAT_NAMES: Final = {
    "text": "texts",
    "media": "part_media",
    "boxes": "boxes",
    "start": "starts",
    "end": "ends",
    "name": "tool_names",
    "arguments": "tool_arguments",
    "call_id": "call_ids",
}
"""What the columns of the parts are called in :class:`FlatMessages`."""
_INHERITS: Final = 2
"""In :attr:`FlatMessages.part_train`, of a part that is trained on as its message is."""
_TRAIN_CODES: Final = {False: 0, True: 1, None: _INHERITS}
_HAS_TRAIN: Final = b"\1\1".ljust(256, b"\0")
_SPLITS: Final = get_args(Split)
_MEDIA_TYPES: Final = get_args(MediaType)


def _spell_other(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, (bytes, memoryview)):
        return base64.b64encode(value).decode("ascii")
    raise TypeError(f"JSON has no {type(value).__name__}")


encode_extra: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_spell_other
).encode
"""How a store spells what a row has besides, any mapping as an object, bytes in base64; TypeError
or ValueError where JSON has no such value.
"""

_encoder: Final = msgspec.json.Encoder()
_EXPONENT: Final = re.compile(rb"\de-?\d+[\]},\n]")
_ZERO, _NINE, _E = b"09e"

SparseColumn: TypeAlias = tuple[bytes, Sequence[Any]]
"""A column with gaps: a byte for each place, 1 where there is a value, and the values that are
there.
"""


@cache
def arrow_schema(version: int = SCHEMA_VERSION) -> pa.Schema:
    """Return the Arrow schema of a store of a version.

    A later version only adds fields, after those that were there, to a struct or to the columns.
    :func:`upgrade` makes a batch of an earlier version one of this, so a field is added here and
    nowhere else.
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
            *since(
                2,
                ("name", pa.string()),
                ("arguments", pa.string()),
                ("call_id", pa.string()),
                ("train", pa.bool_()),
            ),
        ]
    )
    message = pa.struct([("role", pa.string()), ("content", pa.list_(part)), ("train", pa.bool_())])
    # the times of a file's frames, in seconds: start + n * step (in whole units, where there is
    # one), or start + unit * (the sum of the first n deltas)
    clock = pa.struct(
        [
            ("start", pa.float64()),
            ("step", pa.float64()),
            ("deltas", pa.list_(pa.int32())),
            ("unit", pa.float64()),
            # the deltas, and the keyframes, in few bytes: mmdata/store/clocks.py
            *since(
                3, ("packed", pa.binary()), ("first_tick", pa.int64()), ("keyframes", pa.binary())
            ),
        ]
    )
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
            *since(
                2,
                ("size", pa.int64()),
                ("hash", pa.string()),
                ("frame_paths", pa.list_(pa.string())),
                ("clock", clock),
            ),
            *since(3, ("oddities", pa.list_(pa.string()))),
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
            *since(
                2,
                ("tools", pa.string()),
                ("rejected", pa.list_(message)),
                ("desirable", pa.bool_()),
            ),
        ]
    )


def upgrade(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return a batch of an earlier version as one of :func:`arrow_schema`: what it does not have is
    null.
    """
    import pyarrow as pa

    schema = arrow_schema()
    if batch.schema.equals(schema):
        return batch
    columns = [
        _upgraded(batch.column(f.name) if f.name in batch.schema.names else None, len(batch), f)
        for f in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _upgraded(array: pa.Array | None, length: int, field: pa.Field) -> pa.Array:
    """Return an array as one of the type of ``field``, of the fields of whose structs it may lack
    some; or nulls.

    Arrow's own cast does this too, but only in later releases than some that we run with.
    """
    import pyarrow as pa

    if array is None:
        return pa.nulls(length, field.type)
    if array.type.equals(field.type):
        return array
    if pa.types.is_struct(field.type):
        names = {child.name for child in array.type}
        children = [
            _upgraded(array.field(f.name) if f.name in names else None, len(array), f)
            for f in field.type
        ]
        # A struct that is null has to stay so, or it would be one of nulls.
        is_null = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=list(field.type), mask=is_null)
    items = _upgraded(array.values, len(array.values), field.type.value_field)
    # the buffers as they are: offsets of a batch that was sliced do not begin at 0, and lists may
    # be null
    return pa.Array.from_buffers(
        field.type, len(array), array.buffers()[:2], offset=array.offset, children=[items]
    )


def encode_json_lines(values: Sequence[Any], lines: bytes = b"") -> bytes:
    """Return values that were read from JSON as lines of JSON, each as :data:`encode_extra` spells
    it.

    ``lines`` are what msgspec has written of them already, if it has.

    >>> encode_json_lines([{"id": 1, "area": 0.5}, ["é"]]).decode().splitlines()
    ['{"id":1,"area":0.5}', '["é"]']

    Raises:
        RecursionError: a value is nested deeper than can be written.
    """
    # msgspec writes many times faster than json does, and the same but for very small and very
    # large numbers: 0.00001 is 1e-05 to json, 1e16 is 1e+16.
    try:
        lines = lines or _encoder.encode_lines(values)
    except (OverflowError, msgspec.MsgspecError):  # an integer of more than 64 bits
        lines = b""
    if lines and b"0.0000" not in lines and not _has_exponent(lines):
        return lines
    return "".join([f"{encode_extra(value)}\n" for value in values]).encode()


def _has_exponent(text: bytes) -> bool:
    """Return whether a number in JSON text seems to have an exponent; a string may look like it."""
    import numpy as np

    # Every "e" that follows a digit, found by numpy: a regular expression would stop at each digit.
    spelled = np.frombuffer(text, np.uint8)
    before = spelled[np.maximum(places := np.flatnonzero(spelled == _E), 1) - 1]
    behind_digit = places[(before >= _ZERO) & (before <= _NINE)].tolist()
    return any(_EXPONENT.match(text, place - 1) for place in behind_digit)


class FlatMessages(Struct, frozen=True, eq=False, kw_only=True):
    """Messages one after the other, column by column.

    Of the messages: ``roles`` and ``train``, a byte each, and how many parts each has. Of all
    parts: ``part_codes``, a byte each, the ``texts`` of those that have one, the numbers of the
    ``part_media`` of those that speak of one, and boxes, times, and what tool calls say likewise.
    ``part_train`` is a byte each, 2 where a part goes by its message; nothing where all of them do.
    """

    roles: bytes
    train: bytes
    num_parts: Sequence[int]
    part_codes: bytes
    texts: Sequence[str]
    part_media: Sequence[int]
    boxes: Sequence[Any] = ()
    starts: Sequence[float] = ()
    ends: Sequence[float | None] = ()
    tool_names: Sequence[str] = ()
    tool_arguments: Sequence[str] = ()
    call_ids: Sequence[str | None] = ()
    part_train: bytes = b""


class FlatRows(FlatMessages, frozen=True, eq=False, kw_only=True):
    """Some conversations, column by column.

    Of the rows: ``ids``, ``sources``, ``splits``, ``extras``, and how many messages and media each
    has; the messages of all of them. Of all media: columns by name, with gaps; a name that is not
    there is a column of nothing but gaps. ``tools`` and ``desirable`` are nothing where no row has
    any, and so are ``num_rejected``, the numbers of messages that were rejected, and the messages
    themselves in ``rejected``. An extra that is a string is one that is encoded already.
    """

    ids: Sequence[str]
    sources: Sequence[str]
    splits: Sequence[Split]
    extras: Sequence[Mapping[str, Any] | str]
    num_messages: Sequence[int]
    num_media: Sequence[int]
    media_types: Sequence[MediaType]
    media: Mapping[str, SparseColumn]
    tools: Sequence[str | None] = ()
    desirable: Sequence[bool | None] = ()
    num_rejected: Sequence[int | None] = ()
    rejected: FlatMessages | None = None

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self.ids)


def flatten(rows: Sequence[Conversation]) -> FlatRows:
    """Return conversations column by column."""
    media = [medium for row in rows for medium in row.media]
    rejected = [row.rejected for row in rows]
    is_rejecting = any(rejected)
    return FlatRows(
        **_flat_messages([message for row in rows for message in row.messages]),
        ids=[row.id for row in rows],
        sources=[row.source for row in rows],
        splits=[row.split for row in rows],
        # One by one: whoever makes conversations may put what JSON does not have into them.
        extras=[encode_extra(row.extra) if row.extra else "{}" for row in rows],
        num_messages=[len(row.messages) for row in rows],
        num_media=[len(row.media) for row in rows],
        media_types=[medium.type for medium in media],
        media=media_columns(media),
        tools=_unless_null([row.tools for row in rows]),
        desirable=_unless_null([row.desirable for row in rows]),
        num_rejected=[None if some is None else len(some) for some in rejected]
        if is_rejecting
        else (),
        rejected=FlatMessages(**_flat_messages([one for some in rejected for one in some or ()]))
        if is_rejecting
        else None,
    )


def _flat_messages(messages: Sequence[Message]) -> dict[str, Any]:
    """Return the fields of :class:`FlatMessages`."""
    parts: list[Part] = [part for message in messages for part in message.content]
    codes = bytes(map(_CODE_OF.__getitem__, map(type, parts)))
    known = set(codes)
    columns: dict[str, Any] = {
        _FLAT_NAMES[name]: list(map(attrgetter(name), compress(parts, codes.translate(has))))
        for name, has in _HAS.items()
        if any(has[code] for code in known)
    }
    if "boxes" in columns:
        # Boxes in pixels stand beside the columns, in ConversationBatch.pixel_boxes.
        regions = [part for part in parts if type(part) is Region]
        columns["boxes"] = [() if region.unit == "pixel" else region.boxes for region in regions]
    train = bytes([_TRAIN_CODES[part.train] for part in parts])
    return {
        "texts": (),
        "part_media": (),
        **columns,
        "roles": bytes([ROLE_CODES[message.role] for message in messages]),
        "train": bytes([message.train for message in messages]),
        "num_parts": [len(message.content) for message in messages],
        "part_codes": codes,
        "part_train": train if train.strip(bytes([_INHERITS])) else b"",
    }


def _unless_null(values: list[Any]) -> list[Any]:
    """Return the values of a column, or none where all are null."""
    return values if values.count(None) < len(values) else []


def media_columns(media: Sequence[Media]) -> dict[str, SparseColumn]:
    """Return what is known of media besides their types, column by column, with gaps where it is
    None.
    """
    if not media:
        return {}
    # Media turned on their side: `astuple` and `zip` run in C, and so does what follows for each
    # value. The first field is the type.
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
        text(_spell_extras(_joined(pieces, "extras"))),
        _nullable(pieces, "tools", schema.field("tools").type),
        _rejected(pieces, schema.field("rejected").type),
        _nullable(pieces, "desirable", schema.field("desirable").type),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _spell_extras(extras: Sequence[Mapping[str, Any] | str]) -> list[str]:
    """Return each extra as a store spells it."""
    objects = [extra for extra in extras if extra and type(extra) is not str]
    lines = encode_json_lines(objects)
    spelt: Iterator[str]
    if b"null" in lines:  # to msgspec NaN is null as well, which `encode_extra` refuses
        spelt = iter(map(encode_extra, objects))
    else:
        # No line of JSON has a line feed in it; `splitlines` would end lines elsewhere, too.
        spelt = iter(lines.decode().split("\n"))
    return [extra if type(extra) is str else next(spelt) if extra else "{}" for extra in extras]


def _nullable(pieces: Sequence[FlatRows], column: str, arrow_type: pa.DataType) -> pa.Array:
    """Return a column of the rows that pieces may have nothing of."""
    import pyarrow as pa

    if not any(getattr(piece, column) for piece in pieces):
        return pa.nulls(sum(map(len, pieces)), arrow_type)
    values = _filled(pieces, column)
    there = bytes(map(is_not, values, repeat(None)))
    return sparse(list(compress(values, there)), there, arrow_type)


def _filled(pieces: Sequence[FlatRows], column: str) -> list[Any]:
    """Return a column of all the pieces, None for the rows of those that have nothing of it."""
    return list(
        chain.from_iterable(getattr(piece, column) or repeat(None, len(piece)) for piece in pieces)
    )


def _rejected(pieces: Sequence[FlatRows], list_type: pa.DataType) -> pa.ListArray:
    import numpy as np
    import pyarrow as pa

    found = [piece.rejected for piece in pieces if piece.rejected is not None]
    if not found:
        return pa.nulls(sum(map(len, pieces)), list_type)
    counts = _filled(pieces, "num_rejected")
    there = bytes(map(is_not, counts, repeat(None)))
    lengths = np.fromiter((count or 0 for count in counts), np.int32, len(counts))
    return lists_of(lengths, _messages(found), list_type, there)


def _messages(pieces: Sequence[FlatMessages]) -> pa.StructArray:
    struct = arrow_schema().field("messages").type.value_type
    roles = b"".join(piece.roles for piece in pieces)
    return make_structs(
        struct,
        role=words(_bytes_as_codes(roles), list(ROLE_CODES)),
        content=lists_of(
            _counts(pieces, "num_parts"), _parts(pieces), struct.field("content").type
        ),
        train=flags(b"".join(piece.train for piece in pieces)),
    )


def _parts(pieces: Sequence[FlatMessages]) -> pa.StructArray:
    struct = arrow_schema().field("messages").type.value_type.field("content").type.value_type
    codes = b"".join(piece.part_codes for piece in pieces)
    columns = {"type": words(_bytes_as_codes(codes), list(PART_CODES))}
    for name, attribute in _FLAT_NAMES.items():
        values = _joined(pieces, attribute)
        if not values:
            continue
        there = codes.translate(_HAS[name])
        if name == "call_id":  # of all of these alone some may have none
            is_named = iter(value is not None for value in values)
            there = bytes(next(is_named) if here else 0 for here in there)
            values = [value for value in values if value is not None]
        columns[name] = sparse(values, there, struct.field(name).type)
    if any(piece.part_train for piece in pieces):
        train = b"".join(
            piece.part_train or bytes([_INHERITS]) * len(piece.part_codes) for piece in pieces
        )
        there = train.translate(_HAS_TRAIN)
        columns["train"] = sparse(list(compress(train, there)), there, struct.field("train").type)
    return make_structs(struct, **columns)


def _media(pieces: Sequence[FlatRows]) -> pa.StructArray:
    struct = arrow_schema().field("media").type.value_type
    types = _joined(pieces, "media_types")
    columns = {"type": words(codes_of(types, _MEDIA_TYPES), _MEDIA_TYPES)}
    for name in dict.fromkeys(chain.from_iterable(piece.media for piece in pieces)):
        found = [piece.media.get(name, (bytes(len(piece.media_types)), ())) for piece in pieces]
        there, values = (
            b"".join(mask for mask, _ in found),
            list(chain.from_iterable(some for _, some in found)),
        )
        if name == "clock":
            values = list(map(clock_row, values))
        columns[name] = sparse(values, there, struct.field(name).type)
    return make_structs(struct, **columns)


def make_structs(struct_type: pa.DataType, **columns: pa.Array) -> pa.StructArray:
    """Return an array of structs with these columns, and nulls in all others."""
    import pyarrow as pa

    length = len(next(iter(columns.values())))
    arrays = [
        columns[field.name] if field.name in columns else pa.nulls(length, field.type)
        for field in struct_type
    ]
    return pa.StructArray.from_arrays(arrays, fields=list(struct_type))


def _bytes_as_codes(codes: bytes) -> Any:
    import numpy as np

    return np.frombuffer(codes, np.int8)


def _counts(pieces: Sequence[FlatMessages], column: str) -> Any:
    import numpy as np

    counts = _joined(pieces, column)
    return np.fromiter(counts, np.int32, len(counts))


def _joined(pieces: Iterable[FlatMessages], column: str) -> list[Any]:
    """Return a column of all the pieces."""
    return list(chain.from_iterable(map(attrgetter(column), pieces)))
