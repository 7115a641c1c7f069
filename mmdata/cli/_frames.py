"""``mmdata frames``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from mmdata._tools.limits import Limits
from mmdata.cli._account import print_report
from mmdata.cli._options import OptionType, ResizeType
from mmdata.cli._shared import (
    ENGINE,
    JSON,
    LIMITS,
    MEDIA_CACHE,
    MOVED,
    OUTPUT,
    OVERWRITE,
    PARTITIONS,
    STORE,
    WORKERS,
)

__all__ = ["frames"]

_FRAMES: Final = partial(OptionType, "mmdata.frame_cache:cache_frames")
_RESIZE: Final = ResizeType("mmdata.frame_cache:cache_frames", "resize")


@click.command(
    epilog="""
\b
Example:
  mmdata frames stores/rwf -o stores/rwf-frames --frames uniform:24 --size 224
"""
)
@click.argument("source", metavar="STORE", type=STORE)
@OUTPUT
@click.option(
    "--frames", "strategy", required=True, help="Which frames: uniform:24, fps:1:64, seconds:24 ..."
)
@click.option(
    "--size",
    type=_FRAMES("size"),
    help="Side of a frame in pixels, or height,width.  [default: as it is]",
)
@click.option(
    "--resize", type=_RESIZE, default="fast", show_default=True, help="How; all but fast are exact."
)
@click.option(
    "--codec", type=_FRAMES("codec"), default="jpeg", show_default=True, help="webp is lossless."
)
@click.option("--quality", type=_FRAMES("quality"), default=90, show_default=True, help="Of JPEG.")
@click.option("--pad", type=_FRAMES("pad"), default="none", show_default=True)
@click.option("--snap", type=_FRAMES("snap"), default="exact", show_default=True)
@LIMITS
@MOVED
@MEDIA_CACHE
@WORKERS
@ENGINE
@PARTITIONS
@click.option("--resume", is_flag=True, help="Go on where a stopped attempt was.")
@OVERWRITE
@JSON
def frames(
    source: Path,
    store: Path,
    strategy: str,
    deadline: float,
    memory: int,
    max_pixels: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Decode the videos of STORE once: write a new store that holds their frames."""
    from mmdata.frame_cache import cache_frames

    settings["limits"] = Limits(deadline=deadline, memory=memory, pixels=max_pixels)
    report = cache_frames(source, store, strategy, progress=True, **settings)
    print_report(report, as_json)
