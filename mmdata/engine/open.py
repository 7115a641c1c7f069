"""Opening an engine by its name."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal, TypeAlias

from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.requirements import processors
from mmdata.engine.engine import Engine
from mmdata.engine.local import LocalEngine
from mmdata.errors import UsageError

__all__ = ["EngineName", "open_engine"]

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
    if name == "ray":
        from mmdata.engine.ray import RayEngine

        return RayEngine(workers=workers, address=address)
    if address is not None:
        raise UsageError("an address is that of a Ray cluster: --engine ray")
    return LocalEngine(workers or processors())
