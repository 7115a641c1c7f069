"""Looking into media on other processes,
with a journal so that hours of it are not lost to a kill.
"""

from __future__ import annotations

import json
import os
import stat
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, TextIO, TypeVar

from mmdata._tools.limits import Limits, OnDamage
from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.progress import Progress, show_progress
from mmdata._tools.requirements import processors
from mmdata.conversion.fingerprint import Fingerprint
from mmdata.conversion.locate import is_file
from mmdata.conversion.look import Facts, File, Look, MediaLevel, apply_look, look
from mmdata.engine.engine import Engine
from mmdata.engine.local import Pool, lend_pool
from mmdata.engine.open import EngineName, check_address, map_ranges
from mmdata.errors import MediaError, as_media_error
from mmdata.schema import Media
from mmdata.storage import Access
from mmdata.storage._path import RemotePath
from mmdata.store import Store
from mmdata.store.publish import close_after
from mmdata.video.pictures import UNSAID, Pictures
from mmdata.video.source import name_of

__all__ = [
    "Facts",
    "File",
    "Look",
    "MediaFault",
    "MediaLevel",
    "Prober",
    "count_without_hash",
    "look",
    "media_faults",
]

T = TypeVar("T")

_AHEAD: Final = 256
_TOGETHER: Final = 64
"""How many rows are looked into by one job of an engine."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[T]):
    """An item whose turn has not come:
    what is known of its files already, and whether a worker was asked.
    """

    item: T
    files: list[File]
    known: list[Facts] | MediaError | None
    asked: bool

    def answer(self) -> list[Facts] | MediaError:
        assert self.known is not None
        return self.known


class Prober:
    """Answers what media are, several records at a time and in order; use it in a ``with`` block.

    ``journal`` is a file of answers: what an earlier attempt left there is believed of files that
    have kept their size and time, and new answers are added; answers under other ``limits`` or
    another ``on_damage`` are not. Without one nothing is kept. ``access`` says which URLs may be
    read. ``job`` looks into the files of a
    record, on a worker, by default as :func:`look` does; whatever it raises is the record's answer.
    The workers are its own, or those of a ``pool``, which stays open.

    The files of a record have the deadline that :meth:`mmdata._tools.limits.Limits.deadline_of`
    gives to as many bytes and seconds.
    """

    @checked
    def __init__(
        self,
        level: MediaLevel,
        *,
        journal: Path | None = None,
        workers: PositiveInt | None = None,
        on_damage: OnDamage = "raise",
        limits: Limits | None = None,
        access: Access | None = None,
        job: Look | None = None,
        pool: Pool | None = None,
    ) -> None:
        self._limits = limits or Limits()
        asked = job or partial(look, on_damage=on_damage, access=access)
        self._job = partial(apply_look, asked, level, self._limits)
        self._asked = _question_of(level, on_damage, self._limits)
        self._path = journal
        self._is_own = pool is None
        self._pool = pool or Pool(
            workers or processors(), deadline=self._limits.deadline, memory=self._limits.memory
        )
        self._journal: TextIO | None = None
        self._known: dict[tuple[str, Fingerprint | None], list[Any]] = {}

    def __enter__(self) -> Prober:
        """Read the journal."""
        if self._path is not None:
            self._known = {(path, None): answer for path, answer in _read(self._path, self._asked)}
            self._journal = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the workers."""
        if self._is_own:
            self._pool.close()
        if self._journal is not None:
            close_after(error, self._journal)

    def answers(
        self, items: Iterable[T], files_of: Callable[[T], Sequence[File]]
    ) -> Iterator[tuple[T, list[Facts] | MediaError]]:
        """Yield each item with what its files are,
        or with why one of them cannot be used; in order.

        Workers are some items ahead of the one that is yielded.
        """
        waiting: deque[_Waiting[T]] = deque()

        def questions() -> Iterator[tuple[Sequence[File]]]:
            for item in items:
                files = [File(*file) for file in files_of(item)]
                known = self._recall(files)
                # Asked now and then only: meanwhile those that are known can be yielded.
                asked = known is None or len(waiting) >= _AHEAD
                waiting.append(_Waiting(item, files, known, asked))
                if asked:
                    yield (files if known is None else [],)

        for found in self._pool.map(self._job, questions(), deadline_of=self._deadline_of):
            while not waiting[0].asked:
                yield waiting[0].item, waiting.popleft().answer()
            first = waiting.popleft()
            yield (
                first.item,
                self._remember(first.files, found) if first.known is None else first.known,
            )
        for one in waiting:
            yield one.item, one.answer()

    def _deadline_of(self, files: Sequence[File]) -> float:
        """Return the seconds that looking into files may take."""
        size, seconds = 0, 0.0
        for file in files:
            size += file.bytes
            seconds += file.duration or 0.0
        return self._limits.deadline_of(size, seconds)

    def _recall(self, files: Sequence[File]) -> list[Facts] | MediaError | None:
        """Return what the journal says of the files; None if it does not know them all."""
        facts = []
        for source, _, kept, clock, _ in files:
            # What a clock says is no part of the journal: such a folder is looked into again.
            is_known = isinstance(source, str) and clock is None
            known = self._known.get((str(source), kept)) if is_known else None
            if known is None or known[0] is None or known[0] != _stamp(str(source)):
                return None
            if "reason" in known[1]:
                return MediaError(known[1]["message"], path=str(source), reason=known[1]["reason"])
            facts.append(known[1])
        return facts

    def _remember(
        self, files: Sequence[File], found: list[Facts] | Exception
    ) -> list[Facts] | MediaError:
        if isinstance(found, Exception):
            error = as_media_error(found, ", ".join(_name(file.source) for file in files))
            alone = files[0] if len(files) == 1 else None
            culprit = next((file for file in files if file.source == error.path), alone)
            # Of several it may be any. What met a limit, or has no name, another attempt may find
            # otherwise.
            is_lasting = isinstance(found, MediaError) and found.reason != "media_limit"
            if culprit is not None and is_lasting:
                self._note(culprit, {"message": str(error), "reason": error.reason})
            return error
        for file, facts in zip(files, found, strict=True):
            self._note(file, facts)
        return found

    def _note(self, file: File, facts: Facts) -> None:
        if not isinstance(file.source, str) or file.clock is not None:
            return  # embedded, and to keep its bytes would fill the memory; or see _recall
        answer = self._known[file.source, file.kept] = [_stamp(file.source), facts]
        if self._journal is not None:
            self._journal.write(json.dumps([self._asked, file.source, *answer]) + "\n")
            self._journal.flush()


