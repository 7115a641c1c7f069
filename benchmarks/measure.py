"""Measuring contestants side by side:
each run is a process of its own, the runs interleave, medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "Run",
    "define_operators_of_torchvision",
    "interleave",
    "options",
    "print_row",
    "processor_seconds",
    "run",
]


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command: wall and CPU seconds, peak resident bytes."""

    wall: float
    cpu: float
    peak: int


def run(command: Sequence[str], *, cores: int | None = None) -> Run:
    """Run a Python script with arguments to its end, on so many cores, and return what it took.

    Raises:
        RuntimeError: it failed; the message holds what it printed.
    """
    whole = (
        ["taskset", "-c", ",".join(map(str, range(cores))), *command] if cores else list(command)
    )
    started = time.perf_counter()
    process = subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(
            f"{' '.join(command)} failed:\n{output.decode(errors='replace')[-2000:]}"
        )
    return Run(
        time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024
    )


def interleave(
    contestants: Mapping[str, Sequence[str]],
    *,
    runs: int,
    cores: int | None = None,
    before: Callable[[str], object] = lambda name: None,
) -> dict[str, Run]:
    """Run every contestant in turn, ``runs`` times, and return the median of each figure.

    ``before`` is called with its name before each run, and takes none of its time.
    """
    taken: dict[str, list[Run]] = {name: [] for name in contestants}
    for _ in range(runs):
        for name, command in contestants.items():
            before(name)
            os.sync()  # nobody pays for what another has left unwritten
            taken[name].append(run(command, cores=cores))
    return {name: _median(each) for name, each in taken.items()}


def _median(runs: Sequence[Run]) -> Run:
    import statistics  # here, where no contestant pays for it

    return Run(
        statistics.median(one.wall for one in runs),
        statistics.median(one.cpu for one in runs),
        int(statistics.median(one.peak for one in runs)),
    )


def processor_seconds() -> float:
    """Return the processor seconds of this process and of all that it has started, those that have
    ended too.
    """
    parents: dict[int, int] = {}
    ticks: dict[int, int] = {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            # After its name, which may hold anything: proc_pid_stat(5) from field 3 on.
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        process = int(place.parent.name)
        parents[process] = int(fields[1])
        ticks[process] = sum(map(int, fields[11:15]))  # its own, and those of whom it waited for

    def is_ours(process: int) -> bool:
        while process > 1 and process != os.getpid():
            process = parents.get(process, 0)
        return process == os.getpid()

    return sum(ticks[each] for each in ticks if is_ours(each)) / os.sysconf("SC_CLK_TCK")


def options(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with what every benchmark takes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print one JSON object a row")
    parser.add_argument("--runs", type=int, default=3, help="runs of each contestant")
    return parser


def print_row(
    name: str,
    ours: float,
    peers: Mapping[str, float],
    unit: str,
    packages: Sequence[str],
    *,
    more_is_better: bool,
    as_json: bool,
) -> None:
    """Print one claim: our figure, each peer's,
    and how many times better ours is than the best of them.
    """
    best = (max if more_is_better else min)(peers.values()) if peers else None
    ratio = None if best is None else (ours / best if more_is_better else best / ours)
    if as_json:
        from importlib.metadata import version  # likewise

        row = {
            "name": name,
            "ours": ours,
            "peers": dict(peers),
            "unit": unit,
            "ratio_to_best": ratio,
            "versions": {package: version(package) for package in ("mmdata", *packages)},
        }
        print(json.dumps(row))
        return
    others = ", ".join(f"{peer} {figure:,.4g}" for peer, figure in peers.items())
    beside = f"   beside {others}   {ratio:.2f}x" if ratio is not None else ""
    print(f"{name}: {ours:,.4g} {unit}{beside}")


def define_operators_of_torchvision() -> Any:
    """Let a torchvision be imported whose compiled operators were built for another torch; none of
    them is used here. Keep what is returned.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    if not hasattr(torch.ops.torchvision, "nms"):
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


PYTHON = sys.executable
