"""Which expressions give the same rows at each run."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["find_changing", "is_one_expression"]

_CLOCK: Final = frozenset(
    ("current_date", "current_time", "current_timestamp", "localtime", "localtimestamp")
)
"""What SQL calls without parentheses; DuckDB reads them as names of columns until it finds none."""


def is_one_expression(session: Any, where: str) -> bool:
    """Return whether a text that is true of rows within parentheses is whole without them too: of
    ``a) OR (b`` others would be taken than are read.
    """
    return not _parse(session, f"SELECT {where}\n")["error"]


def find_changing(session: Any, where: str) -> str | None:
    """Return what in an expression may say something else at each run, by the name that the
    expression has for it; None where nothing does or it cannot be parsed.
    """
    parsed = _parse(session, f"SELECT 1 FROM rows WHERE ({where}\n)")
    # DuckDB itself says of each of its functions whether it hangs on its arguments alone.
    changing = {
        name
        for (name,) in session.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() "
            "WHERE stability IN ('VOLATILE', 'CONSISTENT_WITHIN_QUERY')"
        ).fetchall()
    }
    return next(
        (found for node in _nodes(parsed) if (found := _changing(node, changing)) is not None), None
    )


def _changing(node: Mapping[str, Any], functions: set[str]) -> str | None:
    if "function_name" in node:
        name = str(node["function_name"]).lower()
        # DuckDB 1 has the arguments as "children". An age without a second time is that of today.
        arguments = node.get("arguments", node.get("children", ()))
        return f"{name}()" if name in functions or (name == "age" and len(arguments) == 1) else None
    if node.get("class") == "COLUMN_REF":
        column = str(node["column_names"][-1]).lower()
        return column if column in _CLOCK else None
    return "a sample" if node.get("sample") else None


def _nodes(tree: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(tree, dict):
        yield tree
    if isinstance(tree, (dict, list)):
        for below in tree.values() if isinstance(tree, dict) else tree:
            yield from _nodes(below)


def _parse(session: Any, query: str) -> dict[str, Any]:
    [told] = session.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    parsed: dict[str, Any] = json.loads(told)
    return parsed
