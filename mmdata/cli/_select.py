"""``mmdata select``."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

import mmdata
from mmdata.cli._options import OptionType
from mmdata.cli._say import columns, say
from mmdata.cli._shared import COUNTING, JSON, OVERWRITE, PARQUET, STORE
from mmdata.errors import DataError

__all__ = ["select"]

_SELECT: Final = partial(OptionType, "mmdata.mixture:select")


@click.command(
    epilog="""
\b
EXPRESSION is DuckDB's SQL over the columns of a store (id, source, split, messages, media, extra,
tools, rejected, desirable) and turns, words, characters, trained_characters, media_per_row.
\b
Examples:
  mmdata select stores/all -o stores/short --where "turns <= 4 and media[1].duration < 30"
  mmdata select stores/all -o stores/some --drop-duplicates --sample random:1000 --seed 7
"""
)
@click.argument("source", metavar="STORE", type=STORE)
@click.option(
    "-o", "--output", "store", required=True, type=STORE, help="Where the new store shall appear."
)
@click.option("--where", metavar="EXPRESSION", help="Keep the rows that this is true of.")
@click.option(
    "--drop-duplicates",
    is_flag=True,
    help="Keep the first of the rows that say the same about the same media.",
)
@click.option(
    "--sample",
    metavar="STRATEGY",
    default="all",
    show_default=True,
    help="Which of what is left: random:1000, first:10%, end:5 ...",
)
@click.option(
    "--seed",
    type=_SELECT("seed"),
    default=0,
    show_default=True,
    help="Another seed draws other rows.",
)
@COUNTING
@OVERWRITE
@PARQUET
@JSON
def select(source: Path, store: Path, as_json: bool, **settings: Any) -> None:
    """Write some rows of STORE into a new store."""
    from mmdata._tools.progress import progress
    from mmdata.mixture import select as run

    with progress("selecting", len(mmdata.open(source))) as update:
        report = run(source, store, progress=update, **settings)
    if as_json:
        say(json.dumps(asdict(report), default=str))
    else:
        lines = [
            ("rows", f"{report.rows:,}"),
            ("asked for", f"{report.where:,}"),
            ("duplicates", f"{report.duplicates:,}"),
            ("selected", f"{report.selected:,}"),
            ("store", str(report.store)),
        ]
        say(columns(lines))
    if not report.selected:
        raise DataError(f"no row of {source} was selected")
