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
from typing import Any, Final, Protocol, TypeAlias

from mmdata._tools.options import NonNegativeInt, checked
from mmdata._tools.terminal import one_line, visible
from mmdata.errors import UsageError

__all__ = ["Progress", "Update", "progress", "show_progress"]

Progress: TypeAlias = bool | Callable[[int, int], object]
"""What a function that takes long is told of progress: to show it or not, or what to call with how
much is done, and how many rejects.
"""


class Update(Protocol):
    """What is called with how far work is."""

    def __call__(self, done: int, rejects: int, share: float | None = None) -> object:
        """Take how much is done and how many rejects; and which ``share`` of all, 0 to 1, that is,
        where nobody can tell how much there is.
        """


_SECONDS_BETWEEN_LINES: Final = 10.0
_WRITES_A_SECOND: Final = 4


@contextmanager
def show_progress(told: Progress | None, what: str, total: int | None = None) -> Iterator[Update]:
    """Yield what to call with how much is done and how many rejects: what the caller of a function
    was ``told``, or what shows the work named ``what``, or what shows nothing.

    >>> with show_progress(print, "counting", 3) as update:
    ...     update(3, 0)
    3 0

    Raises:
        UsageError: it is none of these.
    """
    if callable(told):
        call = told
        yield lambda done, rejects, share=None: call(done, rejects)
    elif told is True:
        with progress(what, total) as update:
            yield update
    elif told is False or told is None:
        yield lambda done, rejects, share=None: None
    else:
        raise UsageError(
            "progress must be true, false, or a function of how much is done and how many "
            f"rejects, found {told!r}"
        )


@checked
@contextmanager
def progress(what: str, total: NonNegativeInt | None = None) -> Iterator[Update]:
    """Show work named ``what``; the function given takes how much is done, and how many rejects.

    It is shown on standard error, or in the notebook, no more than a few times a second.
    """
    shown: AbstractContextManager[Update]
    if sys.stderr.isatty():
        shown = _bar(one_line(what), total)
    elif (display := _notebook_display()) is not None:
        shown = _cell(visible(what), total, display)
    else:
        shown = _lines(one_line(what), total)
    with shown as update:
        yield update


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[count]}", markup=False),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    started = time.monotonic()
    console = Console(stderr=True)
    with Bar(*columns, console=console, transient=True, refresh_per_second=_WRITES_A_SECOND) as bar:
        task = bar.add_task(what, total=None, count="", note="")

        def update(done: int, rejects: int, share: float | None = None) -> None:
            part = _share(done, total, share)
            notes = _pace(done, part, time.monotonic() - started)
            if rejects:
                notes.insert(0, f"{rejects:,} rejected")
            bar.update(
                task,
                completed=part or 0,
                total=None if part is None else 1,
                count=f"{done:,}/{total:,}" if total else _count(done, total, part),
                note=", ".join(notes),
            )

        update(0, 0)

        yield update


@contextmanager
def _lines(what: str, total: int | None) -> Iterator[Update]:
    started = last = time.monotonic()

    def update(done: int, rejects: int, share: float | None = None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            said = _sentence(done, rejects, total, share, now - started)
            print(f"{what}: {said}", file=sys.stderr, flush=True)  # noqa: T201

    yield update


@contextmanager
def _cell(what: str, total: int | None, display: Callable[..., Any]) -> Iterator[Update]:
    """Show a bar below the cell of a notebook; it stays there, as it was at the end."""
    started = time.monotonic()
    last = started
    said: tuple[int, int, float | None] = (0, 0, None)

    def page(done: int, rejects: int, share: float | None) -> dict[str, str]:
        words = f"{what}: {_sentence(done, rejects, total, share, time.monotonic() - started)}"
        part = _share(done, total, share)
        filled = "" if part is None else f' max="1" value="{part:.4f}"'
        if total:
            filled = f' max="{total}" value="{done}"'
        return {"text/plain": words, "text/html": f"<progress{filled}></progress> {escape(words)}"}

    # Of IPython alone: bars of other packages need widgets, which not every notebook has.
    handle = display(page(*said), raw=True, display_id=True)

    def update(done: int, rejects: int, share: float | None = None) -> None:
        nonlocal last, said
        said = done, rejects, share
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


def _share(done: int, total: int | None, share: float | None) -> float | None:
    """Return which share of all is done, where it can be told."""
    if total:
        return done / total if done <= total else None
    return share


def _sentence(
    done: int, rejects: int, total: int | None, share: float | None, seconds: float
) -> str:
    """Return how far work has come in so many seconds."""
    part = _share(done, total, share)
    pace = _pace(done, part, seconds)
    return ", ".join([_count(done, total, part), f"{rejects:,} rejected", *pace])


def _count(done: int, total: int | None, share: float | None) -> str:
    """Return how much is done, of how much, or which share that is.

    >>> _count(1500, 2000, 0.75), _count(1500, None, 0.75), _count(1500, None, None)
    ('1,500 of 2,000', '1,500 (75%)', '1,500')
    """
    if total:
        return f"{done:,} of {total:,}"
    return f"{done:,}" if share is None else f"{done:,} ({share:.0%})"


def _pace(done: int, share: float | None, seconds: float) -> list[str]:
    """Return how much is done a second, and how long the rest takes at that, where it can be told.

    >>> _pace(500, 0.25, 10.0)
    ['50/s', '0:00:30 left']
    """
    if not done or seconds <= 0:
        return []
    rate = done / seconds
    said = [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"]
    if share:
        minutes, left = divmod(round(seconds * (1 - share) / share), 60)
        hours, minutes = divmod(minutes, 60)
        said.append(f"{hours}:{minutes:02}:{left:02} left")
    return said
