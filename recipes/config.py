"""What a recipe can be told, as typed sections; the defaults are here and nowhere else.

A YAML names the values that differ, a `base:` YAML those it builds on, the command line
(`key=value`) the last word. Paths are relative to where the recipe is started, `base:` to its own
file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_type_hints

import yaml
from msgspec import Meta

from mmdata._tools.options import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    check_fields,
    fault_of,
)
from mmdata._tools.options import (
    read as read_value,
)
from mmdata._tools.yaml_file import read_yaml as read_yaml_file
from mmdata.errors import ConfigError, nearest
from mmdata.pipeline.stream import OnError
from mmdata.schema import Split
from mmdata.video import Limits
from mmdata.video.sample import OnDamage
from recipes.other_keys import explain

T = TypeVar("T")

Dtype: TypeAlias = Literal["float32", "float16", "bfloat16"]
Share: TypeAlias = Annotated[float, Meta(ge=0, le=1)]
PartShare: TypeAlias = Annotated[float, Meta(ge=0, lt=1)]


@dataclass(frozen=True)
class Section:
    """What all sections have in common: their values are of the types that they say."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_fields(self)


@dataclass(frozen=True)
class Model(Section):
    """`size` names a preset of the family, `changes` what differs from it;
    `vocabulary: tokenizer` makes it as small.

    `weights` and `adapter` are files of convert_weights.py and finetune.py; `weights` may be a
    folder of them, such as a tower's and a language model's. Without weights the model is drawn at
    random; with them, the parts that `fresh` names (the family's PARTS) are. `dtype` is what it
    computes in, `parameters` what weights are kept in (None: as stored).
    """

    family: str = ""
    size: str = "tiny"
    changes: dict[str, Any] = field(default_factory=dict)
    vocabulary: Literal["preset", "tokenizer"] = "preset"
    weights: Path | None = None
    fresh: tuple[str, ...] = ()
    adapter: Path | None = None
    dtype: Dtype = "float32"
    parameters: Dtype | None = None


@dataclass(frozen=True)
class Tokenizer(Section):
    """`path` of the family's vocabulary file,
    or `bytes` for a small one of single bytes, made on the spot.
    """

    path: str = "bytes"
    verify: bool = True


@dataclass(frozen=True)
class Lora(Section):
    """`targets`: `default` (the family's own), `all` (or `ALL`: every linear layer of the whole
    model but the head), or a pattern of paths; empty for no LoRA. None: the family's.
    """

    targets: str = ""
    rank: PositiveInt | None = None
    alpha: PositiveFloat | None = None
    dropout: PartShare | None = None
    split: bool | None = None


@dataclass(frozen=True)
class Data(Section):
    """`train` and `evaluate` are stores or mixing YAMLs;
    of a store, a split can be taken. They must share no row.

    `random_mapping` draws the rows to train on with replacement, `scale` times as many as there
    are, as MindFormers does (`mmdata.mixture.RandomMapping`); without a `scale`, as many as
    `run.steps` needs. The other options are those of `mmdata.pipeline.Stream`; `batch_size` is that
    of one device.
    """

    train: Path = Path()
    train_split: Split | None = None
    evaluate: Path | None = None
    evaluate_split: Split | None = None
    random_mapping: bool = False
    scale: PositiveInt | None = None
    seq_length: PositiveInt = 2048
    batch_size: PositiveInt = 1
    max_views: PositiveInt | None = None
    packing: bool = False
    shuffle: bool = True
    on_error: OnError = "raise"
    on_error_limit: Share = 0.01
    isolated: bool = False
    deadline: PositiveFloat = 30.0
    memory: PositiveInt = Limits().memory
    max_pixels: PositiveInt = Limits().pixels
    on_damage: OnDamage = "raise"
    workers: NonNegativeInt | None = None
    seed: int = 0


