"""Several recipes in the processes of one msrun, one after the other: starting MindSpore takes
longer than a tiny model does.

    msrun … python -m tests.recipes.divided_job LINES.json

LINES.json is a list of command lines, each a recipe's name and what follows it.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from tests import tiny_models


def main() -> None:
    """Run each; the first that fails ends the process."""
    tiny_models.set_up()
    for recipe, *line in json.loads(Path(sys.argv[1]).read_text()):
        if code := importlib.import_module(f"recipes.{recipe}").main(line):
            sys.exit(code)


if __name__ == "__main__":
    main()
