"""The files of a source: a file as it is, for a folder the files of records in it."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final, NamedTuple

from mmdata.errors import UsageError
from mmdata.schema import Split
from mmdata.sources._walk import is_folder, walk
from mmdata.sources.hub import configured_files, is_saved, saved_files
from mmdata.sources.kinds import KINDS, SUFFIXES, Kind, kind_of, suffix_kind
from mmdata.sources.meter import Meter, Tell, tell_nobody
from mmdata.sources.parts import WHOLE, Part
from mmdata.sources.tar import has_records
from mmdata.storage._path import RemotePath
from mmdata.store.layout import EXPORT, EXPORT_REJECTS, MANIFEST, RUNS, is_store

__all__ = [
    "ListedSources",
    "SourceFile",
    "Sources",
    "expand_names",
    "find_files",
    "list_files",
    "tell_by_file",
]

_log: Final = logging.getLogger("mmdata.sources")

_ABOUT: Final = frozenset(
    {
        "dataset_info.json",
        "dataset_infos.json",
        "dataset_dict.json",
        "wids-meta.json",
        EXPORT,
        EXPORT_REJECTS,
    }
)
"""Files that data sets have beside their records, about these."""
_BRACES: Final = re.compile(r"\{([^{}]*(?:\.\.|,)[^{}]*)\}")
_WILDCARD: Final = re.compile(r"[*?]|\[[^\]]+\]")
_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)")
_MOST_FILES: Final = 1_000_000


class SourceFile(NamedTuple):
    """A file of records: where it is, its kind, the split that its folder declares it to be, and
    which part of it is read.
    """

    path: Path
    kind: Kind
    split: Split | None = None
    part: Part = WHOLE


class Sources(tuple[Path, ...]):
    """Sources whose files are listed once, whoever asks for them and how often.

    A conversion asks for the same files when it records them, looks for their common folder, reads
    them, and puts their rows into splits. What is listed first is what all of these see, so that a
    file which appears meanwhile is in all of the answers or in none.
    """

    def __init__(self, paths: Iterable[Path]) -> None:  # tuple.__new__ took them
        """List nothing yet: which kinds of files count is for the format to say."""
        self._listed: dict[frozenset[Kind], tuple[SourceFile, ...]] = {}
        self.meter: Meter | None = None
        """What is told how far these sources have been read, if anything is."""

    def measured_by(self, meter: Meter) -> Sources:
        """Return the same sources for those who tell a ``meter`` how far they have read."""
        same = Sources(self)
        same._listed = self._listed
        same.meter = meter
        return same

    def list_files(self, kinds: Collection[Kind]) -> list[SourceFile]:
        """Return what :func:`list_files` does."""
        asked = frozenset(kinds)
        if asked not in self._listed:
            self._listed[asked] = tuple(_list_files(self, asked))
        return list(self._listed[asked])


class ListedSources(Sources):
    """Sources of which the files are listed already, those or parts of them."""

    def __new__(cls, files: Sequence[SourceFile]) -> ListedSources:
        """Return sources of some files."""
        return super().__new__(cls, (file.path for file in files))

    def __init__(self, files: Sequence[SourceFile]) -> None:
        """Keep the files."""
        super().__init__(())
        self._files = tuple(files)

    def list_files(self, kinds: Collection[Kind]) -> list[SourceFile]:
        """Return the files; their kinds were asked for when they were listed."""
        return list(self._files)

    def __reduce__(self) -> tuple[type[ListedSources], tuple[tuple[SourceFile, ...]]]:
        """Return how another process makes the same: a tuple alone would lose the files."""
        return ListedSources, (self._files,)


def expand_names(source: Path) -> list[Path]:
    """Return the files that a name with braces stands for, as WebDataset spells shards, or with
    wildcards (``*``, ``?``, ``[…]``, and ``**`` for any folders), sorted; the source itself where
    it is there, has neither, or no file is called so.

    >>> [str(path) for path in expand_names(Path("s-{008..010}.tar"))]
    ['s-008.tar', 's-009.tar', 's-010.tar']

    Raises:
        UsageError: they are too many for anybody's disk.
    """
    text = os.fspath(source)
    has_wildcards = _has_wildcards(source)
    if not ("{" in text or has_wildcards) or source.exists():
        return [source]
    if has_wildcards:
        return [file for path in _expand_braces(source) for file in _matching(path)]
    return _expand_braces(source)


def tell_by_file(
    sources: Sequence[Path], files: Sequence[SourceFile]
) -> Iterator[tuple[SourceFile, Tell]]:
    """Yield the files that are read of some sources, each with what its reader is to tell how far
    it is; a file counts as much as it has bytes.
    """
    meter = sources.meter if isinstance(sources, Sources) else None
    if meter is None:
        yield from ((file, tell_nobody) for file in files)
        return

    sizes = [file.path.stat().st_size for file in files]
    whole = sum(sizes) or 1
    done = 0
    for file, size in zip(files, sizes, strict=True):
        yield file, partial(_tell_part, meter, done / whole, size / whole)
        done += size
        meter.end(done / whole)


def _tell_part(meter: Meter, before: float, part: float, share: float) -> None:
    meter.tell(before + part * share)


def _has_wildcards(path: Path) -> bool:
    """Return whether a path may be a pattern; what a URL of HTTP has of it is its query."""
    can_list = not isinstance(path, RemotePath) or path.has_folders
    return can_list and _WILDCARD.search(os.fspath(path)) is not None


def _matching(path: Path) -> list[Path]:
    """Return what is called as a pattern says, or the pattern where nothing is."""
    parts = os.fspath(path).split("/")
    first = next((place for place, part in enumerate(parts) if _WILDCARD.search(part)), None)
    if first is None:
        return [path]
    base = "/".join(parts[:first]) or ("/" if path.is_absolute() else ".")
    folder = path.like(base) if isinstance(path, RemotePath) else Path(base)
    return sorted(folder.glob("/".join(parts[first:])), key=lambda one: one.parts) or [path]


def _expand_braces(source: Path) -> list[Path]:
    text = os.fspath(source)
    pieces = _BRACES.split(text)
    choices = [_choices(piece) if place % 2 else [piece] for place, piece in enumerate(pieces)]
    names = ["".join(choice) for choice in product(*choices)]
    return [source.like(name) if isinstance(source, RemotePath) else Path(name) for name in names]


def _choices(inside: str) -> list[str]:
    found: list[str] = []
    for item in inside.split(","):
        bounds = _RANGE.fullmatch(item)
        if bounds is None:
            found.append(item)
            continue
        first, last = int(bounds[1]), int(bounds[2])
        if abs(last - first) >= _MOST_FILES:
            raise UsageError(f"{{{inside}}} stands for {abs(last - first) + 1} files")
        step = 1 if first <= last else -1
        found += [f"{number:0{len(bounds[1])}}" for number in range(first, last + step, step)]
    return found


def find_files(sources: Sequence[Path], kinds: Collection[Kind] = KINDS) -> list[SourceFile]:
    """Return the files of the sources in their order, each once, as :func:`list_files` does.

    Raises:
        UsageError: there is none, or :func:`list_files` refuses the sources.
    """
    if found := list_files(sources, kinds):
        return found
    suffixes = ", ".join(suffix for kind in SUFFIXES if kind in kinds for suffix in SUFFIXES[kind])
    raise UsageError(f"no file of records ({suffixes}) in {', '.join(map(str, sources))}")


def list_files(sources: Sequence[Path], kinds: Collection[Kind] = KINDS) -> list[SourceFile]:
    """Return the files of the sources in their order, each once; none for folders without any.

    A file is taken as it is, and so are those that a name with braces or wildcards stands for. For
    a folder come the files that its own description names (:mod:`mmdata.sources.hub`), or else all
    below it that have a suffix of one of ``kinds``, sorted. These must be of one kind; CSV beside
    another kind is passed over, and so is a tar without records, such as one of pictures alone. So
    are files that are hidden, or in a hidden folder: editors and systems put copies of others
    there.

    What we wrote below a folder ourselves, or are writing now, is none of its sources.

    Raises:
        UsageError: a source is not there, is of none of the kinds, or has files of several.
    """
    if isinstance(sources, Sources):
        return sources.list_files(kinds)
    return _list_files(sources, kinds)


def _list_files(sources: Iterable[Path], kinds: Collection[Kind]) -> list[SourceFile]:
    found: list[SourceFile] = []
    for source in sources:
        for path in expand_names(source):
            if path.is_dir():
                found += _files_of(path, kinds)
            elif path.is_file():
                found.append(_named_file(path, kinds))
            else:
                raise UsageError(f"file or folder not found: {path}")
    return _each_once(found)


def _each_once(files: Sequence[SourceFile]) -> list[SourceFile]:
    kept: dict[Path, SourceFile] = {}
    for file in files:
        kept.setdefault(file.path, file)
    return list(kept.values())


def _named_file(path: Path, kinds: Collection[Kind]) -> SourceFile:
    kind = kind_of(path)
    if kind not in kinds:
        raise UsageError(
            f"{path} is {kind}, and this format reads {', '.join(sorted(kinds))} alone"
        )
    return SourceFile(path, kind)


def _files_of(folder: Path, kinds: Collection[Kind]) -> list[SourceFile]:
    if "arrow" in kinds and is_saved(folder):
        return [SourceFile(file.path, "arrow", file.split) for file in saved_files(folder)]
    if configured := configured_files(folder):
        files = [(file, suffix_kind(file.path.name)) for file in configured]
        return [
            SourceFile(file.path, kind, file.split)
            for file, kind in files
            if kind is not None and kind in kinds
        ]
    return _one_kind(list(_walked(folder, kinds)), folder)


def _walked(folder: Path, kinds: Collection[Kind]) -> Iterator[SourceFile]:
    """Yield the files below a folder that have a suffix of one of the kinds and are not hidden."""
    is_described: dict[Path, bool] = {}
    hidden: list[str] = []
    is_remote = isinstance(folder, RemotePath)  # where files alone are listed
    for path in _files_below(folder):
        kind = suffix_kind(path.name)
        if kind is None or kind not in kinds or not (is_remote or path.is_file()):
            continue
        inside = path.relative_to(folder)
        if any(map(_is_hidden, inside.parts)):
            hidden.append(inside.as_posix())
            continue
        parent = path.parent
        if parent not in is_described:
            is_described[parent] = is_saved(parent)
            if is_described[parent] and "arrow" in kinds:
                saved = saved_files(parent)
                yield from (SourceFile(file.path, "arrow", file.split) for file in saved)
        if is_described[parent] or path.name in _ABOUT:
            continue
        if kind == "tar" and not has_records(path):
            continue
        yield SourceFile(path, kind)

    if hidden:
        _log.warning(
            "%s: %d files that are hidden are not read (the first is %s); name a hidden file or "
            "folder itself to have it read",
            folder,
            len(hidden),
            hidden[0],
        )


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder by sorted path, but for those of stores of ours."""
    if not isinstance(folder, RemotePath):
        yield from map(Path, walk(os.fspath(folder), skip=_is_ours))
        return
    files = [path for path, _ in folder.files()]
    stores = {path.parent for path in files if path.name == MANIFEST}
    stores = {
        store for store in stores if any(path.parent.parent == store / RUNS for path in files)
    }
    yield from (path for path in files if not any(map(path.is_below, stores)))


def _is_hidden(name: str) -> bool:
    """Return whether a file or a folder is no part of what people look at: hidden by its name, as
    Jupyter's copies of notebooks' files and macOS's ``._`` beside each of its files are; or where
    macOS puts the latter in an archive.
    """
    return name.startswith(".") or name == "__MACOSX"


def _one_kind(files: Sequence[SourceFile], folder: Path) -> list[SourceFile]:
    kinds = sorted({file.kind for file in files})
    if len(kinds) > 1 and "csv" in kinds:
        tables = sum(file.kind == "csv" for file in files)
        kinds.remove("csv")
        _log.warning("%s: %d CSV files beside those of records are not read", folder, tables)
    if len(kinds) > 1:
        counts = [f"{sum(file.kind == kind for file in files)} {kind}" for kind in kinds]
        raise UsageError(
            f"{folder} has files of several kinds ({', '.join(counts)}): name those to be read"
        )
    return [file for file in files if file.kind in kinds]


def _is_ours(entry: os.DirEntry[str]) -> bool:
    return is_folder(entry) and is_store(Path(entry.path))
