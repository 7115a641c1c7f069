"""What a cluster would gain, simulated: 1,000 workers over 10 million clips, some of the workers
slow, some lost; and what the object storage under it would cost, on paper.

    python -m benchmarks.cluster [--clips 10000000] [--workers 1000] [--each 250] [--json]

Measured here, on this machine: the processor time that a clip takes to probe and to decode, and the
time that one process takes to settle ids and to write a row, which no worker can take off it. All
else is assumed, and printed: no cluster of many machines was at hand.

- Clips are not alike: what one takes is drawn from a log-normal distribution (sigma 1) around the
  mean that was measured.
- Of the workers 2 % are slow, five times; each is lost once in an hour, as cheap ones
  may be, and back after a minute.
- A partition whose worker is lost is done again, elsewhere, from its start.
- Prices are list prices of S3 Standard in one region: $0.0004 for 1,000 reads, $0.005 for 1,000
  writes, nothing for bytes that stay in the region. An MP4 is probed by its tables, with five
  requests: as many as a web server on this machine counted for clips of 0.4 and of 1.6 MB, with
  their tables at either end, of each of which it sent 0.2 MB.
"""

from __future__ import annotations

import argparse
import heapq
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

import mmdata
from benchmarks.engine import write_clips, write_text
from benchmarks.measure import options, print_row
from mmdata._tools.limits import Limits
from mmdata.conversion.prober import File, MediaLevel, look
from mmdata.engine.open import open_engine

_SIGMA = 1.0
_SLOW_SHARE = 0.02
_SLOWER = 5.0
_LIFE = 3600.0
"""Seconds after which a worker is lost, on average."""
_RESTART = 60.0
_READ_PRICE = 0.0004 / 1000
_WRITE_PRICE = 0.005 / 1000
_READS_A_CLIP = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a simulated conversion: seconds until the last partition was done, seconds
    that workers worked, how many partitions lost a worker, and how many lost two.
    """

    seconds: float
    worked: float
    lost: int
    lost_twice: int


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--clips", type=int, default=10_000_000)
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--each", type=int, default=250, help="clips of a partition")
    arguments = parser.parse_args()
    row = partial(print_row, peers={}, packages=["av"], as_json=arguments.json)

    merge = measure_merge()
    row("settling and writing, measured", 1e6 * merge, unit="us a row", more_is_better=False)
    row(
        f"settling and writing {arguments.clips:,} rows, one process",
        merge * arguments.clips / 60,
        unit="minutes",
        more_is_better=False,
    )
    for level in ("probe", "decode"):
        print_level(level, arguments, row)

    partitions = arguments.clips / arguments.each
    cost = arguments.clips * _READS_A_CLIP * _READ_PRICE + partitions * 2 * _WRITE_PRICE
    row("requests of object storage, probe, on paper", cost, unit="dollars", more_is_better=False)


def print_level(level: MediaLevel, arguments: argparse.Namespace, row: partial[None]) -> None:
    """Print what was measured of a clip, and what was simulated of all."""
    clip = measure_clip(level)
    row(f"{level}, measured", 1e3 * clip, unit="ms CPU a clip", more_is_better=False)

    work = draw_work(arguments.clips, arguments.each, clip, seed=0)
    alone = float(work.sum())
    found = simulate(work, arguments.workers, seed=0)
    share = alone / (found.seconds * arguments.workers)
    name = f"{level} {arguments.clips:,} clips, {arguments.workers:,} workers, simulated"
    row(name, found.seconds / 60, unit="minutes", more_is_better=False)
    row(f"{name}: of the workers' time", 100 * share, unit="% useful", more_is_better=True)
    row(f"{name}: done again", found.lost, unit="partitions", more_is_better=False)
    row(f"{name}: lost twice", found.lost_twice, unit="partitions", more_is_better=False)


def draw_work(
    clips: int, each: int, mean: float, seed: int
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the seconds that each partition of ``each`` clips takes, (partitions,) float64."""
    random = np.random.default_rng(seed)
    count = clips // each
    work = np.empty(count)
    for start in range(0, count, 4096):  # all at once would be 80 MB for no gain
        size = min(4096, count - start)
        # The mean of a log-normal distribution is exp(mu + sigma ** 2 / 2).
        drawn = random.lognormal(np.log(mean) - _SIGMA**2 / 2, _SIGMA, (size, each))
        work[start : start + size] = drawn.sum(1)
    return work


def simulate(
    work: np.ndarray[tuple[int], np.dtype[np.float64]], workers: int, seed: int
) -> Outcome:
    """Give partitions to workers as these come free, and return what became of them."""
    random = np.random.default_rng(seed)
    pace = np.where(random.random(workers) < _SLOW_SHARE, _SLOWER, 1.0)
    free = [(0.0, worker) for worker in range(workers)]
    waiting = deque((number, 1) for number in range(len(work)))
    again: list[tuple[float, int, int]] = []  # when it was lost, which, and its next attempt
    last = worked = 0.0
    lost = lost_twice = 0

    while waiting or again:
        now, worker = heapq.heappop(free)
        if again and (again[0][0] <= now or not waiting):
            noticed, number, attempt = heapq.heappop(again)
            now = max(now, noticed)
        else:
            number, attempt = waiting.popleft()
        takes = float(work[number] * pace[worker])
        life = float(random.exponential(_LIFE))
        if life < takes:
            lost += 1
            lost_twice += attempt == 2
            heapq.heappush(again, (now + life, number, attempt + 1))
            heapq.heappush(free, (now + life + _RESTART, worker))
            worked += life
            continue
        last = max(last, now + takes)
        worked += takes
        heapq.heappush(free, (now + takes, worker))

    return Outcome(last, worked, lost, lost_twice)


def measure_clip(level: MediaLevel, count: int = 100) -> float:
    """Return the processor seconds that looking into a clip takes, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder), count)
        files = [File(f"{folder}/{number:04}.mp4", "video") for number in range(count)]
        look(files[:3], level, Limits())  # imports and caches
        started = time.process_time()
        look(files, level, Limits())
        return (time.process_time() - started) / count


def measure_merge(count: int = 50_000) -> float:
    """Return the processor seconds a row that the process takes which workers report to."""
    with tempfile.TemporaryDirectory() as folder:
        source = write_text(Path(folder), count)
        seconds = 0.0
        with open_engine("local", workers=1) as engine:
            for name in ("first", "second"):  # the first imports what it needs
                started = time.process_time()
                store = Path(folder, name)
                mmdata.convert("llava", source, store, check="none", engine=engine, partitions=8)
                seconds = time.process_time() - started
        return seconds / count


if __name__ == "__main__":
    main()
