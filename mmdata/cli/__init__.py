"""The ``mmdata`` command: one thin file a command; the work is the library's."""

from __future__ import annotations

import atexit
import gc
import io
import os
import signal
import sys
import traceback
from typing import Final

import click

import mmdata
from mmdata.cli._bench import bench
from mmdata.cli._check import check
from mmdata.cli._config import config
from mmdata.cli._convert import convert
from mmdata.cli._export import export
from mmdata.cli._formats import formats
from mmdata.cli._frames import frames
from mmdata.cli._help import WholeHelp
from mmdata.cli._info import info
from mmdata.cli._merge import merge
from mmdata.cli._mix import mix
from mmdata.cli._preview import preview
from mmdata.cli._say import say
from mmdata.cli._select import select
from mmdata.cli._show import show
from mmdata.cli._stats import stats
from mmdata.errors import MMDataError, UsageError

__all__ = ["cli", "main"]

_EXAMPLE: Final = """
\b
Example:
  mmdata convert llava llava_v1_5_mix665k.json -o stores/mix665k --media-root images/
  mmdata info stores/mix665k
  mmdata show stores/mix665k 0
"""


def main() -> None:
    """Run the command and leave with its exit code:
    0 done, 1 the data is at fault, 2 the call is.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # Arrow's allocator gives memory that is free for a second back to the system, which clears it,
    # page by page, when it is asked for next: up to a quarter of the time of converting pictures. A
    # command keeps what it has until it ends. This is read once, when Arrow is imported.
    os.environ.setdefault("MIMALLOC_PURGE_DELAY", "-1")
    # What modules define lives as long as the process: Python's cycle collector need not walk it
    # again and again while they are imported, nor once more at the end.
    gc.set_threshold(100_000)
    atexit.register(_spare_last_collection)
    try:
        sys.exit(cli.main(standalone_mode=False) or 0)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        say(shown.getvalue().rstrip("\n"), err=True)
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        say("mmdata: stopped; nothing half-written is left", err=True)
        sys.exit(130)
    except MMDataError as error:
        say(f"mmdata: {error}", err=True)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except BrokenPipeError:
        sys.exit(141)
    except OSError as error:
        say(
            f"mmdata: {error.strerror or error}{f': {error.filename}' if error.filename else ''}",
            err=True,
        )
        sys.exit(1)
    except Exception:
        # The last line: what has no name of ours is a fault of ours, and its text may be anybody's.
        say(
            f"{traceback.format_exc()}mmdata: this is a fault in mmdata itself; "
            "please report it with the lines above",
            err=True,
        )
        sys.exit(1)


def _spare_last_collection() -> None:
    # DuckDB's bindings (nanobind) print whatever of theirs was not collected, as leaks.
    if "duckdb" not in sys.modules:
        gc.freeze()


@click.group(
    cls=WholeHelp,
    invoke_without_command=True,
    epilog=_EXAMPLE,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(mmdata.__version__)
@click.pass_context
def cli(context: click.Context) -> None:
    """Multimodal fine-tuning data:
    any source in, one Arrow conversation store out, every record accounted for.
    """
    if context.invoked_subcommand is None:
        say(context.get_help())


for command in (
    *(formats, convert, mix, select, merge),
    *(info, show, stats, preview, check),
    *(frames, export, bench, config),
):
    cli.add_command(command)
