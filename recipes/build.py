"""From a configuration to the things that a recipe works with."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import mindspore as ms
from mindspore.nn.utils import no_init_parameters

from mmdata import templates
from mmdata.errors import ConfigError
from mmdata.mixture import Mixture, RandomMapping
from mmdata.pipeline.encode import Samples
from mmdata.schema import Conversation
from mmdata.store import Store
from mmdata.store import open as open_store
from mmdata.templates import Template
from mmdata.tokenizers import Tokenizer
from models import family_module
from models.checkpoint import read_metadata
from models.lora import LoraConfig, add_lora
from models.model import VisionLanguageModel, train_only
from models.parallel import (
    WHOLE,
    Groups,
    Layout,
    ModelGroup,
    create_groups,
    cuts_of,
    draw_piece,
    model_group,
)
from models.sharding import DataGroup, recompute_layers, slice_weights
from models.weights import cast_parameters, load_weights, model_parameters, whole_shapes
from recipes import config as configs
from recipes.schedules import Schedule, annealing, constant, cosine, linear
from recipes.vocabularies import byte_tokenizer


def is_launched() -> bool:
    """Whether `recipes.launch` or msrun has started this process, alone or with others."""
    return os.environ.get("MS_ROLE") == "MS_WORKER"


def is_first() -> bool:
    """Whether this process is the only one or the first of several: the one that speaks."""
    return os.environ.get("RANK_ID", "0") == "0"


def start_mindspore(device: str | None, graph: bool, device_id: int | None = None) -> None:
    """Choose the device, by its number if there are several, and graph mode or PyNative; once and
    before anything else.

    Raises:
        ConfigError: for a number where each of several processes has its own.
    """
    if device_id is not None:
        if is_launched():
            raise ConfigError(
                f"device_id {device_id}: each of the processes of a job takes the device of its "
                "own number; ASCEND_RT_VISIBLE_DEVICES says which devices there are"
            )
        ms.set_device(device or ms.get_context("device_target"), device_id)
    # Once an operator has run, not even the same may be set.
    elif device not in (None, ms.get_context("device_target")):
        ms.set_device(device)
    ms.set_context(mode=ms.GRAPH_MODE if graph else ms.PYNATIVE_MODE)


def join_devices(options: configs.Parallel, several: bool) -> tuple[Layout, Groups]:
    """The place of this process among those that `recipes.launch` or msrun has started, and the
    groups it speaks in; alone unless it was started so, or `several` or the options ask for more.

    Raises:
        ConfigError: if the options do not fit the number of processes.
    """
    if not (several or is_launched() or options.model > 1 or (options.data or 1) > 1):
        return Layout(), Groups()

    from mindspore.communication import get_group_size, get_rank, init

    try:
        init()
    except RuntimeError as error:
        raise ConfigError(
            "the processes of this job do not find each other; start it with python -m "
            "recipes.launch --processes N …, or, for one process, with parallel.data=1, "
            "parallel.model=1 and run.parallel=false"
        ) from error
    layout = lay_out(options, get_group_size(), get_rank())
    return layout, create_groups(layout)


def join_model_group(options: configs.PredictConfig) -> ModelGroup:
    """The processes that answer together, each of them the same; of how the training was laid out,
    `data` is nothing to them.

    Raises:
        ConfigError: if there are not `parallel.model` processes.
    """
    start_mindspore(options.device, options.graph, options.device_id)
    return model_group(*join_devices(replace(options.parallel, data=1), several=False))


def join_processes(options: configs.PredictConfig) -> tuple[Layout, ModelGroup]:
    """The place of this process among those that were started to answer: each `parallel.model` of
    them hold a model together, and share the questions with the others; of how the training was
    laid out, `data` is nothing to them.

    Raises:
        ConfigError: if their number is no multiple of `parallel.model`.
    """
    start_mindspore(options.device, options.graph, options.device_id)
    # msrun starts its scheduler by the same command, which must not answer but schedule.
    several = "MS_ROLE" in os.environ
    layout, groups = join_devices(replace(options.parallel, data=None), several)
    return layout, model_group(layout, groups)


def check_model_group(options: configs.Parallel, group: ModelGroup) -> None:
    """See that the group is the one that the configuration asks for.

    Raises:
        ConfigError: if it is not.
    """
    if options.model != group.size:
        raise ConfigError(
            f"parallel.model is {options.model}, the group has {group.size} processes; "
            "join it with recipes.build.join_model_group"
        )


def lay_out(options: configs.Parallel, processes: int, rank: int) -> Layout:
    """The layout of so many processes.

    Raises:
        ConfigError: if the options do not fit the number of processes.
    """
    data = options.data or processes // options.model
    if data * options.model != processes:
        said = f"{options.data} x " if options.data else "any number x "
        raise ConfigError(
            f"parallel: data x model = {said}{options.model} does not fit {processes} processes; "
            "give recipes.launch --processes of their product, or change parallel.data"
        )
    return Layout(data, options.model, rank)


def build_tokenizer(family: str, options: configs.Tokenizer) -> Tokenizer:
    """The tokenizer of the family."""
    if options.path == "bytes":
        return byte_tokenizer(family_module(family).VOCABULARY)
    return templates.load_tokenizer(family, options.path, verify=options.verify)


def build_template(family: str, tokenizer: Tokenizer, options: dict[str, Any]) -> Template:
    """The family's template; lists become tuples.

    Raises:
        UsageError: for an option that the template does not have, or a value that it cannot have.
    """
    return templates.make(family, tokenizer, options)


def build_model(
    options: configs.Model,
    vocabulary: int,
    seed: int = 0,
    group: ModelGroup = WHOLE,
    data: DataGroup | None = None,
) -> VisionLanguageModel:
    """The model with its weights; without any it is a pure function of the seed.
    `vocabulary` is the tokenizer's size.

    This process' share of it, where a `group` holds it together, and slices of weights, where
    `data` is given (`models.sharding`): of weights it reads no more; what is drawn is drawn whole
    first, so that it is the same in all layouts.

    Raises:
        ConfigError: for an unknown size or change, a type that the device does not compute in, or
            sizes that the group cannot divide.
        ValueError: if the weights are not this model's, or do not fill it.
    """
    module = family_module(options.family)
    refuse_missing_kernels("model.dtype", options.dtype)
    refuse_missing_kernels("model.parameters", options.parameters)
    shape = read_shape(options, vocabulary)
    ms.set_seed(seed)
    # Else the model would be drawn first and thrown away then: of 740 M parameters, 18 s and 3 GB.
    drawn = nullcontext() if options.weights is None else no_init_parameters()
    with drawn:
        model: VisionLanguageModel = module.MODEL(shape)
    if group.size > 1:
        try:
            model.divide(group)
        except ValueError as error:
            raise ConfigError(
                f"parallel.model={group.size} for {options.family} {options.size}: {error}"
            ) from error
        say_repeated(model)

    if options.weights is not None:
        fresh = fresh_prefixes(module, options)
        if data is not None:
            slice_weights(model, data, keep=fresh)
        fill(model, options.weights, options, fresh)
    elif options.parameters is not None:
        cast_parameters(model, options.parameters)

    if data is not None:
        slice_weights(model, data)
    return model


def say_repeated(model: VisionLanguageModel) -> None:
    """Say of key heads that there are fewer of them than processes, so that several hold the same
    ones.
    """
    copies = max(max(cut.copies) for cut in cuts_of(model).values())
    if copies > 1 and model.group.rank == 0:
        heads = model.group.size // copies
        print(
            f"parallel.model={model.group.size}: the {heads} key heads are repeated, each is held "
            f"by {copies} processes",
            file=sys.stderr,
        )


def read_shape(options: configs.Model, vocabulary: int | None) -> Any:
    """The family's configuration of the model that the options ask for; `vocabulary` is the
    tokenizer's size, None if the model's own is to be taken.

    Raises:
        ConfigError: for an unknown size or change, or a vocabulary that is too small.
    """
    module = family_module(options.family)
    if options.size not in module.PRESETS:
        raise ConfigError(
            f"no size {options.size!r} of {options.family}; there are {', '.join(module.PRESETS)}"
        )

    shape = configs.change_fields(module.PRESETS[options.size], options.changes, "model.changes")
    if vocabulary is not None and options.vocabulary == "tokenizer":
        shape = replace(shape, language=replace(shape.language, vocabulary=vocabulary))

    if vocabulary is not None and vocabulary > shape.language.vocabulary:
        raise ConfigError(
            f"the tokenizer has {vocabulary} tokens, the model {shape.language.vocabulary}"
        )

    return replace(shape, dtype=options.dtype)


def fresh_prefixes(module: ModuleType, options: configs.Model) -> tuple[str, ...]:
    """How the names of the parameters begin that are to be drawn in spite of the weights.

    Raises:
        ConfigError: for a part that the family does not have.
    """
    if unknown := [part for part in options.fresh if part not in module.PARTS]:
        raise ConfigError(
            f"model.fresh: no part {unknown[0]!r} in {options.family}; "
            f"it has {', '.join(module.PARTS)}"
        )
    return tuple(prefix for part in options.fresh for prefix in module.PARTS[part])


def fill(
    model: VisionLanguageModel, weights: Path, options: configs.Model, fresh: tuple[str, ...]
) -> None:
    """Put the weights into a model without any, and draw what is to be fresh, which is said.

    Raises:
        ConfigError: if they are in bfloat16 and the device is a CPU.
        ValueError: if the weights are not this model's, do not fill the rest of it, or hold what
            should be fresh.
    """
    account = load_weights(model, weights, options.parameters)
    lacking = [name for name in account.unfilled if not name.startswith(fresh)]
    if account.unused or lacking:
        wrong = f"unused {list(account.unused[:3])}, not filled {lacking[:3]}"
        mend = "; model.fresh names parts that are to be drawn" if lacking else ""
        raise ValueError(f"{weights} and {options.family} {options.size} differ: {wrong} …{mend}")
    if held := [name for name in account.written if fresh and name.startswith(fresh)]:
        raise ValueError(
            f"{weights} holds {held[0]}, which model.fresh wants drawn; leave out one of the two"
        )

    parameters, cuts = model_parameters(model), cuts_of(model)
    for name in account.unfilled:
        if name in cuts:
            draw_piece(parameters[name], cuts[name], model.group.rank)
        else:
            parameters[name].init_data()
    if account.unfilled:
        shapes = whole_shapes(model)
        numbers = sum(math.prod(shapes[name]) for name in account.unfilled)
        print(
            f"drawn, not in {weights}: {', '.join(options.fresh)} "
            f"({len(account.unfilled)} parameters, {numbers:,} numbers)",
            file=sys.stderr,
        )

    for name, parameter in parameters.items():
        where = f"{weights} holds {name}; model.parameters, as stored,"
        refuse_missing_kernels(where, str(parameter.dtype).lower())


def refuse_missing_kernels(where: str, dtype: str | None) -> None:
    """See that the device computes in `dtype`, which `where` asks for.

    Raises:
        ConfigError: for bfloat16 on a CPU, where MindSpore 2.10 has no kernel of it for matrix
            products, softmax or lookups.
    """
    if dtype == "bfloat16" and ms.get_context("device_target") == "CPU":
        raise ConfigError(
            f"{where} is bfloat16, for which MindSpore has no kernels on a CPU; "
            "use float16 (or float32) there"
        )


def add_adapter(model: VisionLanguageModel, adapter: Path) -> None:
    """Put the pairs of an adapter file beside the model's weights.

    Raises:
        ValueError: if the file has pairs that the model has no place for.
    """
    facts = json.loads(read_metadata(adapter)["lora"])
    shapes = {path: tuple(parts) for path, parts in facts["parts"].items()}
    split = any(len(parts) > 1 for parts in shapes.values())
    pattern = "|".join(path.replace(".", r"\.") for path in shapes)
    add_lora(model, LoraConfig(facts["rank"], facts["scale"] * facts["rank"], pattern, split))
    if account := load_weights(model, adapter).unused:
        raise ValueError(f"{adapter}: the model has no {account[0]}")


def choose_trained(model: VisionLanguageModel, config: configs.FinetuneConfig) -> list[str]:
    """Freeze what does not train, add LoRA pairs if any;
    the names of the trained parameters come back.

    Raises:
        ConfigError: for a part that the family does not have.
    """
    module = family_module(config.model.family)
    if config.lora.targets:
        add_lora(model, lora_config(module, config.lora))
    else:
        parts = list(module.PARTS) if "all" in config.stage else config.stage
        if unknown := [part for part in parts if part not in module.PARTS]:
            raise ConfigError(
                f"stage: no part {unknown[0]!r} in {config.model.family}; "
                f"it has {', '.join(module.PARTS)}"
            )
        train_only(model, [prefix for part in parts for prefix in module.PARTS[part]])
    return [parameter.name for parameter in model.trainable_params()]


def recompute(model: VisionLanguageModel, config: configs.FinetuneConfig) -> None:
    """Have the layers computed again in the backward pass, where the configuration says so.

    Raises:
        ConfigError: for LoRA with dropout in PyNative, where MindSpore 2.10 drops other numbers the
            second time, and the gradients are those of neither; in a graph it drops the same.
    """
    if not config.parallel.recompute:
        return
    lora = lora_config(family_module(config.model.family), config.lora)
    if config.lora.targets and lora.dropout and not config.run.graph:
        raise ConfigError(
            f"parallel.recompute with a lora.dropout of {lora.dropout} gives wrong gradients "
            "without a graph; set run.graph=true, or lora.dropout=0"
        )
    recompute_layers(model)


def lora_config(module: ModuleType, options: configs.Lora) -> LoraConfig:
    """The family's LoRA with what the configuration says otherwise."""
    said = {name: getattr(options, name) for name in ("rank", "alpha", "dropout", "split")}
    # ms-swift writes it in capitals.
    named = {"default": None, "ALL": "all"}
    said["targets"] = named.get(options.targets, options.targets)
    lora: LoraConfig = replace(
        module.LORA, **{name: value for name, value in said.items() if value is not None}
    )
    return lora


