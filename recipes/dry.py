"""A job without its weights: what it would hold, whether that fits, and what would fit instead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeAlias

import mindspore as ms
import numpy as np
from mindspore.nn.utils import no_init_parameters
from numpy.typing import NDArray

from mmdata.errors import ConfigError
from models import family_module
from models.model import VisionLanguageModel
from models.parallel import Layout, ModelGroup
from models.patches import MERGE, TowerConfig, patch_layout
from models.weights import model_parameters
from recipes import build
from recipes.config import FinetuneConfig, Parallel, PredictConfig, merge
from recipes.memory import (
    GB,
    Choice,
    Held,
    Memory,
    Shard,
    Stack,
    Step,
    find_fitting,
    prediction_memory,
    training_memory,
)

Job: TypeAlias = FinetuneConfig | PredictConfig

# What a device has where the configuration does not say it; 910B and 910C have 64 GB.
DEVICE_MEMORY = {"Ascend": 64.0}
MOST_DEVICES = 64  # that are searched for a layout
MODEL_SIZES = (1, 2, 4, 8)  # devices that hold one model: those of one machine
SHOWN = 3  # layouts that an error suggests


class DoesNotFitError(ConfigError):
    """A job needs more memory than a device has; the text says what would fit."""


def describe_job(config: Job, devices: int | None = None) -> str:
    """What a job of so many devices holds, in lines; by default as many as it names.

    Raises:
        DoesNotFitError: if that is more than a device has.
        ConfigError: for a layout that the model does not divide into.
    """
    layout = planned_layout(config.parallel, devices)
    parameters, memory = measure(config, layout)
    limit = device_memory(config)
    if limit is not None and memory.total > limit * GB:
        raise DoesNotFitError(describe_misfit(config, layout, memory, limit))

    said = f"layout: data {layout.data} x model {layout.model}"
    if isinstance(config, FinetuneConfig):
        said += f", shard {config.parallel.shard}"
        said += ", recompute" if config.parallel.recompute else ""

    whole = parameters if layout.model == 1 else held_parameters(config, Layout())
    pairs = count_numbers(pairs_of(whole))
    said += f"\nparameters: {count_numbers(whole) - pairs:,}"
    said += f" and {pairs:,} of LoRA pairs" if pairs else ""
    said += f"; a device works with {count_numbers(parameters):,}" if layout.model > 1 else ""
    if isinstance(config, FinetuneConfig):
        said += f"; {count_numbers(trained_of(parameters)):,} train"

    said += f"\nmemory a device, estimated: {memory}"
    return said if limit is None else f"{said} of {limit:g} GB"


def count_numbers(parameters: Mapping[str, Held]) -> int:
    """How many numbers parameters are together."""
    return sum(held.numbers for held in parameters.values())


def pairs_of(parameters: Mapping[str, Held]) -> dict[str, Held]:
    """Those of LoRA pairs."""
    return {name: held for name, held in parameters.items() if ".lora_" in name}


def trained_of(parameters: Mapping[str, Held]) -> dict[str, Held]:
    """Those that train."""
    return {name: held for name, held in parameters.items() if held.trained}


def describe_misfit(config: Job, layout: Layout, memory: Memory, limit: float) -> str:
    """That a job does not fit, and what would."""
    key = "run.device_memory" if isinstance(config, FinetuneConfig) else "device_memory"
    said = f"a device needs {memory}, it has {limit:g} GB ({key}). "
    choices = search_layouts(config, layout.size, limit * GB)
    if not choices:
        return said + f"Nothing fits on up to {MOST_DEVICES} devices; shorter or fewer rows may"
    shown = "; ".join(f"{choice} {choice.memory.total / GB:.1f} GB" for choice in choices[:SHOWN])
    return said + f"On {choices[0].data * choices[0].model} devices fits: {shown}"


def search_layouts(config: Job, devices: int, limit: float) -> list[Choice]:
    """The layouts that fit into `limit` bytes, on so many devices or, if there are none, on the
    first doubling of them on which there are.
    """
    divided = dict(divisions(config))
    while devices <= MOST_DEVICES:
        choices = [
            choice
            for model, parameters in divided.items()
            if devices % model == 0
            for choice in layouts_of(config, Layout(devices // model, model), parameters)
        ]
        if fitting := find_fitting(choices, limit):
            return fitting
        devices *= 2
    return []


def divisions(config: Job) -> Iterator[tuple[int, dict[str, Held]]]:
    """In how many parts a model can be divided, each with what the first device then holds."""
    for model in MODEL_SIZES:
        with suppress(ValueError):  # the heads of some models do not divide by so many
            yield model, held_parameters(config, Layout(1, model))


def layouts_of(config: Job, layout: Layout, parameters: dict[str, Held]) -> Iterator[Choice]:
    """The ways to spread and recompute one grid of devices, with what each needs."""
    if isinstance(config, PredictConfig):
        memory = job_memory(config, parameters, layout)
        yield Choice(layout.data, layout.model, "none", False, memory)
        return

    shards: tuple[Shard, ...] = ("none", "optimizer", "weights")
    for shard in shards if layout.data > 1 else shards[:1]:
        for recompute in (False, True):
            parallel = replace(config.parallel, shard=shard, recompute=recompute)
            memory = job_memory(replace(config, parallel=parallel), parameters, layout)
            yield Choice(layout.data, layout.model, shard, recompute, memory)


def planned_layout(parallel: Parallel, devices: int | None) -> Layout:
    """The layout that a configuration asks for, of the first process; it need not be started."""
    if devices is None:
        return Layout(parallel.data or 1, parallel.model)
    return build.lay_out(parallel, devices, 0)


def device_memory(config: Job) -> float | None:
    """The GB that a device has; None if nobody knows."""
    run = config.run if isinstance(config, FinetuneConfig) else config
    device = run.device or ms.get_context("device_target")
    return DEVICE_MEMORY.get(device) if run.device_memory is None else run.device_memory


def measure(config: Job, layout: Layout) -> tuple[dict[str, Held], Memory]:
    """The parameters that a device holds, and its memory."""
    parameters = held_parameters(config, layout)
    return parameters, job_memory(config, parameters, layout)


def held_parameters(config: Job, layout: Layout) -> dict[str, Held]:
    """The parameters of a job's model as its first device holds them, by name; no memory is taken
    for them.
    """
    with no_init_parameters():
        model = family_module(config.model.family).MODEL(model_shape(config))
        if layout.model > 1:
            model.divide(ModelGroup(layout.model))
        if isinstance(config, FinetuneConfig):
            trained = set(build.choose_trained(model, config))
        else:
            trained = set()

    kept = config.model.parameters or "float32"
    return {
        name: Held(tuple(parameter.shape), "float32" if ".lora_" in name else kept, name in trained)
        for name, parameter in model_parameters(model).items()
    }


def model_shape(config: Job) -> Any:
    """The family's configuration of a job's model."""
    vocabulary = None
    if config.model.vocabulary == "tokenizer":
        vocabulary = build.build_tokenizer(config.model.family, config.tokenizer).vocab_size
    return build.read_shape(config.model, vocabulary)


def job_memory(config: Job, parameters: dict[str, Held], layout: Layout) -> Memory:
    """What a device needs that holds these parameters."""
    shape = model_shape(config)
    dtype = config.model.dtype
    device = config.run.device if isinstance(config, FinetuneConfig) else config.device
    fused = device == "Ascend" and dtype != "float32"
    if isinstance(config, PredictConfig):
        length = config.generation.length
        language = Stack(length, length, shape.language.heads // layout.model)
        step = Step(language, media_stack(shape, 1, None, length), dtype, fused)
        return prediction_memory(parameters, step, layers=shape.language.layers, length=length)

    data = config.data
    language = Stack(
        data.batch_size * data.seq_length, data.seq_length, shape.language.heads // layout.model
    )
    step = Step(
        language,
        media_stack(shape, data.batch_size, data.max_views, data.seq_length),
        dtype,
        fused,
        accumulated=config.run.accumulation > 1,
    )
    return training_memory(
        parameters,
        step,
        data=layout.data,
        shard=config.parallel.shard,
        recompute=config.parallel.recompute,
    )


def media_stack(shape: Any, rows: int, max_views: int | None, length: int) -> Stack:
    """What goes through a tower: `max_views` pictures of one size a row, or so many features, each
    of some patches; where nothing limits them, as many as rows of `length` tokens have room for.
    """
    vision = shape.vision
    if isinstance(vision, TowerConfig):
        patches = (max_views or length) * MERGE**2 * rows
        return Stack(patches, patches, vision.heads)
    views = max_views or length // shape.media_rows
    tokens = vision.side**2 + vision.class_token
    return Stack(views * rows * tokens, tokens, vision.heads)


SMALL_VOCABULARY = 512
GRID = (1, 2 * MERGE, 2 * MERGE)  # frames, rows and columns of the patches of a small picture


def shrink(config: FinetuneConfig) -> FinetuneConfig:
    """The job with the family's tiny model, drawn at random, and a small vocabulary; in float16
    where a CPU lacks bfloat16.
    """
    dtype, parameters = config.model.dtype, config.model.parameters
    if ms.get_context("device_target") == "CPU":
        dtype = "float16" if dtype == "bfloat16" else dtype
        parameters = "float16" if parameters == "bfloat16" else parameters
    changes = merge(config.model.changes, {"language": {"vocabulary": SMALL_VOCABULARY}})
    model = replace(
        config.model,
        size="tiny",
        vocabulary="preset",
        weights=None,
        adapter=None,
        fresh=(),
        changes=changes,
        dtype=dtype,
        parameters=parameters,
    )
    return replace(config, model=model)


def sample_arrays(model: VisionLanguageModel) -> list[NDArray[Any]]:
    """A row with one black picture and a few words, as `model` takes it."""
    shape = model.config
    layout = None
    if isinstance(shape.vision, TowerConfig):
        layout = patch_layout(np.array([GRID]))
        pixels = np.zeros((len(layout), shape.vision.patch_values), np.uint8)
        media_rows = len(layout) // MERGE**2
    else:
        side = shape.vision.image_size
        pixels = np.zeros((1, side, side, 3), np.uint8)
        media_rows = shape.media_rows

    length = media_rows + 16
    ids = np.arange(length, dtype=np.int32)[None]
    # Some families count positions along several axes.
    axes = len(model.position_step) if isinstance(model.position_step, tuple) else None
    positions = ids if axes is None else np.repeat(ids[:, None], axes, 1)
    media_index = np.where(ids < media_rows, ids, -1).astype(np.int32)
    segments = np.ones_like(ids)
    arrays = [ids % SMALL_VOCABULARY, ids % SMALL_VOCABULARY, positions, segments]
    arrays += [pixels, media_index]
    return arrays if layout is None else [*arrays, layout]
