"""What hangs, crashes or eats memory costs one job, and nothing outlives the run."""

from __future__ import annotations

import atexit
import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mmdata.engine import local as isolate
from mmdata.engine.engine import LostWorkerError, run_jobs
from mmdata.errors import MediaError, UsageError, VideoError


@pytest.fixture
def pool() -> Iterator[isolate.Pool]:
    with isolate.Pool(deadline=1.0, memory=1 << 30) as pool:
        yield pool


def test_a_job_gives_back_its_result(pool: isolate.Pool) -> None:
    assert pool.run(divmod, 17, 5) == (3, 2)


def test_what_a_job_raises_is_raised_here(pool: isolate.Pool) -> None:
    with pytest.raises(ZeroDivisionError):
        pool.run(divmod, 1, 0)


def test_a_fault_of_the_system_is_no_limit(pool: isolate.Pool) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        pool.run(os.stat, "/nowhere")


def test_an_error_keeps_its_fields_across_the_border(pool: isolate.Pool) -> None:
    with pytest.raises(VideoError, match="cut short") as caught:
        pool.run(_cut_short, 7)

    assert caught.value.frames_read == 7
    assert caught.value.path == "clip.mp4"


def test_the_traceback_of_an_errors_cause_comes_across_the_border(pool: isolate.Pool) -> None:
    with pytest.raises(VideoError, match="cut short") as caught:
        pool.run(_cut_short, 7, ValueError("as it was written"))

    trace = str(caught.value.__cause__)
    assert "in _refuse" in trace
    assert trace.endswith("ValueError: as it was written")


def test_an_error_without_a_cause_has_none_across_the_border(pool: isolate.Pool) -> None:
    with pytest.raises(VideoError) as caught:
        pool.run(_cut_short, 7)

    assert caught.value.__cause__ is None


def test_a_job_that_sleeps_for_ever_meets_its_deadline(pool: isolate.Pool) -> None:
    began = time.monotonic()

    with pytest.raises(MediaError, match="no result within 1 seconds") as caught:
        pool.run(time.sleep, 1e6)

    assert caught.value.reason == "media_limit"
    assert time.monotonic() - began < 5


def test_a_job_that_aborts_costs_itself_alone(pool: isolate.Pool) -> None:
    with pytest.raises(MediaError, match="SIGABRT") as caught:
        pool.run(os.abort)

    assert caught.value.reason == "unreadable_media"
    assert pool.run(len, "next") == 4


def test_a_job_that_reads_address_zero_costs_itself_alone(pool: isolate.Pool) -> None:
    with pytest.raises(MediaError, match="SIGSEGV"):
        pool.run(ctypes.string_at, 0)


def test_a_job_that_exits_is_told_with_its_status(pool: isolate.Pool) -> None:
    with pytest.raises(MediaError, match="exit status 3"):
        pool.run(os._exit, 3)


def test_one_huge_allocation_meets_the_memory_cap(pool: isolate.Pool) -> None:
    with pytest.raises(MediaError, match="memory") as caught:
        pool.run(bytearray, 1 << 36)

    assert caught.value.reason == "media_limit"


def test_allocating_without_end_meets_the_memory_cap() -> None:
    with isolate.Pool(deadline=30, memory=64 << 20) as pool:
        with pytest.raises(MediaError, match="memory") as caught:
            pool.run(_fill_memory)

        assert caught.value.reason == "media_limit"
        assert pool.run(len, "next") == 4


def test_memory_in_which_no_process_can_start_is_a_fault_of_the_call() -> None:
    with isolate.Pool(memory=4096) as pool, pytest.raises(UsageError, match="--memory"):
        pool.run(len, "four")


def test_memory_may_be_more_than_any_machine_has() -> None:
    with isolate.Pool(memory=1 << 80) as pool:
        assert pool.run(len, "four") == 4


def _parents_and_threads() -> tuple[int, int]:
    """Return which process this one was forked from, and how many threads that has."""
    return os.getppid(), len(os.listdir(f"/proc/{os.getppid()}/task"))  # noqa: PTH208


