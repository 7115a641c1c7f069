"""The records of a JSON file, one after the other: an array, JSON Lines, or objects printed one below another.

Memory stays flat: one window of text and one record. A record that cannot be read costs itself; reading goes on at the
next one, which is found by matching brackets outside strings, or, where the damage hides them, by the first key that
records of the file have. Where nothing is broken, many records are read at once (:mod:`mmdata.sources._run`).

Stricter than :mod:`json` where that loses or invents data: a key that stands twice in one object, ``NaN`` and the
infinities, NUL and lone surrogates are rejected. Laxer where nothing can be lost: commas between records may be missing
or doubled, and arrays may follow one another, each with a byte order mark.
"""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from msgspec import Struct

from mmdata.errors import RecordError
from mmdata.rejects import Reject
from mmdata.sources._run import LENGTH, Way, read_run, read_strictly
from mmdata.sources._window import Window, suspicious
from mmdata.sources.record import Record

__all__ = ["Value", "has_whole_lines", "identity", "is_clean", "members", "records", "runs"]

_EDGE: Final = 16
"""A fault nearer than this to the end of the window may be a literal or an escape that is cut there."""
_LOOKAHEAD: Final = 1 << 20
"""How many characters of a broken record are searched for its end before the next likely start is taken."""
_LONGEST: Final = 1 << 26
"""Characters; a longer record is rejected, so that a stray quote cannot fill the memory."""
_SHOWN: Final = 50

_SEPARATORS: Final = re.compile(r"[ \t\r\n,\ufeff]*")
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_FIRST_KEY: Final = re.compile(r'\{\s*("(?:[^"\\\n]|\\.){0,200}")\s*:')
_STRUCTURE: Final = re.compile(r'["\[\]{}]')
_IN_STRING: Final = re.compile(r'["\\\n]')
_NEXT_MEMBER: Final = r'(?<=\})\s*\]\s*,\s*"[^"\\\n]{0,200}"\s*:\s*\['
"""Where an array of objects ends and the next array of the same object begins."""
_CLOSERS: Final = {"[": "]", "{": "}"}

Value: TypeAlias = Any
"""What a JSON value is in Python, or the :class:`RecordError` that stands where one cannot be read."""


def records(file: Path, *, id_key: str = "id") -> Iterator[Record | Reject]:
    """Yield the records of a JSON file in order, and a reject where one cannot be read.

    ``id_key`` names the field that holds a record's id.
    """
    return chain.from_iterable(runs(file, id_key=id_key))


def runs(file: Path, *, id_key: str = "id", ways: Sequence[Way] = (read_strictly,)) -> Iterator[list[Record | Reject]]:
    """Yield what :func:`records` does, in lists of what was read together: large records and rejects are alone.

    What can be read together is read in the first of the ``ways`` that can.
    """
    name, number = file.as_posix(), 0
    with Window(file) as window:
        reader = Reader(window, by_line=has_whole_lines(window.text), ways=ways)
        for values in reader.runs():
            ids = [identity(value, id_key) for value in values]
            records = map(Record, values, repeat(name), count(number), ids, repeat(reader.size))
            yield [r.rejected(r.raw) if isinstance(r.raw, RecordError) else r for r in records]
            number += len(values)


def members(file: Path) -> Iterator[tuple[str, Value]]:
    """Yield what the one object of a JSON file holds: its keys with their values, the items of arrays one by one."""
    with Window(file) as window:
        yield from Reader(window, by_line=False).members()


def identity(value: object, key: str) -> str | None:
    """Return the id that a record carries under ``key``, as text; None where it has none."""
    if isinstance(value, Struct):
        return getattr(value, key, None) or None
    found = value.get(key) if isinstance(value, dict) else None
    if isinstance(found, str):
        return found or None
    return str(found) if isinstance(found, int) and not isinstance(found, bool) else None


