"""Times as sources spell them: seconds as a number or as text, and the figures of a clock."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final

__all__ = ["read_seconds"]

_NUMBER: Final = re.compile(
    r"\s*([+-]?[0-9]{1,15}(?:\.[0-9]{0,15})?(?:[eE][+-]?[0-9]{1,3})?)\s*s?\s*"
)
_CLOCK: Final = re.compile(r"\s*(?:([0-9]{1,4}):)?([0-9]{1,5}):([0-9]{1,2}(?:[.,][0-9]{0,15})?)\s*")
_NANOS: Final = 1e9


def read_seconds(value: object) -> float | None:
    """Return the seconds that a number, text, or Gemini's object of seconds and nanos is; None
    where it is none.

    >>> [read_seconds(time) for time in (2, "2.5s", "00:01:02.5", "1:30", {"seconds": 1}, "noon")]
    [2.0, 2.5, 62.5, 90.0, 1.0, None]
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return _finite(value)
    if isinstance(value, str):
        if number := _NUMBER.fullmatch(value):
            return _finite(float(number[1]))
        if clock := _CLOCK.fullmatch(value):
            hours, minutes, seconds = clock.groups(default="0")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds.replace(",", "."))
        return None
    if isinstance(value, Mapping) and value and value.keys() <= {"seconds", "nanos"}:
        whole, nanos = (read_seconds(value.get(unit, 0)) for unit in ("seconds", "nanos"))
        return None if whole is None or nanos is None else whole + nanos / _NANOS
    return None


def _finite(number: float) -> float | None:
    try:
        return float(number) if math.isfinite(number) else None
    except OverflowError:  # an integer that no float can be
        return None
