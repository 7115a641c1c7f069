"""Partitions of a store: ranges of its rows, each worked on by itself, here or on an engine.

What a job finds of a range depends on nothing but the store and the range. Whoever joins what was
found, in order, has what one pass over the store finds, whatever works on the ranges and however
many they are.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Final, TypeVar

from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.requirements import processors
from mmdata.engine.engine import Engine, LostWorkerError, raise_errors, run_jobs
from mmdata.engine.open import EngineName, check_address, split_evenly, use_engine
from mmdata.errors import StoreError
from mmdata.store import Store, check
from mmdata.store import open as open_store
from mmdata.store.reader import check_file, list_files

__all__ = ["PARTITIONS_A_WORKER", "StorePartitions", "check_store", "split_rows", "split_store"]

R = TypeVar("R")

_PARTITION_BYTES: Final = 32 << 20
PARTITIONS_A_WORKER: Final = 4
"""So that workers end at about the same time, however long the rows of one take."""


@dataclass(frozen=True, slots=True)
class StorePartitions:
    """Ranges of the rows of a store, one after the other, and the engine that works on them: none
    where this process does it.
    """

    store: Store
    ranges: Sequence[range]
    engine: Engine | None

    def map(
        self, job: Callable[..., R], tasks: Iterable[tuple[Any, ...]] | None = None
    ) -> Iterator[R]:
        """Yield, in order, ``job(store, *task)`` for each of the tasks, a range of rows and what
        else the job takes; without tasks, for each of the ranges.

        Raises:
            LostWorkerError: some rows lost two workers.
            StoreError: a worker finds another store in the place of this one.
        """
        tasks = [(rows,) for rows in self.ranges] if tasks is None else tasks
        if self.engine is None:
            for task in tasks:
                yield job(self.store, *task)
            return

        place = self.store.path, self.store.media_root, self.store.fingerprint
        asked: deque[range] = deque()  # the rows of tasks whose results are still to come

        def questions() -> Iterator[tuple[Any, ...]]:
            for task in tasks:
                asked.append(task[0])
                yield job, *place, *task

        for found in run_jobs(self.engine, _work, questions()):
            rows = asked.popleft()
            if isinstance(found, LostWorkerError):
                raise LostWorkerError(
                    f"{self.store.path}, rows {rows.start} to {rows.stop - 1}: {found}",
                    reason=found.reason,
                ) from found
            if isinstance(found, Exception):
                raise found
            yield found


@checked
@contextmanager
def split_store(
    store: Store,
    *,
    engine: EngineName | Engine = "local",
    workers: PositiveInt | None = None,
    address: str | None = None,
    partitions: PositiveInt | None = None,
) -> Iterator[StorePartitions]:
    """Give the rows of a store in ranges, with what works on them: processes of this machine,
    ``ray`` with the ``address`` of its cluster, or an engine that is open.

    Without a number of ``partitions`` a small store is worked on by this process, and a large one
    is split into as many as keep all workers at work.

    Raises:
        UsageError: as :func:`mmdata.engine.open.open_engine`.
    """
    check_address(engine, address)
    wanted = sum(shard.bytes for shard in store.manifest.shards) // _PARTITION_BYTES
    count = partitions
    if count is None and engine == "local":
        # Elsewhere no process can be started, and this one counts as it can.
        several = workers or (processors() if os.name == "posix" else 1)
        # As many for each; to start a process takes as long as to read a small store.
        count = 1 if several == 1 or wanted < 2 else -(-wanted // several) * several
    if count == 1 and engine == "local":
        starts = store.batch_starts
        yield StorePartitions(store, [range(*some) for some in pairwise(starts)], None)
        return

    with use_engine(engine, workers=workers, address=address) as opened:
        count = count or max(wanted, PARTITIONS_A_WORKER * opened.workers)
        yield StorePartitions(store, split_rows(store, count), opened)


@checked
def split_rows(store: Store, count: PositiveInt) -> list[range]:
    """Return about ``count`` ranges of the rows of a store, one after the other, none empty.

    They begin where batches do if there are as many batches: whoever wants a part of a batch reads
    all of it.
    """
    starts = store.batch_starts
    batches = len(starts) - 1
    if batches >= count:
        return [
            range(starts[part.start], starts[part.stop]) for part in split_evenly(batches, count)
        ]
    return split_evenly(len(store), count)


@checked
def check_store(
    path: str | Path,
    *,
    engine: EngineName | Engine = "local",
    workers: PositiveInt | None = None,
    address: str | None = None,
) -> list[StoreError]:
    """Return what :func:`mmdata.store.check` finds; on another engine than ``local``, by its name,
    each file of the store is read by one of the workers.

    Raises:
        LostWorkerError: a file lost two workers.
        UsageError: as :func:`mmdata.engine.open.open_engine`.
    """
    check_address(engine, address)
    if engine == "local":  # one process reads as fast as a disk does
        return check(path)

    try:
        store = open_store(path)
    except StoreError as error:
        return [error]
    with use_engine(engine, workers=workers, address=address) as opened:
        found = raise_errors(run_jobs(opened, check_file, list_files(store)))
        return list(chain.from_iterable(found))


def _work(
    job: Callable[..., R], path: Path, media_root: Path | None, fingerprint: str, *task: Any
) -> R:
    return job(_open_once(path, media_root, fingerprint), *task)


@lru_cache(maxsize=1)
def _open_once(path: Path, media_root: Path | None, fingerprint: str) -> Store:
    """Return the store that was asked about, which a worker keeps open: to open one of many shards
    takes as long as to read a batch of it.
    """
    store = Store(path, media_root)
    if store.fingerprint != fingerprint:
        raise StoreError(
            f"{path} is another store than it was at the start of this run. Run again.",
            path=str(path),
        )
    return store
