"""``mmdata merge``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from mmdata.cli._say import say
from mmdata.cli._shared import JSON, OUTPUT, OVERWRITE, PARQUET, STORE

__all__ = ["merge"]


@click.command()
@click.argument("sources", metavar="STORE...", nargs=-1, required=True, type=STORE)
@OUTPUT
@OVERWRITE
@PARQUET
@JSON
def merge(
    sources: Sequence[Path], store: Path, overwrite: bool, parquet: bool, as_json: bool
) -> None:
    """Write all rows of STOREs, one store after the other, into a new one."""
    from mmdata.mixture import merge as run

    made = run(sources, store, overwrite=overwrite, parquet=parquet, progress=True)
    if as_json:
        say(json.dumps({"store": str(store), "rows": len(made), "stores": list(map(str, sources))}))
    else:
        say(f"wrote {store}: {len(made):,} rows of {len(sources)} stores")
