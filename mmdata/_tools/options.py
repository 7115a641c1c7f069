"""Options take what their annotations say, from Python, from text and from a configuration alike.

The annotation is the only place that says it: ``Literal`` for choices, ``Annotated[int,
Meta(ge=1)]`` for bounds, ``bool``, ``int``, ``float``, ``str``, ``bytes``, paths, tuples,
classes, protocols, what is called, and unions of them. :func:`checked` holds a function to its
annotations, :func:`check_fields` a dataclass; :func:`typed` reads the options of one by name, and
:mod:`mmdata.cli._options` gives them to the command line. What has another annotation is let by.
"""

from __future__ import annotations

import inspect
import math
import os
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache, wraps
from numbers import Integral, Real
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
)

from msgspec import Meta

from mmdata.errors import UsageError, nearest

__all__ = [
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "PositiveInt",
    "check_arguments",
    "check_fields",
    "checked",
    "choices_of",
    "defaults",
    "fault_of",
    "faults_of_fields",
    "from_text",
    "hints_of",
    "read",
    "typed",
    "wordings",
]

NonNegativeInt: TypeAlias = Annotated[int, Meta(ge=0)]
PositiveInt: TypeAlias = Annotated[int, Meta(ge=1)]
NonNegativeFloat: TypeAlias = Annotated[float, Meta(ge=0)]
PositiveFloat: TypeAlias = Annotated[float, Meta(gt=0)]

F = TypeVar("F", bound=Callable[..., Any])

_TRUTH: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_SEPARATORS: Final = (",", "x")  # of a tuple, and of the tuples in it
_LONGEST: Final = 80
_OPEN: Final = ("typing", "typing_extensions")  # whose classes nothing is an instance of


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an annotation admits: a predicate of values, and the words for it."""

    admits: Callable[[Any], bool]
    wording: str
    choices: tuple[str, ...] = ()
    is_object: bool = False
    """Whether it admits objects, which no text spells; nor is a sequence of them walked through."""
    members: tuple[str, ...] = ()
    """What an object must have."""


@dataclass(frozen=True, slots=True)
class _Option:
    """A parameter whose values are checked, all but its default."""

    kind: _Kind
    default: Any


# --- functions and dataclasses
# -----------------------------------------------------------------------------------


def checked(function: F) -> F:
    """Return ``function``, which refuses arguments
    that its annotations do not admit before it does anything.

    Raises:
        UsageError: by the function returned; the message has every argument at fault, and what it
            must be.

    >>> @checked
    ... def take(*, pad: Literal["no", "yes"] = "no") -> None: ...
    >>> take(pad="yess")
    Traceback (most recent call last):
    mmdata.errors.UsageError: take(): pad must be one of no, yes, found 'yess'. Did you mean 'yes'?
    """

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        positional, named = _options_of(function)
        # Argument by argument and not by Signature.bind, which takes ten times as long as most
        # calls allow.
        for option, value in zip(positional, args):  # noqa: B905 - the rest of args is *args
            if option is not None and value is not option.default and not option.kind.admits(value):
                raise _usage_error(function, args, kwargs)
        for name, value in kwargs.items():
            option = named.get(name)
            if option is not None and value is not option.default and not option.kind.admits(value):
                raise _usage_error(function, args, kwargs)
        return function(*args, **kwargs)

    return cast(F, call)


def check_arguments(function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Refuse ``options`` that are to be given to ``function`` later,
    where it has none of that name or of that value.

    Raises:
        UsageError: the message has the nearest name, or every option at fault and what it must be.
    """
    _, named = _options_of(inspect.unwrap(function))
    known = [
        name
        for name, each in inspect.signature(function).parameters.items()
        if each.kind is each.KEYWORD_ONLY
    ]
    if unknown := [f"{name!r}.{nearest(name, known)}" for name in options if name not in known]:
        raise UsageError(
            f"there is no option {' or '.join(unknown)} There are: {', '.join(known) or 'none'}."
        )
    if faults := _faults(named, options):
        raise UsageError("; ".join(faults))


def check_fields(instance: Any) -> None:
    """Refuse a dataclass with values that the annotations of its fields do not admit;
    for its ``__post_init__``.

    Raises:
        UsageError: the message has every field at fault, and what it must be.
    """
    if faults := faults_of_fields(instance):
        raise UsageError(f"{type(instance).__name__}: {'; '.join(faults.values())}")


def faults_of_fields(instance: Any) -> dict[str, str]:
    """Return what is wrong with the fields of a dataclass, in words, by their names."""
    owner: Any = type(instance)
    values = ((name, kind, getattr(instance, name)) for name, kind in _kinds_of_fields(owner))
    return {
        name: f"{name} {_fault(kind, value)}"
        for name, kind, value in values
        if not kind.admits(value)
    }


