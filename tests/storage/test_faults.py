"""A store in a bucket is whole or not there, whatever the network and the machine do."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import pytest

import mmdata
from mmdata.conversion import convert
from mmdata.errors import StorageError, StoreError, UsageError
from mmdata.store import check
from tests.forks import Forks, run_forks
from tests.source_files import record
from tests.storage.buckets import client, keys
from tests.storage.proxy import run_proxy

ROWS = 400


@pytest.fixture
def source(bucket: str) -> str:
    """Records of text alone in a bucket."""
    records = [record(number, image=None, conversations=turns(number)) for number in range(ROWS)]
    data = "\n".join(map(json.dumps, records)).encode()
    client().put_object(Bucket=bucket, Key="data.jsonl", Body=data)
    return f"s3://{bucket}/data.jsonl"


def turns(number: int) -> list[dict[str, str]]:
    return [
        {"from": "human", "value": f"What is {number}?"},
        {"from": "gpt", "value": f"It is {number}. " * 20},
    ]


def ids(store: str) -> list[str]:
    return [row.id for row in mmdata.open(store)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_network_that_fails_now_and_then_gives_the_whole_store(
    source: str, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    store = f"s3://{bucket}/store"

    with run_proxy(s3_server, seed) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        convert("llava", source, store)
        read = ids(store)

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert read == ids(store) == [f"r{number}" for number in range(ROWS)]
    assert check(store) == []
    assert len(keys(bucket, "store/")) == 3


@pytest.mark.slow
def test_a_network_that_fails_for_good_is_one_error_that_names_the_object(
    source: str, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdata.storage._backend._FIRST_WAIT", 0.001)

    with run_proxy(s3_server, 0, failing=1.0) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        with pytest.raises(StorageError, match=f"s3://{bucket}/.*failed"):
            convert("llava", source, f"s3://{bucket}/store")

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert keys(bucket, "store") == []


@pytest.mark.slow
def test_a_source_of_which_the_middle_cannot_be_read_is_an_error_and_no_reject(
    source: str, bucket: str, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdata.storage._backend._FIRST_WAIT", 0.001)

    with run_proxy(s3_server, 0, failing=0.0, cutting=1.0, about="data.jsonl") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        with pytest.raises(StorageError, match=r"data\.jsonl.*failed"):
            convert("llava", source, f"s3://{bucket}/store")

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    assert keys(bucket, "store") == []


@dataclass(frozen=True)
class Processes:
    """Starts the command as people do."""

    def run(self, *arguments: str) -> float:
        started = time.monotonic()
        subprocess.run(self._command(arguments), check=True, stdout=subprocess.DEVNULL)
        return time.monotonic() - started

    def kill(self, *arguments: str, after: float) -> None:
        process = subprocess.Popen(
            self._command(arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [sys.executable, "-m", "mmdata", *arguments]


@contextmanager
def run_processes() -> Iterator[Processes]:
    yield Processes()


@pytest.mark.parametrize(
    ("begin", "moments", "seed"),
    [
        pytest.param(run_processes, 2, 0, id="few"),
        # Sixty moments, not in one test: another process would wait for it in the end.
        *(
            pytest.param(run_forks, 20, seed, id=f"many-{seed}", marks=pytest.mark.slow)
            for seed in range(3)
        ),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True], ids=["new", "overwrite"])
def test_a_kill_at_any_moment_leaves_the_old_store_the_new_one_or_none(
    source: str,
    bucket: str,
    begin: Callable[[], AbstractContextManager[Processes | Forks]],
    moments: int,
    seed: int,
    overwrite: bool,
) -> None:
    place = f"s3://{bucket}/store"
    command = ["convert", "llava", source, "-o", place]
    command += ["--overwrite"] if overwrite else []
    old, new = ["r0"], [f"r{number}" for number in range(ROWS)]
    found: list[str] = []
    chance = random.Random(seed)

    with begin() as started:
        longest = started.run(*command[:4], f"{place}2")
        for _ in range(moments):
            if overwrite and found != old:
                convert("llava", source, place, limit=1, overwrite=True)
            started.kill(*command, after=chance.uniform(0.0, 1.0) * longest)
            try:
                found = ids(place)
            except UsageError as error:
                assert not overwrite, error
            except StoreError as error:
                assert "is not a store" in str(error)
                assert not overwrite
            else:
                assert found in ([old, new] if overwrite else [new])
                assert check(place) == []
                if not overwrite:
                    client().delete_object(Bucket=bucket, Key="store/manifest.json")

    convert("llava", source, place, overwrite=True)
    assert ids(place) == new
    assert len(keys(bucket, "store/")) == 3
