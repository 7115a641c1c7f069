"""Conversations as Arrow columns, and back.

Writing flattens a batch of conversations into one array a column; reading decodes single rows straight from Arrow's
buffers, because going through Arrow's own scalars costs ten times as much and random access is what training does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from mmdata.schema import Conversation, Image, Media, Message, Part, Region, Text, Time, Video

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BatchView", "arrow_schema", "to_batch"]

_PART_TYPES: Final[dict[type, str]] = {Text: "text", Image: "image", Video: "video", Region: "region", Time: "time"}
_SPLITS: Final = ("train", "val", "test")

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
        pa.array([c.id for c in conversations], pa.string()),
        _dictionary([c.source for c in conversations], sources, pa.int32()),
        _dictionary([c.split for c in conversations], _SPLITS, pa.int8()),
        _messages(conversations, schema.field("messages").type),
        _media(conversations, schema.field("media").type),
        pa.array([_encode_extra(c.extra) if c.extra else "{}" for c in conversations], pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _dictionary(values: Sequence[str], dictionary: Sequence[str], index_type: pa.DataType) -> pa.Array:
    import pyarrow as pa

    place = {value: index for index, value in enumerate(dictionary)}
    indices = pa.array([place[value] for value in values], index_type)
    return pa.DictionaryArray.from_arrays(indices, pa.array(dictionary, pa.string()))


def _messages(conversations: Sequence[Conversation], list_type: pa.DataType) -> pa.Array:
    import pyarrow as pa

    messages = [message for c in conversations for message in c.messages]
    struct_type = list_type.value_type
    values = pa.StructArray.from_arrays(
        [
            pa.array([m.role for m in messages], pa.string()),
            _parts(messages, struct_type.field("content").type),
            pa.array([m.train for m in messages], pa.bool_()),
        ],
        fields=list(struct_type),
    )
    return _lists(map(len, map(attrgetter("messages"), conversations)), values, list_type)


def _parts(messages: Sequence[Message], list_type: pa.DataType) -> pa.Array:
    import pyarrow as pa

    parts = [part for message in messages for part in message.content]
    kinds = list(map(type, parts))
    struct_type = list_type.value_type
    columns = [
        pa.array([_PART_TYPES[kind] for kind in kinds], pa.string()),
        _attributes(parts, kinds, "text", {Text, Region}, pa.string()),
        _attributes(parts, kinds, "media", {Image, Video, Region, Time}, pa.int32()),
        _attributes(parts, kinds, "boxes", {Region}, struct_type.field("boxes").type),
        _attributes(parts, kinds, "start", {Time}, pa.float64()),
        _attributes(parts, kinds, "end", {Time}, pa.float64()),
    ]
    values = pa.StructArray.from_arrays(columns, fields=list(struct_type))
    return _lists(map(len, map(attrgetter("content"), messages)), values, list_type)


def _attributes(
    parts: Sequence[Part], kinds: Sequence[type], name: str, having: set[type], arrow_type: pa.DataType
) -> pa.Array:
    """Return an attribute of the parts that are of a kind that has it, null for the others."""
    import pyarrow as pa

    if having.isdisjoint(kinds):
        return pa.nulls(len(parts), arrow_type)
    get = attrgetter(name)
    values = [get(part) if kind in having else None for part, kind in zip(parts, kinds, strict=True)]
    return pa.array(values, arrow_type)


def _media(conversations: Sequence[Conversation], list_type: pa.DataType) -> pa.Array:
    import pyarrow as pa

    media = [medium for c in conversations for medium in c.media]
    struct_type = list_type.value_type
    columns = [pa.array([getattr(m, field.name) for m in media], field.type) for field in struct_type]
    values = pa.StructArray.from_arrays(columns, fields=list(struct_type))
    return _lists(map(len, map(attrgetter("media"), conversations)), values, list_type)


def _lists(lengths: Iterable[int], values: pa.Array, list_type: pa.DataType) -> pa.Array:
    import numpy as np
    import pyarrow as pa

    counts = np.fromiter(lengths, np.int32)
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(counts, dtype=np.int32)])
    return pa.ListArray.from_arrays(pa.array(offsets), values, type=list_type)


class BatchView:
    """Rows of one record batch, decoded on request.

    The views of the columns are made once; a row then costs some twenty microseconds.
    """

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._id = _strings(batch.column("id"))
        self._source = _dictionary_strings(batch.column("source"))
        self._split = _dictionary_strings(batch.column("split"))
        self._messages = _spans(batch.column("messages"))
        self._message = _message_reader(batch.column("messages").values)
        self._media = _spans(batch.column("media"))
        self._medium = _media_reader(batch.column("media").values)
        self._extra = _strings(batch.column("extra"))

    def __getitem__(self, row: int) -> Conversation:
        """Return the conversation of one row."""
        first, last = self._messages(row)
        first_medium, last_medium = self._media(row)
        return Conversation(
            self._id(row),
            tuple(map(self._message, range(first, last))),
            tuple(map(self._medium, range(first_medium, last_medium))),
            self._source(row),
            self._split(row),
            _decode_extra(self._extra(row)),
        )


Reader = Callable[[int], Any]


def _decode_extra(text: str) -> dict[str, Any]:
    return {} if text == "{}" else json.loads(text)


def _message_reader(messages: pa.StructArray) -> Reader:
    role, train = _words(messages.field("role")), _bits(messages.field("train"))
    content = messages.field("content")
    span, part = _spans(content), _part_reader(content.values)

    def read(index: int) -> Message:
        first, last = span(index)
        return Message(role(index), tuple(map(part, range(first, last))), train(index))

    return read


def _part_reader(parts: pa.StructArray) -> Reader:
    kind, text, media = (_words(parts.field("type")), _strings(parts.field("text")), _numbers(parts.field("media")))
    boxes, start, end = (_scalars(parts.field(name)) for name in ("boxes", "start", "end"))

    def read(index: int) -> Part:
        found = kind(index)
        if found == "text":
            return Text(text(index))
        if found == "image":
            return Image(media(index))
        if found == "video":
            return Video(media(index))
        if found == "region":
            return Region(text(index), tuple(map(tuple, boxes(index))), media(index))
        return Time(start(index), end(index), media(index))

    return read


def _media_reader(media: pa.StructArray) -> Reader:
    kind, path = _words(media.field("type")), _strings(media.field("path"))
    rest = [field.name for field in media.type if field.name not in ("type", "path")]
    known = [(name, _scalars(media.field(name))) for name in rest if media.field(name).null_count < len(media)]

    def read(index: int) -> Media:
        fields = {name: _frozen(value(index)) for name, value in known}
        return Media(kind(index), path(index), **fields)

    return read


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _scalars(array: pa.Array) -> Reader:
    return lambda index: array[index].as_py()


def _valid(array: pa.Array) -> Callable[[int], int]:
    """Return a function that says whether the value at an index is not null."""
    bitmap, offset = array.buffers()[0], array.offset
    if bitmap is None or not array.null_count:
        return lambda index: 1
    bits = memoryview(bitmap).cast("B")
    return lambda index: bits[(index + offset) >> 3] >> ((index + offset) & 7) & 1


def _spans(array: pa.ListArray) -> Callable[[int], tuple[int, int]]:
    offsets, offset = memoryview(array.buffers()[1]).cast("i"), array.offset
    return lambda index: (offsets[index + offset], offsets[index + offset + 1])


def _strings(array: pa.StringArray) -> Reader:
    valid, data = _valid(array), array.buffers()[2]
    span = _spans(array)
    text = memoryview(data) if data is not None else memoryview(b"")

    def read(index: int) -> str | None:
        if not valid(index):
            return None
        first, last = span(index)
        return str(text[first:last], "utf-8")

    return read


def _words(array: pa.StringArray) -> Reader:
    """Return a reader of strings that take few values: equal ones come back as one object."""
    intern = lru_cache(maxsize=64)(str)
    data, span = array.buffers()[2], _spans(array)
    text = bytes(memoryview(data)) if data is not None else b""

    def read(index: int) -> str:
        first, last = span(index)
        return intern(text[first:last], "utf-8")

    return read


def _dictionary_strings(array: pa.DictionaryArray) -> Reader:
    words, index = array.dictionary.to_pylist(), _numbers(array.indices)
    return lambda row: words[index(row)]


def _numbers(array: pa.Array) -> Reader:
    """Return a reader of non-null integers."""
    code = {1: "b", 4: "i", 8: "q"}[array.type.bit_width // 8]
    values, offset = memoryview(array.buffers()[1]).cast("B").cast(code), array.offset  # type: ignore[call-overload]
    return lambda index: values[index + offset]


def _bits(array: pa.BooleanArray) -> Reader:
    bits, offset = memoryview(array.buffers()[1]).cast("B"), array.offset
    return lambda index: bool(bits[(index + offset) >> 3] >> ((index + offset) & 7) & 1)
