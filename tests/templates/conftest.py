"""Tests of this folder run with small vocabularies made here, and with the published ones where they are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.templates.families import Vocabulary
from tests.vocabularies import published, small


@pytest.fixture(scope="session", params=["small", "published"])
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    """Give the tokenizer of a kind."""
    if request.param == "small":
        return small
    folder: Path = request.getfixturevalue("fixtures")
    return partial(published, fixtures=folder)