def _usage_error(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> UsageError:
    _, named = _options_of(function)
    values = {**dict(zip(inspect.signature(function).parameters, args, strict=False)), **kwargs}
    called = function.__qualname__.removesuffix(".__init__").rpartition("<locals>.")[2]
    return UsageError(f"{called}(): {'; '.join(_faults(named, values))}")


def _faults(options: Mapping[str, _Option | None], values: Mapping[str, Any]) -> list[str]:
    known = (
        (name, option.kind)
        for name, option in options.items()
        if option is not None and name in values
    )
    return [
        f"{name} {_fault(kind, values[name])}"
        for name, kind in known
        if not kind.admits(values[name])
    ]


@cache
def _options_of(
    function: Callable[..., Any],
) -> tuple[tuple[_Option | None, ...], Mapping[str, _Option | None]]:
    """Return the options of a function by position, and by name; None for what has no kind."""
    positional: list[_Option | None] = []
    named: dict[str, _Option | None] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        kind = _kind(_resolve(parameter.annotation, inspect.unwrap(function).__globals__))
        option = None if kind is None else _Option(kind, parameter.default)
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional.append(option)
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            named[name] = option
    return tuple(positional), named


@cache
def _kinds_of_fields(owner: type[Any]) -> tuple[tuple[str, _Kind], ...]:
    kinds = (
        (field.name, _kind(_field_hint(owner, field.name))) for field in fields(owner) if field.init
    )
    return tuple((name, kind) for name, kind in kinds if kind is not None)


def hints_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the annotations of a function's parameters;
    ``Any`` for types that only type checkers know.
    """
    parameters = inspect.signature(function).parameters.items()
    namespace = inspect.unwrap(function).__globals__
    return {name: _resolve(parameter.annotation, namespace) for name, parameter in parameters}


def _field_hint(owner: type, name: str) -> Any:
    home = next(base for base in owner.__mro__ if name in inspect.get_annotations(base))
    module = inspect.getmodule(home)
    return _resolve(inspect.get_annotations(home)[name], vars(module) if module else {})


def _resolve(annotation: Any, namespace: Mapping[str, Any]) -> Any:
    """Return what an annotation in source text means.

    ``typing.get_type_hints`` resolves all of a function's or none, and here some have types
    imported for type checkers alone: those are left open.
    """
    if annotation is inspect.Parameter.empty:
        return Any
    while isinstance(annotation, str):
        try:
            annotation = eval(annotation, dict(namespace))
        except NameError:
            return Any
    return annotation


# --- what annotations admit
# --------------------------------------------------------------------------------------


def fault_of(hint: Any, value: Any) -> str | None:
    """Return what is wrong with a value for an annotation,
    as in ``must be true or false, found 1``; None if nothing.

    >>> fault_of(PositiveInt, 0)
    'must be a whole number of at least 1, found 0'
    """
    kind = _kind(hint)
    return None if kind is None or kind.admits(value) else _fault(kind, value)


def choices_of(hint: Any) -> tuple[str, ...]:
    """Return the choices that an annotation gives, none if it is not about choices."""
    kind = _kind(hint)
    return kind.choices if kind else ()


def wordings(owner: Any) -> dict[str, str]:
    """Return what the fields of a dataclass admit, in words, by their names;
    without those that admit anything.

    >>> @dataclass
    ... class Clip:
    ...     pad: Literal["none", "repeat"] = "none"
    >>> wordings(Clip)
    {'pad': 'one of none, repeat'}
    """
    return {name: kind.wording for name, kind in _kinds_of_fields(owner)}


def _fault(kind: _Kind, value: Any) -> str:
    found = repr(value)
    found = found if len(found) <= _LONGEST else f"{found[:_LONGEST]}..."
    near = nearest(value, kind.choices) if isinstance(value, str) else ""
    missing = [name for name in kind.members if not _has(value, name)]
    # Of what has none of them, and of a text, it says nothing.
    is_half = missing and len(missing) < len(kind.members) and not isinstance(value, str)
    lacks = f"; it lacks {', '.join(missing)}" if is_half else ""
    return f"must be {kind.wording}, found {found}{lacks}{'.' if near else ''}{near}"


@cache
def _kind(hint: Any) -> _Kind | None:
    """Return what an annotation admits; None where that is anything."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _Kind(
            lambda value: isinstance(value, str) and value in arguments,
            _one_of(arguments),
            arguments,
        )
    if origin is Annotated:
        return _bound(arguments[0], [each for each in arguments[1:] if isinstance(each, Meta)])
    if origin in (Union, types.UnionType):
        return _any_of([_kind(each) for each in arguments])
    if origin is tuple:
        return _several(arguments)
    if hint is None or hint in _PLAIN:
        return _PLAIN[hint or types.NoneType]
    if origin is Sequence:
        return _each(_kind(arguments[0]))
    if (origin or hint) in (dict, Mapping):
        return _Kind(lambda value: isinstance(value, Mapping), "names with values")
    if _is_path(origin or hint):
        return _Kind(lambda value: isinstance(value, os.PathLike), "a path")
    if origin is Callable or hint is Callable:
        return _Kind(callable, "a function", is_object=True)
    if (
        origin is None
        and isinstance(hint, type)
        and hint is not object
        and hint.__module__ not in _OPEN
    ):
        return _instances(hint)

    return None


