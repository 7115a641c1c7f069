"""``mmdata bench``."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from mmdata.cli._options import OptionType
from mmdata.cli._say import columns, say, show_plugin_traceback
from mmdata.cli._shared import (
    JSON,
    STORE,
    STRICT,
)

__all__ = ["bench"]


@click.command(
    epilog="""
\b
PIPELINE is a YAML file:
  store: stores/rwf-frames
  template: {name: FAMILY}
  tokenizer: {path: tokenizer.model}
  stream: {seq_length: 2048, batch_size: 4}
"""
)
@click.argument("pipeline", type=STORE)
@click.option(
    "--steps",
    type=OptionType("mmdata.pipeline.bench:bench", "steps"),
    default=100,
    show_default=True,
    help="Batches to run.",
)
@STRICT
@JSON
def bench(pipeline: Path, steps: int, strict: bool, as_json: bool) -> None:
    """Run the PIPELINE of a YAML file and say how fast it is, and which stage holds it up."""
    from mmdata.pipeline.bench import bench as run

    with show_plugin_traceback(strict):
        report = run(pipeline, steps=steps)
    say(
        json.dumps({**asdict(report), "bottleneck": report.bottleneck})
        if as_json
        else columns(report.rows())
    )