def test_workers_are_forked_from_one_process_that_has_no_other_thread() -> None:
    with isolate.Pool(2, deadline=10) as pool, isolate.LocalEngine() as engine:
        [parent] = set(pool.map(_parents_and_threads, [()] * 4))
        list(pool.map(np.zeros, [(2,), (2,)]))
        outcomes = list(run_jobs(engine, _parents_and_threads, [()]))

    assert isinstance(parent, tuple)
    assert parent[1] == 1
    assert outcomes == [parent]


def _ask_another(folder: Path) -> tuple[int, int]:
    os.chdir(folder)
    with isolate.lend_pool(deadline=10, memory=1 << 30) as pool:
        return os.getppid(), pool.run(os.getppid)


def test_the_workers_of_a_worker_are_forked_from_the_same_process(tmp_path: Path) -> None:
    with isolate.LocalEngine() as engine:
        [[parent, other]] = run_jobs(engine, _ask_another, [(tmp_path,)])  # type: ignore[misc]

    assert parent == other


def test_a_worker_stands_where_its_parent_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):  # the process that it is forked from has begun before
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        monkeypatch.setenv("MMDATA_NUMBER", str(number))
        monkeypatch.delenv(f"MMDATA_NOT_{number}", raising=False)
        with isolate.Pool() as pool:
            assert pool.run(os.getcwd) == str(folder)
            assert pool.run(os.getenv, "MMDATA_NUMBER") == str(number)
            assert pool.run(os.getenv, f"MMDATA_NOT_{number}") is None
        monkeypatch.setenv("MMDATA_NOT_1", "here for the first alone")
        folder.rmdir()