def _instances(hint: type) -> _Kind:
    named = f"{_article(hint.__name__)} {hint.__name__}"
    if getattr(hint, "_is_protocol", False):
        members = _members(hint)
        return _Kind(
            lambda value: _follows(value, hint, members), named, is_object=True, members=members
        )
    return _Kind(lambda value: isinstance(value, hint), named, is_object=not is_dataclass(hint))


def _members(protocol: type) -> tuple[str, ...]:
    """Return the names that a protocol and those it is made of declare."""
    declared = (
        name
        for base in protocol.__mro__
        if getattr(base, "_is_protocol", False) and base.__module__ not in _OPEN
        for name in (*vars(base), *inspect.get_annotations(base))
    )
    return tuple(
        dict.fromkeys(name for name in declared if name == "__call__" or not name.startswith("_"))
    )


def _follows(value: Any, protocol: type, members: tuple[str, ...]) -> bool:
    """Return whether a value has the members of a protocol.

    isinstance would take a class for an instance of itself, and computes every property that it
    looks for: of a mixture the hash of all its stores.
    """
    owner = type(value)
    if protocol in owner.__mro__:
        return True
    if isinstance(value, type) and "__call__" not in members:
        return False
    return all(_has(value, name) for name in members)


def _has(value: Any, name: str) -> bool:
    return hasattr(type(value), name) or hasattr(value, name)


def _is_int(value: Any) -> bool:
    # numpy's integers too, which are registered as Integral; a bool is an int by inheritance.
    return type(value) is int or (isinstance(value, Integral) and not isinstance(value, bool))


def _is_float(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, Real) and math.isfinite(value)


_PLAIN: Final[Mapping[Any, _Kind]] = {
    bool: _Kind(lambda value: isinstance(value, bool), "true or false"),
    int: _Kind(_is_int, "a whole number"),
    float: _Kind(_is_float, "a finite number"),
    str: _Kind(lambda value: isinstance(value, str), "text"),
    bytes: _Kind(lambda value: isinstance(value, bytes), "bytes"),
    types.NoneType: _Kind(lambda value: value is None, "none"),
}


def _bound(base: Any, bounds: list[Meta]) -> _Kind | None:
    kind = _kind(base)
    if kind is None or not bounds:
        return kind
    least, above, most, below = (
        next((getattr(meta, name) for meta in bounds if getattr(meta, name) is not None), None)
        for name in ("ge", "gt", "le", "lt")
    )

    def admits(value: Any) -> bool:
        return (
            kind.admits(value)
            and (least is None or value >= least)
            and (above is None or value > above)
            and (most is None or value <= most)
            and (below is None or value < below)
        )

    lower = (
        f"of at least {least}"
        if least is not None
        else f"above {above}"
        if above is not None
        else ""
    )
    upper = (
        f"of at most {most}" if most is not None else f"below {below}" if below is not None else ""
    )
    return _Kind(admits, f"{kind.wording} {' and '.join(filter(None, (lower, upper)))}")


def _any_of(kinds: list[_Kind | None]) -> _Kind | None:
    known = [kind for kind in kinds if kind is not None]
    if len(known) < len(kinds):
        return None
    choices = tuple(choice for kind in known for choice in kind.choices)
    wording = " or ".join(kind.wording for kind in known)
    return _Kind(
        lambda value: any(kind.admits(value) for kind in known),
        wording,
        choices,
        is_object=any(kind.is_object for kind in known),
        members=tuple(name for kind in known for name in kind.members),
    )


def _several(hints: tuple[Any, ...]) -> _Kind:
    open_ended = hints[-1:] == (Ellipsis,)
    kinds = [_kind(hint) for hint in hints if hint is not Ellipsis]

    def admits(value: Any) -> bool:
        if not isinstance(value, tuple) or not (open_ended or len(value) == len(kinds)):
            return False
        each = kinds * len(value) if open_ended else kinds
        return all(kind is None or kind.admits(one) for kind, one in zip(each, value, strict=True))

    words = [kind.wording if kind else "anything" for kind in kinds]
    if open_ended:
        return _Kind(admits, f"a tuple, each of it {words[0]}")
    return _Kind(admits, f"a tuple of {len(kinds)} values ({', '.join(words)})")


