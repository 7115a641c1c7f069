"""How fast clips are looked into: in this process, and isolated from it, on one core and on two.

python -m benchmarks.probes FOLDER WORKERS    (one run; 0 workers are this process)
"""

from __future__ import annotations

import functools
import itertools
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TypeAlias

from benchmarks.measure import PYTHON, print_row
from mmdata._tools.limits import Limits
from mmdata.conversion.prober import File, Prober, look
from mmdata.errors import MediaError

__all__ = ["measure"]

COUNT = 1000
Taken: TypeAlias = dict[str, float]  # seconds: "cpu" and "wall"

# What is measured: how many workers, on how many cores.
WAYS = {
    "in this process": (0, 1),
    "isolated, one core": (1, 1),
    "isolated, two cores": (2, 2),
}


def measure(clips: list[str], runs: int, *, as_json: bool) -> None:
    """Print what probing 1,000 copies of the clips takes, and what isolation adds to it."""
    taken: dict[str, list[Taken]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        for number, clip in zip(range(COUNT), itertools.cycle(clips)):
            Path(folder, f"{number:04}{Path(clip).suffix}").symlink_to(Path(clip).resolve())
        for run in range(runs + 1):  # the first is to warm up
            for name, (workers, cores) in WAYS.items():
                command = [PYTHON, "-m", "benchmarks.probes", folder, str(workers)]
                if shutil.which("taskset"):
                    command = ["taskset", "-c", ",".join(map(str, range(cores))), *command]
                output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
                if run:
                    taken[name].append(json.loads(output))

    row = functools.partial(print_row, peers={}, packages=["av"], as_json=as_json)
    for name, each in taken.items():
        cpu, wall = (statistics.median(one[unit] for one in each) for unit in ("cpu", "wall"))
        row(f"probes, {name}", 1e3 * cpu / COUNT, unit="ms CPU a clip", more_is_better=False)
        row(f"probes, {name}", COUNT / wall, unit="clips a second", more_is_better=True)
    alone, one, two = taken.values()
    added = 100 * (_median_ratio(one, alone, "cpu") - 1)
    row("probes, isolation adds", added, unit="% CPU", more_is_better=False)
    added = 100 * (_median_ratio(one, alone, "wall") - 1)
    row("probes, isolation adds", added, unit="% time", more_is_better=False)
    gain = _median_ratio(one, two, "wall")
    row("probes, two cores over one", gain, unit="times as many", more_is_better=True)


def _median_ratio(these: list[Taken], others: list[Taken], unit: str) -> float:
    """Return the median of the ratios run by run."""
    return statistics.median(a[unit] / b[unit] for a, b in zip(these, others, strict=True))


def _main() -> None:
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    files = [[File(str(path), "video")] for path in sorted(folder.iterdir())]
    wall, cpu = time.perf_counter(), _cpu()
    if workers:
        with Prober("probe", workers=workers) as prober:
            for _ in prober.answers(range(len(files)), files.__getitem__):
                pass
    else:
        for each in files:
            try:
                look(each, "probe", Limits())
            except MediaError:
                continue
    print(json.dumps({"wall": time.perf_counter() - wall, "cpu": _cpu() - cpu}))


def _cpu() -> float:
    """Return the seconds of this process and of those that it has waited for."""
    taken = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in taken)


if __name__ == "__main__":
    _main()
