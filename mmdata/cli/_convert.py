"""``mmdata convert``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mmdata._tools.limits import Limits
from mmdata.cli._account import print_report
from mmdata.cli._options import SplitType
from mmdata.cli._say import show_plugin_traceback
from mmdata.cli._shared import (
    CONVERT,
    ENGINE,
    JSON,
    LIMITS,
    MEDIA_CACHE,
    OUTPUT,
    OVERWRITE,
    PARQUET,
    STORE,
    WORKERS,
    key_values,
    seed_of,
)

__all__ = ["convert"]


@click.command(
    epilog="""
\b
Examples:
  mmdata convert rwf2000 RWF-2000/ -o stores/rwf --option language=en
  mmdata convert video178k 0_30_s_academic_v0_1/ 1_2_m_nextqa/ -o stores/videos --check decode
"""
)
@click.argument("format_name", metavar="FORMAT")
@click.argument("sources", nargs=-1, required=True, type=STORE)
@OUTPUT
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the format (`mmdata formats FORMAT`).",
)
@click.option("--media-root", type=STORE, help="The folder that media paths are relative to.")
@click.option(
    "--split",
    type=SplitType("mmdata.conversion:convert", "split"),
    help="The split of every row, or the share of each: train=0.9,val=0.1.",
)
@click.option(
    "--split-by",
    type=CONVERT("split_by"),
    default="media",
    show_default=True,
    help="What shares keep together: rows about one medium, or of one id.",
)
@seed_of("mmdata.conversion:convert", "divides into other shares")
@click.option(
    "--check",
    type=CONVERT("check"),
    default="exists",
    show_default=True,
    help="How hard to look at media; probe and decode keep the size and a hash of each file.",
)
@LIMITS
@click.option("--embed", is_flag=True, help="Put the media's bytes into the store.")
@WORKERS
@ENGINE
@click.option(
    "--partitions",
    type=CONVERT("partitions"),
    help="Parts that the source is split into.  [default: as many as keep workers busy]",
)
@click.option("--limit", type=CONVERT("limit"), help="Read only so many records.")
@click.option("--strict", is_flag=True, help="Stop at the first record that cannot be kept.")
@click.option("--resume", is_flag=True, help="Use what a stopped attempt has done.")
@OVERWRITE
@click.option("--allow-outside", is_flag=True, help="Admit media outside the media root.")
@click.option(
    "--allow-remote", is_flag=True, help="Read media that records name by URL, and HTTP sources."
)
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="HOST",
    help="A machine of this network that may be asked over HTTP.",
)
@MEDIA_CACHE
@click.option(
    "--allow-fields",
    multiple=True,
    metavar="NAME[,NAME…]",
    help="Keep fields in `extra` that change what a record means and are not understood.",
)
@PARQUET
@click.option(
    "--duplicate-ids",
    type=CONVERT("duplicate_ids"),
    default="number",
    show_default=True,
    help="What becomes of an id that is taken by a record with other content.",
)
@JSON
def convert(
    format_name: str,
    sources: Sequence[Path],
    store: Path,
    options: Sequence[str],
    allow_fields: Sequence[str],
    deadline: float,
    memory: int,
    max_pixels: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Convert SOURCES of a FORMAT into a store."""
    from mmdata.conversion import convert as run

    allowed = [name for names in allow_fields for name in names.split(",")]
    with show_plugin_traceback(settings["strict"]):
        report = run(
            format_name,
            sources,
            store,
            options=key_values(options),
            allow_fields=allowed,
            limits=Limits(deadline=deadline, memory=memory, pixels=max_pixels),
            progress=True,
            **settings,
        )
    print_report(report, as_json)
