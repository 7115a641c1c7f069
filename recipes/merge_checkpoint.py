"""Join a checkpoint that every process wrote its pieces of (`run.checkpoint_pieces`) into whole
files.

    python -m recipes.merge_checkpoint output/checkpoints/step-00001000 merged

`merged` gets trained.safetensors, optimizer.safetensors and state.json, when all is complete. One
array is in memory at a time. A run goes on from pieces too, in any layout, without this.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mmdata.errors import UsageError
from models.checkpoint import write_checkpoint
from models.held import Stored
from recipes.checkpoints import OPTIMIZER, STATE, TRAINED, open_whole, publish


def merge_checkpoint(folder: Path, target: Path) -> dict[str, int]:
    """Write the whole files of a checkpoint; how many arrays each of them has.

    Raises:
        UsageError: if `folder` is no checkpoint, or `target` is there already.
        ValueError: if numbers of an array are in no file.
    """
    if not (folder / STATE).exists():
        raise UsageError(f"{folder}: no {STATE} in it; name the folder of a checkpoint")
    if target.exists():
        raise UsageError(f"{target}: exists already; name another folder")

    weights, moments = open_whole(folder)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write_arrays(part / TRAINED, weights)
    write_arrays(part / OPTIMIZER, moments)
    shutil.copyfile(folder / STATE, part / STATE)
    publish(part, target)
    return {TRAINED: len(weights), OPTIMIZER: len(moments)}


def write_arrays(target: Path, stored: Mapping[str, Stored]) -> None:
    """Write arrays to a file, one after the other."""

    def arrays() -> Iterator[tuple[str, NDArray[Any]]]:
        for array in stored.values():
            yield array.dtype, array.read()

    write_checkpoint(target, list(stored), arrays())


def main(line: list[str] | None = None) -> int:
    """Run from a shell; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="a checkpoint of finetune.py")
    parser.add_argument("target", type=Path, help="the folder to write")
    options = parser.parse_args(line)
    try:
        counts = merge_checkpoint(options.folder, options.target)
    except (UsageError, ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{options.target}: " + ", ".join(f"{n} arrays in {name}" for name, n in counts.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
