"""Fine-tuning in processes that hold a model together, or spread the optimizer or the weights,
beside one process.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from itertools import combinations, product
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from mmdata.errors import ConfigError
from mmdata.pipeline.collate import COLUMNS
from models import FAMILIES
from models.checkpoint import open_checkpoint
from models.sharding import recompute_layers
from recipes import build, finetune
from recipes.checkpoints import complete
from recipes.config import FinetuneConfig, Lora, Model, Parallel, Run
from recipes.metrics import read_metrics
from tests.models.samples import ALL_FAMILIES, batch, sample, small
from tests.recipes import grid
from tests.recipes.test_divided import run_in_two, start_in_two
from tests.recipes.test_finetune import QWEN, stores
from tests.recipes.test_parallel import command_line

__all__ = ["stores"]

pytestmark = pytest.mark.mindspore

SPREAD = {
    name: ["parallel.data=2", f"parallel.shard={name}", "data.batch_size=1"]
    for name in ("none", "optimizer", "weights")
}
DIVIDED = ["parallel.data=1", "parallel.model=2", "data.batch_size=2"]
LAST = 8  # the step up to which a run is killed


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    """Leave the other tests the mode they began with."""
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.slow
def test_families_train_and_answer_in_all_layouts_as_in_one_process(tmp_path: Path) -> None:
    cells = grid.covering_cells()

    found = grid.run_grid(cells, tmp_path, timeout=500)

    assert found.keys() == set(cells)
    assert not {cell: difference for cell, difference in found.items() if not difference.small}


def test_in_the_few_cells_of_the_grid_every_value_meets_every_other() -> None:
    cells = [{"sides": (cell.data, cell.model), **asdict(cell)} for cell in grid.covering_cells()]
    choices = {
        "sides": grid.SIDES[1:],
        "kind": grid.KINDS,
        "shard": grid.SHARDS,
        "recompute": (False, True),
    }

    for first, second in combinations(choices, 2):
        met = {(cell[first], cell[second]) for cell in cells}
        assert met == set(product(choices[first], choices[second])), (first, second)
    spread = [cell for cell in cells if cell["data"] == 2]
    assert {(cell["kind"], cell["shard"]) for cell in spread} == set(
        product(grid.KINDS, grid.SHARDS)
    )
    for side in ("data", "model"):
        assert {cell["family"] for cell in cells if cell[side] == 2} == set(FAMILIES)


def test_a_difference_that_is_not_a_number_is_not_small() -> None:
    assert grid.Difference(1e-6, 1e-6, 1e-6).small
    assert not grid.Difference(float("nan")).small
    assert not grid.Difference(answers=1).small


def line(store: Path, output: Path, *options: str) -> list[str]:
    """A run of a model of a layer: accumulated, clipped, decayed, with rates of their own for
    layers, at a rate that does not hang on the number of its steps.
    """
    layers = "model.changes={queries: 16, vision: {layers: 1}, language: {layers: 1}}"
    return [
        *("finetune", str(QWEN), f"data.train={store}", "data.workers=0", layers),
        *("run.graph=false", "run.accumulation=2", "data.batch_size=2", "run.checkpoint_every=1"),
        *("optimizer.clip=0.1", "optimizer.weight_decay=0.1", "optimizer.layer_scale=true"),
        *("optimizer.layer_decay=0.7", "schedule.name=annealing", "schedule.decay_steps=20"),
        *("schedule.peak=1e-3", "schedule.warmup_steps=0", f"run.output={output}", *options),
    ]


@pytest.mark.slow
def test_a_run_whose_process_was_killed_goes_on_in_any_layout_to_the_same_weights(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    layouts = [
        SPREAD["optimizer"],
        DIVIDED,
        SPREAD["weights"],
        [*SPREAD["optimizer"], "run.checkpoint_pieces=true"],
        [*DIVIDED, "run.checkpoint_pieces=true"],
        [*SPREAD["weights"], "run.checkpoint_pieces=true"],
        SPREAD["none"],
    ]
    cut, one = tmp_path / "cut", tmp_path / "one"
    runs = [
        line(stores["pictures"], cut, *layout, f"run.steps={steps}", "run.resume=true")
        for steps, layout in enumerate(layouts, LAST)
    ]
    alone = line(stores["pictures"], one, f"run.steps={LAST + len(layouts) - 1}")

    job = start_in_two(tmp_path, runs[:1])
    os.kill(await_worker(job, tmp_path), signal.SIGKILL)
    said, _ = job.communicate(timeout=400)
    if not (cut / "weights.safetensors").exists():  # it was killed before the end
        assert job.returncode != 0
        assert "exit" in said.lower() or "fail" in said.lower(), said
    heard = run_in_two(tmp_path, runs)
    assert finetune.main(alone[1:]) == 0

    assert_same(cut, one)
    again = re.findall(rf"steps (\d+) to {LAST}\n", heard)
    assert int(again[0]) > 2  # it has not begun anew
    assert "AllReduce, as there is no ReduceScatter" in heard
    counted = re.findall(r"the optimizer is spread in (\d+) buckets", heard)
    assert counted
    assert all(2 <= int(count) <= 10 for count in counted)


def assert_same(ours: Path, theirs: Path, tolerance: float = 1e-5) -> None:
    """The same losses, norms and weights, and all of them finite."""
    for name in ("loss", "gradient_norm"):
        first, second = (
            [each[name] for each in read_metrics(run / "metrics.jsonl")] for run in (ours, theirs)
        )
        assert len(first) == len(second)
        assert first == pytest.approx(second, abs=10 * tolerance, rel=tolerance)
    found, expected = (open_checkpoint(run / "weights.safetensors") for run in (ours, theirs))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name].read(), tensor.read(), atol=tolerance, err_msg=name)


def await_worker(job: subprocess.Popen[str], folder: Path) -> int:
    """The process id of a worker of the job, once it has written a checkpoint or two."""
    end = time.monotonic() + 300
    while len(complete(folder / "cut")) < 2:
        assert job.poll() is None and time.monotonic() < end, "no checkpoint came"
        time.sleep(0.02)
    found = [int(process.name) for process in Path("/proc").iterdir() if process.name.isdigit()]
    asked = str(folder / "lines.json")
    return max(pid for pid in found if pid != job.pid and asked in command_line(pid))


@ALL_FAMILIES
def test_recomputed_layers_have_the_same_gradients(family: str) -> None:
    found = []
    for recomputed in (False, True):
        model = small(family)
        model.set_train(True)
        if recomputed:
            assert recompute_layers(model) >= 2
        inputs = batch(model, [[sample(model, 3)]], 64)
        arrays = [inputs[name] for name in (*COLUMNS, "media_layout") if name in inputs]
        # Of the model itself: what is recomputed cannot be found through a function around it.
        gradient = ms.value_and_grad(model, None, model.trainable_params())
        loss, gradients = gradient(*arrays)
        found.append((float(loss), [each.asnumpy() for each in gradients]))

    assert found[0][0] == found[1][0]
    for plain, again in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(plain, again)


def test_recomputing_what_drops_at_random_is_refused_where_it_would_be_wrong() -> None:
    config = FinetuneConfig(
        model=Model(family="qwen_vl"),
        lora=Lora(targets="default"),
        parallel=Parallel(recompute=True),
        run=Run(graph=False),
    )

    with pytest.raises(ConfigError, match=r"a lora.dropout of 0.05 gives wrong gradients"):
        build.recompute(small("qwen_vl"), config)
