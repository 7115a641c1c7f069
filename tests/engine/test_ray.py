"""Partitions on a Ray cluster on this machine: the bytes that one process gives."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mmdata.engine.engine import LostWorkerError, run_jobs
from mmdata.engine.open import open_engine
from tests.conversion.test_partitions import SOURCES, Deadly, convert, mixed, write_lines
from tests.engine.test_engine import end_once, refuse
from tests.source_files import record

pytest.importorskip("ray")

# Ray's own files and sockets are left to the collector when it shuts down.
pytestmark = [
    pytest.mark.alone,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_partitions_on_a_cluster_give_the_same_bytes(tmp_path: Path, workers: int) -> None:
    with open_engine("ray", workers=workers) as engine:
        for kind, write in SOURCES.items():
            folder = tmp_path / kind
            folder.mkdir()
            source = write(folder, mixed(60))
            whole = convert(source, tmp_path / "whole")

            for count in (2, 50) if kind == "lines" else (7,):
                found = convert(source, tmp_path / "parts", engine=engine, partitions=count)
                assert found == whole, (kind, count)


def test_a_cluster_outlives_its_workers_and_the_record_that_kills_them_is_the_one_reject(
    tmp_path: Path,
) -> None:
    records = [record(number) for number in range(12)]
    records[5]["note"] = "deadly"
    source = write_lines(tmp_path, records)

    with open_engine("ray", workers=2) as engine:
        assert list(run_jobs(engine, end_once, [(tmp_path / "trace",)])) == ["done"]
        errors = run_jobs(engine, refuse, [(0,), (1,)])
        assert [str(found) for found in errors] == ["0", "one is none"]
        [lost] = run_jobs(engine, os.abort, [()])
        assert isinstance(lost, LostWorkerError)

        found = convert(source, tmp_path / "store", format=Deadly(), engine=engine, partitions=2)

    assert b'"record": 5' in found["rejects.jsonl"]
    assert found["rejects.jsonl"].count(b"\n") == 1
