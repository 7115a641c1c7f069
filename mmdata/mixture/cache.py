"""The stores that a mixture makes of annotation files, kept to be used again.

For each data set a folder, whose name is a hash of all that shapes its store but the media: the
bytes of its files, the format with its code and options, the media root, the versions of the
library and of the schema. In it::

    about.json      what it is made of, for people
    1/              a store
    1.media.json    what the conversion found wherever it looked for a medium

A store is used again as long as all those places answer as they did then: one look at each, nothing
is read. Else the next one is made beside it, so that whoever reads the old one is not disturbed;
the last few are kept.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, TypeAlias

import mmdata
from mmdata._tools.options import checked
from mmdata._tools.progress import Progress
from mmdata.conversion import convert
from mmdata.conversion.locate import size_of
from mmdata.errors import MMDataError, StoreError, UsageError
from mmdata.formats import Format, detect, make
from mmdata.mixture.config import Dataset
from mmdata.schema import SCHEMA_VERSION, MediaType
from mmdata.store import Store
from mmdata.store import open as open_store
from mmdata.store.manifest import hash_file, hash_text
from mmdata.store.publish import hold_lock

__all__ = ["Cache", "CacheSize"]

_log: Final = logging.getLogger("mmdata.mixture")

_Answer: TypeAlias = Literal["there", "empty", "absent", "changing"]
_Answers: TypeAlias = dict[str, dict[str, list[str]]]

_ABOUT: Final = "about.json"
_MEDIA: Final = ".media.json"
_CLEARED: Final = ".cleared"
_OWNER: Final = ".owner"
"""In it, who makes a store now. The lock is what counts; this is for people."""
_KEPT: Final = 3
"""How many stores of one data set stay: the newest, and those that somebody may still be reading.
"""


@dataclass(frozen=True, slots=True)
class CacheSize:
    """How many ``stores`` a cache holds,
    and how many ``bytes`` they and what belongs to them take.
    """

    stores: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Cache:
    """A ``folder`` of stores that were made of annotation files."""

    folder: Path

    @classmethod
    @checked
    def at(cls, folder: str | Path | None = None) -> Cache:
        """Return the cache at ``folder``, by default ``mmdata/mixtures``
        in ``$XDG_CACHE_HOME`` or else ``~/.cache``.

        Raises:
            UsageError: there is no home folder to look in.
        """
        if folder is not None:
            return cls(Path(folder).expanduser().absolute())
        base = Path(os.environ.get("XDG_CACHE_HOME", ""))
        try:
            return cls(
                (base if base.is_absolute() else Path.home() / ".cache") / "mmdata" / "mixtures"
            )
        except RuntimeError as error:
            raise UsageError(
                f"{error} Set XDG_CACHE_HOME, or name a folder for the cache of mixtures."
            ) from error

    def open(self, dataset: Dataset, progress: Progress = False) -> Store:
        """Return the store of a data set of annotation files,
        made now if none is there that holds still.

        Processes that want the same store at once, as the ranks of a job do, wait for the one that
        makes it, and say so; where that one dies, the next goes on in its place.

        Raises:
            UsageError: the data set cannot be read as it says, or the folder is not one to write
                to.
            StoreError: a file changed while it was read.
        """
        dataset = _absolute(dataset)
        name, reader = _format(dataset)
        key = _key(dataset, name, reader)
        entry = self.folder / f"{dataset.json_path[0].stem}-{key}"
        while True:
            known = _numbers(entry)
            if (store := _usable(entry, known)) is not None:
                return store
            with self._hold_lock(entry, lambda: _say_waiting(entry, dataset)):
                if _numbers(entry) == known:  # else somebody has made one since: look again
                    with _own(entry, dataset):
                        return _make_store(entry, known, dataset, name, key, progress)

    def size(self) -> CacheSize:
        """Return how much is in it."""
        entries = self._entries()
        return CacheSize(sum(len(_numbers(entry)) for entry in entries), sum(map(_bytes, entries)))

    def clear(self) -> CacheSize:
        """Remove every store, and nothing that is not the cache's own; return how much it was.

        Whoever has a store open reads on. A conversion that is going on is waited for.
        """
        size = self.size()
        for entry in self._entries():
            aside = entry.with_name(f".{entry.name.lstrip('.')}.{os.getpid()}{_CLEARED}")
            with self._hold_lock(entry):
                entry.rename(aside)
            shutil.rmtree(aside)
        return size

    def _entries(self) -> list[Path]:
        folders = [folder for folder in self.folder.glob("*") if folder.is_dir()]
        return sorted(
            each for each in folders if (each / _ABOUT).exists() or each.suffix == _CLEARED
        )

    @contextmanager
    def _hold_lock(
        self, entry: Path, on_wait: Callable[[], object] = lambda: None
    ) -> Iterator[None]:
        """Hold the lock of an entry; only getting it is turned into words here."""
        with ExitStack() as stack:
            try:
                stack.enter_context(hold_lock(entry, on_wait))
            except OSError as error:
                raise UsageError(
                    f"{self.folder}: no store can be kept there ({error.strerror}). "
                    "--cache DIR, or XDG_CACHE_HOME in the environment, "
                    "names another place for the stores that are made of annotation files."
                ) from error
            yield


@contextmanager
def _own(entry: Path, dataset: Dataset) -> Iterator[None]:
    """Say beside a store that this process makes it, as long as it does."""
    file = entry / _OWNER
    if (dead := _read_owner(entry)) is not None:
        _log.warning(
            "%s was being converted by %s, which has ended; this process does it anew",
            dataset.name,
            dead,
        )
    since = time.strftime("%H:%M:%S")
    text = f"process {os.getpid()} on {platform.node()} since {since}"
    file.write_text(text, encoding="utf-8")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _read_owner(entry: Path) -> str | None:
    """Return which process makes a store, or was at it when it died."""
    try:
        return (entry / _OWNER).read_text(encoding="utf-8") or None
    except OSError:
        return None


def _say_waiting(entry: Path, dataset: Dataset) -> None:
    # The one that holds the lock may not have said yet who it is.
    owner = _read_owner(entry) or "another process"
    _log.warning(
        "%s is being converted by %s; this process waits and uses its store", dataset.name, owner
    )


def _absolute(dataset: Dataset) -> Dataset:
    """Return a data set that reads the same from whatever folder:
    formats look at the names of their files.
    """
    root = dataset.media_root and dataset.media_root.absolute()
    return replace(
        dataset, json_path=tuple(file.absolute() for file in dataset.json_path), media_root=root
    )


def _format(dataset: Dataset) -> tuple[str, Format]:
    name = detect(dataset.json_path) if dataset.format == "auto" else dataset.format
    return name, make(name, dataset.options)


def _key(dataset: Dataset, name: str, reader: Format) -> str:
    """Return a hash of everything but the media that shapes the store of a data set."""
    contents = [f"{file} {hash_file(file)}" for file in dataset.json_path]
    options = json.dumps(sorted(dataset.options.items()), default=repr)
    versions = [mmdata.__version__, str(SCHEMA_VERSION), *_code(reader)]
    root = dataset.media_root or reader.media_root(dataset.json_path)
    return hash_text(name, options, str(root), *versions, *contents)


def _code(reader: Format) -> list[str]:
    """Return the hashes of the files that the format's classes are written in:
    it may be somebody's own.
    """
    modules = [sys.modules.get(kind.__module__) for kind in type(reader).__mro__]
    names = [getattr(module, "__file__", None) for module in modules]
    return [hash_file(Path(name)) for name in names if name and Path(name).is_file()]


def _numbers(entry: Path) -> list[int]:
    """Return the numbers of the stores that are whole, ascending:
    what their media were is written last.
    """
    return sorted(int(file.name.removesuffix(_MEDIA)) for file in entry.glob(f"[0-9]*{_MEDIA}"))


def _usable(entry: Path, numbers: list[int]) -> Store | None:
    """Return the newest store whose media are as they were; a store that is damaged is none."""
    for number in reversed(numbers):
        if _hold(entry / f"{number}{_MEDIA}"):
            with suppress(MMDataError):
                return open_store(entry / str(number))
    return None


def _make_store(
    entry: Path, known: list[int], dataset: Dataset, name: str, key: str, progress: Progress
) -> Store:
    """Make the next store of an entry whose lock is held."""
    number = max(known, default=0) + 1
    about = {
        "files": list(map(str, dataset.json_path)),
        "format": name,
        "options": dict(dataset.options),
        "media_root": None if dataset.media_root is None else str(dataset.media_root),
        "library_version": mmdata.__version__,
        "schema_version": SCHEMA_VERSION,
    }
    (entry / _ABOUT).write_text(json.dumps(about, indent=1, default=repr), encoding="utf-8")
    witness, store = _Witness(), entry / str(number)
    convert(
        name,
        dataset.json_path,
        store,
        options=dataset.options,
        media_root=dataset.media_root,
        overwrite=True,  # of an attempt that was killed before it was whole
        progress=progress,
        size_of=witness,
    )
    if _key(dataset, *_format(dataset)) != key:
        raise StoreError(
            f"{dataset.name} changed while it was read. Run again when it is complete.",
            path=str(store),
        )

    _write(entry / f"{number}{_MEDIA}", witness.answers())
    for old in known[: 1 - _KEPT]:
        (entry / f"{old}{_MEDIA}").unlink(missing_ok=True)
        shutil.rmtree(entry / str(old), ignore_errors=True)

    return open_store(store)


class _Witness:
    """Says how large media are, as a conversion asks, and keeps what the answers were.

    Where the folder of a medium is not there either, that is the answer: one, instead of one for
    each file in it.
    """

    def __init__(self) -> None:
        self._answers: defaultdict[str, dict[str, _Answer]] = defaultdict(dict)
        self._folders: dict[str, bool] = {}

    def __call__(self, path: str, kind: MediaType) -> int | None:
        size = size_of(path, kind)
        folder = path.rpartition("/")[0]
        if size is None and not self._is_there(folder):
            self._keep("folder", folder, "absent")
        else:
            self._keep(kind, path, _answer(size))
        return size

    def answers(self) -> _Answers:
        """Return the places by kind and by what was found there."""
        found: _Answers = {}
        for kind, answers in self._answers.items():
            for path, answer in answers.items():
                found.setdefault(kind, {}).setdefault(answer, []).append(path)
        return found

    def _is_there(self, folder: str) -> bool:
        if folder not in self._folders:
            self._folders[folder] = os.path.exists(folder)  # noqa: PTH110
        return self._folders[folder]

    def _keep(self, kind: str, path: str, answer: _Answer) -> None:
        answers = self._answers[kind]
        if answers.setdefault(path, answer) != answer:
            answers[path] = "changing"  # which no later answer equals


def _answer(size: int | None) -> _Answer:
    return "absent" if size is None else "there" if size else "empty"


def _write(file: Path, answers: _Answers) -> None:
    import msgspec

    aside = file.with_name(f"{file.name}.partial")
    aside.write_bytes(msgspec.json.encode(answers))
    aside.replace(file)


def _hold(file: Path) -> bool:
    """Return whether every place that a file of answers names answers as it did."""
    import msgspec

    try:
        answers = msgspec.json.decode(file.read_bytes(), type=dict[str, dict[str, list[str]]])
    except (OSError, msgspec.MsgspecError):
        return False

    for kind, paths_of in answers.items():
        for answer, paths in paths_of.items():
            if any(_ask(path, kind) != answer for path in paths):
                return False
    return True


def _ask(path: str, kind: str) -> _Answer:
    if kind == "folder":
        return "there" if os.path.exists(path) else "absent"  # noqa: PTH110
    return _answer(size_of(path, kind))  # type: ignore[arg-type]


def _bytes(folder: Path) -> int:
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir())
