"""Several runs of fine-tuning in the processes of one msrun, one run after the other: starting
MindSpore takes longer than a run of a tiny model.

    msrun --worker_num=2 --local_worker_num=2 --join=True python many_devices.py RUNS.json

RUNS.json is a list of command lines of `recipes.finetune`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import mindspore as ms

from recipes import finetune


def main() -> None:
    """Run each; the first that fails ends the process."""
    ms.runtime.launch_blocking()  # on few cores, single operators take much longer without it
    for line in json.loads(Path(sys.argv[1]).read_text()):
        if code := finetune.main(line):
            sys.exit(code)


if __name__ == "__main__":
    main()
