"""Checkpoints from any layout to any layout: each process takes its parts of whole arrays, and the
parts that all processes write are the whole arrays again.

No process speaks to another here: the parts of each are made one after the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from models import family_module
from models.checkpoint import open_checkpoint
from models.model import VisionLanguageModel, train_only
from models.parallel import ONE, Layout, ModelGroup
from models.sharding import DataGroup, slice_weights
from models.weights import cast_parameters
from recipes.checkpoints import OPTIMIZER, STATE, TRAINED, Trained, restore, save, write_pieces
from recipes.merge_checkpoint import main, merge_checkpoint
from recipes.optimizers import AdamW
from recipes.sharding import HeldBytes, Shard, count_bytes, shard_training
from tests.models.samples import ALL_FAMILIES, small

pytestmark = pytest.mark.mindspore

LAYOUTS: list[tuple[int, int, Shard, str]] = [
    (2, 1, "none", "float16"),
    (2, 1, "optimizer", "float32"),
    (3, 1, "weights", "float32"),
    (1, 2, "none", "float32"),
    (2, 2, "optimizer", "float16"),
    (3, 2, "weights", "float16"),
]


def make(
    family: str, dtype: str, layout: Layout = ONE, shard: Shard = "none", seed: int = 0
) -> Trained:
    """What one process of a layout trains: all but the tower, with two rates."""
    model = small(family)
    draw(model, seed)
    if layout.model > 1:
        model.divide(ModelGroup(layout.model, layout.model_rank))
    cast_parameters(model, dtype)
    data = DataGroup(layout.data, layout.data_rank, "pair") if layout.data > 1 else None
    if data is not None and shard == "weights":
        slice_weights(model, data)
    names = [name for name, _ in model.parameters_and_names() if not name.startswith("vision")]
    train_only(model, names)

    # Buckets of few numbers, so that there are many, and parameters that lie across processes.
    rates = [0.5 if "layers.0" in name else 1.0 for name in trained_names(model)]
    sharding = shard_training(model, 0.1, rates, layout, data, shard, largest=30_000)
    optimizer = AdamW(sharding.parameters, rates=sharding.rates, decays=sharding.decays)
    return Trained(model, trained_names(model), optimizer, layout, data, sharding.buckets)


def trained_names(model: VisionLanguageModel) -> list[str]:
    return [parameter.name for parameter in model.trainable_params()]


def draw(model: VisionLanguageModel, seed: int) -> None:
    """Other numbers than those the model was made with."""
    rng = np.random.default_rng(seed)
    for parameter in model.get_parameters():
        parameter.set_data(Tensor(rng.normal(size=parameter.shape).astype(np.float32)))


def fill_optimizer(optimizer: AdamW) -> None:
    """Put numbers into the optimizer's memory, as if it had worked."""
    rng = np.random.default_rng(5)
    for parameter in (*optimizer.first, *optimizer.second):
        parameter.set_data(Tensor(rng.normal(size=parameter.shape).astype(np.float32)))
    for master in optimizer.masters:
        master.set_data(master * (1 + 1e-5))  # still rounded to the weight
    optimizer.step.set_data(Tensor(7.0, ms.float32))


def arrays_in(folder: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (array.dtype, array.shape, array.read().tobytes())
        for file in (TRAINED, OPTIMIZER)
        for name, array in open_checkpoint(folder / file).items()
    }


@pytest.mark.slow
@pytest.mark.parametrize(("data", "model", "shard", "dtype"), LAYOUTS)
def test_every_layout_reads_a_whole_checkpoint_and_its_pieces_are_that_checkpoint(
    data: int, model: int, shard: Shard, dtype: str, tmp_path: Path
) -> None:
    check_round(tmp_path, "qwen_vl", dtype, data, model, shard)


@pytest.mark.slow
@ALL_FAMILIES
def test_the_models_of_all_families_go_to_pieces_and_back(family: str, tmp_path: Path) -> None:
    check_round(tmp_path, family, "float16", 2, 2, "weights")


