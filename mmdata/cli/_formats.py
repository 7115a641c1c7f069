"""``mmdata formats``."""

from __future__ import annotations

import json

import click

from mmdata.cli._say import columns, say
from mmdata.cli._shared import (
    JSON,
)

__all__ = ["formats"]


@click.command()
@click.argument("name", required=False)
@JSON
def formats(name: str | None, as_json: bool) -> None:
    """List the source formats, or show the shape and the options of one."""
    from mmdata.formats import describe, summaries

    if name is not None:
        say(describe(name))
        return
    known = summaries()
    say(json.dumps(known, indent=1) if as_json else columns(known.items()))
