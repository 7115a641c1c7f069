"""Fine-tuning in two processes that spread the optimizer or the weights, beside one process."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from mmdata.errors import ConfigError
from mmdata.pipeline.collate import COLUMNS
from models.checkpoint import open_checkpoint
from models.sharding import recompute_layers
from recipes import build, finetune
from recipes.checkpoints import complete
from recipes.config import FinetuneConfig, Lora, Model, Parallel, Run
from recipes.metrics import read_metrics
from tests.models.samples import ALL_FAMILIES, batch, sample, small
from tests.recipes.test_divided import run_in_two, start_in_two
from tests.recipes.test_finetune import QWEN, stores
from tests.recipes.test_parallel import command_line

__all__ = ["stores"]

pytestmark = pytest.mark.mindspore

KINDS = {
    "whole": [],
    "staged": ["stage=[resampler]"],
    "lora": ["lora.targets=default", "lora.rank=4", "lora.dropout=0"],
    # Accumulated, clipped, decayed, with rates of their own for layers, at the annealed rate.
    "all": [
        *("run.accumulation=2", "optimizer.clip=0.1", "optimizer.weight_decay=0.1"),
        *("optimizer.layer_scale=true", "optimizer.layer_decay=0.7"),
        *("schedule.name=annealing", "schedule.decay_steps=5"),
    ],
    "recomputed": ["parallel.recompute=true"],
}
SPREAD = {
    name: ["parallel.data=2", f"parallel.shard={name}", "data.batch_size=1"]
    for name in ("none", "optimizer", "weights")
}
DIVIDED = ["parallel.data=1", "parallel.model=2", "data.batch_size=2"]


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    """Leave the other tests the mode they began with."""
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def line(store: Path, output: Path, *options: str) -> list[str]:
    """A run of five steps of a model of two layers."""
    layers = "model.changes={queries: 16, vision: {layers: 1}, language: {layers: 1}}"
    return [
        *("finetune", str(QWEN), f"data.train={store}", "data.workers=0", "run.steps=5"),
        *(layers, "run.graph=false", "schedule.peak=1e-3", "schedule.warmup_steps=0"),
        *("run.checkpoint_every=0", "data.batch_size=2", f"run.output={output}", *options),
    ]


def assert_same(ours: Path, theirs: Path, tolerance: float = 1e-5) -> None:
    """The same losses, norms and weights, and all of them finite."""
    for name in ("loss", "gradient_norm"):
        first, second = (
            [each[name] for each in read_metrics(run / "metrics.jsonl")] for run in (ours, theirs)
        )
        assert len(first) == len(second)
        assert first == pytest.approx(second, abs=10 * tolerance, rel=tolerance)
    trained = "adapter" if (theirs / "adapter.safetensors").exists() else "weights"
    found, expected = (open_checkpoint(run / f"{trained}.safetensors") for run in (ours, theirs))
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_allclose(found[name].read(), tensor.read(), atol=tolerance, err_msg=name)


def check(store: Path, folder: Path, runs: list[tuple[str, str]]) -> str:
    """Train each kind spread as each says, in one start of two processes, and alone."""
    heard = run_in_two(
        folder,
        [line(store, folder / f"{kind}_{way}", *KINDS[kind], *SPREAD[way]) for kind, way in runs],
    )
    for kind in dict.fromkeys(kind for kind, _ in runs):
        alone = line(store, folder / kind, *KINDS[kind])
        assert finetune.main(alone[1:]) == 0
    for kind, way in runs:
        assert_same(folder / f"{kind}_{way}", folder / kind)
    return heard


@pytest.mark.alone
def test_two_processes_with_all_spread_train_as_one(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    heard = check(
        stores["pictures"],
        tmp_path,
        [("all", "optimizer"), ("lora", "weights")],
    )

    assert "AllReduce, as there is no ReduceScatter" in heard
    counted = re.findall(r"the optimizer is spread in (\d+) buckets", heard)
    assert 2 <= int(counted[0]) <= 10


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("kind", KINDS)
def test_every_way_of_spreading_trains_every_kind_as_one_process(
    kind: str, stores: dict[str, Path], tmp_path: Path
) -> None:
    check(stores["pictures"], tmp_path, [(kind, way) for way in SPREAD])


@pytest.mark.slow
@pytest.mark.alone
def test_four_processes_of_which_two_hold_a_model_and_two_share_slices_train_as_one(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    square = ["parallel.data=2", "parallel.model=2", "data.batch_size=1"]
    ways = ("optimizer", "weights")
    store = stores["pictures"]

    run_in_two(
        tmp_path,
        [line(store, tmp_path / way, *square, f"parallel.shard={way}") for way in ways],
        count=4,
    )
    assert finetune.main(line(store, tmp_path / "one")[1:]) == 0

    for way in ways:
        assert_same(tmp_path / way, tmp_path / "one")


@pytest.mark.slow
@pytest.mark.alone
def test_a_run_goes_on_in_any_layout_from_the_checkpoint_of_any(
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
    steady = ["schedule.name=constant", "run.checkpoint_every=1"]
    count = len(layouts)

    run_in_two(
        tmp_path,
        [
            line(
                stores["pictures"],
                tmp_path / "changed",
                *(*steady, *layout, f"run.steps={step}", "run.resume=true"),
            )
            for step, layout in enumerate(layouts, 1)
        ],
    )
    alone = line(stores["pictures"], tmp_path / "one", *steady, f"run.steps={count}")
    assert finetune.main(alone[1:]) == 0

    assert_same(tmp_path / "changed", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("way", ["optimizer", "weights"])
def test_a_run_whose_process_was_killed_goes_on_to_the_same_weights(
    way: str, stores: dict[str, Path], tmp_path: Path
) -> None:
    options = [*SPREAD[way], "run.checkpoint_every=1", "run.keep=2", "run.steps=12"]
    ours = line(stores["pictures"], tmp_path / "cut", *options, "run.resume=true")
    alone = line(stores["pictures"], tmp_path / "one", "run.steps=12")

    job = start_in_two(tmp_path, [ours])
    os.kill(await_worker(job, tmp_path), signal.SIGKILL)
    job.communicate(timeout=400)
    assert job.returncode != 0 or (tmp_path / "cut" / "weights.safetensors").exists()
    assert complete(tmp_path / "cut")
    run_in_two(tmp_path, [ours])

    assert finetune.main(alone[1:]) == 0
    assert_same(tmp_path / "cut", tmp_path / "one")


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
