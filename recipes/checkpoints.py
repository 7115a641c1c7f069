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
from models.checkpoint import open_checkpoint
from models.model import VisionLanguageModel
from models.parallel import cuts_of, group_of
from models.weights import join_if_divided, load_weights, save_weights, write_together
from recipes.optimizers import AdamW

TRAINED, OPTIMIZER, STATE = "trained.safetensors", "optimizer.safetensors", "state.json"


def save(
    folder: Path, model: VisionLanguageModel, trained: Sequence[str], optimizer: AdamW, state: Any
) -> None:
    """Write a checkpoint beside `folder` and give it that name when it is complete;
    `state` is JSON.

    Of a divided model, all processes of the group call this together.
    """
    part, group = folder.with_name(folder.name + ".part"), group_of(model)
    if group.rank == 0:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    save_weights(model, part / TRAINED, trained)
    moments = optimizer_parameters(optimizer)
    arrays = (
        ("F32", join_if_divided(moment.asnumpy(), parameter_of(name), model))
        for name, moment in moments.items()
    )
    write_together(part / OPTIMIZER, list(moments), arrays, group)
    if group.rank == 0:
        (part / STATE).write_text(json.dumps(state))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)


def parameter_of(name: str) -> str:
    """The parameter that a part of the optimizer's memory belongs to."""
    return name.removeprefix("optimizer.").partition(".")[2]


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
    cuts, rank = cuts_of(model), group_of(model).rank
    for name, moment in moments.items():
        array, cut = stored[name].read(), cuts.get(parameter_of(name))
        moment.set_data(Tensor((array if cut is None else cut.take(array, rank)).copy()))
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
