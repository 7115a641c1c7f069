"""Rows of a record batch as conversations, decoded one at a time.

They are read straight from Arrow's buffers: going through Arrow's own scalars costs ten times as much, and reading at
random is what training does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from mmdata.schema import (
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
    import pyarrow as pa

__all__ = ["BatchView"]

Reader: TypeAlias = Callable[[int], Any]
"""Returns the value of a column at an index."""


class BatchView:
    """Rows of one record batch, decoded on request; the views of its columns are made once."""

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._id = _Strings(batch.column("id"))
        self._source = _Words(batch.column("source").dictionary_decode())
        self._split = _Words(batch.column("split").dictionary_decode())
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
            self._source[row],
            cast(Split, self._split[row]),
            {} if extra == "{}" or extra is None else json.loads(extra),
        )


class _Messages:
    """The messages of each row."""

    def __init__(self, column: pa.ListArray) -> None:
        messages = column.values
        content = messages.field("content")
        self._spans = _Offsets(column)
        self._role = _Words(messages.field("role"))
        self._train = messages.field("train").to_numpy(zero_copy_only=False).tobytes()
        self._contents = _Offsets(content)
        self._parts = _Parts(content.values)

    def __getitem__(self, row: int) -> tuple[Message, ...]:
        first, last = self._spans[row]
        bounds = self._contents.between(first, last)
        start = bounds[0]
        parts = self._parts.between(start, bounds[-1])
        each = zip(self._role.between(first, last), pairwise(bounds), self._train[first:last], strict=True)
        return tuple(
            [
                Message(cast(Role, role), tuple(parts[begin - start : end - start]), train == 1)
                for role, (begin, end), train in each
            ]
        )


class _Parts:
    """Runs of parts."""

    def __init__(self, parts: pa.StructArray) -> None:
        self._kind = _Words(parts.field("type"))
        self._text = _Strings(parts.field("text"))
        self._medium = _Integers(parts.field("media"))
        self._boxes, self._start, self._end = (_scalars(parts.field(name)) for name in ("boxes", "start", "end"))

    def between(self, first: int, last: int) -> list[Part]:
        each = zip(self._kind.between(first, last), self._text.between(first, last), strict=True)
        return [
            Text(text) if kind == "text" else self._other(first + number, kind, text)
            for number, (kind, text) in enumerate(each)
        ]

    def _other(self, index: int, kind: str, text: str) -> Part:
        medium = self._medium[index]
        if kind == "image":
            return Image(medium)
        if kind == "video":
            return Video(medium)
        if kind == "region":
            return Region(text, tuple(map(tuple, self._boxes(index))), medium)
        return Time(self._start(index), self._end(index), medium)


class _Media:
    """The media of each row."""

    def __init__(self, column: pa.ListArray) -> None:
        media = column.values
        self._spans = _Offsets(column)
        self._type = _Words(media.field("type"))
        self._path = _Strings(media.field("path"))
        rest = [field.name for field in media.type if field.name not in ("type", "path")]
        self._known = [
            (name, _scalars(media.field(name))) for name in rest if media.field(name).null_count < len(media)
        ]

    def __getitem__(self, row: int) -> tuple[Media, ...]:
        first, last = self._spans[row]
        if not self._known:  # nothing has been probed
            return tuple([Media(self._type[n], self._path[n]) for n in range(first, last)])  # type: ignore[arg-type]
        return tuple([self._medium(index) for index in range(first, last)])

    def _medium(self, index: int) -> Media:
        known = {name: _frozen(value(index)) for name, value in self._known}
        return Media(cast(MediaType, self._type[index]), self._path[index], **known)


class _Offsets:
    """Where the values of a list or string array begin."""

    def __init__(self, array: pa.Array) -> None:
        self._offsets = memoryview(array.buffers()[1]).cast("i")
        self._offset = array.offset

    def __getitem__(self, index: int) -> tuple[int, int]:
        """Return where a value begins and where it ends."""
        index += self._offset
        return self._offsets[index], self._offsets[index + 1]

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
        first, last = self._offsets[index]
        return str(self._data[first:last], "utf-8")

    def between(self, first: int, last: int) -> list[str]:
        """Return the values ``first`` to ``last``, the last left out; empty ones where they are null."""
        bounds = self._offsets.between(first, last)
        start = bounds[0]
        whole = str(self._data[start : bounds[-1]], "utf-8")
        if len(whole) != bounds[-1] - start:  # not ASCII: characters are not bytes
            return [str(self._data[begin:end], "utf-8") for begin, end in pairwise(bounds)]
        return [whole[begin - start : end - start] for begin, end in pairwise(bounds)]


class _Words:
    """The values of a string array that has few different ones: equal values come back as one object."""

    def __init__(self, array: pa.Array) -> None:
        import numpy as np

        encoded = array.dictionary_encode()
        codes = np.asarray(encoded.indices)
        self._words: list[str] = encoded.dictionary.to_pylist()
        self._codes: Sequence[int] = codes.astype(np.uint8).tobytes() if len(self._words) <= 256 else codes.tolist()

    def __getitem__(self, index: int) -> str:
        return self._words[self._codes[index]]

    def between(self, first: int, last: int) -> list[str]:
        words = self._words
        return [words[code] for code in self._codes[first:last]]


class _Integers:
    """The values of an int32 array."""

    def __init__(self, array: pa.Int32Array) -> None:
        self._values = memoryview(array.buffers()[1]).cast("i")
        self._offset = array.offset

    def __getitem__(self, index: int) -> int:
        return int(self._values[index + self._offset])


def _scalars(array: pa.Array) -> Reader:
    return lambda index: array[index].as_py()


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