def test_what_a_worker_prints_goes_where_its_parent_prints(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with isolate.Pool() as pool:
        pool.run(os.write, 1, b"a word")
        pool.run(os.write, 2, b"another")

    assert capfd.readouterr() == ("a word", "another")


def test_workers_are_forked_by_another_process_where_the_first_is_gone() -> None:
    with isolate.Pool(2, deadline=10) as pool:
        first = pool.run(os.getppid)
        os.kill(first, signal.SIGKILL)
        assert _gone_within(first, seconds=5)

    with isolate.Pool(deadline=10) as pool:
        assert pool.run(os.getppid) != first


def test_a_fork_of_the_parent_ends_nobody_as_it_exits() -> None:
    with isolate.Pool(deadline=10) as pool:
        first = pool.run(os.getppid)
        child = os.fork()
        if not child:
            atexit._run_exitfuncs()
            os._exit(0)
        os.waitpid(child, 0)
        worker = pool.run(os.getpid)
        os.kill(worker, signal.SIGKILL)
        _await_reaping(worker)

        assert pool.run(os.getppid) == first


def test_what_a_process_needs_to_start_counts_for_no_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(0.5)")
    monkeypatch.syspath_prepend(str(tmp_path))

    with isolate.Pool(deadline=0.4) as pool:
        assert pool.run(len, "four") == 4


def test_a_process_that_does_not_start_is_no_fault_of_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What `site` lets no process survive.
    (tmp_path / "sitecustomize.py").write_text("import os\nos._exit(7)")
    monkeypatch.syspath_prepend(str(tmp_path))

    with isolate.Pool() as pool, pytest.raises(RuntimeError, match="at its start with status 7"):
        pool.run(len, "four")
    with isolate.LocalEngine() as engine:
        engine.submit(len, "four")
        assert isinstance(engine.next_result()[1], LostWorkerError)


def test_results_come_in_the_order_of_the_arguments() -> None:
    delays = [0.2, 0.0, 0.1, 0.0, 0.0, 0.05]

    with isolate.Pool(2, deadline=10) as pool:
        results = list(pool.map(_slow, [(delay, number) for number, delay in enumerate(delays)]))

    assert results == list(range(len(delays)))


@pytest.mark.slow
def test_one_bad_job_among_many_costs_one_result() -> None:
    arguments = [(0.0, 0), (1e6, 1), (0.0, 2), (0.0, 3)]

    with isolate.Pool(2, deadline=1) as pool:
        results = list(pool.map(_slow, arguments))

    assert [isinstance(result, MediaError) for result in results] == [False, True, False, False]


def test_arguments_are_taken_only_a_little_ahead_of_the_results() -> None:
    taken: deque[int] = deque()

    def numbered() -> Iterator[tuple[int]]:
        for number in itertools.count():
            taken.append(number)
            yield (-number,)

    with isolate.Pool(deadline=10) as pool:
        results = pool.map(abs, numbered())
        assert [next(results) for _ in range(10)] == list(range(10))

    assert len(taken) < 40


def test_a_worker_runs_only_a_little_ahead_of_one_that_is_slow() -> None:
    taken: deque[int] = deque()

    def arguments() -> Iterator[tuple[float, int]]:
        for number in range(200):
            taken.append(number)
            yield 0.5 * (number == 0), number

    with isolate.Pool(2, deadline=10) as pool:
        results = pool.map(_slow, arguments())

        assert next(results) == 0
        assert len(taken) <= 8
        assert list(results) == list(range(1, 200))


def _who_decodes(fails: bool) -> int:
    with isolate.lend_pool(deadline=10, memory=1 << 30) as pool:
        found = pool.run(os.getpid)
        if fails:
            raise ValueError(found)
        return found


def test_the_jobs_of_a_worker_share_a_pool_until_one_is_cut_off() -> None:
    with isolate.LocalEngine() as engine:
        outcomes = list(run_jobs(engine, _who_decodes, [(False,), (False,), (True,), (False,)]))

    first, second, cut_off, last = outcomes
    assert isinstance(cut_off, ValueError)
    assert first == second == cut_off.args[0] != last


def test_a_worker_goes_on_with_the_next_job_while_nobody_takes_its_answer(tmp_path: Path) -> None:
    places = [tmp_path / str(number) for number in range(3)]

    with isolate.Pool(1, deadline=10) as pool:
        results = pool.map(Path.touch, [(place,) for place in places])
        next(results)  # before the last was given to the worker, were it one at a time

        end = time.monotonic() + 10
        while not places[2].exists() and time.monotonic() < end:
            time.sleep(0.01)
        assert places[2].exists()


def _sleep(seconds: float, _: bytes) -> float:
    time.sleep(seconds)
    return seconds


def _who_sleeps(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 10 << 20])
def test_a_job_behind_one_that_hangs_is_done_by_another_process(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(isolate, "_GRACE", 1000.0)  # the kernel does not help
    waiting = [(seconds, bytes(size)) for seconds in (0.0, 60.0, 0.1)]

    with isolate.Pool(1, deadline=0.7) as pool:
        first, hung, last = pool.map(_sleep, waiting)

    assert (first, last) == (0.0, 0.1)
    assert isinstance(hung, MediaError)
    assert hung.reason == "media_limit"


def test_a_job_that_hangs_while_nobody_looks_met_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolate, "_GRACE", 0.1)

    with isolate.Pool(1, deadline=0.3) as pool:
        results = pool.map(_who_sleeps, [(0.0,), (0.0,), (60.0,)])
        process = next(results)
        assert isinstance(process, int)
        assert _gone_within(process, seconds=20)  # the kernel has ended it
        hung = list(results)[-1]

    assert isinstance(hung, MediaError)
    assert (hung.reason, "within 0.3 seconds" in str(hung)) == ("media_limit", True)


@pytest.mark.slow
def test_a_job_that_was_late_while_nobody_looked_is_late() -> None:
    with isolate.Pool(1, deadline=0.5) as pool:
        results = pool.map(_who_sleeps, [(0.0,), (0.8,), (0.0,)])
        process = next(results)

        time.sleep(1.6)  # its answer is there
        late, after = results

    assert isinstance(late, MediaError)
    assert (late.reason, "within 0.5 seconds" in str(late)) == ("media_limit", True)
    assert after == process  # which had ended the job, and went on


