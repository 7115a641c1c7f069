"""Run-length encoded lists, as the reference files have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def unroll(runs: Iterable[Sequence[Any]]) -> list[Any]:
    """Return the list that ``[value, count]`` pairs stand for."""
    return [value for value, count in runs for _ in range(count)]