def build_schedule(options: configs.Schedule, steps: int) -> Schedule:
    """The learning rate of each of `steps` steps."""
    warmup = options.warmup_steps or int(steps * options.warmup_ratio)
    if options.name == "constant":
        return constant(options.peak)
    if options.name == "annealing":
        return annealing(options.peak, warmup, options.decay_steps or steps)
    curves = {"cosine": cosine, "linear": linear}
    return curves[options.name](options.peak, steps, warmup, options.end, options.start)


def open_samples(place: Path, split: str | None, seed: int) -> Samples:
    """The conversations of a store, or of a split of it,
    or of the mixture that a YAML describes.
    """
    if place.suffix in (".yaml", ".yml"):
        if split is not None:
            raise ConfigError(
                f"{place} is a mixture; splits are those of a store ({split} was asked for)"
            )
        return Mixture.from_yaml(place, seed=seed)
    store = open_store(place)
    return store if split is None else StoreSplit.of(store, split)


def refuse_shared_rows(training: Samples, held_out: Samples) -> None:
    """See that what is evaluated on is not trained on:
    by no split, nor through a copy of the store or a mixture of it.

    Raises:
        ConfigError: rows of the same id, messages and media are in both.
    """
    held = {(name, _said(store, row)): store for store, name, row in _rows(held_out)}
    names = {name for name, _ in held}
    trained = ((name, _said(store, row)) for store, name, row in _rows(training) if name in names)
    if shared := sorted({row for row in trained if row in held}):
        name, store = shared[0][0], held[shared[0]]
        raise ConfigError(
            f"{len(shared):,} of {len(held):,} rows to evaluate on are trained on too ({name!r} "
            "for one), so that they are not held out. "
            f"Give data.train_split and data.evaluate_split different splits ({store.path} has "
            f"{', '.join(_splits(store))}), or data.evaluate another store."
        )


