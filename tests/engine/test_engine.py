"""Jobs on an engine: results in order, and what becomes of those whose workers are lost."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import mmdata
from mmdata.engine.engine import LostWorkerError, run_jobs
from mmdata.engine.local import LocalEngine
from mmdata.engine.open import open_engine
from mmdata.errors import RecordError, UsageError


@pytest.fixture(scope="module")
def engine() -> Iterator[LocalEngine]:
    with LocalEngine(2) as engine:
        yield engine


def double_late(number: int) -> int:
    time.sleep(0.02 * (number % 3))
    return 2 * number


def refuse(number: int) -> int:
    if number == 1:
        raise RecordError("one is none", reason="malformed")
    return number


def end_once(trace: Path) -> str:
    """End the process, but not that of the next attempt."""
    if not trace.exists():
        trace.touch()
        os.abort()
    return "done"


def end_always(trace: Path) -> None:
    with trace.open("a") as opened:
        opened.write("ended\n")
    os.abort()


def test_results_come_in_the_order_of_the_tasks(engine: LocalEngine) -> None:
    found = list(run_jobs(engine, double_late, [(number,) for number in range(20)]))

    assert found == [2 * number for number in range(20)]


def test_what_one_job_raises_is_its_result_and_the_others_go_on(engine: LocalEngine) -> None:
    first, second, third = run_jobs(engine, refuse, [(0,), (1,), (2,)])

    assert (first, third) == (0, 2)
    assert isinstance(second, RecordError)
    assert str(second) == "one is none"


def test_jobs_that_nobody_waited_for_are_in_nobody_s_way(engine: LocalEngine) -> None:
    given_up = run_jobs(engine, double_late, [(number,) for number in range(4)])
    assert next(given_up) == 0

    assert list(run_jobs(engine, double_late, [(5,), (6,)])) == [10, 12]


@pytest.mark.slow
def test_tasks_are_taken_a_few_ahead_and_no_more(engine: LocalEngine) -> None:
    taken = 0

    def tasks() -> Iterator[tuple[int]]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield (number,)

    results = run_jobs(engine, double_late, tasks())
    for _ in range(5):
        next(results)

    assert taken <= 5 + 3 * engine.workers
    assert all(isinstance(each, int) for each in results)


def test_a_job_whose_worker_was_lost_is_done_once_more(engine: LocalEngine, tmp_path: Path) -> None:
    found = list(run_jobs(engine, end_once, [(tmp_path / "a",), (tmp_path / "b",)]))

    assert found == ["done", "done"]


def test_a_job_that_loses_two_workers_says_how_they_ended(
    engine: LocalEngine, tmp_path: Path
) -> None:
    [found] = run_jobs(engine, end_always, [(tmp_path / "trace",)])

    assert isinstance(found, LostWorkerError)
    assert "SIGABRT" in str(found)
    assert (tmp_path / "trace").read_text() == "ended\n" * 2


def test_no_process_outlives_its_engine() -> None:
    with LocalEngine(2) as engine:
        identities = list(run_jobs(engine, os.getpid, [(), ()]))
        sleeping = engine.submit(time.sleep, 1000)

    assert sleeping
    for identity in identities:
        with pytest.raises(ProcessLookupError):
            os.kill(int(str(identity)), 0)


def test_an_address_is_for_a_cluster_alone() -> None:
    with pytest.raises(UsageError, match="--engine ray"):
        open_engine("local", address="head:6379")


def test_a_name_that_is_of_no_engine_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    """A source that is not split is converted by this process, which opens no engine."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": turns}))
    wrong: Any = "locl"

    with pytest.raises(UsageError, match=r"found 'locl'\. Did you mean 'local'"):
        mmdata.convert("messages", tmp_path / "a.jsonl", tmp_path / "store", engine=wrong)
