"""Checkpoints of a training run: what trains, the optimizer,
and where everything stands; whole or not at all.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mindspore import Parameter, Tensor

from mmdata.errors import UsageError
from models.checkpoint import open_checkpoint, write_checkpoint
from models.model import VisionLanguageModel
from models.weights import load_weights, save_weights
from recipes.optimizers import AdamW

TRAINED, OPTIMIZER, STATE = "trained.safetensors", "optimizer.safetensors", "state.json"


def save(
    folder: Path, model: VisionLanguageModel, trained: Sequence[str], optimizer: AdamW, state: Any
) -> None:
    """Write a checkpoint beside `folder` and give it that name when it is complete;
    `state` is JSON.
    """
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_weights(model, part / TRAINED, trained)
    moments = optimizer_parameters(optimizer)
    write_checkpoint(
        part / OPTIMIZER, list(moments), (("F32", moment.asnumpy()) for moment in moments.values())
    )
    (part / STATE).write_text(json.dumps(state))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def restore(
    folder: Path, model: VisionLanguageModel, trained: Sequence[str], optimizer: AdamW
) -> Any:
    """Put a checkpoint back; its state comes back.

    Raises:
        UsageError: if another set of parameters was trained.
    """
    moments, stored = optimizer_parameters(optimizer), open_checkpoint(folder / OPTIMIZER)
    known = open_checkpoint(folder / TRAINED).keys()
    if differing := sorted(set(trained) ^ known | moments.keys() ^ stored.keys()):
        raise UsageError(
            f"{folder} trained other parameters than this run ({differing[0]}, …); "
            "choose another output"
        )
    load_weights(model, folder / TRAINED)
    for name, moment in moments.items():
        moment.set_data(Tensor(stored[name].read().copy()))
    return json.loads((folder / STATE).read_text())


def optimizer_parameters(optimizer: AdamW) -> dict[str, Parameter]:
    """The optimizer's memory by name."""
    return {
        parameter.name: parameter
        for parameter in (
            *optimizer.masters,
            *optimizer.first,
            *optimizer.second,
            optimizer.step,
        )
    }


def checkpoint_folder(output: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps is."""
    return output / "checkpoints" / f"step-{step:08d}"


def complete(output: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted(
        path for path in (output / "checkpoints").glob("step-*") if path.suffix != ".part"
    )


def prune(output: Path, keep: int) -> None:
    """Leave the last `keep` checkpoints."""
    for old in complete(output)[:-keep] if keep else []:
        shutil.rmtree(old)