class Reader:
    """Reads the values of a window in order; ``size`` is how many characters the last of them has, or a mean of a run.

    It reads runs in the first of the ``ways`` that can; without any, every value by itself, which gives the same.
    """

    def __init__(self, window: Window, *, by_line: bool, ways: Sequence[Way] = (read_strictly,)) -> None:
        self._window = window
        self._position = 0
        self._by_line = by_line
        self._ways = ways
        self._alone = 0 if ways else sys.maxsize  # characters in which no run is tried
        self.size = 0
        self._last: Value = None
        self._lost = False  # the rest of the file could not be understood, and that has been said
        self._in_members = False

    def runs(self) -> Iterator[Sequence[Value]]:
        """Yield the values of the file, its arrays opened, in lists of what is read together."""
        inside = False
        while character := self.peek():
            if character == "[" and not (inside or self._by_line):
                inside = True
                self._position += 1
            elif character == "]" and not self._by_line:
                inside = False
                self._position += 1
            else:
                yield self.some(in_array=inside)
        yield from ([error] for error in self.ending(complete=not inside))

    def members(self) -> Iterator[tuple[str, Value]]:
        """Yield the members of the file's one object, those of arrays one by one, each with its key."""
        if not self._skip("{"):
            yield "", RecordError(f"an object is wanted, found {_show(self._window.text, 0)}", reason="bad_json")
            return
        self._in_members = True
        while self.peek() not in {"", "}"}:
            key = self.value()
            if not isinstance(key, str) or not self._skip(":"):
                yield "", RecordError(f"{self._window.where(self._position)}: a key is wanted", reason="bad_json")
                return
            if not self._skip("["):
                yield key, self.value()
                continue
            while self.peek() not in {"", "]"}:
                for value in self.some(in_array=True):
                    yield key, value
            self._skip("]")
        yield from (("", error) for error in self.ending(complete=self._skip("}")))

    def ending(self, *, complete: bool) -> Iterator[RecordError]:
        """Yield what is wrong with the end of the file, unless it has been said: at most one error."""
        if self._lost:
            return
        if self._window.fault:
            yield RecordError(self._window.fault, reason="bad_encoding")
        elif not complete:
            yield RecordError("the file ends before its brackets close; was it cut?", reason="bad_json")

    def peek(self) -> str:
        """Step over blanks and commas; return the next character, or an empty string at the end of the file."""
        while True:
            text = self._window.text
            self._position = position = _SEPARATORS.match(text, self._position).end()  # type: ignore[union-attr]
            if position < len(text):
                return text[position]
            if self._window.ended:
                return ""
            self._slide()

    def some(self, *, in_array: bool) -> Sequence[Value]:
        """Return the value at the position, or a run of values, and step over it."""
        if self._alone <= 0:
            if len(self._window.text) - self._position < LENGTH and not self._window.ended:
                self._slide()
            start = self._position
            text, by_line = self._window.text, self._by_line
            values, end = read_run(text, start, in_array=in_array, by_line=by_line, ways=self._ways)
            if values:
                self._position, self.size, self._last = end, (end - start) // len(values), values[-1]
                return values
            self._alone = end - start
        value = self.value()
        self._alone -= self.size
        return [value]

    def value(self) -> Value:
        """Return the value at the position and step over it; an error in its place where it cannot be read."""
        try:
            value, end = self._decode(_DECODER)
        except RecursionError:
            return self._refuse("nested deeper than a reader can follow", "too_deep")
        except json.JSONDecodeError as error:
            return self._refuse_at(error)
        except ValueError as error:
            return self._refuse(str(error), "bad_json")
        text, start = self._window.text, self._position
        self._position, self.size = end, end - start
        if suspicious(text[start:end]) and not is_clean(value):
            where = self._window.where(start)
            return RecordError(f"{where}: bytes that are not UTF-8, a NUL or a lone surrogate", reason="bad_encoding")
        self._last = value
        return value

    def _skip(self, character: str) -> bool:
        """Step over ``character`` where it comes next, blanks aside; return whether it did."""
        found = self.peek() == character
        self._position += found
        return found

    def _slide(self) -> None:
        self._window.slide(self._position)
        self._position = 0

    def _decode(self, decoder: json.JSONDecoder) -> tuple[Value, int]:
        """Return the value at the position and where it ends, reading on while the window may cut it."""
        window = self._window
        while True:
            try:
                value, end = decoder.raw_decode(window.text, self._position)
            except json.JSONDecodeError as error:
                if window.ended or not _may_be_cut(error):
                    raise
                if len(window.text) - self._position > _LONGEST:
                    raise ValueError(f"the record is longer than {_LONGEST} characters") from error
            else:
                if end < len(window.text) or window.ended:
                    return value, end
            self._slide()

    def _refuse_at(self, error: json.JSONDecodeError) -> RecordError:
        found = error.doc[error.pos : error.pos + 1]
        unclean = found == "\0" or "\ud800" <= found <= "\udfff"
        what = f"{error.msg}, {error.pos - self._position} characters in, found {_show(error.doc, error.pos)}"
        cut = self._window.ended and _may_be_cut(error)
        if cut and self._window.fault:
            return self._refuse(self._window.fault, "bad_encoding", cut=True)
        return self._refuse(what, "bad_encoding" if unclean else "bad_json", cut=cut and not self._by_line)

    def _refuse(self, what: str, reason: str, *, cut: bool = False) -> RecordError:
        refusal = RecordError(f"{self._window.where(self._position)}: {what}", reason=reason)
        if cut:
            self._lose_the_rest()
        elif self._by_line:
            self._skip_line()
        else:
            self._skip_record()
        return refusal

    def _lose_the_rest(self) -> None:
        self._position = len(self._window.text)
        self._lost = True

    def _skip_line(self) -> None:
        window = self._window
        while (end := window.text.find("\n", self._position)) < 0:
            self._position = len(window.text)
            if window.ended:
                return
            self._slide()
        self._position = end + 1

    def _skip_record(self) -> None:
        """Go to the end of the record at the position: where it would be if we were less strict, else by its look."""
        try:
            _, self._position = self._decode(_LAX)
        except (ValueError, RecursionError):
            self._skip_broken()

    def _skip_broken(self) -> None:
        """Go to where the brackets of the record at the position are closed, else to where the next seems to start."""
        window, start = self._window, self._position
        starts = self._likely_start()
        brackets = _Brackets(starts, hopeless=window.text[start] not in _CLOSERS)
        scanned, searched = start, start + 1
        while True:
            end = brackets.scan(window.text, scanned)
            if end is not None and _goes_on_well(window.text, end):
                self._position = end
                return
            enough = brackets.hopeless or end is not None or len(window.text) - start >= _LOOKAHEAD
            found = starts.search(window.text, searched)
            if found and (enough or window.ended):
                self._position = found.start()
                return
            if window.ended:
                self._lose_the_rest()
                return
            dropped = start if not enough else max(start, len(window.text) - 256)
            scanned, searched, start = len(window.text) - dropped, max(0, searched - dropped), 0
            window.slide(dropped)

    def _likely_start(self) -> re.Pattern[str]:
        """Return the pattern of the start of a record of this file, judged by the last whole one and the broken one."""
        keys = []
        if isinstance(self._last, dict) and self._last:
            keys.append(json.dumps(next(iter(self._last)), ensure_ascii=False))
        if own := _FIRST_KEY.match(self._window.text, self._position):
            keys.append(own[1])
        start = r"\{\s*(?:" + "|".join(map(re.escape, keys)) + r")\s*:" if keys else r'\{\s*"'
        return re.compile(f"{start}|{_NEXT_MEMBER}" if self._in_members else start)


