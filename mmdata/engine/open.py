"""Opening an engine by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import pairwise
from typing import Literal, TypeAlias, TypeVar, get_args

from mmdata._tools.options import NonNegativeInt, PositiveInt, checked
from mmdata._tools.requirements import processors
from mmdata.engine.engine import Engine, LostWorkerError, run_jobs
from mmdata.errors import UsageError, nearest

__all__ = [
    "EngineName",
    "check_address",
    "map_ranges",
    "open_engine",
    "split_evenly",
    "split_tapering",
    "use_engine",
]

R = TypeVar("R")

EngineName: TypeAlias = Literal["local", "ray"]
"""What works: processes of this machine, or a Ray cluster."""


@checked
def open_engine(
    name: EngineName = "local", *, workers: PositiveInt | None = None, address: str | None = None
) -> AbstractContextManager[Engine]:
    """Return an engine: processes of this machine, or those of a Ray cluster, the one at
    ``address`` or else one on this machine. It is closed at the end of its ``with`` block.

    ``workers`` is how many jobs run at a time: by default as many as there are cores.

    >>> from mmdata.engine.engine import run_jobs
    >>> with open_engine("local", workers=2) as engine:
    ...     list(run_jobs(engine, len, [("one",), ("three",)]))
    [3, 5]

    Raises:
        UsageError: ``ray`` is not installed, no cluster is at ``address``, or the engine takes
            none.
    """
    check_address(name, address)
    if name == "ray":
        from mmdata.engine.ray import RayEngine

        return RayEngine(workers=workers, address=address)

    # What starts processes is imported where some are started: most conversions start none.
    from mmdata.engine.local import LocalEngine

    return LocalEngine(workers or processors())


@checked
def use_engine(
    engine: EngineName | Engine, *, workers: PositiveInt | None = None, address: str | None = None
) -> AbstractContextManager[Engine]:
    """Return an engine for a ``with`` block: one that is open, which stays so, or that is opened by
    its name (:func:`open_engine`).
    """
    if isinstance(engine, str):
        return open_engine(engine, workers=workers, address=address)
    return nullcontext(engine)


@checked
def check_address(engine: EngineName | Engine, address: str | None) -> None:
    """Refuse a name that is of no engine, and an address that none takes, before anything is done.

    Raises:
        UsageError: it is none, or there is no cluster to look for.
    """
    names = get_args(EngineName)
    # Any object may be an engine, and so may a text be to what checks types.
    if isinstance(engine, str) and engine not in names:
        raise UsageError(
            f"engine must be one of {', '.join(names)}, or an engine that is open, found "
            f"{engine!r}.{nearest(engine, names)}"
        )
    if address is None:
        return
    if engine != "ray":
        raise UsageError("an address is that of a Ray cluster: --engine ray")
    if address != "auto" and not re.search(r":\d+$", address):
        raise UsageError(
            f"the address of a Ray cluster must be HOST:PORT, ray://HOST:PORT or auto, "
            f"found {address!r}"
        )


@checked
def split_evenly(length: NonNegativeInt, count: PositiveInt) -> list[range]:
    """Return ``count`` ranges of as many things each, or as many ranges as there are things.

    >>> split_evenly(10, 4)
    [range(0, 2), range(2, 5), range(5, 7), range(7, 10)]
    """
    bounds = [length * number // count for number in range(count + 1)]
    return [range(first, last) for first, last in pairwise(bounds) if first < last]


@checked
def split_tapering(
    length: NonNegativeInt, workers: PositiveInt, *, together: PositiveInt, least: PositiveInt
) -> list[range]:
    """Return ranges of ``together`` things at most, which get shorter, down to the ``least``, where
    few are left for each of the workers: so these end at about the same time, however long a thing
    takes. As few as fit into one range are not split.

    >>> [len(some) for some in split_tapering(100, 2, together=16, least=4)]
    [16, 16, 16, 13, 10, 8, 6, 4, 4, 4, 3]
    """
    if 0 < length <= together:
        return [range(length)]

    found: list[range] = []
    start = 0
    while start < length:
        # Half of what is left, shared out: the other half makes up for who is late.
        share = -(-(length - start) // (2 * workers))
        stop = min(length, start + min(together, max(least, share)))
        found.append(range(start, stop))
        start = stop
    return found


@checked
def map_ranges(
    job: Callable[[range], Sequence[R]],
    rows: range,
    *,
    together: PositiveInt,
    least: PositiveInt | None = None,
    lost: Callable[[LostWorkerError], R],
    engine: EngineName | Engine,
    workers: PositiveInt | None = None,
    address: str | None = None,
    partitions: PositiveInt | None = None,
) -> Iterator[R]:
    """Yield, in order, what a job finds of each row, some rows at a time, on an engine: one that is
    open, or that is opened for it.

    The rows are in so many ``partitions``, or in as many as have ``together`` rows at most; with
    ``least`` they have fewer to the end (:func:`split_tapering`). One that loses two workers is
    divided, on this machine, until the row is found that does it; ``lost`` says what is found of
    that row.

    Raises:
        UsageError: as :func:`open_engine`.
    """
    with use_engine(engine, workers=workers, address=address) as opened:
        if partitions is None and least is not None:
            parts = split_tapering(len(rows), opened.workers, together=together, least=least)
        else:
            parts = split_evenly(len(rows), partitions or max(1, -(-len(rows) // together)))
        pieces = [rows[some.start : some.stop] for some in parts]
        outcomes = run_jobs(opened, job, ((piece,) for piece in pieces))
        for piece, found in zip(pieces, outcomes, strict=True):
            if isinstance(found, LostWorkerError):
                yield from _map_divided(job, piece, lost)
            elif isinstance(found, Exception):
                raise found
            else:
                yield from found


def _map_divided(
    job: Callable[[range], Sequence[R]], rows: range, lost: Callable[[LostWorkerError], R]
) -> Iterator[R]:
    """Yield what a job finds of rows among which one ends the process that works on them."""
    from mmdata.engine.local import LocalEngine

    with LocalEngine(1) as engine:
        waiting = _halve(rows)
        while waiting:
            some = waiting.pop()
            # One row alone gets another chance: a process may be killed for any reason.
            attempts = 2 if len(some) == 1 else 1
            [found] = run_jobs(engine, job, [(some,)], attempts=attempts)
            if not isinstance(found, Exception):
                yield from found
            elif not isinstance(found, LostWorkerError):
                raise found
            elif len(some) > 1:
                waiting += _halve(some)
            else:
                yield lost(found)


def _halve(rows: range) -> list[range]:
    """Return both halves of some rows, the first of which is last, or one row alone."""
    middle = len(rows) // 2
    return [half for half in (rows[middle:], rows[:middle]) if half]