def _each(kind: _Kind | None) -> _Kind | None:
    if kind is None or kind.is_object:  # it may be a store, and is not walked through
        return None

    def admits(value: Any) -> bool:
        return (
            isinstance(value, Sequence)
            and not isinstance(value, (str, bytes))
            and all(map(kind.admits, value))
        )

    return _Kind(admits, f"a sequence, each of it {kind.wording}")


def _one_of(choices: tuple[str, ...]) -> str:
    return f"one of {', '.join(choices)}" if len(choices) > 1 else str(choices[0])


def _is_path(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, os.PathLike)


def _article(name: str) -> str:
    return "an" if name[0] in "AEIOU" else "a"


# --- options by name, and as text
# --------------------------------------------------------------------------------


def typed(
    kind: Any, name: str, options: Mapping[str, Any], *, besides: Collection[str] = ()
) -> dict[str, Any]:
    """Return ``options`` of the dataclass ``kind``, which people call ``name``:
    text and lists as the types of fields.

    Fields ``besides`` are not options.

    Raises:
        UsageError: options are unknown, or their values are not admitted; the message has all of
            them.
    """
    known = {field.name for field in fields(kind) if field.init and field.name not in besides}
    if unknown := [f"{key!r}.{nearest(str(key), known)}" for key in options if key not in known]:
        raise UsageError(
            f"{name} has no option {' or '.join(unknown)} "
            f"There are: {', '.join(sorted(known)) or 'none'}."
        )
    values = {key: read(value, _field_hint(kind, key)) for key, value in options.items()}
    faults = [(key, fault_of(_field_hint(kind, key), value)) for key, value in values.items()]
    if found := [f"option {key} {fault}" for key, fault in faults if fault]:
        raise UsageError(f"{name}: {'; '.join(found)}")
    return values


def from_text(text: str, hint: Any) -> Any:
    """Return the value that ``text`` spells for an annotation;
    ``none`` is None where the annotation has it.

    Values of a tuple have commas between them, those of a tuple in it an ``x``, as in
    ``336x672,672x336``.

    Raises:
        UsageError: it spells none that is admitted; the message goes on after the name of the
            option.
    """
    value = read(text, hint)
    if (fault := fault_of(hint, value)) is not None:
        raise UsageError(fault)
    return value


def defaults(kind: Any) -> dict[str, str]:
    """Return the options of a dataclass that have a default, as text."""
    return {
        field.name: repr(field.default) for field in fields(kind) if field.default is not MISSING
    }


def read(value: Any, hint: Any, depth: NonNegativeInt = 0) -> Any:
    """Return a value from text or a configuration as the annotation wants it,
    where it can be read so; else as it is.

    ``depth`` says how many tuples the value is in, see :func:`from_text`.
    """
    if get_origin(hint) is Annotated:
        return read(value, get_args(hint)[0], depth)
    if get_origin(hint) in (Union, types.UnionType):
        readings = (
            read(value, each, depth) for each in get_args(hint) if each is not types.NoneType
        )
        if value == "none" and types.NoneType in get_args(hint):
            return None
        return next((reading for reading in readings if fault_of(hint, reading) is None), value)
    if get_origin(hint) is tuple and isinstance(value, (str, list, tuple)):
        return _read_several(value, get_args(hint), depth)
    return _read_plain(value, hint) if isinstance(value, str) else value


def _read_several(
    value: str | list[Any] | tuple[Any, ...], hints: tuple[Any, ...], depth: int
) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = value.split(_SEPARATORS[min(depth, len(_SEPARATORS) - 1)])
    each = hints[:1] * len(value) if hints[-1:] == (Ellipsis,) else hints
    if len(each) != len(value):
        return tuple(value)
    return tuple(read(one, hint, depth + 1) for one, hint in zip(value, each, strict=True))


def _read_plain(text: str, hint: Any) -> Any:
    if hint is bool:
        return _TRUTH.get(text.lower(), text)

    if hint in (int, float):
        try:
            return hint(text)
        except ValueError:
            return text

    if isinstance(hint, type) and issubclass(hint, Path):
        return hint(text)
    kind = _kind(hint)
    if kind is None or kind.is_object:
        raise UsageError(
            f"an option of the type {getattr(hint, '__name__', hint)} "
            f"cannot be given as text: {text!r}"
        )

    return text