class _Counted:
    """Tells in the end how often it was unpickled in a process."""

    times = 0

    def __reduce__(self) -> tuple[type[_Unpickled], tuple[()]]:
        return _Unpickled, ()


class _Unpickled(_Counted):
    def __init__(self) -> None:
        _Counted.times += 1


def _times_unpickled(shared: _Counted, _: int) -> int:
    return shared.times


def test_a_worker_reads_once_what_all_jobs_have_in_common() -> None:
    with isolate.Pool(deadline=10) as pool:
        arguments = [(number,) for number in range(20)]
        job = partial(_times_unpickled, _Counted())
        for run in (1, 2):  # what is behind it may be another by then
            assert list(pool.map(job, arguments)) == [run] * 20


def test_a_worker_of_an_engine_reads_once_what_all_jobs_have_in_common() -> None:
    arguments = [(number,) for number in range(20)]

    with isolate.LocalEngine() as engine:
        for run in (1, 2):
            job = partial(_times_unpickled, _Counted())
            assert list(run_jobs(engine, job, arguments)) == [run] * 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("workers", "seconds", "size", "most"),
    [(1, 0.0, 10, 16), (1, 0.15, 10, 2), (1, 0.0, 40_000, 2), (2, 0.0, 10, 6), (2, 0.03, 10, 2)],
)
def test_a_worker_has_several_jobs_in_hand_if_they_are_short_and_small(
    workers: int, seconds: float, size: int, most: int
) -> None:
    count = 10 if seconds else 500
    in_hand = []

    with isolate.Pool(workers, deadline=10) as pool:

        def arguments() -> Iterator[tuple[float, bytes]]:
            for _ in range(count):
                in_hand.append(min(worker.jobs for worker in pool._workers) + 1)
                yield seconds, bytes(size)

        assert list(pool.map(_sleep, arguments())) == [seconds] * count

    assert max(in_hand) <= most
    assert (max(in_hand) > 2) is (most > 2)


def test_workers_are_used_again() -> None:
    with isolate.Pool(deadline=10) as pool:
        assert len(set(pool.map(os.getpid, [()] * 50))) == 1


def test_a_worker_that_was_idle_longer_than_its_deadline_does_its_next_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that the kernel's alarm, were it still set, would come soon.
    monkeypatch.setattr(isolate, "_GRACE", 0.1)
    with isolate.Pool(deadline=0.2) as pool:
        worker = pool.run(os.getpid)

        time.sleep(0.5)

        assert pool.run(os.getpid) == worker


def test_the_hundredth_job_of_a_worker_has_the_deadline_and_the_reason_of_the_first() -> None:
    with isolate.Pool(deadline=0.5) as pool:
        first = _cut_off(pool)
        assert list(pool.map(abs, [(number,) for number in range(98)])) == list(range(98))
        hundredth = _cut_off(pool)

    assert hundredth.text == first.text
    assert first.text.startswith("no result within 0.5 seconds; raise deadline (--deadline, ")
    assert hundredth.reason == first.reason == "media_limit"
    assert 0.5 <= hundredth.seconds < 3


def test_a_deadline_may_be_years() -> None:
    with isolate.Pool(deadline=1e9) as pool:
        assert list(pool.map(len, [("one",), ("three",)])) == [3, 5]


@pytest.mark.slow
def test_a_job_has_the_deadline_that_its_arguments_give_it() -> None:
    delays = [(0.5, 1), (0.0, 2), (1e6, 3), (0.5, 4)]

    with isolate.Pool(deadline=0.2) as pool:
        results = list(pool.map(_slow, delays, deadline_of=_five_seconds_of_even))

    assert [isinstance(result, MediaError) for result in results] == [True, False, True, False]
    assert "no result within 0.2 seconds" in str(results[0])
    assert results[1::2] == [2, 4]


def _five_seconds_of_even(delay: float, number: int) -> float:
    return 0.2 if number % 2 else 5.0


