"""Engines for tests, which do what they are given in this process."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmdata.engine.engine import Engine, LostWorkerError
from mmdata.engine.local import answer_message, rebuild_outcome


class Here:
    """An engine that does each job in this process, from bytes and to bytes as others do."""

    def __init__(self, *, shares_files: bool = False, workers: int = 3) -> None:
        self.workers = workers
        self.shares_files = shares_files
        self.jobs: list[tuple[int, bytes]] = []
        self.submitted = 0

    def submit(self, job: Callable[..., Any], *args: Any) -> int:
        self.submitted += 1
        self.jobs.append((self.submitted, pickle.dumps((job, args))))
        return self.submitted

    def next_result(self) -> tuple[int, Any]:
        number, message = self.jobs.pop()  # the last comes first: results are in no order
        return number, rebuild_outcome(answer_message(message))

    def close(self) -> None:
        self.jobs.clear()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Losing(Here):
    """One that loses some of its workers before their jobs are done."""

    def __init__(self, lost: Sequence[bool], **options: Any) -> None:
        super().__init__(**options)
        self.lost = iter(lost)

    def next_result(self) -> tuple[int, Any]:
        if next(self.lost, False):
            number, _ = self.jobs.pop()
            return number, LostWorkerError("gone")
        return super().next_result()


def bytes_of(store: Path) -> dict[str, bytes]:
    """Return what is in the files of a store, but for when it was made."""
    found = {file.name: file.read_bytes() for file in store.iterdir()}
    manifest = json.loads(found["manifest.json"])
    del manifest["created"], manifest["xxh3"]
    return {**found, "manifest.json": json.dumps(manifest).encode()}