class _Brackets:
    """Matches brackets outside strings, over one stretch of text after another, until the first one is closed."""

    def __init__(self, starts: re.Pattern[str], *, hopeless: bool) -> None:
        self.hopeless = hopeless  # there are none, one closes what it did not open, or a quote is missing
        self._starts = starts
        self._open: list[str] = []
        self._in_string = False
        self._skip = 0

    def scan(self, text: str, position: int) -> int | None:
        """Return where the value that starts at the first position ever given ends; None where that is not seen."""
        position += self._skip
        self._skip = 0
        while not self.hopeless:
            found = (_IN_STRING if self._in_string else _STRUCTURE).search(text, position)
            if found is None:
                return None
            position = found.end()
            if self._in_string:
                position = self._string(found[0], text, position)
            elif self._closes(found[0]):
                return position
        return None

    def _string(self, character: str, text: str, position: int) -> int:
        """Take a quote, a newline (no string goes over one) or a backslash in a string; return where to go on."""
        if character == "\\":
            self._skip = max(0, position + 1 - len(text))
            return min(position + 1, len(text))
        self._in_string = False
        brace = text.rfind("{", max(0, position - 32), position)
        if character == '"' and brace >= 0 and self._starts.match(text, brace, position + 300):
            self.hopeless = True  # what closes a string here is the first quote of a record
        return position

    def _closes(self, character: str) -> bool:
        """Take a quote or a bracket outside strings; return whether it closes the first one."""
        if character == '"':
            self._in_string = bool(self._open)
            self.hopeless = not self._open
        elif character in _CLOSERS:
            self._open.append(_CLOSERS[character])
        else:
            self.hopeless = not self._open or self._open.pop() != character
            return not self._open and not self.hopeless
        return False


def _object(pairs: list[tuple[str, Value]]) -> dict[str, Value]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _float(spelled: str) -> float:
    if math.isinf(number := float(spelled)):
        raise ValueError(f"the number {spelled[:_SHOWN]} is beyond what can be kept")
    return number


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_float=_float)
_LAX: Final = json.JSONDecoder(strict=False, parse_int=float)


def _may_be_cut(error: json.JSONDecodeError) -> bool:
    """Return whether an error may come from the end of the text."""
    return error.pos >= len(error.doc) - _EDGE or error.msg.startswith("Unterminated string")


def _goes_on_well(text: str, end: int) -> bool:
    """Return whether, after a value, a comma, a bracket, the next object or the end of the text follows."""
    after = _SPACE.match(text, end).end()  # type: ignore[union-attr]
    return text[after : after + 1] in {"", ",", "]", "{"}


def has_whole_lines(text: str) -> bool:
    """Return whether a text is JSON Lines: among its first lines, an object fills one from its first column on."""
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
