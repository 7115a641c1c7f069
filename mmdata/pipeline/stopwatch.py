"""How much processor time each stage of the pipeline takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import thread_time

__all__ = ["Stopwatch"]


class Stopwatch:
    """Adds up the processor seconds of threads by stage."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what the calling thread spends in the block."""
        began = thread_time()
        try:
            yield
        finally:
            spent = thread_time() - began
            with self._lock:
                self._seconds[name] = self._seconds.get(name, 0.0) + spent

    @property
    def seconds(self) -> dict[str, float]:
        """Processor seconds by stage."""
        with self._lock:
            return dict(self._seconds)
