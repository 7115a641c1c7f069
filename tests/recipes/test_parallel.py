"""Two processes of msrun, in graph mode, or of the launcher on two nodes, against one; and what is
left when one is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import mmdata
from examples.synthetic import write_coco
from models.checkpoint import open_checkpoint
from recipes import launch
from recipes.checkpoints import complete
from recipes.metrics import read_metrics
from tests import msrun

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]
ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "recipes" / "configs" / "qwen_vl" / "finetune_stage3_tiny.yaml"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    mmdata.convert("llava", [write_coco(folder / "coco")], folder / "pictures")
    return folder / "pictures"


def command(pictures: Path, output: Path, *overrides: str) -> list[str]:
    data = [
        f"data.train={pictures}",
        f"run.output={output}",
        "data.workers=0",
        "run.checkpoint_every=1",
        # So small, a graph of it takes half as long to compile.
        "model.changes={queries: 16, vision: {layers: 1}, language: {layers: 1}}",
    ]
    return ["-m", "recipes.finetune", str(CONFIG), *data, *overrides]


def alone(pictures: Path, output: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start one process on the whole batch."""
    line = [sys.executable, *command(pictures, output, "data.batch_size=4", *overrides)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def in_two(pictures: Path, output: Path, *overrides: str) -> subprocess.Popen[str]:
    """Start msrun with two workers on half the batch each."""
    line = command(pictures, output, "run.parallel=true", *overrides)
    return msrun.start(2, line, output.parent / "log")


def assert_same(ours: Path, theirs: Path) -> None:
    first, second = (open_checkpoint(path / "weights.safetensors") for path in (ours, theirs))
    for name, tensor in first.items():
        np.testing.assert_allclose(tensor.read(), second[name].read(), atol=1e-5, err_msg=name)
    losses = [
        [line["loss"] for line in read_metrics(path / "metrics.jsonl")] for path in (ours, theirs)
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_two_workers_train_as_one(pictures: Path, tmp_path: Path) -> None:
    options = "run.steps=6", "schedule.peak=1e-3"
    jobs = [
        start(pictures, tmp_path / name, *options)
        for start, name in ((alone, "one"), (in_two, "two"))
    ]

    for job in jobs:
        said, _ = job.communicate(timeout=400)
        assert job.returncode == 0, said
    assert_same(tmp_path / "two", tmp_path / "one")


def on_two_nodes(pictures: Path, output: Path, *overrides: str) -> list[subprocess.Popen[str]]:
    """Start the launchers of two nodes, each with a worker on half the batch."""
    master = f"127.0.0.1:{launch.free_port()}"
    line = [sys.executable, "-m", "recipes.launch", "--processes", "2", "--nodes", "2"]
    line += ["--master", master, "--logs", str(output.parent / "logs")]
    recipe = command(pictures, output, *overrides)[2:]
    return [
        subprocess.Popen(
            [*line, "--node-rank", str(rank), "finetune", *recipe],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


def test_two_nodes_train_as_one_process_and_a_killed_worker_ends_both_within_seconds(
    pictures: Path, tmp_path: Path
) -> None:
    options = "run.steps=4", "schedule.peak=1e-3", "run.graph=false"
    one = alone(pictures, tmp_path / "one", *options)
    nodes = on_two_nodes(pictures, tmp_path / "two", *options)
    for job in (one, *nodes):
        said, warned = job.communicate(timeout=400)
        assert job.returncode == 0, f"{said}{warned}"
    assert_same(tmp_path / "two", tmp_path / "one")

    nodes = on_two_nodes(pictures, tmp_path / "cut", *options, "run.steps=400")
    worker = await_worker(nodes[0], tmp_path / "cut")
    os.kill(worker, signal.SIGKILL)
    killed = time.monotonic()
    warnings = [job.communicate(timeout=400)[1] for job in nodes]

    assert time.monotonic() - killed < 30  # within msrun's: the machine may be busy
    assert [job.returncode for job in nodes] == [1, 1]
    assert all("was killed by SIGKILL" in warned for warned in warnings)
    assert sum("error: on node" in warned for warned in warnings) == 1


def await_worker(job: subprocess.Popen[str], output: Path) -> int:
    """The process id of a worker of the job, once there is a checkpoint."""
    end = time.monotonic() + 300
    while not complete(output):
        assert job.poll() is None and time.monotonic() < end, "no checkpoint came"
        time.sleep(0.02)
    found = [int(process.name) for process in Path("/proc").iterdir() if process.name.isdigit()]
    workers = [pid for pid in found if str(output) in command_line(pid) and pid != job.pid]
    return max(pid for pid in workers if "recipes.launch" not in command_line(pid))


def command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
