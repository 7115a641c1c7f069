"""The public tools of templates."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mmdata.templates
from mmdata.templates import registry, toolkit

ROOT = Path(mmdata.templates.__file__).parent


def files_of(family: str) -> list[Path]:
    return (
        [ROOT / f"{family}.py"]
        if (ROOT / f"{family}.py").exists()
        else sorted((ROOT / family).glob("*.py"))
    )


def test_all_tools_are_there_and_documented() -> None:
    for name in toolkit.__all__:
        assert hasattr(toolkit, name)
        assert name[0].isupper() or getattr(toolkit, name).__doc__


@pytest.mark.parametrize("family", registry.names())
def test_our_families_are_made_of_public_tools_alone(family: str) -> None:
    """But for the types of arrays, which exist for type checkers only."""
    for file in files_of(family):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                ("mmdata.templates._", "mmdata._tools")
            ):
                pytest.fail(f"{file.name}, line {node.lineno}: {node.module}")


def test_the_toolkit_is_no_family() -> None:
    assert "toolkit" not in registry.names()
