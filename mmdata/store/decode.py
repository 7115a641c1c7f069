"""Rows of a record batch as conversations, decoded one at a time.

They are read straight from Arrow's buffers: going through Arrow's own scalars costs ten times as
much, and reading at random is what training does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import pairwise
from operator import mul
from typing import TYPE_CHECKING, Any, Final, TypeAlias, get_args

from mmdata.errors import StoreError
from mmdata.schema import (
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
    Text,
    Time,
    ToolCall,
    Video,
    replace,
)
from mmdata.store.arrays import valid_bytes
from mmdata.store.clocks import clock_of
from mmdata.store.encode import PART_TYPES

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BatchView", "Strings", "Words"]

ValueReader: TypeAlias = Callable[[int], Any]
"""Returns the value of a column at an index."""


_PARTS: Final = tuple(PART_TYPES.values())
_FLAGS: Final = (False, True)


class BatchView:
    """Rows of one record batch, decoded on request; the views of its columns are made once."""

    __slots__ = ("_extra", "_id", "_media", "_messages", "_others", "_source", "_split")

    def __init__(self, batch: pa.RecordBatch) -> None:
        self._id = Strings(batch.column("id"))
        self._source = Words.of_dictionary(batch.column("source"))
        self._split = Words.of_dictionary(batch.column("split"))
        self._messages = _Messages(batch.column("messages"))
        self._media = _Media(batch.column("media"))
        self._extra = Strings(batch.column("extra"))
        self._others: dict[str, Any] = {}  # what few rows have, where any has it
        for name, kind in _OTHERS.items():
            column = batch.column(name)
            if column.null_count < len(column):
                self._others[name] = kind(column)

    def __getitem__(self, row: int) -> Conversation:
        """Return the conversation of one row."""
        extra = self._extra[row]
        others = (
            {name: column[row] for name, column in self._others.items()} if self._others else {}
        )
        return Conversation(
            self._id[row] or "",
            self._messages[row],
            self._media[row],
            self._source[row],
            self._split[row],  # type: ignore[arg-type]  # it is checked there
            {} if extra == "{}" or extra is None else json.loads(extra),
            **others,
        )


class _Messages:
    """The messages of each row."""

    __slots__ = ("_contents", "_parts", "_role", "_starts", "_train")

    def __init__(self, column: pa.ListArray) -> None:
        messages = column.values
        content = messages.field("content")
        self._starts = _starts(column)
        self._role = Words.of(messages.field("role"), get_args(Role))
        self._train = messages.field("train").to_numpy(zero_copy_only=False).tobytes()
        self._contents = _starts(content)
        self._parts = _Parts(content.values)

    def __getitem__(self, row: int) -> tuple[Message, ...]:
        first, last = self._starts[row], self._starts[row + 1]
        bounds = self._contents[first : last + 1].tolist()
        start = bounds[0]
        # All parts of a row in one run, cut up afterwards: most are texts, which come at once.
        parts = self._parts.between(start, bounds[-1])
        contents = [parts[begin - start : end - start] for begin, end in pairwise(bounds)]
        train = map(_FLAGS.__getitem__, self._train[first:last])
        return tuple(map(Message, self._role.between(first, last), contents, train))


class _Rejected:
    """The rejected messages of each row, or None."""

    __slots__ = ("_messages", "_there")

    def __init__(self, column: pa.ListArray) -> None:
        self._messages = _Messages(column)
        self._there = valid_bytes(column)

    def __getitem__(self, row: int) -> tuple[Message, ...] | None:
        return self._messages[row] if self._there[row] else None


class _Parts:
    """Runs of parts."""

    __slots__ = ("_boxes", "_call", "_end", "_kind", "_medium", "_start", "_text", "_train")

    def __init__(self, parts: pa.StructArray) -> None:
        self._kind = Words.of(parts.field("type"), _PARTS)
        self._text = Strings(parts.field("text"))
        # Where it is null there stands anything; only parts that are of a medium look there.
        medium = parts.field("media")
        self._medium = memoryview(medium.buffers()[1]).cast("i")[medium.offset :]
        self._boxes, self._start, self._end = (
            _scalars(parts.field(name)) for name in ("boxes", "start", "end")
        )
        self._call = [_scalars(parts.field(name)) for name in ("name", "arguments", "call_id")]
        train = parts.field("train")
        self._train = _scalars(train) if train.null_count < len(train) else None

    def between(self, first: int, last: int) -> tuple[Part, ...]:
        texts, codes = self._text.between(first, last), self._kind.codes[first:last]
        if codes.count(0) == len(codes) and self._train is None:  # nothing but text
            return tuple(map(Text, texts))

        found: list[Part] = [
            self._other(first + n, _PARTS[code], texts[n]) if code else Text(texts[n])
            for n, code in enumerate(codes)
        ]
        if self._train is not None:
            train = map(self._train, range(first, last))
            found = [
                part if own is None else replace(part, train=own)
                for part, own in zip(found, train, strict=True)
            ]

        return tuple(found)

    def _other(self, index: int, kind: str, text: str) -> Part:
        medium = self._medium[index]
        if kind == "image":
            return Image(medium)
        if kind == "video":
            return Video(medium)
        if kind == "audio":
            return Audio(medium)
        if kind == "reasoning":
            return Reasoning(text)
        if kind == "tool_call":
            return ToolCall(*[value(index) for value in self._call])
        if kind == "region":
            return Region(text, tuple(map(tuple, self._boxes(index))), medium)
        return Time(self._start(index), self._end(index), medium)


class _Media:
    """The media of each row."""

    __slots__ = ("_known", "_path", "_starts", "_type")

    def __init__(self, column: pa.ListArray) -> None:
        media = column.values
        self._starts = _starts(column)
        self._type = Words.of(media.field("type"), get_args(MediaType))
        self._path = Strings(media.field("path"))
        fields = zip([field.name for field in media.type][2:], media.flatten()[2:], strict=True)
        self._known = [
            (name, _scalars(values)) for name, values in fields if values.null_count < len(media)
        ]

    def __getitem__(self, row: int) -> tuple[Media, ...]:
        return tuple(
            [self._medium(index) for index in range(self._starts[row], self._starts[row + 1])]
        )

    def _medium(self, index: int) -> Media:
        kind, path = self._type[index], self._path[index]
        if not self._known:  # nothing has been probed
            return Media(kind, path)  # type: ignore[arg-type]
        known = {name: _freeze(value(index)) for name, value in self._known}
        return Media(kind, path, **known)  # type: ignore[arg-type]


class Strings:
    """The values of a string array."""

    __slots__ = ("_array", "_data", "_starts")

    def __init__(self, array: pa.StringArray) -> None:
        data = array.buffers()[2]
        self._data = memoryview(data) if data is not None else memoryview(b"")
        self._starts = _starts(array)
        self._array = array if array.null_count else None

    def __getitem__(self, index: int) -> str | None:
        if self._array is not None and not self._array[index].is_valid:
            return None
        return str(self._data[self._starts[index] : self._starts[index + 1]], "utf-8")

    def between(self, first: int, last: int) -> list[str]:
        """Return the values ``first`` to ``last``, the last left out;
        empty ones where they are null.
        """
        bounds = self._starts[first : last + 1].tolist()
        start = bounds[0]
        whole = str(self._data[start : bounds[-1]], "utf-8")
        if len(whole) != bounds[-1] - start:  # not ASCII: characters are not bytes
            return [str(self._data[begin:end], "utf-8") for begin, end in pairwise(bounds)]
        return [whole[begin - start : end - start] for begin, end in pairwise(bounds)]


class Words:
    """The values of a string array that has few different ones, as ``codes``:
    one byte, or a number, a value.
    """

    __slots__ = ("_words", "codes")

    def __init__(self, words: Sequence[str], codes: Sequence[int]) -> None:
        self._words = words
        self.codes = codes

    @classmethod
    def of_dictionary(cls, array: pa.DictionaryArray) -> Words:
        """Return the values of a dictionary array."""
        import numpy as np

        codes = np.asarray(array.indices)
        few = len(array.dictionary) <= 256
        return cls(
            array.dictionary.to_pylist(),
            codes.astype(np.uint8).tobytes() if few else codes.tolist(),
        )

    @classmethod
    def of(cls, array: pa.StringArray, words: tuple[str, ...]) -> Words:
        """Return the values of a string array that are all among ``words``,
        told apart by one letter and their length.

        Raises:
            StoreError: a value is not.
        """
        import numpy as np

        if not len(array):
            return cls(words, b"")
        starts = np.asarray(_starts(array))[: len(array) + 1]
        letter, code_of = _telling_letter(words)

        # The sum of letter and length overflows a byte on purpose: `code_of` is a table of 256.
        letters = np.frombuffer(array.buffers()[2], np.uint8).take(starts[:-1] + letter)
        sums = letters + (np.diff(starts) << 4).astype(np.uint8)
        codes = sums.tobytes().translate(code_of)

        # A strange word may have the sum of one of ours. Unless it has its length too, the lengths
        # of all words do not add up to the length of the data.
        *counts, strange = np.bincount(
            np.frombuffer(codes, np.uint8), minlength=len(words) + 1
        ).tolist()
        if strange or sum(map(mul, counts, map(len, words))) != starts[-1] - starts[0]:
            raise StoreError(
                f"a batch holds a word that is none of {', '.join(words)}; "
                "`mmdata check` looks further"
            )
        return cls(words, codes)

    def __getitem__(self, index: int) -> str:
        return self._words[self.codes[index]]

    def between(self, first: int, last: int) -> Iterator[Any]:
        """Return the words ``first`` to ``last``, the last left out."""
        return map(self._words.__getitem__, self.codes[first:last])


@cache
def _telling_letter(words: tuple[str, ...]) -> tuple[int, bytes]:
    """Return the first place at which letter plus 16 lengths differ between all words,
    and a table from sum to word.

    Sums are of bytes: they begin anew after 255. Times 16, the lengths of our words do not make up
    for their letters.
    """
    sums = [
        [(ord(word[place]) + 16 * len(word)) % 256 for word in words]
        for place in range(min(map(len, words)))
    ]
    place, marks = next(
        (place, marks) for place, marks in enumerate(sums) if len(set(marks)) == len(words)
    )
    table = bytearray([len(words)]) * 256
    for code, mark in enumerate(marks):
        table[mark] = code
    return place, bytes(table)


def _starts(array: pa.Array) -> memoryview:
    """Return where the values of a list or string array begin, and where the last one ends."""
    return memoryview(array.buffers()[1]).cast("i")[array.offset :]


def _scalars(array: pa.Array) -> ValueReader:
    return lambda index: array[index].as_py()


class _Scalars:
    """The values of an array of anything, None where they are null."""

    __slots__ = ("_array",)

    def __init__(self, array: pa.Array) -> None:
        self._array = array

    def __getitem__(self, index: int) -> Any:
        return self._array[index].as_py()


def _freeze(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, dict):
        return clock_of(value)
    return value


_OTHERS: Final[dict[str, Callable[[pa.Array], Any]]] = {
    "tools": Strings,
    "rejected": _Rejected,
    "desirable": _Scalars,
}
"""The columns that most stores have nothing in, and what reads them."""
