"""Tests of this folder run with small vocabularies made here,
and with those of every folder of reference data.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.reference import references
from tests.templates.families import Vocabulary
from tests.vocabularies import published, small

FOLDERS = {each.name: each.fixtures for each in references() if each.fixtures}


@pytest.fixture(scope="session", params=[None, *FOLDERS.values()], ids=["small", *FOLDERS])
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    """Give the tokenizer of a kind."""
    folder: Path | None = request.param
    return partial(published, fixtures=folder) if folder else small
