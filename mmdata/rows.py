"""Rows of a record batch as conversations, decoded one at a time.

They are read straight from Arrow's buffers: going through Arrow's own scalars costs ten times as much, and reading at
random is what training does.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from mmdata.schema import Conversation, Image, Media, Message, Part, Region, Text, Time, Video

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BatchView"]

Reader: TypeAlias = Callable[[int], Any]
"""Returns the value of a column at an index."""


class BatchView:
    """Rows of one record batch, decoded on request; the views of its columns are made once."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._id = _Strings(batch.column("id"))
        self._source = _words(batch.column("source").dictionary_decode())
        self._split = _words(batch.column("split").dictionary_decode())
        self._messages = _Messages(batch.column("messages"))
        self._media = _Media(batch.column("media"))
        self._extra = _Strings(batch.column("extra"))

    def __getitem__(self, row: int) -> Conversation:
        """Return the conversation of one row."""
        extra = self._extra[row]
        return Conversation(
            self._id[row] or "",
            self._messages[row],
            self._media[row],
            self._source(row),
            self._split(row),
            {} if extra == "{}" or extra is None else json.loads(extra),
        )


class _Messages:
    """The messages of each row."""

    def __init__(self, column: pa.ListArray) -> None:
        messages = column.values
        content = messages.field("content")
        self._spans = _Offsets(column)
        self._role = _words(messages.field("role"))
        self._train = _words(messages.field("train").cast("int8"))
        self._contents = _Offsets(content)
        self._parts = _Parts(content.values)

    def __getitem__(self, row: int) -> tuple[Message, ...]:
        first, last = self._spans.between(row, row + 1)
        bounds = self._contents.between(first, last)
        parts = self._parts.between(bounds[0], bounds[-1])
        start, role, train = bounds[0], self._role, self._train
        return tuple(
            [
                Message(role(first + k), tuple(parts[bounds[k] - start : bounds[k + 1] - start]), train(first + k) == 1)
                for k in range(last - first)
            ]
        )


class _Parts:
    """Runs of parts."""

    def __init__(self, parts: pa.StructArray) -> None:
        self._kind = _words(parts.field("type"))
        self._text = _Strings(parts.field("text"))
        self._medium = _integers(parts.field("media"))
        self._boxes, self._start, self._end = (_scalars(parts.field(name)) for name in ("boxes", "start", "end"))

    def between(self, first: int, last: int) -> list[Part]:
        kind, texts = self._kind, self._text.between(first, last)
        return [
            Text(text) if kind(index) == "text" else self._other(index, text)  # type: ignore[arg-type]
            for index, text in enumerate(texts, first)
        ]

    def _other(self, index: int, text: str | None) -> Part:
        kind, medium = self._kind(index), self._medium(index)
        if kind == "image":
            return Image(medium)
        if kind == "video":
            return Video(medium)
        if kind == "region":
            return Region(text or "", tuple(map(tuple, self._boxes(index))), medium)
        return Time(self._start(index), self._end(index), medium)


class _Media:
    """The media of each row."""

    def __init__(self, column: pa.ListArray) -> None:
        media = column.values
        self._spans = _Offsets(column)
        self._type = _words(media.field("type"))
        self._path = _Strings(media.field("path"))
        rest = [field.name for field in media.type if field.name not in ("type", "path")]
        self._known = [
            (name, _scalars(media.field(name))) for name in rest if media.field(name).null_count < len(media)
        ]

    def __getitem__(self, row: int) -> tuple[Media, ...]:
        first, last = self._spans.between(row, row + 1)
        return tuple([self._medium(index) for index in range(first, last)])

    def _medium(self, index: int) -> Media:
        known = {name: _frozen(value(index)) for name, value in self._known}
        return Media(self._type(index), self._path[index], **known)


class _Offsets:
    """Where the values of a list or string array begin."""

    def __init__(self, array: pa.Array) -> None:
        self._offsets = memoryview(array.buffers()[1]).cast("i")
        self._offset = array.offset

    def between(self, first: int, last: int) -> list[int]:
        """Return where the values ``first`` to ``last`` begin, and where the last of them ends: one more than they."""
        return self._offsets[first + self._offset : last + self._offset + 1].tolist()


class _Strings:
    """The values of a string array."""

    def __init__(self, array: pa.StringArray) -> None:
        import numpy as np

        data = array.buffers()[2]
        self._data = memoryview(data) if data is not None else memoryview(b"")
        self._offsets = _Offsets(array)
        self._valid = np.asarray(array.is_valid()).tobytes() if array.null_count else None

    def __getitem__(self, index: int) -> str | None:
        if self._valid is not None and not self._valid[index]:
            return None
        first, last = self._offsets.between(index, index + 1)
        return str(self._data[first:last], "utf-8")

    def between(self, first: int, last: int) -> list[str | None]:
        """Return the values ``first`` to ``last``, the last left out."""
        bounds = self._offsets.between(first, last)
        start = bounds[0]
        whole = str(self._data[start : bounds[-1]], "utf-8")
        if len(whole) != bounds[-1] - start:  # not ASCII: characters are not bytes
            return [self[index] for index in range(first, last)]
        found: list[str | None] = [whole[a - start : b - start] for a, b in pairwise(bounds)]
        if self._valid is None:
            return found
        return [text if self._valid[index] else None for index, text in enumerate(found, first)]


def _words(array: pa.Array) -> Reader:
    """Return a reader of values that are few: equal ones come back as one object."""
    import numpy as np

    encoded = array.dictionary_encode()
    words = encoded.dictionary.to_pylist()
    codes = np.asarray(encoded.indices).astype(np.uint16).tolist()
    return lambda index: words[codes[index]]


def _integers(array: pa.Array) -> Reader:
    """Return a reader of integers that are not null."""
    import numpy as np

    values = np.asarray(array.fill_null(0)).tolist()
    return lambda index: values[index]


def _scalars(array: pa.Array) -> Reader:
    return lambda index: array[index].as_py()


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
