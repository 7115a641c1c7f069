"""Rows of a record batch as conversations, decoded one at a time.

They are read straight from Arrow's buffers: going through Arrow's own scalars costs ten times as much, and reading at
random is what training does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from mmdata.schema import Conversation, Image, Media, Message, Part, Region, Text, Time, Video

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BatchView"]

Reader: TypeAlias = Callable[[int], Any]
"""Returns the value of a column at an index."""


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
