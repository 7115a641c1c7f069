"""A conversion that is killed at any moment leaves the old store,
the new one or none; always whole.
"""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmdata
from tests.forks import Forks, run_forks
from tests.source_files import record, write_records

ROWS = 12_000


def conversion(source: Path, store: Path) -> list[str]:
    return ["convert", "llava", str(source), "-o", str(store), "--check", "none", "--overwrite"]


def command(source: Path, store: Path) -> list[str]:
    return [sys.executable, "-m", "mmdata", *conversion(source, store)]


def start(source: Path, store: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command(source, store), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large")
    return write_records(folder / "source.json", [record(number) for number in range(ROWS)])


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_records(tmp_path_factory.mktemp("small") / "source.json", [record(0)])


@pytest.fixture(scope="module")
def duration(large: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    started = time.monotonic()
    subprocess.run(
        command(large, tmp_path_factory.mktemp("timed") / "store"), check=True, capture_output=True
    )
    return time.monotonic() - started


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    with run_forks() as started:
        yield started


@pytest.fixture(scope="module")
def forked_duration(forks: Forks, large: Path, tmp_path_factory: pytest.TempPathFactory) -> float:
    return forks.run(*conversion(large, tmp_path_factory.mktemp("timed") / "store"))


@pytest.mark.slow
@pytest.mark.parametrize("over_an_existing_store", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_sigkill_at_any_moment_leaves_a_whole_store_or_none(
    seed: int,
    over_an_existing_store: bool,
    large: Path,
    small: Path,
    forks: Forks,
    forked_duration: float,
    tmp_path: Path,
) -> None:
    chance = random.Random(seed)
    store = tmp_path / "store"
    for _ in range(10):
        if over_an_existing_store:
            mmdata.convert("llava", small, store, check="none", overwrite=True)
        forks.kill(*conversion(large, store), after=chance.uniform(0, forked_duration * 1.1))

        if store.exists():
            assert mmdata.check(store) == []
            assert len(mmdata.open(store)) in ({1, ROWS} if over_an_existing_store else {ROWS})
        else:
            assert not over_an_existing_store

    subprocess.run(command(small, store), check=True, capture_output=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
    assert len(mmdata.open(store)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_the_old_store_and_nothing_else(
    number: signal.Signals, large: Path, small: Path, duration: float, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    mmdata.convert("llava", small, store, check="none")
    for share in (0.3, 0.5, 0.7, 0.9):
        running = start(large, store)
        time.sleep(duration * share)
        running.send_signal(number)
        running.wait()

        assert mmdata.check(store) == []
        assert len(mmdata.open(store)) in {1, ROWS}
        assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
