"""What a pipeline supplies, and what holds it up: the function behind ``mmdata bench``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mmdata._tools.options import PositiveInt, checked, typed
from mmdata._tools.yaml_file import read_yaml
from mmdata.errors import ConfigError, UsageError, nearest
from mmdata.mixture import read_config
from mmdata.pipeline.stream import Stream

__all__ = ["BenchReport", "bench", "read_pipeline"]

_KEYS: Final = ("mixture", "store", "media_root", "template", "tokenizer", "stream")
_GIVEN: Final = frozenset({"mixture", "template"})


@dataclass(frozen=True, slots=True)
class BenchReport:
    """What ``steps`` batches took ``seconds`` for.

    ``samples``, ``tokens`` (padding left out) and ``bytes`` (of all arrays) are sums. ``real`` is
    the share of positions that are not padding, ``single`` what it would be with one sample a row.
    ``stages`` are processor seconds: ``read`` (the store), ``encode`` (the template), ``decode``
    (media), ``collate``. ``first`` is the time to the first batch.
    """

    steps: int
    samples: int
    tokens: int
    bytes: int
    seconds: float
    first: float
    real: float
    single: float
    stages: Mapping[str, float]

    @property
    def bottleneck(self) -> str:
        """The stage that takes most processor time."""
        return max(self.stages, key=lambda name: self.stages[name])

    @property
    def shares(self) -> dict[str, float]:
        """The part of all processor time that each stage takes."""
        total = sum(self.stages.values()) or 1.0
        return {name: spent / total for name, spent in self.stages.items()}

    def rows(self) -> list[tuple[str, str]]:
        """Return the report as names and values, for a table."""
        speed = [
            ("samples/s", f"{self.samples / self.seconds:.1f}"),
            ("tokens/s", f"{self.tokens / self.seconds:.0f}"),
            ("MB/s", f"{self.bytes / self.seconds / 1e6:.1f}"),
            ("first batch", f"{self.first:.2f} s"),
            ("real tokens", f"{self.real:.1%} (one sample a row: {self.single:.1%})"),
        ]
        stages = [
            (f"processor time: {name}", f"{share:.1%}") for name, share in self.shares.items()
        ]
        return [*speed, *stages, ("bottleneck", self.bottleneck)]


@checked
def bench(pipeline: str | Path, *, steps: PositiveInt = 100) -> BenchReport:
    """Run ``steps`` batches of the pipeline that a YAML file describes,
    fewer if an epoch has fewer.

    Raises:
        ConfigError: with every fault of the file.
    """
    return measure(read_pipeline(pipeline), steps)


def measure(stream: Stream, steps: int) -> BenchReport:
    """Run at most ``steps`` batches of the epoch of a stream, and say what they took."""
    samples = tokens = size = positions = made = 0
    first = 0.0
    began = time.perf_counter()
    for batch in islice(stream, steps):
        first = first or time.perf_counter() - began
        made += 1
        samples += sum(map(len, batch.ids))
        tokens += batch.tokens
        size += batch.nbytes
        positions += batch["input_ids"].size

    seconds = time.perf_counter() - began
    single = tokens / (max(samples, 1) * stream.seq_length)
    real = tokens / max(positions, 1)
    return BenchReport(
        made, samples, tokens, size, seconds, first, real, single, stream.watch.seconds
    )


def check_pipeline(path: str | Path) -> None:
    """Do nothing where the YAML file at ``path`` describes a pipeline (:func:`read_pipeline`) whose
    template and tokenizer can be made and whose samples are there; no annotation file is converted.

    Raises:
        ConfigError: with every fault of the file and of the mixing YAML that it names.
    """
    file = Path(path)
    config = read_yaml(file)
    faults = _faults(config)
    mapping = config if isinstance(config, dict) else {}
    if isinstance(mapping.get("store"), str) and not (file.parent / mapping["store"]).is_dir():
        faults.append(f"there is no store at {file.parent / mapping['store']}")
    if isinstance(mapping.get("mixture"), str):
        try:
            read_config(file.parent / mapping["mixture"])
        except UsageError as error:
            faults.append(str(error))
    if not _incomplete(mapping):
        try:
            _template(mapping, file.parent)
        except UsageError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError(f"{file}: " + "; ".join(faults))


def read_pipeline(path: str | Path) -> Stream:
    """Return the stream that a YAML file describes.

    Keys: ``mixture`` (a mixing YAML) or ``store`` with ``media_root``; ``template``, its ``name``
    and options; ``tokenizer``, its ``path`` and options, by default of the kind that the template
    reads, else of the kind ``name``; ``stream``, the options of :class:`mmdata.pipeline.Stream`.
    Paths are relative to the file.

    Raises:
        ConfigError: with every fault of the file.
    """
    file = Path(path)
    config = read_yaml(file)
    if faults := _faults(config):
        raise ConfigError(f"{file}: " + "; ".join(faults))
    try:
        options = typed(Stream, "stream", config.get("stream") or {}, besides=_GIVEN)
        template = _template(config, file.parent)
        return Stream(_samples(config, file.parent, options.get("seed", 0)), template, **options)
    except UsageError as error:
        raise ConfigError(f"{file}: {error}") from error


def _incomplete(config: Mapping[str, Any]) -> list[str]:
    """Return which of the sections are not there that the template is made of."""
    return [
        f"{key} must be a mapping with a {needed}"
        for key, needed in (("template", "name"), ("tokenizer", "path"))
        if not isinstance(config.get(key), dict) or needed not in config[key]
    ]


def _faults(config: Any) -> list[str]:
    if not isinstance(config, dict):
        return [f"a pipeline is a mapping of {', '.join(_KEYS)}"]

    faults = [
        f"unknown key {key!r}.{nearest(str(key), _KEYS)}" for key in config if key not in _KEYS
    ]
    if ("mixture" in config) == ("store" in config):
        faults.append("give either mixture (a mixing YAML) or store")

    faults += _incomplete(config)

    stream = config.get("stream") or {}
    if not isinstance(stream, dict):
        return [*faults, f"stream must be a mapping of options, found {stream!r}"]

    try:
        typed(Stream, "stream", stream, besides=_GIVEN)
    except UsageError as error:
        faults.append(str(error))

    return faults


def _samples(config: Mapping[str, Any], folder: Path, seed: int) -> Any:
    from mmdata.mixture import Mixture
    from mmdata.store import open as open_store

    if "store" in config:
        root = config.get("media_root")
        return open_store(folder / config["store"], media_root=folder / root if root else None)
    return Mixture.from_yaml(folder / config["mixture"], seed=seed)


def _template(config: Mapping[str, Any], folder: Path) -> Any:
    from mmdata.templates import load_tokenizer, make
    from mmdata.tokenizers import load

    options, words = dict(config["template"]), dict(config["tokenizer"])
    name, path = options.pop("name"), folder / words.pop("path")

    if "name" in words:
        tokenizer = load(words.pop("name"), path, **words)
    else:
        tokenizer = load_tokenizer(name, path, **words)
    return make(name, tokenizer, options)
