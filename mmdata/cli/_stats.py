"""``mmdata stats``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

import mmdata
from mmdata._tools.limits import Limits
from mmdata._tools.requirements import processors
from mmdata.cli._options import OptionType
from mmdata.cli._say import columns, say, show_plugin_traceback
from mmdata.cli._shared import (
    COSTS,
    COUNTING,
    JSON,
    SIMILARITY,
    STORE,
    TEMPLATE,
    make_template,
    seed_of,
)

if TYPE_CHECKING:
    from mmdata.mixture.near_duplicates import NearKind

__all__ = ["stats"]

_NEAR: Final = partial(OptionType, "mmdata.mixture:find_near_duplicates")
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
@click.option(
    "--near-duplicates",
    "near",
    type=_NEAR("kind"),
    help="Find texts, or rows with their pictures too, that are nearly the same. For rows, "
    "pictures are decoded.",
)
@SIMILARITY
@seed_of("mmdata.mixture:find_near_duplicates", "estimates similarities anew")
@click.option(
    "--plots",
    type=STORE,
    metavar="FOLDER",
    help="Draw the distributions into a folder, as SVG and PNG; with --template, of tokens too.",
)
@COUNTING
@COSTS
@JSON
def stats(
    store: Path,
    seq_lengths: Sequence[int],
    near: NearKind | None,
    similarity: float,
    seed: int,
    deadline: float,
    memory: int,
    max_pixels: int,
    plots: Path | None,
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
    from mmdata.mixture import find_near_duplicates
    from mmdata.report.lengths import measure_lengths
    from mmdata.report.plots import distributions, plots_folder, write_plots
    from mmdata.report.statistics import stats as run

    opened = mmdata.open(store)
    with show_plugin_traceback(strict):
        template = make_template(**reading, wanted_by={"--seq-length": seq_lengths})
    if plots is not None:
        plots_folder(plots)
    settings: dict[str, Any] = {"engine": engine, "address": address, "partitions": partitions}
    found = run(opened, workers=workers, progress=True, **settings)
    lines, told = list(found.lines()), asdict(found)
    lengths = None
    with show_plugin_traceback(strict):
        if template is not None:
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
    if near is not None:
        groups = find_near_duplicates(
            opened,
            near,
            similarity=similarity,
            seed=seed,
            workers=workers,
            limits=Limits(deadline=deadline, memory=memory, pixels=max_pixels),
            progress=True,
        ).groups
        told["near_duplicates"] = {each.kind: asdict(each) for each in groups}
        lines += [line for each in groups for line in each.lines()]
    if plots is not None:
        written = write_plots(plots, distributions(found, lengths))
        told["plots"] = [str(path) for path in written]
        lines += [("plots", f"{len(written):,} files in {plots}")]
    say(json.dumps(told) if as_json else columns(lines))