@dataclass(frozen=True, slots=True)
class MediaFault:
    """A row whose media cannot be used, and why."""

    row: int
    id: str
    reason: str
    detail: str


@checked
def media_faults(
    store: Store,
    level: MediaLevel = "decode",
    *,
    workers: PositiveInt | None = None,
    engine: EngineName | Engine = "local",
    address: str | None = None,
    partitions: PositiveInt | None = None,
    on_damage: OnDamage = "raise",
    limits: Limits | None = None,
    progress: Progress = False,
    seen: Callable[[list[Facts]], object] = lambda facts: None,
) -> Iterator[MediaFault]:
    """Yield the rows of a store whose media are not sound, in order.

    Every file is compared with the size and the hash that the store keeps of it, where it keeps
    them. ``"compare"`` does no more; ``"probe"`` and ``"decode"`` look into it besides, and into
    embedded media and cached frames. What is behind a URL cannot be read, which is a fault.
    ``on_damage="keep"`` lets pass what decodes in part. ``engine`` works on one of the
    ``partitions`` of the rows at a time, by default of 64 rows: processes of this machine, ``ray``
    with the ``address`` of its cluster, or an engine that is open; all workers must see the store
    and its media. ``progress`` shows how far it is, or is called with the numbers of rows and
    faults so far, and ``seen`` with what was found of the files of a row without a fault.

    Raises:
        UsageError: ``level`` is none of those.
    """
    check_address(engine, address)
    asked = (store, level, on_damage, limits)
    rows = range(len(store))
    if engine == "local" and partitions in (None, 1):
        answers = _look_into_rows(*asked, rows, workers=workers)
    else:
        answers = map_ranges(
            partial(_list_answers, *asked),
            rows,
            together=_TOGETHER,
            lost=lambda error: error,
            partitions=partitions,
            engine=engine,
            workers=workers,
            address=address,
        )
    return _media_faults(store, answers, progress, seen)


def _look_into_rows(
    store: Store,
    level: MediaLevel,
    on_damage: OnDamage,
    limits: Limits | None,
    rows: range,
    *,
    workers: int | None = None,
    pool: Pool | None = None,
) -> Iterator[list[Facts] | MediaError]:
    """Yield what the files of each row are, or why one of them cannot be used."""
    with Prober(level, workers=workers, on_damage=on_damage, limits=limits, pool=pool) as prober:
        for _, found in prober.answers(rows, lambda row: list(_files(store, row))):
            yield found


