"""Looking inside media on other processes, with a journal so that hours of it are not lost to a kill."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TypeAlias, TypeVar

from mmdata.errors import MediaError
from mmdata.isolate import Pool
from mmdata.limits import Limits
from mmdata.locate import is_file
from mmdata.probe import Level, check
from mmdata.requirements import processors
from mmdata.schema import MediaType
from mmdata.store import Store

__all__ = ["Facts", "File", "MediaFault", "Prober", "look", "media_faults"]

T = TypeVar("T")
File: TypeAlias = tuple[str, MediaType]
"""The path of a medium, and what it is said to be."""
Facts: TypeAlias = Mapping[str, Any]
"""What was found: fields of :class:`mmdata.schema.Media`."""

_AHEAD: Final = 256
_KEPT: Final = ("width", "height", "duration", "fps", "num_frames", "times")


def look(files: Sequence[File], level: Level, limits: Limits) -> list[Facts]:
    """Return what each file is.

    Raises:
        MediaError: one of them is not sound.
    """
    return [
        {key: value for key, value in asdict(check(path, kind, level=level, limits=limits)).items() if key in _KEPT}
        for path, kind in files
    ]


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    """An item whose turn has not come: what is known of its files already, and whether a worker was asked."""

    item: T
    files: list[File]
    known: list[Facts] | MediaError | None
    asked: bool

    def answer(self) -> list[Facts] | MediaError:
        assert self.known is not None
        return self.known


class Prober:
    """Answers what media are, several records at a time and in order; use it in a ``with`` block.

    ``journal`` is a file of answers: what an earlier attempt left there is believed of files that have kept their size
    and time, and new answers are added. Without one nothing is kept.
    """

    def __init__(
        self, level: Level, *, journal: Path | None = None, workers: int | None = None, limits: Limits | None = None
    ) -> None:
        self._level = level
        self._limits = limits or Limits()
        self._path = journal or Path(os.devnull)
        self._pool = Pool(workers or processors(), deadline=self._limits.deadline, memory=self._limits.memory)
        self._known: dict[str, list[Any]] = {}

    def __enter__(self) -> Prober:
        """Read the journal."""
        self._pool.__enter__()
        self._known = dict(_read(self._path, self._level))
        self._journal = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the workers."""
        self._journal.close()
        self._pool.__exit__(kind, error, trace)

    def answers(
        self, items: Iterable[T], files_of: Callable[[T], Sequence[File]]
    ) -> Iterator[tuple[T, list[Facts] | MediaError]]:
        """Yield each item with what its files are, or with why one of them cannot be used; in order.

        Workers are some items ahead of the one that is yielded.
        """
        waiting: deque[_Waiting[T]] = deque()

        def questions() -> Iterator[tuple[Sequence[File], Level, Limits]]:
            for item in items:
                files = list(files_of(item))
                known = self._recall(files)
                asked = known is None or len(waiting) >= _AHEAD  # a question now and then lets the known be yielded
                waiting.append(_Waiting(item, files, known, asked))
                if asked:
                    yield files if known is None else [], self._level, self._limits

        for found in self._pool.map(look, questions()):
            while not waiting[0].asked:
                yield waiting[0].item, waiting.popleft().answer()
            first = waiting.popleft()
            yield first.item, self._remember(first.files, found) if first.known is None else first.known
        for one in waiting:
            yield one.item, one.answer()

    def _recall(self, files: Sequence[File]) -> list[Facts] | MediaError | None:
        """Return what the journal says of the files; None if it does not know them all."""
        facts = []
        for path, _ in files:
            known = self._known.get(path)
            if known is None or known[0] != _stamp(path):
                return None
            if "reason" in known[1]:
                return MediaError(known[1]["message"], path=path, reason=known[1]["reason"])
            facts.append(known[1])
        return facts

    def _remember(self, files: Sequence[File], found: list[Facts] | Exception) -> list[Facts] | MediaError:
        if isinstance(found, MediaError):
            culprit = next((path for path, _ in files if path == found.path), files[0][0])
            self._note(culprit, {"message": str(found), "reason": found.reason})
            return found
        if isinstance(found, Exception):
            raise found
        for (path, _), facts in zip(files, found, strict=True):
            self._note(path, facts)
        return found

    def _note(self, path: str, facts: Facts) -> None:
        self._known[path] = [_stamp(path), facts]
        self._journal.write(json.dumps([self._level, path, *self._known[path]]) + "\n")
        self._journal.flush()


@dataclass(frozen=True, slots=True)
class MediaFault:
    """A row whose media cannot be used, and why."""

    row: int
    id: str
    reason: str
    detail: str


def media_faults(
    store: Store,
    level: Level = "decode",
    *,
    workers: int | None = None,
    limits: Limits | None = None,
    progress: Callable[[int, int], object] = lambda rows, faults: None,
) -> Iterator[MediaFault]:
    """Yield the rows of a store whose media files are not sound, in order; URLs and embedded media are not looked at.

    ``progress`` is called with the numbers of rows and faults so far.
    """

    def files_of(row: int) -> list[File]:
        return [(store.locate(medium) or "", medium.type) for medium in store[row].media if is_file(medium)]

    faults = 0
    with Prober(level, workers=workers, limits=limits) as prober:
        for row, found in prober.answers(range(len(store)), files_of):
            if isinstance(found, MediaError):
                faults += 1
                yield MediaFault(row, store[row].id, found.reason, str(found))
            progress(row + 1, faults)


def _read(journal: Path, level: Level) -> Iterator[tuple[str, list[Any]]]:
    """Yield the answers of one level in a journal, by path; a last line that was cut is left out."""
    if not journal.exists():
        return
    with journal.open(encoding="utf-8") as lines:
        for line in lines:
            with suppress(ValueError):
                found, path, stamp, facts = json.loads(line)
                if found == level:
                    yield path, [stamp, facts]


def _stamp(path: str) -> list[int] | None:
    """Return what changes when a file does."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns]
