"""Runs of JSON values that one strict pass reads: many times faster than one by one, and only where nothing differs.

The pass is msgspec's, which refuses what JSON forbids. It would let two things by: NUL, and a key that stands twice in
an object, of which it keeps the last. What it has read is therefore written again. Were a key lost, the text would have
two quotes more than what is written, whatever else was lost with it; and a NUL is written as an escape. A run that does
not pass is left to :mod:`mmdata.formats._json`, which reads value by value and can say what is wrong.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import msgspec

__all__ = ["LENGTH", "Run", "read_run"]

LENGTH: Final = 1 << 16
"""How many characters a run has at the most; what it decodes to should stay in the processor's cache."""

_OPENING: Final = re.compile(r'\{\s*"(?:[^"\\\n]|\\.){0,200}"')
_QUOTE, _BACKSLASH, _U = b'"\\u'

_decoder: Final = msgspec.json.Decoder()
_encoder: Final = msgspec.json.Encoder()


class Run(NamedTuple):
    """Values that follow one another, and where they end; none of them where that stretch is not fit to be a run."""

    values: list[Any]
    end: int


def read_run(text: str, start: int, *, in_array: bool, by_line: bool) -> Run:
    """Return the values from ``start`` on that a later one follows within :data:`LENGTH`, all of them or none.

    The next value starts where one starts like the first: with the same key, or ``by_line`` with a line.
    """
    end = _last_start(text, start, by_line)
    if end <= start:
        return Run([], start)
    try:
        data = text[start:end].rstrip(", \t\r\n").encode()
        values = _decoder.decode(b"[%b]" % data) if in_array else _decoder.decode_lines(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return Run([], end)
    return Run(values if _nothing_lost(data, _encoder.encode(values)) else [], end)


def _last_start(text: str, start: int, by_line: bool) -> int:
    """Return where the last value that begins in reach begins; ``start`` or less if that is the first."""
    if by_line:
        return text.rfind("\n", start, start + LENGTH) + 1
    opening = _OPENING.match(text, start)
    return text.rfind(opening[0], start + 1, start + LENGTH) if opening else start


def _nothing_lost(read: bytes, written: bytes) -> bool:
    """Return whether JSON text has as many strings as what it was read as, and no NUL."""
    strings, _ = _spelling(read)
    kept, escaped = _spelling(written)
    return strings == kept and _U not in escaped


def _spelling(data: bytes) -> tuple[int, bytes]:
    """Return how many quotes of a JSON text begin or end a string, and the characters that are escaped."""
    import numpy as np

    spelled = np.frombuffer(data, np.uint8)
    escaped = spelled[np.flatnonzero(spelled[:-1] == _BACKSLASH) + 1].tobytes()
    if _BACKSLASH in escaped:
        return _spelling(data.replace(b"\\\\", b""))
    return int(np.count_nonzero(spelled == _QUOTE)) - escaped.count(_QUOTE), escaped
