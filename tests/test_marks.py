"""The marks by which `make` parts the tests, and the places where it looks for them."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MARKS = ("slow", "mindspore", "alone")


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

    assert lines
    assert all(line.endswith(f" $({mark.upper()})") for line in lines)


@pytest.mark.parametrize("has", list(product([False, True], repeat=len(MARKS))))
def test_ci_runs_a_test_once_whatever_marks_it_has(has: tuple[bool, ...]) -> None:
    marks = dict(zip(MARKS, has, strict=True))

    selections = [
        selection
        for target in targets_of_ci()
        for selection in re.findall(r'pytest.* -m "?([a-z ]+[a-z])', recipe(target), re.IGNORECASE)
    ]

    assert len([each for each in selections if eval(each, {}, marks)]) == 1


def test_ci_runs_both_ends_of_the_bounds() -> None:
    assert any(".ci/matrix.py --smallest" in recipe(target) for target in targets_of_ci())


def targets_of_ci() -> list[str]:
    program = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    targets: list[str] = re.findall(r"^exec make --keep-going (.+)$", program, re.MULTILINE)
    return targets[0].split()


def recipe(target: str) -> str:
    lines: list[str] = re.findall(rf"^{target}:.*\n((?:\t.*\n)+)", makefile(), re.MULTILINE)
    return lines[0]


def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")
