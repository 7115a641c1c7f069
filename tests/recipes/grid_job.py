"""What a process of `tests.recipes.grid` does: train cells of its grid, one after the other.

    msrun … python -m tests.recipes.grid_job CELLS.json

The weights go beside CELLS.json, and what else comes of each cell, as one line of JSON a cell.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from mindspore.communication import get_rank, init

from models.parallel import Groups, Layout, create_groups
from tests.recipes.grid import Cell, outcomes_of, start_mindspore, target_of, train


def main() -> None:
    """Run each; the first that fails ends the process."""
    asked = Path(sys.argv[1])
    start_mindspore()
    init()
    groups: dict[tuple[int, int], Groups] = {}
    with outcomes_of(asked, get_rank()).open("w") as file:
        for cell in (Cell(**each) for each in json.loads(asked.read_text())):
            layout = Layout(cell.data, cell.model, get_rank())
            # A group can be made only once.
            sides = cell.data, cell.model
            if sides not in groups:
                groups[sides] = create_groups(layout)
            target = target_of(cell, asked.parent)
            outcome = train(cell, layout, groups[sides], asked.parent, target)
            print(json.dumps([asdict(cell), asdict(outcome)]), file=file, flush=True)


if __name__ == "__main__":
    main()
