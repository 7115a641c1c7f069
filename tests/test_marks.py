"""The marks by which `make test` parts the tests, and the places where it looks for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("mark", ["mindspore", "alone"])
def test_make_looks_for_a_mark_wherever_a_test_has_it(mark: str) -> None:
    [named] = re.findall(rf"^{mark.upper()} *:= (.+)$", makefile(), re.MULTILINE)
    places = [ROOT / place for place in named.split()]

    marked = [
        file
        for file in (ROOT / "tests").rglob("*.py")
        if re.search(rf"\bmark\.{mark}\b", file.read_text(encoding="utf-8"))
    ]

    assert marked
    assert all(place.exists() for place in places)
    assert [file for file in marked if not {file, *file.parents}.intersection(places)] == []


@pytest.mark.parametrize("mark", ["mindspore", "alone"])
def test_what_is_asked_for_by_a_mark_is_looked_for_in_its_places(mark: str) -> None:
    lines = [line for line in makefile().splitlines() if re.search(rf'-m "?{mark}\b', line)]

    assert len(lines) == 1
    assert lines[0].endswith(f" $({mark.upper()})")


def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")
