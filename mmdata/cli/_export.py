"""``mmdata export``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

import mmdata
from mmdata.cli._options import OptionType
from mmdata.cli._say import columns, say, show_plugin_traceback
from mmdata.cli._shared import JSON, MOVED, STORE, key_values
from mmdata.errors import UsageError

if TYPE_CHECKING:
    from mmdata.exporters.run import ExportReport

__all__ = ["export"]

_EXPORT: Final = partial(OptionType, "mmdata.exporters.run:export")


@click.command(
    epilog="""
\b
Examples:
  mmdata export --list
  mmdata export llava stores/rwf -o exported --drop system
  mmdata export messages stores/rwf -o exported --media copy
"""
)
@click.argument("format_name", metavar="FORMAT", required=False)
@click.argument("store", type=STORE, required=False)
@click.option(
    "-o", "--output", "place", type=STORE, help="Where the directory with the files shall appear."
)
@click.option("--list", "listing", is_flag=True, help="List the formats, or show what FORMAT says.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="KEY=VALUE",
    help="An option of the format (`mmdata export FORMAT --list`).",
)
@click.option(
    "--media",
    type=_EXPORT("media"),
    help="How media leave: by path, as copies, inside.  [default: as FORMAT usually has them]",
)
@click.option(
    "--paths",
    type=_EXPORT("paths"),
    default="relative",
    show_default=True,
    help="How paths are spelt: as the store has them, below the media root, or absolute.",
)
@MOVED
@click.option(
    "--frames",
    type=_EXPORT("frames"),
    default="file",
    show_default=True,
    help="How videos with cached frames leave: as their files, or as the frames.",
)
@click.option(
    "--drop",
    multiple=True,
    metavar="NAME[,NAME…]",
    help="What is left out of rows; those that say what FORMAT cannot are rejects without.",
)
@click.option("--split", type=_EXPORT("split"), help="Write the rows of one split alone.")
@click.option("--strict", is_flag=True, help="Stop at the first row that cannot be written.")
@click.option("--overwrite", is_flag=True, help="Replace the export that is there.")
@JSON
def export(
    format_name: str | None,
    store: Path | None,
    place: Path | None,
    listing: bool,
    options: Sequence[str],
    as_json: bool,
    **settings: Any,
) -> None:
    """Write the rows of STORE in a FORMAT that another tool reads."""
    from mmdata.exporters import describe, registry, summaries
    from mmdata.exporters.run import export as run

    if listing:
        known = summaries()
        listed = json.dumps(known, indent=1) if as_json else columns(known.items())
        say(listed if format_name is None else describe(format_name))
        return
    if format_name is None or store is None or place is None:
        raise UsageError("mmdata export takes a FORMAT, a STORE and -o PLACE, or --list")
    registry.get(format_name)  # an unknown name is said first
    opened = mmdata.open(store, media_root=settings.pop("media_root"))
    with show_plugin_traceback(settings["strict"]):
        report = run(
            opened, format_name, place, options=key_values(options), progress=True, **settings
        )
    say(json.dumps(asdict(report), default=str) if as_json else columns(_exported(report)))


def _exported(report: ExportReport) -> list[tuple[str, str]]:
    """Return the account of an export for people."""
    from mmdata.rejects import Reason
    from mmdata.store.layout import EXPORT_REJECTS

    rejected = sum(report.rejects.values())
    lines = [("rows in", f"{report.rows_in:,}"), ("rows", f"{report.rows:,}")]
    lines += [("split", f"{name}: {count:,}") for name, count in report.splits.items()]
    lines.append(("rejects", f"{rejected:,}"))
    for reason, count in report.rejects.items():
        lines.append((f"  {reason}", f"{count:,}  {Reason.of(reason).explanation}"))
    lines += [("  cannot say", f"{what}: {count:,}") for what, count in report.unsayable.items()]
    lines += [("left out", f"{what}: {count:,}") for what, count in report.dropped.items()]
    lines += [("seconds", f"{report.seconds:.1f}"), ("place", str(report.place))]
    if rejected:
        lines.append(("details", str(report.place / EXPORT_REJECTS)))
    return lines
