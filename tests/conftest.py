"""What every test may ask for: the folders of reference data, or a skip that says they are not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("mmdata", deadline=None, print_blob=True)
settings.load_profile("mmdata")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests first, so that no process is left alone with one at the end; else keep the random order."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def _folder(variable: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: no reference data here")
    return Path(value)


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder with the inputs and outputs of the original implementations."""
    return _folder("MMDATA_GOLDEN")


@pytest.fixture(scope="session")
def fixtures() -> Path:
    """The folder with real clips, annotations and tokenizer files."""
    return _folder("MMDATA_FIXTURES")