def stores_of(samples: Samples) -> list[tuple[Store, Sequence[int]]]:
    """The stores that samples are read from, and which rows of them."""
    if isinstance(samples, Mixture):
        return samples.selections
    if isinstance(samples, StoreSplit):
        return [(samples.store, samples.rows)]
    if isinstance(samples, RandomRows):
        return stores_of(samples.samples)
    return [(samples, range(len(samples)))] if isinstance(samples, Store) else []


def _rows(samples: Samples) -> Iterator[tuple[Store, str, int]]:
    """The store, the id and the number of each row."""
    for store, rows in stores_of(samples):
        names = store.table["id"].to_pylist()
        yield from ((store, names[row], row) for row in rows)


def _said(store: Store, row: int) -> int:
    """A number for what a row says about which media,
    wherever it is stored and whatever is known of them besides.
    """
    conversation = store.located(row)
    media = tuple(
        (one.path or one.bytes or one.frames, one.start, one.end) for one in conversation.media
    )
    return hash((conversation.messages, media))


def _splits(store: Store) -> list[str]:
    return sorted(set(store.table["split"].to_pylist()))


@dataclass(frozen=True, eq=False)
class StoreSplit:
    """The rows of a store that belong to one split."""

    store: Store
    name: str
    rows: tuple[int, ...]

    @classmethod
    def of(cls, store: Store, name: str) -> StoreSplit:
        """The split called `name`.

        Raises:
            ConfigError: if it has no rows.
        """
        values = store.table["split"].to_pylist()
        rows = tuple(row for row, value in enumerate(values) if value == name)
        if not rows:
            raise ConfigError(
                f"{store.path} has no split {name!r}; it has {', '.join(_splits(store))}"
            )
        return cls(store, name, rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Conversation]:
        return (self.store[row] for row in self.rows)

    def located(self, index: int) -> Conversation:
        """A conversation whose media can be opened."""
        return self.store.located(self.rows[index])

    @property
    def fingerprint(self) -> str:
        """What the store's is, and the split."""
        return f"{self.store.fingerprint} {self.name}"


@dataclass(frozen=True, eq=False)
class RandomRows:
    """Samples drawn from others with replacement, `scale` times as many as they are
    (MindFormers' `random_mapping`).
    """

    samples: Samples
    scale: int

    def __len__(self) -> int:
        return len(self.samples) * self.scale

    def located(self, index: int) -> Conversation:
        """A conversation whose media can be opened."""
        drawn = RandomMapping(range(len(self.samples)), self.scale)
        return self.samples.located(drawn[index])

    @property
    def fingerprint(self) -> str:
        """What that of the samples is, and how often they are drawn."""
        return f"{self.samples.fingerprint} mapped {self.scale}"
