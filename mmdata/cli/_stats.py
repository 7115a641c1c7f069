"""``mmdata stats``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

import mmdata
from mmdata._tools.requirements import processors
from mmdata.cli._options import OptionType
from mmdata.cli._say import columns, say, show_plugin_traceback
from mmdata.cli._shared import (
    COUNTING,
    JSON,
    STORE,
    TEMPLATE,
    make_template,
)

__all__ = ["stats"]

_MANY: Final = 10_000
"""Rows that take longer to encode than processes take to start."""


@click.command()
@click.argument("store", type=STORE)
@TEMPLATE
@click.option(
    "--seq-length",
    "seq_lengths",
    type=OptionType("mmdata.report.lengths:Lengths.over", "limit"),
    multiple=True,
    help="With --template: count the rows that are longer; may be said several times.",
)
@COUNTING
@JSON
def stats(
    store: Path,
    seq_lengths: Sequence[int],
    strict: bool,
    as_json: bool,
    engine: str,
    workers: int | None,
    address: str | None,
    partitions: int | None,
    **reading: Any,
) -> None:
    """Count what a store holds: turns, words, media, their sizes and durations, what is trained on,
    duplicates; with --template, tokens.
    """
    from mmdata._tools.progress import progress
    from mmdata.report.lengths import measure_lengths
    from mmdata.report.statistics import stats as run

    opened = mmdata.open(store)
    settings: dict[str, Any] = {"engine": engine, "address": address, "partitions": partitions}
    with progress("counting", len(opened)) as update:
        found = run(opened, workers=workers, progress=update, **settings)
    lines, told = list(found.lines()), asdict(found)
    with show_plugin_traceback(strict):
        if template := make_template(**reading):
            is_large = len(opened) >= _MANY and os.name == "posix"  # elsewhere none can be started
            if workers is None and engine == "local" and is_large:
                workers = processors()
            lengths = measure_lengths(
                opened.rows(located=True), template, workers=workers, **settings
            )
            over = {limit: lengths.over(limit) for limit in seq_lengths}
            told["lengths"] = {**lengths.summary(), "over": over}
            lines += [("tokens", str(lengths.spread))]
            lines += [("tokens trained on", f"{lengths.trained_share:.1%}")]
            lines += [(f"over {limit:,} tokens", f"{count:,}") for limit, count in over.items()]
            lines += [("not encoded", f"{len(lengths.failed):,}")] if lengths.failed else []
    say(json.dumps(told) if as_json else columns(lines))
