"""The records of a JSON file, one after the other:
an array, JSON Lines, or objects printed one below another.

Memory stays flat: one window of text and one record. A record that cannot be read costs itself;
reading goes on at the next one: in JSON Lines on the next line, else where
:mod:`mmdata.sources._recovery` sees the record end. Where nothing is broken, many records are read
at once (:mod:`mmdata.sources._run`).

Stricter than :mod:`json` where that loses or invents data: a key that stands twice in one object,
the infinities, NUL and lone surrogates are rejected. Laxer where nothing can be lost: commas
between records may be missing or doubled, arrays may follow one another, each with a byte order
mark, and ``NaN``, which pandas writes where a table has no value, is null.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any, Final, TypeAlias

from msgspec import Struct

from mmdata._tools.strict_json import STRICT_DECODER
from mmdata.errors import RecordError
from mmdata.rejects import Reject
from mmdata.sources._recovery import MARGIN, SHOWN, Broken, MoreTextNeeded, is_cut_short
from mmdata.sources._run import LENGTH, Way, read_run, read_strictly
from mmdata.sources._window import Window, suspicious
from mmdata.sources.meter import Tell, tell_nobody
from mmdata.sources.parts import WHOLE, TextPart
from mmdata.sources.record import Record

__all__ = [
    "Value",
    "has_whole_lines",
    "identity",
    "is_clean",
    "members",
    "parse_value",
    "records",
    "runs",
]

_LONGEST: Final = 1 << 26
"""Characters; a longer record is rejected, so that a stray quote cannot fill the memory."""
_SHOWN: Final = 50

_SEPARATORS: Final = re.compile(r"[ \t\r\n,\ufeff]*")
_FIRST_KEY: Final = re.compile(r'\{\s*("(?:[^"\\\n]|\\.){0,200}")\s*:')
_CUT: Final = re.compile(r'[^\s"\[\]{},:]{0,16}\Z')
"""What is left of a text that ends within a literal,
a number or an escape, or before a sign that is wanted.
"""

Value: TypeAlias = Any
"""What a JSON value is in Python, or the :class:`RecordError` that stands where one cannot be read.
"""


def records(file: Path, *, id_key: str = "id") -> Iterator[Record | Reject]:
    """Yield the records of a JSON file in order, and a reject where one cannot be read.

    ``id_key`` names the field that holds a record's id.
    """
    return chain.from_iterable(runs(file, id_key=id_key))


def runs(
    file: Path,
    *,
    id_key: str = "id",
    ways: Sequence[Way] = (read_strictly,),
    part: TextPart = WHOLE,
    tell: Tell = tell_nobody,
) -> Iterator[list[Record | Reject]]:
    """Yield what :func:`records` does, in lists of what was read together:
    large records and rejects are alone.

    What can be read together is read in the first of the ``ways`` that can. Of a file that is read
    in parts come the records that begin in the ``part``. ``tell`` is called before each list.
    """
    name, number = file.as_posix(), part.number
    with Window(file, part=part) as window:
        by_line = has_whole_lines(window.text) if part.by_line is None else part.by_line
        reader = Reader(window, by_line=by_line, ways=ways, level=part.level)
        for values in reader.runs():
            ids = [identity(value, id_key) for value in values]
            records = map(Record, values, repeat(name), count(number), ids, repeat(reader.size))
            tell(reader.share)
            yield [r.rejected(r.raw) if isinstance(r.raw, RecordError) else r for r in records]
            number += len(values)


def members(
    file: Path, *, ways: Sequence[Way] = (read_strictly,)
) -> Iterator[tuple[str, Sequence[Value]]]:
    """Yield what the one object of a JSON file holds: its keys, each with its value in a list, or
    with items of its array in lists of what was read together, in the first of the ``ways`` that
    can.
    """
    with Window(file) as window:
        yield from Reader(window, by_line=False, ways=ways).members()


def identity(value: object, key: str) -> str | None:
    """Return the id that a record carries under ``key``, as text; None where it has none."""
    if isinstance(value, Struct):
        return getattr(value, key, None) or None
    found = value.get(key) if isinstance(value, dict) else None
    if isinstance(found, str):
        return found or None
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else None


def parse_value(data: bytes) -> Value:
    """Return the one JSON value that some bytes hold.

    Raises:
        RecordError: they are not JSON, or hold what no text may.
    """
    if len(values := read_strictly(data, True)) == 1:
        return values[0]
    try:
        text = data.decode("utf-8-sig")
        value, end = STRICT_DECODER.raw_decode(text, _SEPARATORS.match(text).end())  # type: ignore[union-attr]
    except UnicodeDecodeError as error:
        raise RecordError("bytes that are not UTF-8", reason="bad_encoding") from error
    except RecursionError as error:
        raise RecordError("nested deeper than a reader can follow", reason="too_deep") from error
    except ValueError as error:
        raise RecordError(str(error), reason="bad_json") from error
    if text[end:].strip():
        raise RecordError(f"more than one value: {_show(text, end)} follows", reason="bad_json")
    if suspicious(text) and not is_clean(value):
        raise RecordError("a NUL or a lone surrogate", reason="bad_encoding")
    return value


class Reader:
    """Reads the values of a window in order;
    ``size`` is how many characters the last of them has, or a mean of a run.
    ``overran`` is whether the last of a part ends behind it.

    It reads runs in the first of the ``ways`` that can; without any, every value by itself, which
    gives the same.
    """

    def __init__(
        self,
        window: Window,
        *,
        by_line: bool,
        ways: Sequence[Way] = (read_strictly,),
        level: str = "",
    ) -> None:
        self._window = window
        self._position = 0
        self._by_line = by_line
        self._ways = ways
        self._alone = 0 if ways else sys.maxsize  # characters in which no run is tried
        self.size = 0
        self.overran = False
        self._last: Value = None
        self._level = level  # the brackets that are open around the value at the position
        self._lost = False  # the rest of the file may belong to a record that cannot be read
        self._fault_said = False

    def runs(self) -> Iterator[Sequence[Value]]:
        """Yield the values of the file, its arrays opened, in lists of what is read together; of a
        part of it those that begin there.
        """
        while True:
            character = self.peek()
            if self.is_past_part:
                return
            if not character:
                break
            if character == "[" and not (self._level or self._by_line):
                self._level = "["
                self._position += 1
            elif character == "]" and not self._by_line:
                self._level = ""
                self._position += 1
            else:
                values = self.some()
                limit = self._window.limit
                self.overran = limit is not None and self._position > limit
                yield values
        yield from ([error] for error in self.ending())

    @property
    def level(self) -> str:
        """The brackets that are open around the next value."""
        return self._level

    @property
    def share(self) -> float:
        """About which share of the file comes before the next value."""
        return self._window.share_before(self._position)

    @property
    def is_past_part(self) -> bool:
        """Whether the next value begins behind the part of the file that is read."""
        limit = self._window.limit
        return limit is not None and self._position >= limit

    def members(self) -> Iterator[tuple[str, Sequence[Value]]]:
        """Yield the members of the file's one object, those of arrays in lists of what was read
        together, each with its key.
        """
        if not self._skip("{"):
            found = _show(self._window.text, 0)
            yield "", [RecordError(f"an object is wanted, found {found}", reason="bad_json")]
            return
        self._level = "{"
        while self.peek() not in {"", "}"}:
            key = self.value()
            if not isinstance(key, str) or not self._skip(":"):
                where = self._window.where(self._position)
                yield "", [RecordError(f"{where}: a key is wanted", reason="bad_json")]
                return
            if not self._skip("["):
                yield key, [self.value()]
                continue
            self._level = "{["
            while self.peek() not in {"", "]"}:
                yield key, self.some()
            if self._skip("]"):
                self._level = "{"
        if self._skip("}"):
            self._level = ""
        yield from (("", [error]) for error in self.ending())

    def ending(self) -> Iterator[RecordError]:
        """Yield what is wrong with the end of the file,
        unless it has been said: at most one error.
        """
        if self._window.fault:
            if not self._fault_said:
                yield RecordError(self._window.fault, reason="bad_encoding")
        elif self._level and not self._lost:
            yield RecordError(
                "the file ends before its brackets close; was it cut?", reason="bad_json"
            )

    def peek(self) -> str:
        """Step over blanks and commas; return the next character,
        or an empty string at the end of the file.
        """
        while True:
            text = self._window.text
            self._position = position = _SEPARATORS.match(text, self._position).end()  # type: ignore[union-attr]
            if position < len(text):
                return text[position]
            if self._window.ended:
                return ""
            self._slide()

    def some(self) -> Sequence[Value]:
        """Return the value at the position, or a run of values, and step over it."""
        if self._alone <= 0:
            if len(self._window.text) - self._position < LENGTH and not self._window.ended:
                self._slide()
            start = self._position
            text, by_line, in_array = self._window.text, self._by_line, self._level.endswith("[")
            values, end = read_run(
                text,
                start,
                in_array=in_array,
                by_line=by_line,
                ways=self._ways,
                limit=self._window.limit,
            )
            if values:
                self._position, self.size, self._last = (
                    end,
                    (end - start) // len(values),
                    values[-1],
                )
                return values
            self._alone = end - start
        value = self.value()
        self._alone -= self.size
        return [value]

    def value(self) -> Value:
        """Return the value at the position and step over it;
        an error in its place where it cannot be read.
        """
        while True:
            try:
                value, end = self._decode()
            except (ValueError, RecursionError) as error:
                held = len(self._window.text) - self._position
                further = self._behind(error)
                if len(self._window.text) - self._position > held:
                    continue  # it may be whole with what has been read since
                refusal = self._refusal(error)
                self._lost = further is None and self._window.ended
                self._position = len(self._window.text) if further is None else further
                return refusal
            break
        text, start = self._window.text, self._position
        self._position, self.size = end, end - start
        if suspicious(text[start:end]) and not is_clean(value):
            where = self._window.where(start)
            return RecordError(
                f"{where}: bytes that are not UTF-8, a NUL or a lone surrogate",
                reason="bad_encoding",
            )
        self._last = value
        return value

    def _skip(self, character: str) -> bool:
        """Step over ``character`` where it comes next, blanks aside; return whether it did."""
        found = self.peek() == character
        self._position += found
        return found

    def _slide(self) -> None:
        dropped = max(0, self._position - SHOWN)
        self._window.slide(dropped)
        self._position -= dropped

    def _decode(self) -> tuple[Value, int]:
        """Return the value at the position and where it ends,
        reading on while the window may cut it.
        """
        window = self._window
        while True:
            try:
                value, end = STRICT_DECODER.raw_decode(window.text, self._position)
            except json.JSONDecodeError as error:
                if window.ended or not _may_be_cut(error):
                    raise
                if len(window.text) - self._position > _LONGEST:
                    raise ValueError(f"the record is longer than {_LONGEST} characters") from error
            else:
                if end <= len(window.text) - MARGIN or window.ended:
                    self._require_whole(value, end)
                    return value, end
            self._slide()

    def _require_whole(self, value: Value, end: int) -> None:
        text = self._window.text
        if self._level != "{" and is_cut_short(
            value, text, self._position, end, by_line=self._by_line
        ):
            raise json.JSONDecodeError("Closed before its end", text, end)

    def _refusal(self, error: ValueError | RecursionError) -> RecordError:
        what, reason = str(error), "bad_json"
        if isinstance(error, RecursionError):
            what, reason = "nested deeper than a reader can follow", "too_deep"
        elif self._is_cut(error) and self._window.fault:
            what, reason, self._fault_said = self._window.fault, "bad_encoding", True
        elif isinstance(error, json.JSONDecodeError):
            found = error.doc[error.pos : error.pos + 1]
            reason = (
                "bad_encoding" if found == "\0" or "\ud800" <= found <= "\udfff" else "bad_json"
            )
            where = f"{error.pos - self._position} characters in"
            what = f"{error.msg}, {where}, found {_show(error.doc, error.pos)}"
        return RecordError(f"{self._window.where(self._position)}: {what}", reason=reason)

    def _is_cut(self, error: Exception) -> bool:
        return self._window.ended and isinstance(error, json.JSONDecodeError) and _may_be_cut(error)

    def _behind(self, error: Exception) -> int | None:
        """Return where reading goes on behind the value at the position,
        which has an error; None if nowhere.
        """
        if self._is_cut(error) and self._window.fault:
            return None
        return self._end_of_line() if self._by_line else self._end_of_broken()

    def _end_of_line(self) -> int:
        while (end := self._window.text.find("\n", self._position)) < 0:
            if self._window.ended:
                return len(self._window.text)
            self._slide()
        return end + 1

    def _end_of_broken(self) -> int | None:
        alike = self._beginning()
        while True:
            text, start = self._window.text, self._position
            ended = self._window.ended or len(text) - start > _LONGEST
            try:
                return Broken(text, start, self._level, alike, ended).further()
            except MoreTextNeeded:
                self._slide()

    def _beginning(self) -> re.Pattern[str]:
        """Return how a record of this file begins,
        judged by the last whole one and the one at the position.
        """
        keys = []
        if isinstance(self._last, dict) and self._last:
            keys.append(json.dumps(next(iter(self._last)), ensure_ascii=False))
        if own := _FIRST_KEY.match(self._window.text, self._position):
            keys.append(own[1])
        return re.compile(
            r"\{\s*(?:" + "|".join(map(re.escape, keys)) + r")\s*:" if keys else r'\{\s*"'
        )


def _may_be_cut(error: json.JSONDecodeError) -> bool:
    """Return whether an error may come from the end of the text."""
    return (
        error.msg.startswith("Unterminated string") or _CUT.match(error.doc, error.pos) is not None
    )


def has_whole_lines(text: str) -> bool:
    """Return whether a text is JSON Lines:
    among its first lines, an object fills one from its first column on.
    """
    return not text.lstrip().startswith("[") and any(map(_is_object, text.split("\n", 100)[:100]))


def _is_object(line: str) -> bool:
    if not line.startswith("{"):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def is_clean(value: Value) -> bool:
    """Return whether no string in a value holds a NUL or a lone surrogate."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, str):
            if "\0" in item or any("\ud800" <= character <= "\udfff" for character in item):
                return False
        elif isinstance(item, dict):
            left += [*item, *item.values()]
        elif isinstance(item, list):
            left += item
    return True


def _show(text: str, position: int) -> str:
    return ascii(text[position : position + _SHOWN]) if position < len(text) else "the end"
