"""Making a format from options, and describing it to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, fields
from typing import Any, Final, Literal, cast, get_args, get_origin, get_type_hints

from mmdata.errors import UsageError, nearest
from mmdata.formats._format import Format
from mmdata.registry import Registry

__all__ = ["describe", "make"]

_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def make(registry: Registry[type[Format]], name: str, options: Mapping[str, Any]) -> Format:
    """Return the format ``name`` with ``options``; text is read as the type an option has.

    Raises:
        UnknownNameError: there is no such format.
        UsageError: an option is unknown, or its value is not of its type.
    """
    kind = registry.get(name)
    known = {field.name: field for field in fields(cast(Any, kind))}
    hints = get_type_hints(kind)
    for key in options:
        if key not in known:
            raise UsageError(
                f"{name} has no option {key!r}.{nearest(key, known)} There are: {', '.join(known) or 'none'}."
            )
    return kind(**{key: _typed(key, value, hints[key]) for key, value in options.items()})


def describe(registry: Registry[type[Format]], name: str) -> str:
    """Return what a format is, the shape of its sources, and its options with their defaults, as text."""
    kind = registry.get(name)
    options = [f"  {field.name}={_default(field)}" for field in fields(cast(Any, kind))]
    return "\n".join([kind.summary, "", kind.shape, "", "options:", *options])


def _typed(key: str, value: Any, hint: Any) -> Any:
    """Return the value of an option, read from text where it is text and should not be."""
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


def _default(field: Field[Any]) -> str:
    return repr(field.default)
