"""Decoding on the thread that asks for it, or in a process that may hang or crash without harm."""

from __future__ import annotations

import threading
from functools import partial
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING

from mmdata.engine.local import Pool
from mmdata.errors import MediaError
from mmdata.pipeline.encode import Decode, decode_views
from mmdata.schema import Media
from mmdata.templates import PixelPlan

if TYPE_CHECKING:
    from mmdata.pipeline.encode import Views

__all__ = ["Isolated"]


class Isolated:
    """Decodes in processes, one for each thread that asks: ``deadline`` seconds a medium,
    ``memory`` bytes a process.

    Call it as :func:`mmdata.pipeline.encode.decode_views`, or as ``decode``, where what does the
    work in the processes is another; use it as a context manager. Pixels come
    through a pipe, so that nothing is left anywhere. A process that was killed is replaced, and
    what it did is done again, once.
    """

    def __init__(
        self, deadline: float, memory: int, *, fast: bool = False, decode: Decode | None = None
    ) -> None:
        self._job: Decode = decode or partial(decode_views, fast=fast)
        self._deadline = deadline
        self._memory = memory
        self._own = threading.local()
        self._pools: list[Pool] = []

    def __call__(self, medium: Media, plan: PixelPlan, out: Views | None = None) -> Views:
        """Return the pixels that ``plan`` asks for,
        as they come through the pipe and never in ``out``.
        """
        began = monotonic()
        try:
            return self._pool().run(self._job, medium, plan, None)
        except MediaError as error:
            died = not error.path and monotonic() - began < self._deadline
            if not died:
                raise
            return self._pool().run(self._job, medium, plan, None)

    def _pool(self) -> Pool:
        if not hasattr(self._own, "pool"):
            self._own.pool = Pool(1, deadline=self._deadline, memory=self._memory)
            self._pools.append(self._own.pool)
        pool: Pool = self._own.pool
        return pool

    def __enter__(self) -> Isolated:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool in self._pools:
            pool.close()
