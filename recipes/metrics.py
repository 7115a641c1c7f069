"""What a run says of itself: metrics.jsonl, a line on the screen, a plot of the loss."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jsonlines


class Metrics:
    """Appends to a JSON Lines file;
    lines of steps after `step`, which will be made again, are taken out.
    """

    def __init__(self, file: Path, step: int) -> None:
        self.file = file
        kept = [line for line in read_metrics(file) if line["step"] <= step] if step else []
        with jsonlines.open(file, "w") as lines:
            lines.write_all(kept)

    def write(self, line: dict[str, Any]) -> None:
        """Append one line."""
        with jsonlines.open(self.file, "a") as lines:
            lines.write(line)


def read_metrics(file: Path) -> list[dict[str, Any]]:
    """All lines of a metrics file; none if there is no file."""
    if not file.exists():
        return []
    with jsonlines.open(file) as lines:
        return list(lines)


class StepTimer:
    """Where the time of steps goes; `waiting` seconds were spent on waiting for data."""

    def __init__(self) -> None:
        self.began = time.perf_counter()
        self.waiting = 0.0

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Count the block as waiting."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.waiting += time.perf_counter() - began

    def lap(self) -> tuple[float, float]:
        """Seconds since the last lap, and the share of them spent on waiting."""
        now = time.perf_counter()
        seconds, waiting = now - self.began, self.waiting
        self.began, self.waiting = now, 0.0
        return seconds, waiting / seconds


class Screen:
    """A line that is written over on a terminal; elsewhere a line now and then."""

    def __init__(self, total: int, every: float = 5.0) -> None:
        self.total, self.every, self.last = total, every, 0.0

    def show(self, line: dict[str, Any]) -> None:
        """Show the figures of a step."""
        now, terminal, last = time.monotonic(), sys.stderr.isatty(), line["step"] == self.total
        if now - self.last < (0.1 if terminal else self.every) and not last:
            return
        self.last = now
        done = "#" * (20 * line["step"] // self.total)
        text = (
            f"[{done:20}] {line['step']}/{self.total}  loss {line['loss']:.4f}  "
            f"rate {line['rate']:.2e}  {line['tokens_per_second']:.0f} tokens/s  "
            f"{line['data_wait']:.1%} waiting for data"
        )
        end = "" if terminal and not last else "\n"
        print(f"\r{text}" if terminal else text, end=end, file=sys.stderr, flush=True)


def plot_loss(file: Path, target: Path) -> None:
    """Draw the training loss, and the held-out one where there is one, of a metrics file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.5), layout="constrained")
    for name, style in (("loss", "-"), ("held_out_loss", "o-")):
        lines = [line for line in read_metrics(file) if name in line]
        if lines:
            axes.plot(
                [line["step"] for line in lines],
                [line[name] for line in lines],
                style,
                label=name,
                lw=1,
                ms=3,
            )
    axes.set(xlabel="step", ylabel="mean loss of a target token")
    axes.legend()
    figure.savefig(target, dpi=110)
    pyplot.close(figure)