def check_round(folder: Path, family: str, dtype: str, data: int, model: int, shard: Shard) -> None:
    whole = make(family, dtype)
    fill_optimizer(whole.optimizer)
    save(folder / "whole", whole, {"step": 7})

    (folder / "pieces").mkdir()
    for rank in range(data * model):
        one = make(family, dtype, Layout(data, model, rank), shard, seed=1)
        assert restore(folder / "whole", one) == {"step": 7}
        write_pieces(folder / "pieces", one)
    (folder / "pieces" / STATE).write_text('{"step": 7}')

    merge_checkpoint(folder / "pieces", folder / "merged")
    assert arrays_in(folder / "merged") == arrays_in(folder / "whole")
    # From the pieces too, without merging.
    back = make(family, dtype, seed=2)
    assert restore(folder / "pieces", back) == {"step": 7}
    save(folder / "back", back, {})
    assert arrays_in(folder / "back") == arrays_in(folder / "whole")


def test_what_is_missing_of_pieces_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pieces").mkdir()
    for rank in (0, 1):
        write_pieces(tmp_path / "pieces", make("qwen_vl", "float32", Layout(2, 1, rank), "weights"))
    assert main([str(tmp_path / "pieces"), str(tmp_path / "merged")]) == 2
    assert "no state.json in it" in capsys.readouterr().err

    (tmp_path / "pieces" / STATE).write_text("{}")
    next((tmp_path / "pieces").glob("pieces-00001*")).unlink()

    assert main([str(tmp_path / "pieces"), str(tmp_path / "merged")]) == 2
    assert "has the files of 1 of 2 processes" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()


@pytest.mark.parametrize("size", [2, 8])
def test_what_a_process_holds_falls_to_its_share(size: int) -> None:
    alone = held_by(ONE, "none")

    optimizer, weights = (
        held_by(Layout(size, 1, 0), "optimizer"),
        held_by(Layout(size, 1, size - 1), "weights"),
    )

    assert optimizer.weights == alone.weights
    assert optimizer.gradients == pytest.approx(alone.gradients / size, rel=0.1)
    # The weights are float32, so that their masters are spread beside them.
    assert optimizer.optimizer == pytest.approx(alone.optimizer * 1.5 / size, rel=0.1)
    assert weights.weights == pytest.approx(alone.weights / size, rel=0.1)
    assert weights.gradients == pytest.approx(alone.gradients / size, rel=0.1)
    assert weights.optimizer == pytest.approx(alone.optimizer / size, rel=0.1)


def held_by(layout: Layout, shard: Shard) -> HeldBytes:
    """What a process holds of a model whose layers are most of it, as those of large models are."""
    model = wide_model()
    data = DataGroup(layout.data, layout.data_rank, "pair") if layout.data > 1 else None
    if data is not None and shard == "weights":
        slice_weights(model, data)
    rates = [1.0] * len(model.trainable_params())
    sharding = shard_training(model, 0.1, rates, layout, data, shard)
    optimizer = AdamW(sharding.parameters, rates=sharding.rates, decays=sharding.decays)
    return count_bytes(model, optimizer, sharding)


def wide_model() -> VisionLanguageModel:
    language = family_module("llava_next_video").PRESETS["tiny"].language
    wide = replace(language, vocabulary=512, layers=8, mlp=4096)
    return small("llava_next_video", language=wide)


@pytest.mark.slow
def test_the_memory_of_a_process_falls_to_its_share(tmp_path: Path) -> None:
    weights = str(tmp_path / "weights.safetensors")
    hold_in_process(weights, "0")

    alone, optimizer, spread = (
        json.loads(hold_in_process(weights, *each))
        for each in (("1", "none"), ("2", "optimizer"), ("2", "weights"))
    )

    for held in (alone, optimizer, spread):
        assert held["seen"] == pytest.approx(held["counted"], rel=0.1)
    # Weights, masters and two moments, of which the last three are halved, or all.
    assert optimizer["counted"] == pytest.approx(alone["counted"] * 5 / 6, rel=0.01)
    assert spread["counted"] == pytest.approx(alone["counted"] / 2, rel=0.01)


def hold_in_process(*arguments: str) -> str:
    """What a process of its own says that it holds."""
    script = str(Path(__file__).with_name("held_memory.py"))
    done = subprocess.run(
        [sys.executable, script, *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=True,
        capture_output=True,
        text=True,
        timeout=300,
    )
    return done.stdout
