"""``mmdata merge``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mmdata.cli._say import say
from mmdata.cli._shared import OUTPUT, OVERWRITE, PARQUET, STORE

__all__ = ["merge"]


@click.command()
@click.argument("sources", metavar="STORE...", nargs=-1, required=True, type=STORE)
@OUTPUT
@OVERWRITE
@PARQUET
def merge(sources: Sequence[Path], store: Path, overwrite: bool, parquet: bool) -> None:
    """Write all rows of STOREs, one store after the other, into a new one."""
    from mmdata.mixture import merge as run

    made = run(sources, store, overwrite=overwrite, parquet=parquet, progress=True)
    say(f"wrote {store}: {len(made):,} rows of {len(sources)} stores")
