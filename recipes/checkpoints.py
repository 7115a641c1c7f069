"""Checkpoints of a training run: what trains, the optimizer,
and where everything stands; whole or not at all.

They hold whole arrays, whatever the processes hold, or, written by all processes at once, pieces
of them (`recipes.merge_checkpoint` joins these). A run in any layout goes on from either.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import mindspore as ms
from mindspore import Parameter, Tensor
from numpy.typing import NDArray

from mmdata.errors import UsageError
from models.checkpoint import (
    FLOATS,
    convert_dtype,
    open_checkpoint,
    read_metadata,
    write_checkpoint,
)
from models.held import (
    Held,
    Piece,
    Pieced,
    Stored,
    fill_held,
    held_weights,
    own_pieces,
    read_own,
    write_held,
)
from models.model import VisionLanguageModel
from models.parallel import ONE, Cut, Layout
from models.sharding import DataGroup, kept_types
from models.weights import fill_weights, save_weights
from recipes.buckets import Bucket
from recipes.optimizers import AdamW
from recipes.sharding import SumOver

TRAINED, OPTIMIZER, STATE = "trained.safetensors", "optimizer.safetensors", "state.json"
PREFIX = "optimizer."  # how the names of its arrays begin
MASTER = f"{PREFIX}master."
PIECES = "pieces"  # what the head of a file says of them


@dataclass(frozen=True, eq=False)
class Trained:
    """What a checkpoint is of: a model, the names of the parameters that train, their optimizer,
    and what this process holds of them (`buckets` as in `recipes.sharding.Sharding`).
    """

    model: VisionLanguageModel
    names: Sequence[str]
    optimizer: AdamW
    layout: Layout = ONE
    data: DataGroup | None = None
    buckets: Sequence[Bucket] | None = None


def save(folder: Path, trained: Trained, state: Any, *, pieces: bool = False) -> None:
    """Write a checkpoint beside `folder` and give it that name when it is complete;
    `state` is JSON.

    All processes call this together. The first one writes, or with `pieces` each what it holds.
    """
    part = folder.with_name(folder.name + ".part")
    if trained.layout.rank == 0:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
    wait_for_all(trained.layout)

    if pieces:
        write_pieces(part, trained)
    else:
        write_whole(part, trained)
    wait_for_all(trained.layout)

    if trained.layout.rank == 0:
        (part / STATE).write_text(json.dumps(state))
        publish(part, folder)


def publish(part: Path, folder: Path) -> None:
    """Give a complete folder its name; at every moment the old one or the new one is there, if need
    be as `.old`.
    """
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def wait_for_all(layout: Layout) -> None:
    """Return when every process of the layout has come here."""
    if layout.size > 1:
        from mindspore.communication import GlobalComm

        float(SumOver(str(GlobalComm.WORLD_COMM_GROUP))(Tensor(0.0, ms.float32)))


def write_whole(folder: Path, trained: Trained) -> None:
    """Gather everything and write it, by the first process."""
    held, writes = held_optimizer(trained), trained.layout.rank == 0
    save_weights(trained.model, folder / TRAINED, trained.names, writes=writes)
    write_held(folder / OPTIMIZER, held, dict.fromkeys(held, "float32"), writes=writes)


def write_pieces(folder: Path, trained: Trained) -> None:
    """Write what this process holds and is the one to write, as flat arrays; what they are of is in
    the head of the file.
    """
    layout, kept = trained.layout, kept_types(trained.model)
    weights = held_weights(trained.model)
    held = {name: weights[name] for name in trained.names} | held_optimizer(trained)
    about = {name: asdict(piece) for name, piece in own_pieces(held, layout).items()}

    def arrays() -> Iterator[tuple[str, NDArray[Any]]]:
        for name in about:
            code = FLOATS[kept.get(name, "float32")]
            yield code, convert_dtype(read_own(held[name]), "F32", code)

    file = folder / f"pieces-{layout.rank:05d}-of-{layout.size:05d}.safetensors"
    write_checkpoint(file, list(about), arrays(), {PIECES: json.dumps(about)})


def open_whole(folder: Path) -> tuple[dict[str, Stored], dict[str, Stored]]:
    """The weights and the optimizer's arrays of a checkpoint by name, whole, however it was
    written.

    Raises:
        FileNotFoundError: if the file of a process is missing.
    """
    if (folder / TRAINED).exists():
        return {**open_checkpoint(folder / TRAINED)}, {**open_checkpoint(folder / OPTIMIZER)}

    files = sorted(folder.glob("pieces-*-of-*.safetensors"))
    count = int(files[0].stem.rpartition("-")[2]) if files else 1
    if len(files) != count:
        raise FileNotFoundError(f"{folder}: has the files of {len(files)} of {count} processes")

    found: dict[str, list[tuple[Piece, Stored]]] = {}
    for file in files:
        about, tensors = json.loads(read_metadata(file)[PIECES]), open_checkpoint(file)
        for name, tensor in tensors.items():
            found.setdefault(name, []).append((read_piece(about[name]), tensor))
    arrays: dict[str, Stored] = {name: Pieced(name, tuple(each)) for name, each in found.items()}
    moments = {name for name in arrays if name.startswith(PREFIX)}
    return (
        {name: array for name, array in arrays.items() if name not in moments},
        {name: arrays[name] for name in arrays if name in moments},
    )


def read_piece(about: Mapping[str, Any]) -> Piece:
    """A piece from the JSON in the head of a file."""
    cut = None if about["cut"] is None else read_cut(about["cut"])
    return Piece(about["start"], tuple(about["shape"]), cut, about["model_rank"])


def read_cut(about: Mapping[str, Any]) -> Cut:
    """A cut from JSON, which has lists where it has tuples."""
    return Cut(
        about["axis"],
        tuple(about["parts"]),
        about["size"],
        tuple(about["copies"]),
        about["padded"],
    )


def restore(folder: Path, trained: Trained) -> Any:
    """Put a checkpoint back, of which each process reads its own parts; its state comes back.

    Raises:
        UsageError: if another set of parameters was trained.
    """
    weights, moments = open_whole(folder)
    held = held_optimizer(trained)
    if differing := sorted(set(trained.names) ^ weights.keys() | held.keys() ^ moments.keys()):
        raise UsageError(
            f"{folder} trained other parameters than this run ({differing[0]}, …); "
            "choose another output"
        )
    fill_weights(trained.model, weights, str(folder))
    fill_held(held, moments)
    fill_held(held_masters(trained), weights)
    return json.loads((folder / STATE).read_text())


def held_optimizer(trained: Trained) -> dict[str, Held]:
    """What this process holds of the optimizer's memory: masters of weights that are kept in half
    precision, moments, the number of steps; by the names of the whole arrays.
    """
    optimizer, kept = trained.optimizer, kept_types(trained.model)
    masters = {
        f"{MASTER}{name}": held
        for name, held in hold_trained(trained, optimizer.updated).items()
        if kept[name] != "float32"
    }
    first, second = (
        {f"{PREFIX}{kind}.{name}": held for name, held in hold_trained(trained, moments).items()}
        for kind, moments in (("first", optimizer.first), ("second", optimizer.second))
    )
    return masters | first | second | {optimizer.step.name: Held(optimizer.step, ())}


def held_masters(trained: Trained) -> dict[str, Held]:
    """The slices that the optimizer changes in place of float32 weights, by the names of these;
    empty where it changes the weights themselves.
    """
    if trained.buckets is None:
        return {}
    kept = kept_types(trained.model)
    return {
        name: held
        for name, held in hold_trained(trained, trained.optimizer.updated).items()
        if kept[name] == "float32"
    }


def hold_trained(trained: Trained, parameters: Sequence[Parameter]) -> dict[str, Held]:
    """Where the arrays of the trained parameters are in those that the optimizer has of one kind,
    by the names of the trained.
    """
    weights = held_weights(trained.model)
    if trained.buckets is None:
        pairs = zip(trained.names, parameters, strict=True)
        return {name: replace(weights[name], parameter=parameter) for name, parameter in pairs}

    held = {}
    for bucket, parameter in zip(trained.buckets, parameters, strict=True):
        start = 0
        for index, size in zip(bucket.indices, bucket.sizes, strict=True):
            name = trained.names[index]
            held[name] = replace(weights[name], parameter=parameter, data=trained.data, start=start)
            start += size
    return held


def checkpoint_folder(output: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps is."""
    return output / "checkpoints" / f"step-{step:08d}"


def complete(output: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = {path.stem: path for path in (output / "checkpoints").glob("step-*.old")}
    for path in (output / "checkpoints").glob("step-*"):
        if not path.suffix:
            found[path.name] = path
    return [found[name] for name in sorted(found)]


def prune(output: Path, keep: int) -> None:
    """Leave the last `keep` checkpoints."""
    for old in complete(output)[:-keep] if keep else []:
        shutil.rmtree(old)
