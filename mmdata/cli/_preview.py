"""``mmdata preview``."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

import mmdata
from mmdata._tools.limits import Limits
from mmdata.cli._options import OptionType
from mmdata.cli._say import say, show_plugin_traceback
from mmdata.cli._shared import COSTS, JSON, STORE, TEMPLATE, make_template, seed_of

__all__ = ["preview"]

_PREVIEW: Final = partial(OptionType, "mmdata.report:preview")


@click.command(
    epilog="""
\b
Example:
  mmdata preview stores/rwf -o rwf.html --template FAMILY --tokenizer tokenizer.model
"""
)
@click.argument("store", type=STORE)
@click.option(
    "-o", "--output", "page", required=True, type=STORE, help="Where the page shall appear."
)
@TEMPLATE
@click.option(
    "--rows", type=_PREVIEW("rows"), default=200, show_default=True, help="Conversations to show."
)
@seed_of("mmdata.report:preview", "draws other rows")
@COSTS
@click.option("--overwrite", is_flag=True, help="Replace the page that is there.")
@JSON
def preview(
    store: Path,
    page: Path,
    rows: int,
    seed: int,
    deadline: float,
    memory: int,
    max_pixels: int,
    overwrite: bool,
    strict: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Write a page that shows a sample of a store as a model will read it."""
    from mmdata.report import preview as run

    opened = mmdata.open(store)
    with show_plugin_traceback(strict):
        report = run(
            opened,
            page,
            template=make_template(**reading),
            rows=rows,
            seed=seed,
            overwrite=overwrite,
            limits=Limits(deadline=deadline, memory=memory, pixels=max_pixels),
            progress=True,
        )
    if as_json:
        say(json.dumps(asdict(report), default=str))
        return
    say(f"wrote {report.page}: {report.rows:,} rows, {report.faults:,} with a fault")