@dataclass(frozen=True)
class Optimizer(Section):
    """AdamW; `clip` is the joint norm that gradients are shortened to. See `recipes.optimizers`.

    `layer_scale`: layers learn the slower the further they are from the output, each at
    `layer_decay` times the rate of the next one.
    """

    betas: tuple[PartShare, PartShare] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8
    weight_decay: NonNegativeFloat = 0.0
    bias_correction: bool = True
    clip: PositiveFloat = 1.0
    layer_scale: bool = False
    layer_decay: Annotated[float, Meta(gt=0, le=1)] = 1.0


@dataclass(frozen=True)
class Schedule(Section):
    """`name`: constant, cosine, linear or annealing (`recipes.schedules`);
    a warm-up of steps or of a share of them.

    `decay_steps` is annealing's alone; the others end with the run.
    """

    name: Literal["constant", "cosine", "linear", "annealing"] = "cosine"
    peak: NonNegativeFloat = 1e-4
    start: NonNegativeFloat = 0.0
    end: NonNegativeFloat = 0.0
    warmup_steps: NonNegativeInt = 0
    warmup_ratio: Share = 0.0
    decay_steps: PositiveInt | None = None


@dataclass(frozen=True)
class LossScale(Section):
    """What the loss is multiplied with for half precision.

    Halved (divided by `factor`) when gradients overflow, grown after `window` good steps; window 0
    keeps it.
    """

    start: PositiveFloat = 1.0
    factor: Annotated[float, Meta(gt=1)] = 2.0
    window: NonNegativeInt = 0


@dataclass(frozen=True)
class Parallel(Section):
    """How a job is laid out on `data` x `model` processes (`models.parallel.Layout`).

    `model` processes hold one model together; `data` of these train on samples of their own (None:
    as many as there are processes for). `shard` spreads, over the `data` processes, nothing, the
    optimizer's memory, or the weights too. `recompute`: layers are computed again in the backward
    pass, which takes less memory and more time.
    """

    data: PositiveInt | None = None
    model: PositiveInt = 1
    shard: Literal["none", "optimizer", "weights"] = "none"
    recompute: bool = False


@dataclass(frozen=True)
class Run(Section):
    """How long, where to, how often. `steps` goes before `epochs`;
    0 for `checkpoint_every` and the like is never.

    `device_id` is the number of the device of a single process; of several, each takes its own.
    `device_memory`: the GB (10^9 bytes) that a job may need of a device, by default 64 on Ascend
    and any on a CPU. `dry`: say what the job needs and compile a step of a small model, no more.

    `checkpoint_pieces`: every process writes what it holds, in parallel, instead of the first one
    all (`recipes/merge_checkpoint.py` joins them).
    """

    output: Path = Path("output")
    epochs: PositiveInt = 1
    steps: PositiveInt | None = None
    accumulation: PositiveInt = 1
    parallel: bool = False
    device: str | None = None
    device_id: NonNegativeInt | None = None
    device_memory: PositiveFloat | None = None
    dry: bool = False
    graph: bool = True
    seed: int = 0
    checkpoint_every: NonNegativeInt = 1000
    checkpoint_pieces: bool = False
    keep: NonNegativeInt = 3
    evaluate_every: NonNegativeInt = 0
    resume: bool = False


@dataclass(frozen=True)
class FinetuneConfig(Section):
    """All of a fine-tuning run. `stage`:
    the parts of the model that train (`all`, or names of the family's PARTS).
    """

    model: Model = field(default_factory=Model)
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    template: dict[str, Any] = field(default_factory=dict)
    data: Data = field(default_factory=Data)
    stage: tuple[str, ...] = ("all",)
    lora: Lora = field(default_factory=Lora)
    optimizer: Optimizer = field(default_factory=Optimizer)
    schedule: Schedule = field(default_factory=Schedule)
    loss_scale: LossScale = field(default_factory=LossScale)
    parallel: Parallel = field(default_factory=Parallel)
    run: Run = field(default_factory=Run)


