"""The examples in the docstrings of mmdata run, and give what they say."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

import mmdata

ROOT = Path(mmdata.__file__).parent


def modules_with_examples() -> list[str]:
    """Return the names of the modules in which a docstring has an example."""
    paths = [
        path for path in sorted(ROOT.rglob("*.py")) if ">>> " in path.read_text(encoding="utf-8")
    ]
    relative = [path.relative_to(ROOT.parent).with_suffix("") for path in paths]
    return [".".join(path.parts).removesuffix(".__init__") for path in relative]


@pytest.mark.parametrize("name", modules_with_examples())
def test_the_examples_of_a_module_give_what_they_say(name: str) -> None:
    outcome = doctest.testmod(importlib.import_module(name))

    assert not outcome.failed
