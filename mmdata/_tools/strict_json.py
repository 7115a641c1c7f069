"""JSON read strictly, wherever it is read by Python's own reader: that one loses a value where a
key stands twice in one object, and invents the infinities.

``NaN``, which pandas writes where a table has no value, is null.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final

__all__ = ["STRICT_DECODER", "RepeatedKeyError", "repeated"]

_SHOWN: Final = 50


class RepeatedKeyError(ValueError):
    """A key stands twice in one object: whoever reads on loses one of its values."""

    def __init__(self, key: object) -> None:
        super().__init__(f"the key {key!r} stands twice in one object")


def repeated(names: list[str]) -> str | None:
    """Return the first of the names that stands there twice, None where each is there once.

    >>> repeated(["role", "content", "role"])
    'role'
    """
    if len(set(names)) == len(names):
        return None
    return next(name for name in names if names.count(name) > 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RepeatedKeyError(repeated([name for name, _ in pairs]))
    return found


def _constant(name: str) -> None:
    if name == "NaN":
        return
    raise ValueError(f"{name} is not JSON")


def _float(spelled: str) -> float:
    if math.isinf(number := float(spelled)):
        raise ValueError(f"the number {spelled[:_SHOWN]} is beyond what can be kept")
    return number


STRICT_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
)
"""Raises :class:`RepeatedKeyError`, and :class:`ValueError` of whatever else is no JSON."""
