"""``mmdata info``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

import mmdata
from mmdata.cli._account import note_lines
from mmdata.cli._options import OptionType
from mmdata.cli._say import columns, say, show_plugin_traceback, size_text
from mmdata.cli._shared import (
    JSON,
    STORE,
    TEMPLATE,
    make_template,
)

if TYPE_CHECKING:
    from mmdata.store import Store

__all__ = ["info"]


@click.command()
@click.argument("store", type=STORE)
@TEMPLATE
@click.option(
    "--max-length",
    type=OptionType("mmdata.report.lengths:Lengths.as_text", "limit"),
    help="With --template: count the samples that are longer.",
)
@JSON
def info(store: Path, max_length: int | None, strict: bool, as_json: bool, **reading: Any) -> None:
    """Show what a store holds and what was not kept; with --template, how long its conversations
    are for a model.
    """
    opened = mmdata.open(store)
    with show_plugin_traceback(strict):
        if template := make_template(**reading, wanted_by={"--max-length": max_length}):
            from mmdata.report.lengths import measure_lengths

            lengths = measure_lengths(opened.rows(located=True), template)
            if as_json:
                over = {} if max_length is None else {max_length: lengths.over(max_length)}
                say(json.dumps({**lengths.summary(), "over": over}))
            else:
                say(lengths.as_text(limit=max_length))
            return
    manifest = opened.manifest
    if as_json:
        say(json.dumps(asdict(manifest)))
        return
    say(columns(_description(opened)))


def _description(store: Store) -> list[tuple[str, str]]:
    manifest = store.manifest
    size, rejects = (
        sum(shard.bytes for shard in manifest.shards),
        manifest.records_in - manifest.rows,
    )
    options = json.dumps(dict(manifest.options)) if manifest.options else ""

    return [
        ("store", str(store.path)),
        ("rows", f"{manifest.rows:,} in {len(manifest.shards)} shards, {size_text(size)}"),
        ("format", f"{manifest.format} {options}".strip()),
        ("media root", str(store.media_root or "none")),
        *(("split", f"{name}: {count:,}") for name, count in manifest.splits.items()),
        *note_lines(manifest.notes),
        *(("source", f"{name}: {count:,}") for name, count in manifest.sources.items()),
        ("records in", f"{manifest.records_in:,} = {manifest.rows:,} rows + {rejects:,} rejects"),
        *(("reject", f"{reason}: {count:,}") for reason, count in manifest.rejects.items()),
        *_parts(manifest.notes.get("parts", ())),
        ("created", f"{manifest.created} by mmdata {manifest.library_version}"),
    ]


def _parts(parts: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield for people what a mixture was made of, and where that was."""
    for part in parts:
        taken = f"{part['draws']:,} of {part['rows']:,} rows ({part['sampling_strategy']})"
        yield "part", f"{part['name']}: {taken}, {part['rejects']:,} rejects, {part['store']}"
