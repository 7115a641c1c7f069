"""Values that a text within a record spells, as a cell of a table does: JSON, or the literal of
Python that pandas writes.

Such text is read as strictly as a file of JSON is, and refused for the same reasons in the same
words.
"""

from __future__ import annotations

import ast
from typing import Any, Final

from mmdata._tools.strict_json import RepeatedKeyError, repeated
from mmdata.errors import RecordError
from mmdata.sources._json import parse_value

__all__ = ["parse_json", "parse_literal"]

_LONGEST: Final = 1 << 20
"""Characters; Python's parser takes hundreds of times as many bytes."""


def parse_json(text: str, what: str) -> Any:
    """Return the one JSON value that text spells.

    Raises:
        RecordError: it spells one that would lose or break text: a key stands twice in one object,
            NUL or a lone surrogate is in it; ``what`` names it.
        ValueError: it spells none, or one that is nested too deep.
    """
    try:
        return parse_value(text.encode())
    except UnicodeEncodeError as error:
        raise RecordError(f"{what}: a lone surrogate", reason="bad_encoding") from error
    except RecordError as error:
        if error.reason == "bad_encoding" or isinstance(error.__cause__, RepeatedKeyError):
            raise RecordError(f"{what}: {error}", reason=error.reason) from error
        raise ValueError(str(error)) from error


def parse_literal(text: str, what: str) -> Any:
    """Return the value that text spells, as JSON or else as a literal of Python, which may have
    tuples and others that JSON has not.

    >>> parse_literal("[['Hello', None]]", "'history'")
    [['Hello', None]]

    Raises:
        RecordError: as :func:`parse_json`.
        ValueError: it spells none.
    """
    try:
        return parse_json(text, what)
    except ValueError as error:
        if len(text) > _LONGEST:
            raise ValueError(
                f"a literal of {len(text)} characters, more than {_LONGEST}"
            ) from error

    try:
        tree = ast.parse(text.lstrip(" \t"), mode="eval")
        twice = _find_repeated_key(tree)
        value = ast.literal_eval(tree)
    except (SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"no literal: {error}") from error
    if twice is not None:
        raise RecordError(f"{what}: {RepeatedKeyError(twice)}", reason="bad_json")
    return value


def _find_repeated_key(tree: ast.Expression) -> str | None:
    """Return the first key that stands twice in one object of a literal."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
            twice = repeated([key for key in keys if isinstance(key, str)])
            if twice is not None:
                return twice
    return None
