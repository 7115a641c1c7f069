"""What of a conversation a store cannot hold: which row, which field of it, and why.

Rows become columns many at a time, and what Arrow or JSON says of a value that they do not have
names neither. So that good rows pay nothing, the guilty one is looked for when it has failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final, get_type_hints

import msgspec
from msgspec import Struct

from mmdata.errors import SchemaError
from mmdata.schema import Conversation
from mmdata.store.encode import encode_extra

__all__ = ["UNSTORABLE", "blame_row"]

UNSTORABLE: Final = (ArithmeticError, LookupError, RecursionError, TypeError, ValueError)
"""What is raised where values become columns and one of them cannot."""


def blame_row(
    rows: Sequence[Conversation], error: Exception, store: Callable[[Sequence[Conversation]], Any]
) -> SchemaError:
    """Return the error that names the first of some rows that ``store`` cannot make columns of, and
    its field; ``error`` is what it raised for all of them together.
    """
    first = rows
    while len(first) > 1:
        half = len(first) // 2
        first = first[:half] if _fails(store, first[:half]) else first[half:]
    (row,) = first
    return SchemaError(f"conversation {row.id!r}: {_fault(row) or f'cannot be stored: {error}'}")


def _fails(store: Callable[[Sequence[Conversation]], Any], rows: Sequence[Conversation]) -> bool:
    try:
        store(rows)
    except UNSTORABLE:
        return True
    return False


def _fault(row: Conversation) -> str | None:
    try:
        return next(_faults(row, ""), None)
    except RecursionError:
        return "extra is nested too deep to be stored, or holds itself; make it flatter"


def _faults(struct: Struct, where: str) -> Iterator[str]:
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if name == "extra":
            yield from _json_faults(value, name)
            continue
        place = f"{where}{name}"
        items = value if isinstance(value, tuple) else (value,)
        for number, item in enumerate(items):
            here = f"{place}[{number}]" if items is value else place
            if isinstance(item, Struct):
                yield from _faults(item, f"{here}.")
            elif isinstance(item, str):
                yield from _text_faults(item, here)
        if not any(isinstance(item, Struct) for item in items):
            yield from _type_faults(value, _hints(type(struct))[name], place)


@cache
def _hints(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind)


def _type_faults(value: object, hint: Any, where: str) -> Iterator[str]:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError as error:
        yield f"{where} is {value!r:.80}, which the schema does not have there: {error}"


def _text_faults(text: str, where: str) -> Iterator[str]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        yield (
            f"{where} holds half a character, {text[error.start]!r}, which UTF-8 cannot say; "
            "take it out, or read the text with the encoding that it was written in"
        )


def _json_faults(value: object, where: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, str):
                yield from _text_faults(key, f"a key of {where}")
            else:
                yield f"{where} has the key {key!r:.80}; keys of JSON are strings, make it one"
            yield from _json_faults(item, f"{where}[{key!r:.80}]")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield from _json_faults(item, f"{where}[{number}]")
    elif isinstance(value, str):
        yield from _text_faults(value, where)
    else:
        try:
            encode_extra(value)
        except (TypeError, ValueError):
            yield (
                f"{where} is {value!r:.80}, which JSON does not have; leave it out, or make it "
                "null, a number, a string, a list or an object"
            )
