"""Options of formats and templates: the fields of a dataclass, given by name, as text or as values."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from mmdata.errors import UsageError, nearest

__all__ = ["defaults", "typed"]

_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_NONE: Final = type(None)


def typed(kind: Any, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``options`` of the dataclass ``kind``, which people call ``name``, text read as the type a field has.

    Raises:
        UsageError: an option is unknown, or its value is not of its type.
    """
    known = {field.name for field in fields(kind)}
    for key in options:
        if key not in known:
            raise UsageError(
                f"{name} has no option {key!r}.{nearest(key, known)} There are: {', '.join(sorted(known)) or 'none'}."
            )
    return {key: _typed(key, value, _hint(kind, key)) for key, value in options.items()}


def defaults(kind: Any) -> dict[str, str]:
    """Return the options of a dataclass that have a default, as text."""
    return {field.name: repr(field.default) for field in fields(kind) if field.default is not MISSING}


def _hint(kind: Any, key: str) -> Any:
    """Return the type of one field; the others may have types that are known to type checkers alone."""
    owner = next(base for base in kind.__mro__ if key in inspect.get_annotations(base))
    alone = {"__annotations__": {key: owner.__annotations__[key]}, "__module__": owner.__module__}
    return get_type_hints(type(key, (), alone))[key]


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Return the value of an option, read from text where it is text and should not be."""
    if _NONE in get_args(hint):
        if value is None or value == "none":
            return None
        hint = next(each for each in get_args(hint) if each is not _NONE)
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    if choices and value not in choices:
        raise UsageError(
            f"option {key}: {value!r} is none of {', '.join(map(str, choices))}{nearest(str(value), choices)}"
        )
    if not isinstance(value, str) or choices or hint is str:
        return value
    if get_origin(hint) is tuple:
        return _several(key, value, get_args(hint))
    try:
        return _TRUTH[value.lower()] if hint is bool else hint(value)
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"option {key}: {value!r} is no {getattr(hint, '__name__', hint)}") from None


def _several(key: str, value: str, hints: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values of an option that takes several, from text with commas between them."""
    values = value.split(",")
    if len(values) != len(hints):
        raise UsageError(f"option {key}: it takes {len(hints)} values with commas between them, found {value!r}")
    return tuple(_typed(key, one, hint) for one, hint in zip(values, hints, strict=True))
