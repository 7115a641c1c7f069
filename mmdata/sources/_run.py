"""Runs of JSON values that one strict pass reads:
many times faster than one by one, and only where nothing differs.

A pass is msgspec's, which refuses what JSON forbids. It would let two things by: NUL, and a key
that stands twice in an object, of which it keeps the last. Were a key lost, the text would have two
quotes more than what was read from it, whatever else was lost with it. A run that does not pass is
left to :mod:`mmdata.sources._json`, which reads value by value and can say what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

__all__ = ["LENGTH", "Run", "Spelled", "Way", "decoded", "has_strings", "read_run", "read_strictly"]

LENGTH: Final = 1 << 17
"""How many characters a run has at the most;
what it decodes to should stay in the processor's cache.
"""

_OPENING: Final = re.compile(r'\{\s*"(?:[^"\\\n]|\\.){0,200}"')
_QUOTE, _BACKSLASH, _U = b'"\\u'

_decoder: Final = msgspec.json.Decoder()
_encoder: Final = msgspec.json.Encoder()

Way: TypeAlias = Callable[[bytes, bool], Sequence[Any]]
"""A way to read JSON text:
given it and whether commas stand between its values, it returns all of them or none.
"""


class Run(NamedTuple):
    """Values that follow one another, and where they end;
    none of them where that stretch is not fit to be a run.
    """

    values: Sequence[Any]
    end: int


class Spelled(list[Any]):
    """Values with lines of JSON that msgspec has written of them: whoever keeps them as text need
    not write it again.
    """

    __slots__ = ("lines",)

    def __init__(self, values: Sequence[Any], lines: bytes) -> None:
        super().__init__(values)
        self.lines = lines


def read_run(
    text: str,
    start: int,
    *,
    in_array: bool,
    by_line: bool,
    ways: Sequence[Way],
    limit: int | None = None,
) -> Run:
    """Return the values from ``start`` on that a later one
    follows within :data:`LENGTH`, and before ``limit``, all of them or none.

    The next value starts where one starts like the first: with the same key, or ``by_line`` with a
    line. They are read in the first of the ``ways`` that can.
    """
    reach = start + LENGTH if limit is None else min(start + LENGTH, limit)
    end = _last_start(text, start, reach, by_line)
    if end <= start:
        return Run([], start)
    try:
        data = text[start:end].rstrip(", \t\r\n").encode()
    except UnicodeEncodeError:
        return Run([], end)
    values: Sequence[Any] = next(filter(None, (way(data, in_array) for way in ways)), [])
    if not (in_array or by_line) and list in map(type, values):  # an array of records among records
        return Run([], end)
    return Run(values, end)


def read_strictly(data: bytes, in_array: bool) -> list[Any]:
    """Return the values of JSON text, whatever they are,
    unless it is not well or has doubled keys or NUL.
    """
    values = decoded(data, _decoder, in_array=in_array)
    if not values:
        return []
    lines = _encoder.encode_lines(values)
    return Spelled(values, lines) if _nothing_lost(data, lines) else []


def decoded(data: bytes, decoder: msgspec.json.Decoder[Any], *, in_array: bool) -> list[Any]:
    """Return the values of JSON text,
    or none where it is not well or they are not what the decoder is for.

    The decoder is for lists of them if they are ``in_array``, commas between them, else for one.
    """
    try:
        return decoder.decode(b"[%b]" % data) if in_array else decoder.decode_lines(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return []


def has_strings(data: bytes, count: int) -> bool:
    """Return whether JSON text has so many strings, keys among them."""
    import numpy as np

    quotes = np.count_nonzero(np.frombuffer(data, np.uint8) == _QUOTE)
    # The first is cheap, and enough for text without escaped quotes.
    return bool(quotes == 2 * count) or _spelling(data)[0] == 2 * count


def _last_start(text: str, start: int, reach: int, by_line: bool) -> int:
    """Return where the last value that begins before ``reach`` begins;
    ``start`` or less if that is the first.
    """
    if by_line:
        return text.rfind("\n", start, reach) + 1
    opening = _OPENING.match(text, start)
    return text.rfind(opening[0], start + 1, reach) if opening else start


def _nothing_lost(read: bytes, written: bytes) -> bool:
    """Return whether JSON text has as many strings as what it was read as, and no NUL."""
    strings, _ = _spelling(read)
    kept, escaped = _spelling(written)
    return strings == kept and _U not in escaped


def _spelling(data: bytes) -> tuple[int, bytes]:
    """Return how many quotes of a JSON text begin or end a string,
    and the characters that are escaped.
    """
    import numpy as np

    spelled = np.frombuffer(data, np.uint8)
    escaped = spelled[np.flatnonzero(spelled[:-1] == _BACKSLASH) + 1].tobytes()
    if _BACKSLASH in escaped:
        return _spelling(data.replace(b"\\\\", b""))
    return int(np.count_nonzero(spelled == _QUOTE)) - escaped.count(_QUOTE), escaped
