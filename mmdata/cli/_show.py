"""``mmdata show``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import mmdata
from mmdata._tools.terminal import json_text
from mmdata.cli._say import say, show_plugin_traceback
from mmdata.cli._shared import (
    JSON,
    STORE,
    TEMPLATE,
    make_template,
)
from mmdata.errors import UsageError

__all__ = ["show"]


@click.command(
    epilog="""
\b
Example:
  mmdata show stores/rwf 3 --template FAMILY --tokenizer tokenizer.model
""",
    context_settings={"ignore_unknown_options": True},  # -1 is the last row
)
@click.argument("store", type=STORE)
@click.argument("index", type=int, default=0)
@TEMPLATE
@click.option(
    "--prompt",
    is_flag=True,
    help="With --template: the prompt of its last question, for prediction.",
)
@click.option("--color/--no-color", default=None, help="Colours.  [default: on a terminal]")
@JSON
def show(
    store: Path,
    index: int,
    prompt: bool,
    color: bool | None,
    strict: bool,
    as_json: bool,
    **reading: Any,
) -> None:
    """Show one conversation of a store;
    with --template, its tokens and which of them are trained on.
    """
    import msgspec

    from mmdata.report.text import conversation_text

    opened = mmdata.open(store)
    if not -len(opened) <= index < len(opened):
        raise UsageError(f"{store} has {len(opened)} rows; there is no row {index}")
    with show_plugin_traceback(strict):
        if template := make_template(**reading):
            from rich.console import Console

            from mmdata.report.tokens import conversation_tokens

            Console(force_terminal=color, soft_wrap=True).print(
                conversation_tokens(opened.located(index), template, prompt=prompt)
            )
            return
    conversation = opened[index]
    if as_json:
        say(json_text(msgspec.json.encode(conversation).decode()))
        return
    say(conversation_text(conversation))
