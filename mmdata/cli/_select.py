"""``mmdata select``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from mmdata._tools.limits import Limits
from mmdata.cli._options import OptionType
from mmdata.cli._say import columns, say, show_plugin_traceback
from mmdata.cli._shared import (
    COSTS,
    COUNTING,
    JSON,
    OUTPUT,
    OVERWRITE,
    PARQUET,
    SIMILARITY,
    STORE,
    TEMPLATE,
    make_template,
    seed_of,
)
from mmdata.errors import DataError

__all__ = ["select"]

_SELECT: Final = partial(OptionType, "mmdata.mixture:select")


@click.command(
    epilog="""
\b
EXPRESSION is DuckDB's SQL over the columns of a store (id, source, split, messages, media, extra,
tools, rejected, desirable) and turns, words, characters, trained_characters, media_per_row; with
--template, tokens.
\b
Examples:
  mmdata select stores/all -o stores/short --where "turns <= 4 and media[1].duration < 30"
  mmdata select stores/all -o stores/fit --where "tokens < 2048" --template FAMILY --tokenizer FILE
  mmdata select stores/all -o stores/some --drop-duplicates --sample random:1000 --seed 7
"""
)
@click.argument("source", metavar="STORE", type=STORE)
@OUTPUT
@click.option("--where", metavar="EXPRESSION", help="Keep the rows that this is true of.")
@TEMPLATE
@click.option(
    "--drop-duplicates",
    is_flag=True,
    help="Keep the first of the rows that say the same about the same media.",
)
@click.option(
    "--drop-near-duplicates",
    type=_SELECT("drop_near_duplicates"),
    help="Keep the first of the rows whose texts, or texts and pictures, are nearly the same. For "
    "rows, pictures are decoded.",
)
@SIMILARITY
@click.option(
    "--sample",
    metavar="STRATEGY",
    default="all",
    show_default=True,
    help="Which of what is left: random:1000, first:10%, end:5 ...",
)
@seed_of("mmdata.mixture:select", "draws other rows, and estimates similarities anew")
@COUNTING
@COSTS
@OVERWRITE
@PARQUET
@JSON
def select(
    source: Path,
    store: Path,
    deadline: float,
    memory: int,
    max_pixels: int,
    template: str | None,
    tokenizer: Path | None,
    template_options: Sequence[str],
    strict: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Write some rows of STORE into a new store."""
    from mmdata.mixture import select as run
    from mmdata.report import count_tokens_by

    settings["limits"] = Limits(deadline=deadline, memory=memory, pixels=max_pixels)
    with show_plugin_traceback(strict):
        family = make_template(template, tokenizer, template_options)
        settings["tokens"] = None if family is None else count_tokens_by(family)
        report = run(source, store, progress=True, **settings)
    if as_json:
        say(json.dumps(asdict(report), default=str))
    else:
        lines = [
            ("rows", f"{report.rows:,}"),
            ("asked for", f"{report.where:,}"),
            *(
                [("not encoded", f"{report.not_encoded:,}; the first: {report.fault}")]
                if report.not_encoded
                else []
            ),
            ("duplicates", f"{report.duplicates:,}"),
            ("near duplicates", f"{report.near_duplicates:,}"),
            ("selected", f"{report.selected:,}"),
            ("store", str(report.store)),
        ]
        say(columns(lines))
    if not report.selected:
        raise DataError(f"no row of {source} was selected")