def test_one_job_alone_may_have_a_deadline_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that the kernel's alarm, were it that of the pool, would come first.
    monkeypatch.setattr(isolate, "_GRACE", 0.1)
    with isolate.Pool(deadline=0.2) as pool:
        assert pool.run(_slow, 0.6, 7, deadline=5.0) == 7


def test_an_answer_that_waits_to_be_taken_is_not_late() -> None:
    with isolate.Pool(deadline=0.2) as pool:
        results = pool.map(abs, [(-1,), (-2,)])
        taken = [next(results)]

        time.sleep(0.4)

        assert [*taken, *results] == [1, 2]


def hold_the_interpreter() -> None:
    """Go round in C for ever: no other thread, and no handler of a signal, gets its turn."""
    deque(itertools.repeat(0), 0)


def test_the_kernel_ends_a_job_that_holds_the_interpreter_and_that_no_parent_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(isolate, "_GRACE", 0.1)
    with isolate.Pool(deadline=0.2) as pool:
        identity = pool.run(os.getpid)
        [worker] = pool._workers

        worker.begin(isolate._Shared.of(0, hold_the_interpreter), ())  # and nobody waits for it

        assert _gone_within(identity, seconds=5)


def test_workers_are_gone_after_the_pool() -> None:
    with isolate.Pool(2, deadline=10) as pool:
        identities = set(pool.map(os.getpid, [()] * 20))

    assert all(isinstance(identity, int) and not _alive(identity) for identity in identities)


PARENT = """
import os, sys, time
from mmdata.engine import local as isolate
from mmdata.engine.engine import LostWorkerError, run_jobs
pool = isolate.Pool(deadline=60)
print(pool.run(os.getpid), flush=True)
pool.run(time.sleep, 60)
"""


@pytest.mark.slow
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_worker_in_the_middle_of_a_job_does_not_outlive_its_parent(
    ending: signal.Signals,
) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert parent.stdout is not None
    with parent.stdout:
        worker = int(parent.stdout.readline())
        assert _alive(worker)

        parent.send_signal(ending)
        parent.wait()

    assert _gone_within(worker, seconds=5)


def test_a_process_that_dies_with_nothing_to_do_costs_no_job() -> None:
    with isolate.Pool() as pool:
        idle = pool.run(os.getpid)
        os.kill(idle, signal.SIGKILL)
        _await_reaping(idle)

        assert pool.run(len, "four") == 4
        assert pool.run(os.getpid) != idle


def test_importing_the_room_is_light() -> None:
    code = "import sys, mmdata.engine.local; print('numpy' in sys.modules or 'av' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "False\n"
    )


@dataclass(frozen=True)
class _CutOff:
    text: str
    reason: str
    seconds: float


def _cut_off(pool: isolate.Pool) -> _CutOff:
    """Let a job meet the deadline, and return how it was told."""
    began = time.monotonic()
    with pytest.raises(MediaError) as caught:
        pool.run(time.sleep, 3)
    return _CutOff(str(caught.value), caught.value.reason, time.monotonic() - began)


def _refuse(error: Exception) -> None:
    raise error


def _cut_short(frames_read: int, why: Exception | None = None) -> None:
    cut = VideoError("cut short", path="clip.mp4", frames_read=frames_read)
    if why is None:
        raise cut
    try:
        _refuse(why)
    except Exception as cause:
        raise cut from cause


def _fill_memory() -> None:
    list(itertools.repeat(0))


def _slow(delay: float, number: int) -> int:
    time.sleep(delay)
    return number


def _alive(identity: int) -> bool:
    try:
        os.kill(identity, 0)
    except ProcessLookupError:
        return False
    return "Z" not in _state(identity)


def _state(identity: int) -> str:
    try:
        with open(f"/proc/{identity}/stat") as stat:  # noqa: PTH123
            return stat.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def _await_reaping(identity: int) -> None:
    """Return when all threads of a process have ended, and who forked it has taken note."""
    with pytest.raises(ProcessLookupError):
        for _ in range(1000):
            os.kill(identity, 0)
            time.sleep(0.01)


def _gone_within(identity: int, *, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while _alive(identity):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True
