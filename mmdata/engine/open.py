"""Opening an engine by its name."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, TypeAlias, TypeVar

from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.requirements import processors
from mmdata.engine.engine import Engine, run_jobs
from mmdata.errors import UsageError

__all__ = ["EngineName", "check_address", "map_ranges", "open_engine", "use_engine"]

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
    """Refuse an address that no engine takes, before anything is done.

    Raises:
        UsageError: it is none, or there is no cluster to look for.
    """
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
def map_ranges(
    job: Callable[[range], Sequence[R]],
    rows: range,
    *,
    together: PositiveInt,
    engine: EngineName | Engine,
    workers: PositiveInt | None = None,
    address: str | None = None,
) -> Iterator[R]:
    """Yield, in order, what a job finds of some rows at a time, ``together`` of them, on an engine:
    one that is open, or that is opened for it.

    Raises:
        LostWorkerError: some rows lost two workers.
        UsageError: as :func:`open_engine`.
    """
    with use_engine(engine, workers=workers, address=address) as opened:
        pieces = (rows[start : start + together] for start in range(0, len(rows), together))
        for found in run_jobs(opened, job, ((piece,) for piece in pieces)):
            if isinstance(found, Exception):
                raise found
            yield from found
