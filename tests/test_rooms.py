"""The house: which room may import which."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import mmdata

ROOT = Path(mmdata.__file__).parent

ROOMS = (
    "errors",
    "rejects",
    "_tools",
    "storage",
    "schema",
    "store",
    "sources",
    "formats",
    "image",
    "video",
    "engine",
    "conversion",
    "frame_cache",
    "mixture",
    "tokenizers",
    "templates",
    "pipeline",
    "exporters",
    "hub",
    "report",
    "cli",
)
"""The rooms from left to right; a room imports only those to its left, and itself."""

FLAT = {"__init__", "__main__", "errors", "frame_cache", "hub", "rejects", "schema", "testing"}
"""The modules that are no room of their own kind but stand in the hall."""

FACES = {"__init__", "__main__"}
"""They show what is inside, and may import any room."""


def modules() -> list[Path]:
    return sorted(ROOT.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield what a module imports of mmdata, wherever in it: the line and the dotted name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (
                (node.lineno, alias.name)
                for alias in node.names
                if alias.name.split(".")[0] == "mmdata"
            )
        elif (
            isinstance(node, ast.ImportFrom)
            and node.module
            and node.module.split(".")[0] == "mmdata"
        ):
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, (inner if inner in names() else node.module)


@cache
def names() -> frozenset[str]:
    return frozenset(map(name_of, modules()))


def room_of(dotted: str) -> str:
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def test_every_room_has_its_place() -> None:
    found = {
        entry.stem if entry.suffix == ".py" else entry.name
        for entry in ROOT.iterdir()
        if entry.name != "py.typed"
    }

    assert found - {"__pycache__"} - FACES - {"testing"} == set(ROOMS)


def test_no_flat_module_stands_in_the_hall_but_those_that_may() -> None:
    assert {path.stem for path in ROOT.glob("*.py")} <= FLAT


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_a_room_imports_only_rooms_to_its_left(path: Path) -> None:
    room = room_of(name_of(path))
    if room in FACES:
        return
    allowed = ROOMS if room == "testing" else ROOMS[: ROOMS.index(room) + 1]

    wrong = [
        f"line {line}: {name}"
        for line, name in imports(path)
        if name != "mmdata" and room_of(name) not in allowed
    ]
    assert not wrong


@pytest.mark.parametrize("path", modules(), ids=name_of)
def test_what_a_module_logs_is_said_by_the_logger_of_its_room(path: Path) -> None:
    loggers = [
        ast.unparse(node.args[0])
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("getLogger")
    ]

    assert set(loggers) <= {f"'mmdata.{room_of(name_of(path))}'"}


@pytest.mark.slow
def test_no_modules_import_one_another_in_a_circle() -> None:
    """A package and a module in it may know each other;
    everyone may ask the whole for its version.
    """
    arrows = {
        name_of(path): {
            found
            for _, found in imports(path)
            if found in names() and found != "mmdata" and not name_of(path).startswith(f"{found}.")
        }
        for path in modules()
    }
    done: set[str] = set()

    def visit(name: str, above: tuple[str, ...]) -> None:
        assert name not in above or name == above[-1], " -> ".join(
            (*above[above.index(name) :], name)
        )
        if name not in done:
            for following in sorted(arrows[name]):
                visit(following, (*above, name))
            done.add(name)

    for name in sorted(arrows):
        visit(name, ())


FRAMEWORKS = {
    "mindspore": {"mmdata.pipeline.mindspore"},
    "torch": {"mmdata.pipeline.torch"},
    "ray": {"mmdata.engine.ray"},
}


@pytest.mark.slow
@pytest.mark.parametrize("framework", sorted(FRAMEWORKS))
def test_frameworks_stay_at_the_edge(framework: str) -> None:
    users = {
        name_of(path)
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if (
            isinstance(node, ast.Import)
            and any(alias.name.split(".")[0] == framework for alias in node.names)
        )
        or (isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == framework)
    }

    assert users <= FRAMEWORKS[framework]
