"""What the tests of packages from outside have in common: a process to fork the command from."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.forks import Forks, run_forks


@pytest.fixture(scope="package")
def forks() -> Iterator[Forks]:
    with run_forks() as started:
        yield started
