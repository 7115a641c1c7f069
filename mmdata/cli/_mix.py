"""``mmdata mix``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mmdata.cli._say import columns, say, size_text
from mmdata.cli._shared import JSON, OVERWRITE, PARQUET, STORE, seed_of
from mmdata.errors import DataError, UsageError
from mmdata.store.layout import REJECTS

if TYPE_CHECKING:
    from mmdata.mixture import Cache, Mixture

__all__ = ["mix"]


@click.command(
    epilog="""
\b
Annotation files (json_path) are converted into stores first, which are kept in mmdata/mixtures in
$XDG_CACHE_HOME, or else in ~/.cache, and used again until a file, a medium's presence, the format
or mmdata itself has changed.
\b
Examples:
  mmdata mix mix.yaml --plan
  mmdata mix mix.yaml -o stores/mixed --seed 0
  mmdata mix --clear-cache
"""
)
@click.argument("config", type=STORE, required=False)
@click.option("-o", "--output", "store", type=STORE, help="Where the store shall appear.")
@click.option("--plan", is_flag=True, help="Show what it would take, and write nothing.")
@seed_of("mmdata.mixture:Mixture.from_yaml", "draws other rows")
@OVERWRITE
@PARQUET
@click.option(
    "--cache", type=STORE, metavar="DIR", help="Where the stores of annotation files are kept."
)
@click.option(
    "--clear-cache",
    is_flag=True,
    help="Remove the stores of annotation files, and do nothing else.",
)
@JSON
def mix(
    config: Path | None,
    store: Path | None,
    plan: bool,
    seed: int,
    overwrite: bool,
    parquet: bool,
    cache: Path | None,
    clear_cache: bool,
    as_json: bool,
) -> None:
    """Make one store of a mixing YAML, or show with --plan what it would take."""
    from mmdata.mixture import Cache, Mixture, write_mixture
    from mmdata.storage._bucket import target_of

    kept = Cache.at(cache)
    if clear_cache:
        if config is not None or store is not None or plan:
            raise UsageError("--clear-cache goes alone, or with --cache DIR")
        size = kept.clear()
        gone = {"cache": str(kept.folder), **asdict(size)}
        say(
            json.dumps(gone)
            if as_json
            else f"removed {size.stores:,} stores, {size_text(size.bytes)}: {kept.folder}"
        )
        return
    if config is None or (store is None) != plan:
        raise UsageError("mmdata mix takes a CONFIG and either -o STORE, or --plan to look first")
    if store is not None:
        target_of(store, "store")  # before data sets are converted
    mixture = Mixture.from_yaml(config, seed=seed, cache=cache, progress=True)
    if store is not None:
        write_mixture(mixture, store, overwrite=overwrite, parquet=parquet, progress=True)
    if as_json:
        say(json.dumps([asdict(row) for row in mixture.plan()], default=str))
    else:
        say(_plan(mixture, kept))
        if store is not None:
            say(f"wrote {store}")
    if mixture.why_empty is not None:
        raise DataError(mixture.why_empty)


def _plan(mixture: Mixture, cache: Cache) -> str:
    """Return for people what a mixture takes,
    what was not kept of its data sets, and where the cache is.
    """
    from mmdata.rejects import Reason

    rows = mixture.plan()
    header = ("data set", "rows", "rejects", "strategy", "selected", "drawn", "share")
    body = [
        (
            r.name,
            f"{r.rows:,}",
            f"{r.rejects:,}",
            r.sampling_strategy,
            f"{r.selected:,}",
            f"{r.draws:,}",
            f"{r.share:.1%}",
        )
        for r in rows
    ]
    lines = [columns([header, *body, ("together", "", "", "", "", f"{len(mixture):,}", "")])]
    for row in rows:
        lines += [
            f"{row.name}: {n:,} {code}  {Reason.of(code).explanation}"
            for code, n in row.reasons.items()
        ]
        lines += [f"{row.name}: all rejects are in {row.store / REJECTS}"] if row.rejects else []
    size = cache.size()
    kept = f"{size.stores:,} stores, {size_text(size.bytes)}"
    lines.append(f"cache of annotation files: {cache.folder}, {kept}")
    return "\n".join(lines)