@dataclass(frozen=True)
class Generation(Section):
    """How to answer; temperature 0 is greedy. `length`:
    tokens of prompt and answer that the cache has room for.

    An answer ends before any of the texts `stop`, and at any of the tokens `stop_ids` besides the
    family's own. What is not said here is as the checkpoint's `generation_config.json` said when it
    was converted.
    """

    max_new_tokens: PositiveInt = 128
    length: PositiveInt = 2048
    temperature: NonNegativeFloat = 0.0
    top_k: NonNegativeInt = 0
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    repetition_penalty: PositiveFloat = 1.0
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class PredictConfig(Section):
    """All of a prediction; a fine-tuning YAML serves too, what only training needs is left aside.

    `merge`: the adapter's pairs are added into the weights first, which answers faster.
    `device_id`, `device_memory` and `dry` are as in `Run`.
    """

    model: Model = field(default_factory=Model)
    tokenizer: Tokenizer = field(default_factory=Tokenizer)
    template: dict[str, Any] = field(default_factory=dict)
    generation: Generation = field(default_factory=Generation)
    parallel: Parallel = field(default_factory=Parallel)
    merge: bool = False
    device: str | None = None
    device_id: NonNegativeInt | None = None
    device_memory: PositiveFloat | None = None
    dry: bool = False
    graph: bool = True


TRAINING_ONLY = frozenset(FinetuneConfig.__dataclass_fields__) - frozenset(
    PredictConfig.__dataclass_fields__
)


def read(
    kind: type[T],
    file: Path,
    overrides: Sequence[str] = (),
    *,
    ignore: Collection[str] = (),
    below: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda values: {},
) -> T:
    """The configuration of a YAML file, with `key.key=value` overrides;
    `ignore` names sections to leave aside, `below` gives of these values others that they are laid
    over.

    Raises:
        ConfigError: with every unknown key (and what it may mean) and every value of a wrong type.
    """
    values = read_yaml(file)
    for override in overrides:
        values = merge(values, _nest(override))
    values = merge(below(values), values)
    return change_fields(
        kind(), {key: value for key, value in values.items() if key not in ignore}, str(file)
    )


def read_yaml(file: Path) -> dict[str, Any]:
    """The values of a YAML file, laid over those of its `base:`."""
    values = read_yaml_file(file) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected `key: value` lines, found {values!r}")
    base = values.pop("base", None)
    return values if base is None else merge(read_yaml(file.parent / base), values)


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, sections merged key by key; where both have a value, that from `above`."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = (
            merge(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
        )
    return result


def _nest(override: str) -> dict[str, Any]:
    path, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"expected key=value, found {override!r}")
    *sections, last = path.split(".")
    nested: dict[str, Any] = {last: yaml.safe_load(text) if text else None}
    for section in reversed(sections):
        nested = {section: nested}
    return nested


def change_fields(original: T, values: Mapping[str, Any], where: str) -> T:
    """The dataclass `original` with other values, sections inside it included.

    Raises:
        ConfigError: with every fault; `where` says what was being read.
    """
    faults: list[str] = []
    result: T = _change_fields(original, values, "", faults)
    if faults:
        raise ConfigError(f"{where}: " + "; ".join(faults))
    return result


def _change_fields(original: Any, values: Mapping[str, Any], path: str, faults: list[str]) -> Any:
    hints = get_type_hints(type(original), include_extras=True)
    news = {}
    for key, value in values.items():
        if key not in hints:
            hint = explain(str(key), value) or nearest(str(key), hints)
            faults.append(f"unknown key {path}{key}.{hint}")
        elif dataclasses.is_dataclass(old := getattr(original, key)):
            if isinstance(value, Mapping):
                news[key] = _change_fields(old, value, f"{path}{key}.", faults)
            else:
                faults.append(
                    f"{path}{key} is a section of {', '.join(get_type_hints(type(old)))}, "
                    f"found {value!r}"
                )
        else:
            read = read_value(value, hints[key])
            news[key] = read.expanduser() if isinstance(read, Path) else read
            if fault := fault_of(hints[key], read):
                faults.append(f"{path}{key} {fault}")
                del news[key]

    return dataclasses.replace(original, **news)
