"""What every test may ask for: the folders of reference data, one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from tests.reference import Reference, references

settings.register_profile("mmdata", deadline=None, print_blob=True)
settings.load_profile("mmdata")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow tests first, so that no process is left alone with one at the end; else keep the random order."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(scope="session", params=references(), ids=lambda each: each.name)
def reference(request: pytest.FixtureRequest) -> Reference:
    """One set of reference data after the other: our pack, and what the environment names."""
    found: Reference = request.param
    return found


@pytest.fixture(scope="session")
def golden(reference: Reference) -> Path:
    """The folder with the inputs and outputs of the original implementations."""
    return reference.golden or pytest.skip("MMDATA_GOLDEN is not set: no reference data here")


@pytest.fixture(scope="session")
def fixtures(reference: Reference) -> Path:
    """The folder with clips, annotations and tokenizer files."""
    return reference.fixtures or pytest.skip("MMDATA_FIXTURES is not set: no reference data here")
