"""The rows of a store in parts, which are written at the same time."""

from __future__ import annotations

import bisect
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Final

from mmdata._tools.requirements import processors
from mmdata.exporters._exporter import Exporter
from mmdata.exporters._work import Counts, Work
from mmdata.store.layout import EXPORT_REJECTS
from mmdata.store.reader import Store

__all__ = ["cut_rows", "write_parts"]

_LEAST_ROWS: Final = 1 << 13
"""How many rows a part has at the least; fewer make poor files."""
_SECONDS_BETWEEN_UPDATES: Final = 0.1


def cut_rows(store: Store, most: int) -> list[range]:
    """Return the rows of each part, of which there are ``most``, or fewer of few rows.

    It is the rows that say how many, never the machine: the same store is the same files anywhere.
    """
    starts, rows = store.batch_starts, len(store)
    parts = max(1, min(most, rows // _LEAST_ROWS))
    # Cut where a batch begins: none is read twice.
    bounds = {starts[bisect.bisect_left(starts, rows * part // parts)] for part in range(parts + 1)}
    return [range(start, stop) for start, stop in pairwise(sorted(bounds))]


def write_parts(
    store: Store,
    exporter: Exporter,
    folder: Path,
    make_work: Callable[..., Work],
    update: Callable[[int, int], object],
) -> Counts:
    """Write the rows of a store, and in ``folder`` the rejects, where there are some; return the
    account.

    ``make_work`` makes of a writer, a file of rejects, an account and what stops it the work on a
    part; ``update`` is called with how many rows have been dealt with, and how many of them are
    rejects.
    """
    parts = cut_rows(store, exporter.most_parts)
    rejects = [folder / f"{part}.{EXPORT_REJECTS}" for part in range(len(parts))]
    counts = [Counts() for _ in parts]
    done = [(0, 0) for _ in parts]
    stopped = Event()

    def write(part: int, progress: Callable[[int, int], object]) -> None:
        with (
            rejects[part].open("w", encoding="utf-8") as lines,
            closing(exporter.open_part(folder, part)) as writer,
        ):
            work = make_work(writer, lines, counts[part], stopped)
            work.write_all(store.batches(parts[part]), progress, first=parts[part].start)

    def write_in_thread(part: int) -> None:
        write(part, lambda *figures: done.__setitem__(part, figures))

    if len(parts) == 1:
        write(0, update)
    elif parts:
        pool = ThreadPoolExecutor(min(len(parts), processors()), "mmdata-export")
        try:
            # In their order: where several fail, it is the first in the store that is told of.
            for future in [pool.submit(write_in_thread, part) for part in range(len(parts))]:
                while wait([future], _SECONDS_BETWEEN_UPDATES).not_done:
                    update(*map(sum, zip(*done, strict=True)))
                future.result()
            update(*map(sum, zip(*done, strict=True)))
        finally:
            stopped.set()
            pool.shutdown(cancel_futures=True)

    whole = Counts()
    for each in counts:
        whole.add(each)
    if whole.rejects:
        with (folder / EXPORT_REJECTS).open("wb") as target:
            for file in rejects:
                with file.open("rb") as source:
                    shutil.copyfileobj(source, target)
    for file in rejects:
        file.unlink()
    return whole
