"""Folders that say themselves which files are which split: what ``save_to_disk`` of Hugging Face
``datasets`` writes, and a local clone of a data set of the Hub, by its README.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Final, NamedTuple

from mmdata.errors import UsageError
from mmdata.schema import Split

__all__ = ["SplitFile", "configured_files", "is_saved", "saved_files", "split_of"]

_log: Final = logging.getLogger("mmdata.sources")

_STATE: Final = "state.json"
_INFO: Final = "dataset_info.json"
_DICT: Final = "dataset_dict.json"
_README: Final = "README.md"
_HEADER: Final = re.compile(r"\A---[ \t]*\r?\n(.*?\n)---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_WORDS: Final[dict[Split, tuple[str, ...]]] = {
    "train": ("train", "training"),
    "val": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_SPLIT_OF: Final = {word: split for split, words in _WORDS.items() for word in words}
_WORD: Final = re.compile(r"[^\W\d_]+")


class SplitFile(NamedTuple):
    """A file, and the split that its folder declares it to be, if any."""

    path: Path
    split: Split | None


def split_of(name: str) -> Split | None:
    """Return the split that a declared name stands for, or None where it is none of ours, or
    several.

    The words are those that ``datasets`` knows (``datasets/data_files.py``, SPLIT_KEYWORDS).

    >>> split_of("train"), split_of("human_val"), split_of("trained")
    ('train', 'val', None)
    """
    words = _WORD.findall(name.lower())
    found = {_SPLIT_OF[word] for word in words if word in _SPLIT_OF}
    return found.pop() if len(found) == 1 else None


def is_saved(folder: Path) -> bool:
    """Return whether a folder is one that ``Dataset.save_to_disk`` wrote."""
    return (folder / _STATE).is_file() and (folder / _INFO).is_file()


def saved_files(folder: Path) -> list[SplitFile]:
    """Return the files of a data set that ``save_to_disk`` wrote, in the order of its rows.

    Raises:
        UsageError: what the folder says of itself cannot be read, or names a file that is not
            there.
    """
    place = folder / _STATE
    try:
        state = json.loads(place.read_bytes())
        names = [item["filename"] for item in state["_data_files"]]
        files = [folder / PurePosixPath(name).name for name in names]
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{place}: not what `save_to_disk` writes: {error!r}") from error
    if state.get("_indices_files"):
        raise UsageError(
            f"{place}: rows chosen by an index file of an old `datasets`; save the data set again"
        )
    _require_files(files, place)
    said = state.get("_split")
    if (folder.parent / _DICT).is_file():  # whose folders are called as its splits
        said = folder.name
    split = split_of(said) if isinstance(said, str) else None
    return [SplitFile(file, split) for file in files]


def configured_files(folder: Path) -> list[SplitFile] | None:
    """Return the files that the README of a clone says are its data, or None where it says nothing
    of them.

    Of several configurations the default one is read, and the log says which are not.

    Raises:
        UsageError: the README cannot be read, names files that are not there, or has several
            configurations of which none is the default.
    """
    readme = folder / _README
    if not readme.is_file():
        return None
    header = _HEADER.match(readme.read_text(encoding="utf-8", errors="replace"))
    if header is None:
        return None
    configs = _read_configs(header[1], readme)
    if not configs:
        return None
    config = _choose_config(configs, readme)
    found: dict[Path, SplitFile] = {}
    for split, pattern in _patterns(config, readme):
        files = _matching(folder, config.get("data_dir"), pattern)
        if not files:
            raise UsageError(f"{readme}: no file is called {pattern!r}; was it fetched?")
        for file in files:
            found.setdefault(file, SplitFile(file, split))
    return list(found.values())


def _read_configs(text: str, readme: Path) -> list[dict[str, Any]]:
    import yaml

    try:
        header = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UsageError(f"{readme}: its YAML cannot be read: {error}") from error
    configs = header.get("configs") if isinstance(header, dict) else None
    if configs is None:
        return []
    if not isinstance(configs, list) or not all(isinstance(one, dict) for one in configs):
        raise UsageError(f"{readme}: 'configs' must be a list of objects")
    return configs


def _choose_config(configs: Sequence[dict[str, Any]], readme: Path) -> dict[str, Any]:
    if len(configs) == 1:
        return configs[0]
    names = [str(config.get("config_name", "default")) for config in configs]
    for config, name in zip(configs, names, strict=True):
        if config.get("default") is True or name == "default":
            others = [other for other in names if other != name]
            _log.warning("%s: %s is read, not %s", readme, name, ", ".join(others))
            return config
    raise UsageError(
        f"{readme}: holds {len(names)} data sets ({', '.join(names)[:300]}): name the files, "
        "or the folder, of one of them"
    )


def _patterns(config: dict[str, Any], readme: Path) -> Iterator[tuple[Split | None, str]]:
    """Yield the patterns of a configuration's files, each with its split."""
    listed = config.get("data_files", "**/*")
    items: Sequence[Any]
    if isinstance(listed, dict):
        items = [{"split": split, "path": path} for split, path in listed.items()]
    else:
        items = listed if isinstance(listed, list) else [listed]
    for item in items:
        split = split_of(str(item.get("split", ""))) if isinstance(item, dict) else None
        paths = item.get("path") if isinstance(item, dict) else item
        for path in paths if isinstance(paths, list) else [paths]:
            if not isinstance(path, str) or not path or ".." in path or path.startswith("/"):
                raise UsageError(f"{readme}: not a file of this folder: {path!r}")
            if "://" in path:
                raise UsageError(f"{readme}: {path} is a URL; fetch it and name the file")
            yield split, path


def _matching(folder: Path, data_dir: object, pattern: str) -> list[Path]:
    root = folder / data_dir if isinstance(data_dir, str) and ".." not in data_dir else folder
    found = sorted(path for path in root.glob(pattern) if path.is_file())
    # As `datasets` has it, a hidden file is meant only by a pattern that says so.
    wanted = _count_hidden(PurePosixPath(pattern))
    return [path for path in found if _count_hidden(path.relative_to(root)) <= wanted]


def _count_hidden(path: PurePath) -> int:
    """Return how many names in a path are of hidden files or folders."""
    return sum(name.startswith((".", "__")) for name in path.parts)


def _require_files(files: Sequence[Path], place: Path) -> None:
    if absent := [str(file) for file in files if not file.is_file()]:
        raise UsageError(f"{place}: names {absent[0]}, which is not there")
