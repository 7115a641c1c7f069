"""The mixing YAML: a list of data sets, each with how much of it to take.

    datasets:
      - json_path: /data/llava_{a,b}.json     # annotation files, read as a format
        sampling_strategy: first:60%
      - store: stores/rwf                     # a converted store
        repeat: 2.5
    epoch_length: 100000                      # with weights only

Files that other training programs read (lists of ``json_path`` and ``sampling_strategy``) are read
as they are.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from mmdata._tools.options import PositiveFloat, PositiveInt, check_fields
from mmdata._tools.paths import local_path
from mmdata._tools.yaml_file import read_yaml
from mmdata.errors import ConfigError, UsageError, nearest
from mmdata.mixture.strategy import Strategy

__all__ = ["Dataset", "MixConfig", "read_config"]

_BRACES: Final = re.compile(r"(.*)\{(.*)\}(.*)")


@dataclass(frozen=True, slots=True)
class Dataset:
    """One entry: a store or annotation files, and how much of it.

    ``repeat`` is a number of passes over the rows taken (the fraction of a pass is drawn at
    random), ``weight`` a share of the draws of an epoch. With ``random_mapping`` the rows taken are
    drawn with replacement, ``scale`` times as many as there are
    (:mod:`mmdata.mixture.random_mapping`). ``format``, ``media_root`` and ``options`` say how
    annotation files are read.
    """

    store: Path | None = None
    json_path: tuple[Path, ...] = ()
    sampling_strategy: Strategy = field(default_factory=Strategy)
    repeat: PositiveFloat = 1
    weight: PositiveFloat | None = None
    random_mapping: bool = False
    scale: PositiveInt = 1
    format: str = "llava"
    media_root: Path | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the types and the bounds."""
        check_fields(self)

    @property
    def name(self) -> str:
        """What people call it."""
        return self.store.name if self.store else ", ".join(path.name for path in self.json_path)


@dataclass(frozen=True, slots=True)
class MixConfig:
    """A mixing YAML: its data sets in order and, where they have weights, the rows of an epoch."""

    datasets: tuple[Dataset, ...]
    epoch_length: PositiveInt | None = None

    def __post_init__(self) -> None:
        """Check the types and the bounds."""
        check_fields(self)


def read_config(path: str | Path) -> MixConfig:
    """Return what the YAML file at ``path`` says; relative paths in it start at its own folder.

    Raises:
        ConfigError: with every fault found in it.
    """
    file = Path(path)
    values = read_yaml(file)
    faults: list[str] = []
    config = _config(values, file.parent, faults)
    if faults or config is None:
        raise ConfigError(f"{file}: " + "; ".join(faults))
    return config


def _config(values: Any, folder: Path, faults: list[str]) -> MixConfig | None:
    if (
        not isinstance(values, dict)
        or not isinstance(values.get("datasets"), list)
        or not values["datasets"]
    ):
        faults.append(
            "it needs a list `datasets:` with at least one entry of `json_path:` or `store:`"
        )
        return None

    _refuse_unknown(values, MixConfig, "the file", faults)
    entries = [
        _dataset(entry, number, folder, faults) for number, entry in enumerate(values["datasets"])
    ]
    datasets = tuple(entry for entry in entries if entry is not None)
    weighted = ["weight" in entry for entry in values["datasets"] if isinstance(entry, dict)]
    if any(weighted) and not all(weighted):
        faults.append("either every entry has a `weight:` or none has")
    length = values.get("epoch_length")
    if length is not None and (type(length) is not int or length <= 0 or not any(weighted)):
        faults.append(f"epoch_length {length!r}: it is a number of rows, and goes with weights")
        length = None

    return MixConfig(datasets, length)


def _refuse_unknown(values: Mapping[str, Any], kind: type, where: str, faults: list[str]) -> None:
    known = [f.name for f in fields(kind)]
    faults.extend(
        f"{where} has an unknown key {key!r}.{nearest(str(key), known)}"
        for key in values
        if key not in known
    )


def _dataset(entry: Any, number: int, folder: Path, faults: list[str]) -> Dataset | None:
    where = f"entry {number}"
    if not isinstance(entry, dict) or ("json_path" in entry) == ("store" in entry):
        faults.append(f"{where} needs either `json_path:` or `store:`, found {entry!r}")
        return None

    _refuse_unknown(entry, Dataset, where, faults)
    readers: dict[str, Callable[[Any], Any]] = {
        "store": lambda value: _store(value, folder),
        "json_path": lambda value: _annotation_files(value, folder),
        "sampling_strategy": lambda value: Strategy.parse(str(value)),
        "repeat": lambda value: _positive(value, "repeat"),
        "weight": lambda value: _positive(value, "weight"),
        "random_mapping": lambda value: _flag(value, "random_mapping"),
        "scale": lambda value: _scale(entry),
        "format": str,
        "media_root": lambda value: _find(value, folder),
        "options": _options,
    }
    read: dict[str, Any] = {}
    for key, value in entry.items():
        try:
            if key in readers:
                read[key] = readers[key](value)
        except ConfigError as error:
            faults.append(f"{where}: {error}")
    return Dataset(**read) if read.keys() == entry.keys() else None


def _options(value: Any) -> dict[str, Any]:
    if value is not None and not isinstance(value, dict):
        raise ConfigError(f"options are names and values, found {value!r}")
    return dict(value or {})


def _flag(value: Any, key: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{key} must be true or false, found {value!r}")
    return value


def _scale(entry: Mapping[str, Any]) -> int:
    value = entry.get("scale", 1)
    if type(value) is not int or value < 1:
        raise ConfigError(f"scale must be a whole number of at least 1, found {value!r}")
    if value != 1 and entry.get("random_mapping") is not True:
        raise ConfigError(
            f"scale {value} goes with `random_mapping: true` (MindFormers ignores it elsewhere); "
            "for whole passes over the rows use `repeat:`"
        )
    return value


def _positive(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
        raise ConfigError(f"{key} must be a number above 0, found {value!r}")
    return float(value)


def _find(name: Any, folder: Path) -> Path:
    if not isinstance(name, str) or not name:
        raise ConfigError(f"a path is text, found {name!r}")
    _refuse_url(name)
    here = folder / Path(name).expanduser()
    return here if here.exists() or not Path(name).exists() else Path(name)


def _refuse_url(name: str) -> None:
    try:
        local_path(name, "path")
    except UsageError as error:
        raise ConfigError(str(error)) from error


def _store(name: Any, folder: Path) -> Path:
    store = _find(name, folder)
    if not store.exists():
        raise ConfigError(f"there is no store at {store}")
    return store


def _annotation_files(name: Any, folder: Path) -> tuple[Path, ...]:
    if not isinstance(name, str) or not re.search(r"\.jsonl?(\.gz|\.zst)?$", name):
        raise ConfigError(f"json_path must name a .json or .jsonl file, found {name!r}")
    files = tuple(_find(expanded, folder) for expanded in expand_braces(name))
    if absent := [str(file) for file in files if not file.is_file()]:
        raise ConfigError(f"there is no {', '.join(absent)}")
    return files


def expand_braces(name: str) -> Sequence[str]:
    """Return ``a{x,y}.json`` as ``ax.json`` and ``ay.json``, any other name alone.

    >>> expand_braces("mix/{a,b}.json")
    ['mix/a.json', 'mix/b.json']
    """
    match = _BRACES.fullmatch(name)
    if match is None:
        return [name]
    before, inside, after = match.groups()
    return [f"{before}{choice}{after}" for choice in inside.split(",")]
