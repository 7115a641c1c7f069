"""The batches of a run: those to train on, those to evaluate on, and how many updates they make."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from mmdata.errors import ConfigError
from mmdata.pipeline import Batch, Stream
from mmdata.pipeline.encode import Samples
from mmdata.templates import Template
from models.parallel import Layout
from recipes import build
from recipes.config import FinetuneConfig

# The options of `data` that a stream takes as they are.
STREAM_OPTIONS = (
    "seq_length",
    "batch_size",
    "max_views",
    "isolated",
    "deadline",
    "memory",
    "max_pixels",
    "on_damage",
    "workers",
    "seed",
)


def training_stream(config: FinetuneConfig, template: Template, layout: Layout) -> Stream:
    """The batches to train on, those of this device."""
    data = config.data
    rows = build.open_samples(data.train, data.train_split, data.seed)
    return make_stream(config, training_samples(config, rows, layout), template, layout)


def training_samples(config: FinetuneConfig, rows: Samples, layout: Layout) -> Samples:
    """The samples of an epoch: the rows themselves, or draws of them.

    Raises:
        ConfigError: for a scale without random mapping.
    """
    if config.data.random_mapping:
        return build.RandomRows(rows, random_scale(config, len(rows), layout))
    if config.data.scale is not None:
        raise ConfigError(
            "data.scale goes with data.random_mapping=true; for more passes give run.epochs"
        )
    return rows


def make_stream(
    config: FinetuneConfig, samples: Samples, template: Template, layout: Layout
) -> Stream:
    """The batches of these samples, those of this device."""
    data = config.data
    options: dict[str, Any] = {name: getattr(data, name) for name in STREAM_OPTIONS}
    return Stream(
        samples,
        template,
        rank=layout.data_rank,
        world_size=layout.data,
        shuffle=data.shuffle,
        packing=data.packing,
        on_error=data.on_error,
        on_error_limit=data.on_error_limit,
        skipped=config.run.output / "skipped.jsonl" if layout.model_rank == 0 else None,
        **options,
    )


def random_scale(config: FinetuneConfig, rows: int, layout: Layout) -> int:
    """How many times as many draws as rows: what was said, or, as MindFormers' runner reckons it,
    what the steps of the run need.
    """
    if config.data.scale is not None or config.run.steps is None:
        return config.data.scale or 1
    step = config.data.batch_size * layout.data * config.run.accumulation
    return config.run.steps * step // max(1, rows) + 1


def held_out_stream(config: FinetuneConfig, template: Template, training: Samples) -> Stream | None:
    """The batches to evaluate on, the same on all devices; None where the configuration names none.

    Raises:
        ConfigError: if some of them are among those to train on.
    """
    data = config.data
    if data.evaluate is None and data.evaluate_split is None:
        return None
    samples = build.open_samples(data.evaluate or data.train, data.evaluate_split, data.seed)
    build.refuse_shared_rows(training, samples)
    options: dict[str, Any] = {name: getattr(data, name) for name in STREAM_OPTIONS}
    return Stream(samples, template, shuffle=False, drop_last=False, **options)


def total_steps(config: FinetuneConfig, stream: Stream) -> int:
    """How many updates the run makes;
    samples that the template drops as too long are counted as if they were there.

    Raises:
        ConfigError: if only reading all samples could tell.
    """
    if config.run.steps is not None:
        return config.run.steps
    if config.data.packing or config.data.on_error == "skip":
        raise ConfigError(
            "with packing or on_error: skip, an epoch has no known number of batches; "
            "give run.steps"
        )
    steps = stream.steps_per_epoch or len(stream.mixture) // (stream.batch_size * stream.world_size)
    return max(1, steps * config.run.epochs // config.run.accumulation)


def endless(stream: Stream) -> Iterator[Batch]:
    """Batches, epoch after epoch."""
    for _ in count():
        yield from stream