def _list_answers(
    store: Store, level: MediaLevel, on_damage: OnDamage, limits: Limits | None, rows: range
) -> list[list[Facts] | MediaError]:
    """Return what :func:`_look_into_rows` yields, as an engine takes it."""
    some = limits or Limits()
    with lend_pool(deadline=some.deadline, memory=some.memory) as pool:
        return list(_look_into_rows(store, level, on_damage, limits, rows, pool=pool))


def _media_faults(
    store: Store,
    answers: Iterator[list[Facts] | MediaError],
    progress: Progress,
    seen: Callable[[list[Facts]], object],
) -> Iterator[MediaFault]:
    faults = 0
    with show_progress(progress, "looking into media", len(store)) as update:
        for row, found in enumerate(answers):
            if isinstance(found, MediaError):
                faults += 1
                yield MediaFault(row, store[row].id, found.reason, str(found))
            else:
                seen(found)
            update(row + 1, faults)


def _files(store: Store, row: int) -> Iterator[File]:
    """Yield what there is to look at of a row's media."""
    for number, medium in enumerate(store[row].media):
        length = medium.duration
        if medium.frames is not None:  # they are what is read, whatever has become of the file
            yield File(medium.frames, medium.type)
        elif medium.bytes is not None:
            yield File(medium.bytes, medium.type, _fingerprint_of(medium), None, length)
        elif _is_pictures(medium):
            paths = store.located(row).media[number].frame_paths or ()
            pictures = Pictures(paths, medium.clock or UNSAID)
            yield File(pictures, medium.type, _fingerprint_of(medium))
        else:
            path = store.locate(medium) or ""
            yield File(path, medium.type, _fingerprint_of(medium), medium.clock, length)


def _fingerprint_of(medium: Media) -> Fingerprint | None:
    return (
        None
        if medium.size is None or medium.hash is None
        else Fingerprint(medium.size, medium.hash)
    )


def count_without_hash(store: Store) -> int:
    """Return of how many media files a store keeps no hash:
    nothing tells whether others have taken their places.
    """
    return sum(
        (is_file(medium) or _is_pictures(medium)) and _fingerprint_of(medium) is None
        for row in store
        for medium in row.media
    )


def _is_pictures(medium: Media) -> bool:
    """Return whether a video is read from the pictures that it is given as."""
    kept = medium.bytes is not None or medium.frames is not None
    return medium.frame_paths is not None and medium.path is None and not kept


def _name(source: str | RemotePath | bytes | Pictures | tuple[bytes, ...]) -> str:
    """Return how messages call what is looked into."""
    if isinstance(source, tuple):
        return f"{len(source)} cached frames"
    return source.name if isinstance(source, Pictures) else name_of(source)


def _question_of(level: MediaLevel, on_damage: OnDamage, limits: Limits) -> str:
    """Return what the answers in a journal depend on, in words; where nothing is unusual, the level
    alone.
    """
    usual = asdict(Limits())
    unusual = {name: value for name, value in asdict(limits).items() if value != usual[name]}
    # What met one of these two is not noted, and of all others they change nothing.
    unusual = {name: unusual[name] for name in unusual if name not in ("deadline", "memory")}
    words = ([] if on_damage == "raise" else [f"on_damage={on_damage}"]) + [
        f"{name}={value}" for name, value in unusual.items()
    ]
    return " ".join([level, *words])


def _read(journal: Path, asked: str) -> Iterator[tuple[str, list[Any]]]:
    """Yield the answers to what is ``asked`` in a journal, by path;
    not a last line that was cut, nor one that lacks a hash or a clock.
    """
    if not journal.exists():
        return
    with journal.open(encoding="utf-8") as lines:
        for line in lines:
            with suppress(ValueError):
                found, path, stamp, facts = json.loads(line)
                # A line without either may be of an earlier version.
                if found == asked and ("reason" in facts or {"hash", "clock"} <= facts.keys()):
                    yield path, [stamp, facts]


def _stamp(path: str) -> list[int] | None:
    """Return what changes when a file does; None where that is not to be known."""
    try:
        found = os.stat(path)  # noqa: PTH116
        if not stat.S_ISDIR(found.st_mode):
            return [found.st_size, found.st_mtime_ns]
        # The folder's own times tell of names alone, not of what its pictures hold.
        with os.scandir(path) as entries:
            pictures = [entry.stat() for entry in entries]
    except OSError:
        return None
    return [
        sum(one.st_size for one in pictures),
        max(one.st_mtime_ns for one in (found, *pictures)),
    ]
