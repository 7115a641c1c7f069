"""Published weights into our models and back, streamed, so that no model need fit in memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Parameter, nn
from numpy.typing import NDArray

from models.checkpoint import (
    FLOATS,
    StoredTensor,
    convert_dtype,
    open_checkpoint,
    read_metadata,
    write_checkpoint,
)
from models.held import Stored, fill_held, held_weights, write_held
from models.lora import lora_delta, lora_metadata
from models.names import Weight
from models.parallel import group_of
from models.sharding import GatheredWeight, kept_types, sliced_cells

TYPE_NAMES = {code: name for name, code in FLOATS.items()}
VOCABULARY = ("language.embedding.weight", "language.head.weight")  # one row a token


@dataclass(frozen=True)
class Account:
    """What became of a conversion:
    every tensor of the source and every parameter of the model is in here once.
    """

    written: tuple[str, ...]
    unused: tuple[str, ...]  # tensors of the source that nothing was made of
    unfilled: tuple[str, ...]  # parameters of the model that the source says nothing about


def import_weights(
    source: Path,
    target: Path,
    weights: Sequence[Weight],
    shapes: Mapping[str, tuple[int, ...]],
    *,
    canonical_name: Callable[[str], str] = str,
    dtype: str | None = None,
    pad_vocabulary: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> Account:
    """Make a checkpoint in our names from one in the names of `weights`.

    `shapes` are those of the model (`parameter_shapes`); parameters of which the source holds
    nothing are left out and named in the account. `dtype` (float32, float16, bfloat16) casts; None
    keeps each tensor's own type. `pad_vocabulary` gives the tokens that the source does not know
    the mean of those that it does. `metadata` goes into the head of the file.

    Raises:
        ValueError: if a tensor has the wrong shape, is quantised, or lacks others that its
            parameter is made of.
    """
    stored = open_checkpoint(source)
    tensors = {canonical_name(name): tensor for name, tensor in stored.items()}
    if len(tensors) < len(stored):
        raise ValueError(
            f"{source}: holds some tensors twice, under the names of two layouts; "
            "remove one of them"
        )
    filled = _check_sources(source, tensors, weights)

    def join() -> Iterator[tuple[str, NDArray[Any]]]:
        for weight in filled:
            parts = [tensors[name] for name in weight.sources]
            wanted = FLOATS[dtype] if dtype else parts[0].dtype
            arrays = [convert_dtype(part.read(), part.dtype, wanted) for part in parts]
            if pad_vocabulary and weight.name in VOCABULARY:
                arrays = [_pad_rows(arrays[0], wanted, shapes[weight.name][0])]
            yield wanted, weight.join(arrays, shapes[weight.name])

    names = [weight.name for weight in filled]
    write_checkpoint(target, names, join(), metadata)
    used = {name for weight in filled for name in weight.sources}
    unused = sorted(name for name in stored if canonical_name(name) not in used)
    return Account(tuple(names), tuple(unused), tuple(sorted(shapes.keys() - set(names))))


def _check_sources(
    source: Path, tensors: Mapping[str, StoredTensor], weights: Sequence[Weight]
) -> list[Weight]:
    """The weights that `tensors` can fill."""
    if quantised := sorted(name for name in tensors if name.endswith(".qweight")):
        raise ValueError(
            f"{source}: {quantised[0]} is quantised; take the float16 or bfloat16 checkpoint"
        )
    filled = [weight for weight in weights if any(name in tensors for name in weight.sources)]
    for weight in filled:
        if missing := [name for name in weight.sources if name not in tensors]:
            raise ValueError(
                f"{source}: {missing[0]} is missing; "
                f"{weight.name} is made of {', '.join(weight.sources)}"
            )
    return filled


def _pad_rows(array: NDArray[Any], dtype: str, rows: int) -> NDArray[Any]:
    mean = convert_dtype(array, dtype, "F32").mean(0, keepdims=True)
    missing = max(0, rows - len(array))
    return np.concatenate([array, np.repeat(convert_dtype(mean, "F32", dtype), missing, 0)])


def export_weights(
    source: Path, target: Path, weights: Sequence[Weight], *, dtype: str | None = None
) -> Account:
    """Make a checkpoint in the names of `weights` from one in ours: the inverse of
    `import_weights`, bit for bit where no `dtype` (float32, float16, bfloat16) casts.
    """
    tensors = open_checkpoint(source)
    filled = [weight for weight in weights if weight.name in tensors]

    def split() -> Iterator[tuple[str, NDArray[Any]]]:
        for weight in filled:
            tensor = tensors[weight.name]
            wanted = FLOATS[dtype] if dtype else tensor.dtype
            array = convert_dtype(tensor.read(), tensor.dtype, wanted)
            yield from ((wanted, part) for part in weight.split(array))

    names = [name for weight in filled for name in weight.sources]
    write_checkpoint(target, names, split())
    known = {weight.name for weight in weights}
    unfilled = {name for weight in weights for name in weight.sources} - set(names)
    return Account(tuple(names), tuple(sorted(tensors.keys() - known)), tuple(sorted(unfilled)))


def model_parameters(model: nn.Cell) -> dict[str, Parameter]:
    """The parameters by name, without the caches that `models.generate` adds."""
    return {
        name: parameter for name, parameter in model.parameters_and_names() if ".cache." not in name
    }


def parameter_shapes(model: nn.Cell) -> dict[str, tuple[int, ...]]:
    """Name and shape of every parameter;
    a model built under `no_init_parameters()` costs no memory for it.
    """
    return {name: tuple(parameter.shape) for name, parameter in model_parameters(model).items()}


def whole_shapes(model: nn.Cell) -> dict[str, tuple[int, ...]]:
    """As `parameter_shapes`; of a divided model, those of the whole parameters."""
    return {name: held.whole_shape for name, held in held_weights(model).items()}


def load_weights(model: nn.Cell, source: Path, dtype: str | None = None) -> Account:
    """Fill the model's parameters from a checkpoint in our names;
    `dtype` is how to keep them (None: as stored).

    The checkpoint is a whole one; of a divided model's parameters, this process' parts are read.

    Raises:
        ValueError: if a tensor's shape is not the parameter's.
    """
    return fill_weights(model, open_checkpoint(source), str(source), dtype)


def fill_weights(
    model: nn.Cell, tensors: Mapping[str, Stored], source: str, dtype: str | None = None
) -> Account:
    """As `load_weights`, from tensors that are open already; `source` says where they are from."""
    held, slices = held_weights(model), sliced_cells(model)
    filled = [name for name in tensors if name in held]
    for name in filled:
        tensor, one = tensors[name], held[name]
        if tensor.shape != one.whole_shape:
            raise ValueError(
                f"{source}: {name} is {tensor.shape}, the model's is {one.whole_shape}"
            )
        kept = getattr(ms, dtype or TYPE_NAMES[tensor.dtype])
        if name in slices and isinstance(slices[name].gathered, GatheredWeight):
            slices[name].gathered.kept = kept  # the slice itself is a float32 master
        else:
            one.parameter.set_dtype(kept)
        fill_held({name: one}, tensors)

    unused, unfilled = tensors.keys() - held.keys(), held.keys() - set(filled)
    return Account(tuple(filled), tuple(sorted(unused)), tuple(sorted(unfilled)))


def cast_parameters(model: nn.Cell, dtype: str) -> None:
    """Keep all parameters in `dtype` (float32, float16 or bfloat16), rounded."""
    kept = getattr(ms, dtype)
    for parameter in model_parameters(model).values():
        rounded = parameter.astype(kept)
        parameter.set_dtype(kept)
        parameter.set_data(rounded)


def save_weights(
    model: nn.Cell,
    target: Path,
    names: Sequence[str] | None = None,
    metadata: Mapping[str, str] | None = None,
    *,
    writes: bool | None = None,
) -> None:
    """Write the parameters, or those of `names`, to a safetensors file in our names.

    Of a divided model, all processes that hold parts call this together; the file is a whole one,
    and one of them `writes` it (None: the first of the model group), holding one whole parameter at
    a time.
    """
    held = held_weights(model)
    chosen = {name: held[name] for name in (held if names is None else names)}
    writes = group_of(model).rank == 0 if writes is None else writes
    write_held(target, chosen, kept_types(model), metadata, writes=writes)


def save_lora(model: nn.Cell, target: Path, *, writes: bool | None = None) -> None:
    """Write the LoRA pairs alone, with what `merge_lora_file` must know about them; as
    `save_weights`.
    """
    names = [name for name in model_parameters(model) if name.endswith((".lora_a", ".lora_b"))]
    about = {"lora": json.dumps(lora_metadata(model))}
    save_weights(model, target, names, about, writes=writes)


def merge_lora_file(base: Path, adapter: Path, target: Path) -> list[str]:
    """Write the checkpoint `base` with the adapter of `save_lora` added in; the paths of the
    changed layers come back.

    Sums are in float32, stored as `base` is; one layer is in memory at a time.

    Raises:
        ValueError: if `adapter` was not written by `save_lora`, or does not fit `base`.
    """
    if "lora" not in (metadata := read_metadata(adapter)):
        raise ValueError(
            f"{adapter}: not a LoRA file of ours (nothing about its rank and scale in it)"
        )
    lora = json.loads(metadata["lora"])
    tensors, pairs = open_checkpoint(base), open_checkpoint(adapter)
    if missing := sorted(path for path in lora["parts"] if f"{path}.weight" not in tensors):
        raise ValueError(
            f"{base}: no {missing[0]}.weight, which {adapter.name} wants to change; "
            "is it of this model?"
        )

    def merge() -> Iterator[tuple[str, NDArray[Any]]]:
        for name, tensor in tensors.items():
            array, path = tensor.read(), name.removesuffix(".weight")
            if path in lora["parts"] and name.endswith(".weight"):
                a, b = pairs[f"{path}.lora_a"].read(), pairs[f"{path}.lora_b"].read()
                delta = lora_delta(a, b, tuple(lora["parts"][path])) * np.float32(lora["scale"])
                array = convert_dtype(
                    convert_dtype(array, tensor.dtype, "F32") + delta, "F32", tensor.dtype
                )
            yield tensor.dtype, array

    write_checkpoint(target, list(tensors), merge())
    return sorted(lora["parts"])
