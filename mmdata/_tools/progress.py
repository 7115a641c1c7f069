"""Saying how far long work has come: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from mmdata._tools.options import NonNegativeInt, checked
from mmdata._tools.terminal import one_line

__all__ = ["progress"]

_SECONDS_BETWEEN_LINES: Final = 10.0


@checked
@contextmanager
def progress(
    what: str, total: NonNegativeInt | None = None
) -> Iterator[Callable[[int, int], None]]:
    """Show work named ``what`` on standard error;
    the function given takes how much is done, and how many rejects.
    """
    what = one_line(what)
    with _bar(what, total) if sys.stderr.isatty() else _lines(what, total) as update:
        yield update


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total, note="")
        yield lambda done, rejects: bar.update(
            task, completed=done, note=f"{rejects:,} rejected" if rejects else ""
        )


@contextmanager
def _lines(what: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    last = time.monotonic()

    def update(done: int, rejects: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            of = f" of {total:,}" if total else ""
            print(f"{what}: {done:,}{of}, {rejects:,} rejected", file=sys.stderr, flush=True)  # noqa: T201

    yield update
