"""What commands print, and how: the one way out."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import click

from mmdata._tools.terminal import one_line, visible
from mmdata.errors import PluginError

__all__ = ["columns", "say", "show_plugin_traceback", "size_text"]


def say(text: str, *, err: bool = False) -> None:
    """Print for people and programs:
    the one way out, where nothing that others wrote can steer a terminal.
    """
    click.echo(visible(text), err=err)


def columns(rows: Iterable[Sequence[str]]) -> str:
    """Return rows of text as aligned columns."""
    table = [tuple(map(one_line, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    )


def size_text(size: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    unit, divisor = next(
        (pair for pair in (("GB", 1e9), ("MB", 1e6)) if size >= pair[1]), ("kB", 1e3)
    )
    return f"{size / divisor:,.1f} {unit}"


@contextmanager
def show_plugin_traceback(strict: bool) -> Iterator[None]:
    """Show under ``strict`` where another package's code is at fault, to whoever writes it."""
    try:
        yield
    except PluginError as error:
        if strict and error.__cause__ is not None:
            say("".join(traceback.format_exception(error.__cause__)).rstrip(), err=True)
        raise
