"""Processes that are killed, memory that is full, programs that are interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np
import psutil
import pytest

from examples.synthetic import write_clip
from mmdata.errors import SampleError
from mmdata.pipeline import Batch, Stream
from mmdata.pipeline.decoders import Isolated
from mmdata.pipeline.encode import decode_views
from mmdata.schema import Media
from mmdata.templates import PixelPlan
from tests.pipeline.words import SIDE, Conversations, WordTemplate, broken, mixed, picture, shown

ROOT = Path(__file__).parents[2]


def stream(samples: Conversations, **options: object) -> Stream:
    settings = {"seq_length": 40, "batch_size": 4, "workers": 2, "isolated": True, "shuffle": False}
    return Stream(samples, WordTemplate(), **{**settings, **options})  # type: ignore[arg-type]


def names(batches: list[Batch]) -> list[str]:
    return [name for batch in batches for row in batch.ids for name in row]


Children: TypeAlias = Callable[[], set[psutil.Process]]


@pytest.fixture
def children() -> Children:
    """What returns the processes that this one has more than before the test, but for the one that
    forks workers, which stays, as does the one that a job done here has read media in.
    """
    before = set(psutil.Process().children(recursive=True))

    def started() -> set[psutil.Process]:
        now = set(psutil.Process().children(recursive=True))
        return set(filter(is_at_work, now - before))

    return started


def is_at_work(process: psutil.Process) -> bool:
    try:
        is_ours = process.ppid() == os.getpid()
        return not (is_ours and "serve_forks" in " ".join(process.cmdline()))
    except psutil.Error:  # it has ended
        return False


def shared_memory() -> set[Path]:
    return set(Path("/dev/shm").iterdir())


def left_in_shared_memory(before: set[Path]) -> set[Path]:
    """What is new there, but for what goes away soon: other programs use it too."""
    for _ in range(50):
        if not (new := shared_memory() - before):
            break
        time.sleep(0.1)
    return new


@pytest.mark.slow
def test_batches_of_isolated_decoding_are_the_same_and_its_processes_end(
    children: Children,
) -> None:
    before = shared_memory()

    isolated, plain = list(stream(mixed(24))), list(stream(mixed(24), isolated=False))

    assert [batch["pixel_values"].tobytes() for batch in isolated] == [
        b["pixel_values"].tobytes() for b in plain
    ]
    assert not children()
    assert not left_in_shared_memory(before)


@pytest.mark.slow
def test_isolated_decoding_is_as_fast_or_exact_as_it_is_asked_to_be(tmp_path: Path) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    write_clip(tmp_path / "clip.mp4", iter(frames), rate=5, codec="h264")
    medium = Media("video", str(tmp_path / "clip.mp4"), width=96, height=64)
    plan = PixelPlan(0, "crop", 28, (0, 1))
    expected = {fast: decode_views(medium, plan, fast=fast).tobytes() for fast in (False, True)}

    for fast in (False, True):
        with Isolated(deadline=20, memory=4 << 30, fast=fast) as decode:
            assert decode(medium, plan).tobytes() == expected[fast] != expected[not fast]


@pytest.mark.slow
def test_a_killed_worker_process_is_replaced_and_no_sample_is_lost(children: Children) -> None:
    killing = stream(Conversations(map(shown, range(40))), prefetch=1)

    batches = iter(killing)
    done = list(islice(batches, 2))
    for process in children():
        process.kill()
    done += batches

    assert names(done) == [f"p{n}" for n in range(40)]
    assert killing.state_dict()["left_out"] == {}
    assert not children()


@pytest.mark.slow
def test_after_a_crash_of_the_decoder_the_next_medium_is_decoded(children: Children) -> None:
    plan, medium = PixelPlan(0, "squeeze", SIDE), Media("image", bytes=picture(1))
    with Isolated(deadline=20, memory=4 << 30) as decode:
        expected = decode(medium, plan)
        [process] = children()
        process.send_signal(signal.SIGSEGV)

        assert decode(medium, plan).tobytes() == expected.tobytes()
        [successor] = children()
        assert successor.pid != process.pid


@pytest.mark.slow
def test_leaving_early_ends_all_processes_and_threads_at_once(children: Children) -> None:
    batches = iter(stream(mixed(400)))
    next(batches)
    assert children()

    began = time.monotonic()
    batches.close()  # type: ignore[attr-defined]

    assert not children()
    assert time.monotonic() - began < 3


SCRIPT = textwrap.dedent("""
    import signal, sys, time
    from mmdata.pipeline import Stream, mindspore_dataset
    from tests.pipeline.words import Conversations, WordTemplate, shown

    class Slow(Conversations):
        def located(self, index):
            time.sleep(0.02)
            return self[index]

    # the tests themselves may run where it is ignored
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rows = Slow(map(shown, range(4000)))
    stream = Stream(rows, WordTemplate(), seq_length=40, isolated={isolated}, workers=2)
    source = {source}
    for number, batch in enumerate(source):
        if number == 2:
            print("running", flush=True)
""")
SOURCES = {
    "threads": ("stream", False),
    "processes": ("stream", True),
    "mindspore": ("mindspore_dataset(stream).create_dict_iterator(num_epochs=1)", True),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", ["threads", "processes", pytest.param("mindspore", marks=pytest.mark.mindspore)]
)
@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_or_interrupted_program_leaves_nothing_behind(
    kind: signal.Signals, source: str
) -> None:
    before, (expression, isolated) = shared_memory(), SOURCES[source]
    script = SCRIPT.format(source=expression, isolated=isolated)
    program = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", script],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stdout.readline() == b"running\n"
    workers = psutil.Process(program.pid).children(recursive=True)
    assert bool(workers) == isolated

    program.send_signal(kind)
    _, errors = program.communicate(timeout=30)

    _, left = psutil.wait_procs(workers, timeout=10)
    assert not left
    assert program.returncode != 0
    assert not left_in_shared_memory(before)
    if kind == signal.SIGINT:
        assert b"KeyboardInterrupt" in errors


@pytest.mark.slow
def test_a_full_shared_memory_changes_nothing() -> None:
    """In a mount namespace of its own, with a /dev/shm of one page, where that is allowed."""
    script = textwrap.dedent("""
        from mmdata.pipeline import Stream
        from tests.pipeline.words import WordTemplate, mixed

        open("/dev/shm/full", "wb").write(b"x" * 4096)
        stream = Stream(mixed(40), WordTemplate(), seq_length=40, isolated=True, workers=2)
        print(sum(batch.tokens for batch in stream))
    """)
    mount = "mount -t tmpfs -o size=4k tmpfs /dev/shm"
    command = [
        "unshare",
        "--mount",
        "--map-root-user",
        "sh",
        "-c",
        f'{mount} && exec "$0" -c "$1"',
        sys.executable,
        script,
    ]
    try:
        found = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no unshare here")
    if "unshare" in found.stderr or "mount" in found.stderr:
        pytest.skip(f"mounts of one's own are not allowed here: {found.stderr.strip()}")

    expected = sum(batch.tokens for batch in Stream(mixed(40), WordTemplate(), seq_length=40))

    assert (found.stdout, found.stderr) == (f"{expected}\n", "")


@pytest.mark.slow
def test_a_sample_that_fails_in_its_process_is_named() -> None:
    with pytest.raises(SampleError, match=r"sample 'b2' of pictures \(row 2\)"):
        list(stream(Conversations([shown(0), shown(1), broken(2), shown(3)])))
