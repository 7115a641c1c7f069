"""Checkpoints and metrics as files: which are whole,
which are kept, and what a resumed run writes on.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from recipes.checkpoints import checkpoint_folder, complete, prune, publish
from recipes.metrics import Metrics, StepTimer, read_metrics

pytestmark = pytest.mark.mindspore


def checkpoints(output: Path, *steps: int) -> list[Path]:
    folders = [checkpoint_folder(output, step) for step in steps]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def test_checkpoints_come_by_their_steps_and_one_that_was_being_written_is_none(
    tmp_path: Path,
) -> None:
    second, tenth, first = checkpoints(tmp_path, 2, 10, 1)
    (part,) = checkpoints(tmp_path, 11)
    part.rename(part.with_name(part.name + ".part"))

    assert complete(tmp_path) == [first, second, tenth]
    assert complete(tmp_path / "nothing") == []


def test_one_that_is_being_replaced_is_there_at_every_moment(tmp_path: Path) -> None:
    first, second = checkpoints(tmp_path, 1, 2)
    (part,) = checkpoints(tmp_path, 3)
    (part / "new").touch()
    part = part.rename(second.with_name(second.name + ".part"))
    moments = [complete(tmp_path)]

    old = second.rename(second.with_name(second.name + ".old"))
    moments.append(complete(tmp_path))
    publish(part, second)
    moments.append(complete(tmp_path))

    assert moments == [[first, second], [first, old], [first, second]]
    assert (second / "new").exists()
    assert not old.exists()


@pytest.mark.parametrize(
    ("keep", "left"), [(1, [9]), (2, [7, 9]), (3, [5, 7, 9]), (9, [2, 5, 7, 9]), (0, [2, 5, 7, 9])]
)
def test_the_last_checkpoints_are_kept(keep: int, left: list[int], tmp_path: Path) -> None:
    checkpoints(tmp_path, 2, 5, 7, 9)

    prune(tmp_path, keep)

    assert complete(tmp_path) == [checkpoint_folder(tmp_path, step) for step in left]


@pytest.mark.parametrize("done", [0, 1, 3, 5])
def test_a_resumed_run_writes_on_after_the_step_of_its_checkpoint(
    done: int, tmp_path: Path
) -> None:
    file = tmp_path / "metrics.jsonl"
    before = Metrics(file, 0)
    for step in range(1, 6):
        before.write({"step": step, "run": 1})

    after = Metrics(file, done)
    for step in range(done + 1, 7):
        after.write({"step": step, "run": 2})

    assert read_metrics(file) == [
        {"step": step, "run": 1 if step <= done else 2} for step in range(1, 7)
    ]


def test_the_clock_tells_each_step_its_own_time_and_waiting() -> None:
    clock = StepTimer()
    laps = []
    for waited in (0.03, 0.0, 0.03):
        with clock.wait():
            time.sleep(waited)
        time.sleep(0.01)
        laps.append(clock.lap())

    seconds, shares = zip(*laps, strict=True)
    assert seconds[0] >= 0.04 <= seconds[2]
    assert all(0 <= share <= 1 for share in shares)
    assert shares[1] < 0.5 < min(shares[0], shares[2])
