"""Saying how far long work has come: a bar on a terminal or in a notebook, a plain line now and
then elsewhere; how much is done of how much, how fast, and how long the rest will take.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from html import escape
from importlib import import_module
from typing import Any, Final, TypeAlias

from mmdata._tools.options import NonNegativeInt, checked
from mmdata._tools.terminal import one_line, visible
from mmdata.errors import UsageError

__all__ = ["Progress", "progress", "show_progress"]

Progress: TypeAlias = bool | Callable[[int, int], object]
"""What a function that takes long is told of progress: to show it or not, or what to call with how
much is done, and how many rejects.
"""

_SECONDS_BETWEEN_LINES: Final = 10.0
_WRITES_A_SECOND: Final = 4


@contextmanager
def show_progress(
    told: Progress | None, what: str, total: int | None = None
) -> Iterator[Callable[[int, int], object]]:
    """Yield what to call with how much is done and how many rejects: what the caller of a function
    was ``told``, or what shows the work named ``what``, or what shows nothing.

    >>> with show_progress(print, "counting", 3) as update:
    ...     update(3, 0)
    3 0

    Raises:
        UsageError: it is none of these.
    """
    if callable(told):
        yield told
    elif told is True:
        with progress(what, total) as update:
            yield update
    elif told is False or told is None:
        yield lambda done, rejects: None
    else:
        raise UsageError(
            "progress must be true, false, or a function of how much is done and how many "
            f"rejects, found {told!r}"
        )


@checked
@contextmanager
def progress(
    what: str, total: NonNegativeInt | None = None
) -> Iterator[Callable[[int, int], None]]:
    """Show work named ``what``; the function given takes how much is done, and how many rejects.

    It is shown on standard error, or in the notebook, no more than a few times a second.
    """
    shown: AbstractContextManager[Callable[[int, int], None]]
    if sys.stderr.isatty():
        shown = _bar(one_line(what), total)
    elif (display := _notebook_display()) is not None:
        shown = _cell(visible(what), total, display)
    else:
        shown = _lines(one_line(what), total)
    with shown as update:
        yield update


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    started = time.monotonic()
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, refresh_per_second=_WRITES_A_SECOND) as bar:
        task = bar.add_task(what, total=total, note="")

        def update(done: int, rejects: int) -> None:
            notes = _pace(done, total, time.monotonic() - started)
            if rejects:
                notes.insert(0, f"{rejects:,} rejected")
            bar.update(task, completed=done, note=", ".join(notes))

        yield update


@contextmanager
def _lines(what: str, total: int | None) -> Iterator[Callable[[int, int], None]]:
    started = last = time.monotonic()

    def update(done: int, rejects: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            said = _sentence(done, rejects, total, now - started)
            print(f"{what}: {said}", file=sys.stderr, flush=True)  # noqa: T201

    yield update


@contextmanager
def _cell(
    what: str, total: int | None, display: Callable[..., Any]
) -> Iterator[Callable[[int, int], None]]:
    """Show a bar below the cell of a notebook; it stays there, as it was at the end."""
    started = time.monotonic()
    last, said = started, (0, 0)

    def page(done: int, rejects: int) -> dict[str, str]:
        words = f"{what}: {_sentence(done, rejects, total, time.monotonic() - started)}"
        share = f' max="{total}" value="{done}"' if total else ""
        return {"text/plain": words, "text/html": f"<progress{share}></progress> {escape(words)}"}

    # Of IPython alone: bars of other packages need widgets, which not every notebook has.
    handle = display(page(0, 0), raw=True, display_id=True)

    def update(done: int, rejects: int) -> None:
        nonlocal last, said
        said = done, rejects
        if time.monotonic() - last >= 1 / _WRITES_A_SECOND:
            last = time.monotonic()
            handle.update(page(*said), raw=True)

    try:
        yield update
    finally:
        handle.update(page(*said), raw=True)


def _notebook_display() -> Callable[..., Any] | None:
    """Return IPython's ``display`` where this process is the kernel of a notebook."""
    # Whoever has not imported IPython is in no notebook.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    display: Callable[..., Any] = import_module("IPython.display").display
    return display


def _sentence(done: int, rejects: int, total: int | None, seconds: float) -> str:
    """Return how far work has come in so many seconds."""
    of = f" of {total:,}" if total else ""
    return ", ".join([f"{done:,}{of}", f"{rejects:,} rejected", *_pace(done, total, seconds)])


def _pace(done: int, total: int | None, seconds: float) -> list[str]:
    """Return how much is done a second, and how long the rest takes at that, where it can be told.

    >>> _pace(500, 2000, 10.0)
    ['50/s', '0:00:30 left']
    """
    if not done or seconds <= 0:
        return []
    rate = done / seconds
    said = [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"]
    if total and done <= total:
        minutes, left = divmod(round((total - done) / rate), 60)
        hours, minutes = divmod(minutes, 60)
        said.append(f"{hours}:{minutes:02}:{left:02} left")
    return said
