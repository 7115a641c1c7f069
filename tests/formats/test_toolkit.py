"""What formats are made of is public, documented, and what ours use."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import mmdata.formats
from mmdata.formats import registry, toolkit

PRIVATE = [
    f"mmdata.formats.{m.name}"
    for m in pkgutil.iter_modules(mmdata.formats.__path__)
    if m.name.startswith("_")
]


def test_everything_in_the_toolkit_is_documented() -> None:
    public = [getattr(toolkit, name) for name in toolkit.__all__]
    things = [thing for thing in public if inspect.isroutine(thing) or inspect.isclass(thing)]

    assert sorted(set(toolkit.__all__)) == sorted(toolkit.__all__)
    assert [thing for thing in things if not inspect.getdoc(thing)] == []
    methods = [
        f"{thing.__name__}.{name}"
        for thing in things
        if inspect.isclass(thing)
        for name, method in vars(thing).items()
        if inspect.isfunction(method) and not name.startswith("_") and not inspect.getdoc(method)
    ]
    assert methods == []


@pytest.mark.parametrize("name", PRIVATE)
def test_the_examples_in_the_docstrings_run(name: str) -> None:
    failed, _ = doctest.testmod(importlib.import_module(name))

    assert failed == 0


def test_the_toolkit_is_no_format() -> None:
    assert "toolkit" not in registry.names()


OTHERS = {
    "mmdata.formats._llava_flat",
    "mmdata.formats._plain",
    "mmdata.formats._detect",
    "mmdata.formats._batches",
    "mmdata.formats._coco_answers",
    "mmdata.formats._coco_boxes",
    "mmdata.formats._coco_join",
}
"""Private modules that are not what formats in general are made of."""


@pytest.mark.parametrize("name", registry.names())
def test_what_our_formats_take_from_private_modules_is_in_the_toolkit(name: str) -> None:
    module = Path(str(importlib.import_module(f"mmdata.formats.{name}").__file__))
    taken = {
        alias.name
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("mmdata.formats._")
        and node.module not in OTHERS
        for alias in node.names
    }

    assert taken <= set(toolkit.__all__)
