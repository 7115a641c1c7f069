"""Where reading goes on behind a JSON record that cannot be read.

Brackets and strings are followed from the record's start, its words aside: whatever else is wrong
with it, a record ends where its brackets close. Three things show that a bracket or a quote is
itself at fault, and from where on at the latest: a bracket closes another than was opened; a
bracket opens where only a key can stand; what follows a string cannot. From there on the next
record is looked for among the places that look like the start of one, or like the end of their
array, and each is tried by following brackets on from it: had it begun inside of the broken record,
one would close in the end that was never opened.

Where that is not seen, because another fault comes first or because brackets just do not close, a
place is taken if it begins as records do here: a line with the same indentation, or an object with
the same first key. So this much is not certain: of a record on one line with others that lacks
several closing brackets, inner objects with that first key may be taken for records; of records on
one line that begin with other keys, some between two such faults may be lost with the first; and
text inside of a string that a stray quote has opened may close brackets. Where a file is cut, all
that follows on the last whole record is one reject.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

__all__ = ["MARGIN", "SHOWN", "Broken", "MoreTextNeeded", "is_cut_short"]

MARGIN: Final = 1 << 10
"""So many characters behind a place are seen before
anything is said about it, unless the text ends.
"""
SHOWN: Final = 1 << 6
"""So many characters before a record are seen;
one that is indented further is not known to begin its line.
"""
_PATIENCE: Final = 1 << 20
"""How many tokens are followed; a record of more is taken for one whose brackets do not close."""

_TAIL: Final = 3
"""By so many of its last characters a key is known whose first ones are lost."""
_NEAR: Final = 1 << 16
"""So many characters on, an object that begins as records
do is preferred to one that may just be inside of one.
"""

_STRING: Final = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN: Final = re.compile(rf'{_STRING}|["\[\]{{}},:]|[^\s"\[\]{{}},:\ufeff]+', re.DOTALL)
_AFTER_STRING: Final = re.compile(
    r'\s*(?:[\[\]{},:"]|\Z|(?:true|false|null|NaN|-?Infinity|-?[0-9][0-9.eE+-]{0,40})(?=[\s,\]}]|\Z))'
)
_MEMBER: Final = {
    by_line: re.compile(rf"{blank}*(?::|,?{blank}*({_STRING}){blank}*:)", re.DOTALL)
    for by_line, blank in ((False, r"[ \t\r\n]"), (True, r"[ \t\r]"))
}
_BLANKS: Final = re.compile(r"[ \t\r\n\ufeff]*")

_KEY: Final = r'"(?:[^"\\\n]|\\.){0,200}"\s*:'
_OBJECT: Final = rf"(?:[\[:]\s*)?\{{\s*{_KEY}"
"""The start of an object that is not empty;
one with a bracket or a colon before it is inside of another value.
"""
_PLACES: Final = {
    "": re.compile(_OBJECT),
    "[": re.compile(rf"{_OBJECT}|(?<=\}})\s*\]"),
    "{[": re.compile(rf"{_OBJECT}|(?<=\}})\s*\]"),
    "{": re.compile(rf",\s*{_KEY}"),
}
"""Where reading may go on, by the brackets that are open around a record."""
_OPENED_BY: Final = {"]": "[", "}": "{"}


class MoreTextNeeded(Exception):  # noqa: N818 - no error, a request
    """What is held of the text is not enough to tell."""


class _Fault(Exception):  # noqa: N818 - what is looked for
    """At this place, brackets or quotes are seen to be at fault.

    ``nested`` says that what was followed has begun inside of another value; ``unclosed`` that
    nothing was wrong for as far as brackets were followed, but they have not closed; ``opens`` that
    a bracket opens where only a key can stand.
    """

    def __init__(
        self, place: int, *, nested: bool = False, unclosed: bool = False, opens: bool = False
    ) -> None:
        super().__init__(place)
        self.place = place
        self.nested = nested
        self.unclosed = unclosed
        self.opens = opens


def is_cut_short(value: object, text: str, start: int, end: int, *, by_line: bool) -> bool:
    """Return whether what follows on a value, from ``start`` to ``end``,
    shows that it is not the whole of a record.

    A colon makes it a key. Another member makes it a part, but not one of whose key the end stands
    in it already as that of a key: such a member is of the next record, which has lost its head.
    """
    found = _MEMBER[by_line].match(text, end)
    if found is None:
        return False
    if found[1] is None:
        return not isinstance(value, (dict, list))
    tail = re.escape(found[1][1:-1][-_TAIL:])
    return (
        not isinstance(value, dict) or re.compile(rf'{tail}"\s*:').search(text, start, end) is None
    )


@dataclass(frozen=True)
class Broken:
    """A record that cannot be read: the text that holds it, and its start.

    ``level`` has the brackets that are open around it, the outermost first; ``alike`` matches an
    object that begins as records of the file do; ``ended`` says that nothing follows on the text.
    """

    text: str
    start: int
    level: str
    alike: re.Pattern[str]
    ended: bool

    def further(self) -> int | None:
        """Return where reading goes on; None where all that follows may belong to the record.

        Raises:
            MoreTextNeeded: that cannot be told without what follows on the text.
        """
        try:
            _, end = next(self._values(self.start), (0, None))
        except _Fault as fault:
            return self._around(fault)
        if end is None:  # nothing but blanks that are none of JSON's
            return None
        return end if self._goes_on_well(end) else self._around(_Fault(end))

    def _around(self, fault: _Fault) -> int | None:
        """Return where records go on: from the fault on,
        or somewhere in the record if that is not closed.
        """
        end = len(self.text)
        if fault.unclosed:
            by_line = self._next_line(fault.place)
            cut = fault.place == end and not self._ends_whole()
            return by_line or self._first(self.start + 1, fault.place, alike=True, proven=cut)
        if (
            self.level[-1:] == "["
            and self.text[fault.place : fault.place + 1] == "]"
            and self._try(fault.place)[0]
        ):
            return fault.place

        found = None
        if fault.opens:
            found = self._first(
                fault.place, self._require(min(end, fault.place + _NEAR)), alike=True
            )

        if found is None:
            found = self._first(fault.place, end)
        by_line = self._next_line(end if found is None else found)
        if found is None and by_line is None:
            self._require(end)
        return found if by_line is None else by_line

    def _first(
        self, place: int, stop: int, *, alike: bool = False, proven: bool = False
    ) -> int | None:
        """Return the first place from ``place`` to ``stop`` where records go on.

        They are seen to, which is enough unless the first key must be ``alike``; or it is alike,
        which is enough unless it must be ``proven``. The first object of an array must be, which
        may be the next array of the same object.
        """
        inner = ":" if self.level == "{[" or not alike else "[:"
        while found := _PLACES[self.level].search(self.text, place, stop):
            if found[0][0] in inner:
                place = found.end() - 1
                continue
            first = found[0][0] == "["
            start = self.text.index("{", found.start()) if first else found.start()
            place = start + 1
            if alike and not self._is_alike(start):
                continue
            seen, places, further = self._try(start)
            if seen:
                return start
            if seen is None and not proven:
                likely = next(filter(self._is_alike, places[first:]), stop)
                if likely < stop:
                    return likely
            place = max(place, further)

        return None

    def _try(self, start: int) -> tuple[bool | None, list[int], int]:
        """Return whether records go on at ``start``, None if that is not seen;
        where they begin then; where to look on.

        Where it is not seen of one, it is not seen of all that follow up to the next fault.
        """
        values: list[tuple[int, int]] = []
        try:
            for value in self._values(start):
                values.append(value)
        except _Fault as fault:
            if fault.nested:
                return False, [], fault.place
            long = fault.unclosed and fault.place < len(self.text)
            places = [start, *(begin for begin, _ in values[1:])]
            return (long and bool(values)) or None, places, values[-1][1] if values else start
        return True, [start], start

    def _ends_whole(self) -> bool:
        """Return whether the text ends as a file does that is not cut,
        which shows in arrays and objects alone.
        """
        return self.text[-SHOWN:].rstrip().endswith({"[": "]", "{[": "}"}.get(self.level, "\0"))

    def _is_alike(self, place: int) -> bool:
        return self.alike.match(self.text, place) is not None

    def _next_line(self, stop: int) -> int | None:
        """Return the first object before ``stop`` that begins a line
        as the record does, if lines are records.
        """
        head = self.text[max(0, self.start - SHOWN) : self.start]
        _, newline, indentation = head.rpartition("\n")
        if indentation.strip(" \t,") or not (newline or self.start < SHOWN):
            return None

        line = "\n" + re.escape(indentation)
        own = re.compile(r"\n[^\n]*").search(self.text, self.start, stop)
        if own and re.match(line + r"[^\s{]", own[0]):
            return None  # the lines of the record itself are indented no further

        for found in re.compile(rf"{line}(?=\{{\s*{_KEY})").finditer(self.text, self.start, stop):
            if self._try(found.end())[0] is not False:
                return found.end()

        return None

    def _goes_on_well(self, end: int) -> bool:
        """Return whether what follows on a value can follow a whole one."""
        after = _BLANKS.match(self.text, end).end()  # type: ignore[union-attr]
        match self.text[after : after + 1]:
            case "" | "{" | "]":
                return True
            case "[":
                return not self.level
            case ",":
                return self.level == "{" or not is_cut_short({}, self.text, end, end, by_line=False)
            case "}" | '"':
                return self.level == "{"
        return False

    def _values(self, start: int) -> Iterator[tuple[int, int]]:
        """Yield where the values begin and end that follow one another
        from ``start`` on, as many as brackets let see.

        Raises:
            _Fault: brackets or quotes are at fault.
            MoreTextNeeded: the text does not reach so far.
        """
        opened, outside = list(self.level), len(self.level)
        begin = start
        awaits = "value"  # in an object: "first" or "key" or "value", or "nothing" behind a value
        held = self._held()

        for number, found in enumerate(_TOKEN.finditer(self.text, start)):
            place, end = found.span()
            token = self.text[place]
            if end > held:
                raise MoreTextNeeded
            if number == _PATIENCE:
                raise _Fault(place, unclosed=True)
            in_object = opened[-1:] == ["{"]
            ended = outside > 0 and not opened
            if ended and (token in '":' or self.level[0] == "{"):
                raise _Fault(place, nested=True)
            if token in "[{":
                if in_object and awaits in {"key", "nothing"}:
                    raise _Fault(place, opens=True)
                begin = place if len(opened) <= outside else begin
                opened.append(token)
                awaits = "first" if token == "{" else "value"
                continue
            if token in "]}":
                if opened[-1:] != [_OPENED_BY[token]]:
                    within = len(opened) < outside or (token == "]" and len(opened) == outside)
                    raise _Fault(place, nested=within)
                opened.pop()
                awaits = "nothing"
                if len(opened) < outside:
                    continue
            elif token == ",":
                awaits = "key" if in_object else "value"
                continue
            elif token == ":":
                awaits = "value"
                continue
            elif token == '"' and (end == place + 1 or not _AFTER_STRING.match(self.text, end)):
                raise _Fault(place)
            elif in_object:
                is_key = awaits in {"first", "key"} or (awaits == "nothing" and token == '"')
                awaits = "value" if is_key else "nothing"
            if len(opened) <= outside:
                yield begin if token in "]}" else place, end

        if not self.ended:
            raise MoreTextNeeded
        if opened or (outside and awaits != "nothing"):
            raise _Fault(len(self.text), unclosed=True)

    def _held(self) -> int:
        """Return up to where something can be said about the text."""
        return len(self.text) - (0 if self.ended else MARGIN)

    def _require(self, place: int) -> int:
        if place > self._held():
            raise MoreTextNeeded
        return place
