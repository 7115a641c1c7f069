"""Every family, trained in every way, in every layout, beside one process.

    python -m tests.recipes.grid [--output FOLDER] [--families NAME …]

starts 1, 2 and 4 processes of msrun, which go through all cells of the grid one after the other, as
starting MindSpore takes longer than training a tiny model does. It prints by how much losses,
norms and final weights differ from those of one process that holds all and recomputes nothing, and
fails if losses or weights differ by more than 1e-5, or an answer by a token.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import product
from pathlib import Path
from typing import Any, get_args

import mindspore as ms
import numpy as np
from numpy.typing import NDArray

from mmdata.pipeline.collate import COLUMNS
from models import FAMILIES, family_module
from models.checkpoint import open_checkpoint
from models.generate import Generator, Prompt
from models.model import VisionLanguageModel
from models.parallel import ALONE, ONE, Groups, Layout, model_group
from models.sharding import data_group
from models.weights import save_weights
from recipes import build, finetune
from recipes.config import FinetuneConfig, Lora, Model, Optimizer, Parallel, Run
from recipes.sharding import Shard
from tests import msrun, tiny_models
from tests.models.samples import FEWEST_LAYERS, VOCABULARY, batch, sample

STEPS, ACCUMULATION, ROWS, RATE = 5, 2, 2, 1e-3
LENGTH = 48  # of a row
NEAR = 1e-5  # for losses and weights
# For norms, as shares of them: rounding alone moves those of Qwen-VL by nearly 1e-5.
NEAR_NORM = 1e-4

KINDS = ("whole", "staged", "lora")
SIDES = ((1, 1), (2, 1), (1, 2), (2, 2))  # data x model
SHARDS: tuple[Shard, ...] = get_args(Shard)

CHANGES: dict[str, dict[str, Any]] = {
    **FEWEST_LAYERS,
    "qwen_vl": {**FEWEST_LAYERS["qwen_vl"], "queries": 4},
    "visualglm": {**FEWEST_LAYERS["visualglm"], "qformer": {"layers": 1, "queries": 4}},
}


@dataclass(frozen=True)
class Cell:
    """A run: what trains of which family, and how that is laid out."""

    family: str
    kind: str
    data: int = 1
    model: int = 1
    shard: Shard = "none"
    recompute: bool = False

    @property
    def name(self) -> str:
        """What its file of weights is called."""
        again = "-recompute" if self.recompute else ""
        return f"{self.family}-{self.kind}-{self.data}x{self.model}-{self.shard}{again}"

    @property
    def size(self) -> int:
        """How many processes it takes."""
        return self.data * self.model

    @property
    def reference(self) -> Cell:
        """The run that it is compared with."""
        return Cell(self.family, self.kind)


@dataclass(frozen=True)
class Outcome:
    """What comes of a run, but for its weights, which are in a file."""

    losses: list[float]
    norms: list[float]
    answers: list[list[int]]


@dataclass(frozen=True)
class Difference:
    """By how much runs differ at most: losses, norms as shares of them, and weights; and in how
    many of the runs an answer differs.
    """

    loss: float = 0.0
    norm: float = 0.0
    weight: float = 0.0
    answers: int = 0

    @property
    def small(self) -> bool:
        """Whether the runs may be called the same."""
        # Written so that what is not a number is not small.
        near = self.loss <= NEAR and self.weight <= NEAR and self.norm <= NEAR_NORM
        return near and not self.answers

    def join(self, other: Difference) -> Difference:
        """The difference of both."""
        return Difference(
            max(self.loss, other.loss),
            max(self.norm, other.norm),
            max(self.weight, other.weight),
            self.answers + other.answers,
        )


def all_cells(families: Sequence[str] = FAMILIES) -> list[Cell]:
    """The whole grid, 72 cells a family."""
    return [
        Cell(family, kind, data, model, shard, recompute)
        for family, kind, (data, model), shard, recompute in product(
            families, KINDS, SIDES, SHARDS, (False, True)
        )
    ]


def covering_cells() -> list[Cell]:
    """A few cells of several processes, in which all families are: each layout, kind, way of
    spreading and of recomputing meets every value of each other, and what is spread over
    data-parallel processes is so for every kind.
    """
    # In the last row every kind is spread as in the second, where there is no data parallelism.
    rows = (((2, 1), 0), ((1, 2), 1), ((2, 2), 2), ((2, 1), 1))
    return [
        Cell(
            FAMILIES[(3 * i + j) % len(FAMILIES)],
            kind,
            data,
            model,
            SHARDS[(shift + j) % 3],
            recompute=i == j,
        )
        for (i, ((data, model), shift)), (j, kind) in product(enumerate(rows), enumerate(KINDS))
    ]


def configure(cell: Cell, weights: Path | None) -> FinetuneConfig:
    """The job of a cell, with all that can go together."""
    changes = {**CHANGES[cell.family], "language": {"layers": 1, "vocabulary": VOCABULARY}}
    parts = family_module(cell.family).PARTS
    between = tuple(part for part in parts if part not in ("vision", "language"))
    return FinetuneConfig(
        model=Model(cell.family, "tiny", changes, weights=weights),
        stage=between if cell.kind == "staged" else ("all",),
        lora=Lora("default" if cell.kind == "lora" else "", rank=4, dropout=0.0),
        # To the bias of keys softmax is blind, so that its gradient is nothing but rounding, which
        # Adam, with its usual epsilon, would blow up to whole steps.
        optimizer=Optimizer(
            eps=1e-6, clip=0.1, weight_decay=0.1, layer_scale=True, layer_decay=0.7
        ),
        parallel=Parallel(cell.data, cell.model, cell.shard, cell.recompute),
        run=Run(accumulation=ACCUMULATION, graph=False),
    )


def write_weights(family: str, file: Path) -> None:
    """Write the weights that all runs of a family begin with."""
    model = build.build_model(configure(Cell(family, "whole"), None).model, VOCABULARY)
    for name, parameter in model.parameters_and_names():
        if parameter.ndim > 1 and "positions" not in name:  # wide enough to tell tokens apart
            parameter.set_data(parameter * 3)
    save_weights(model, file)


def train(cell: Cell, layout: Layout, groups: Groups, folder: Path, target: Path) -> Outcome:
    """Train as the recipe does, with the family's weights in `folder`, write what they have become
    to `target`, and answer with it; all processes of the layout call this together.
    """
    config, data = configure(cell, weights_of(cell.family, folder)), data_group(layout, groups)
    model = build.build_model(
        config.model,
        VOCABULARY,
        config.run.seed,
        model_group(layout, groups),
        data if cell.shard == "weights" else None,
    )
    _, _, trainer = finetune.build_trainer(config, model, layout, data)

    steps = [trainer.step(draw_batches(model, step, layout), RATE) for step in range(STEPS)]
    save_weights(model, target, writes=layout.rank == 0)
    return Outcome([loss for loss, _ in steps], [norm for _, norm in steps], answer(model))


def draw_batches(model: VisionLanguageModel, step: int, layout: Layout) -> list[list[NDArray[Any]]]:
    """The batches of a step, of each the rows of this process; rows differ in how many targets they
    have.
    """
    batches = []
    for part in range(ACCUMULATION):
        first = (step * ACCUMULATION + part) * ROWS
        numbers = range(first + layout.data_rank, first + ROWS, layout.data)
        rows = [[sample(model, number, answer=3 + number % 3)] for number in numbers]
        inputs = batch(model, rows, LENGTH)
        batches.append(
            [inputs[name].asnumpy() for name in (*COLUMNS, "media_layout") if name in inputs]
        )
    return batches


def answer(model: VisionLanguageModel) -> list[list[int]]:
    """What a model answers to two prompts, greedily and with its cache."""
    inputs = batch(model, [[sample(model, seed, answer=0)] for seed in (3, 4)], LENGTH)
    arrays = {name: tensor.asnumpy() for name, tensor in inputs.items()}
    lengths = arrays.pop("segment_ids").sum(1)
    del arrays["labels"]
    return Generator(model, 2, LENGTH, bucket=16).generate(Prompt(lengths=lengths, **arrays), 4)


def run_references(cells: Sequence[Cell], folder: Path) -> dict[Cell, Outcome]:
    """Write the weights that the cells begin with, and run what they are compared with, here."""
    for family in sorted({cell.family for cell in cells}):
        write_weights(family, weights_of(family, folder))
    return {
        cell: train(cell, ONE, ALONE, folder, reference_of(cell, folder))
        for cell in dict.fromkeys(cell.reference for cell in cells)
    }


def weights_of(family: str, folder: Path) -> Path:
    """Where the weights are that all runs of a family begin with."""
    return folder / f"{family}.safetensors"


def reference_of(cell: Cell, folder: Path) -> Path:
    """Where the weights are that a cell's should be."""
    return folder / f"{cell.family}-{cell.kind}.safetensors"


def target_of(cell: Cell, folder: Path) -> Path:
    """Where the weights are that come of a cell."""
    return folder / f"{cell.name}.safetensors"


def run_cells(cells: Sequence[Cell], folder: Path, timeout: float) -> dict[Cell, list[Outcome]]:
    """What each process makes of the cells, all of which take as many, in one start of msrun."""
    count = cells[0].size
    asked = folder / f"cells-{count}.json"
    asked.write_text(json.dumps([asdict(cell) for cell in cells]))
    msrun.run(count, ["-m", "tests.recipes.grid_job", str(asked)], folder / f"log-{count}", timeout)
    said = [read_outcomes(outcomes_of(asked, rank)) for rank in range(count)]
    return {cell: [outcomes[cell] for outcomes in said] for cell in cells}


def outcomes_of(asked: Path, rank: int) -> Path:
    """Where a process writes what comes of its runs."""
    return asked.with_name(f"{asked.stem}-{rank}.jsonl")


def read_outcomes(file: Path) -> dict[Cell, Outcome]:
    """What a process has written."""
    pairs = map(json.loads, file.read_text().splitlines())
    return {Cell(**cell): Outcome(**outcome) for cell, outcome in pairs}


def compare(
    cell: Cell, outcomes: Sequence[Outcome], reference: Outcome, folder: Path
) -> Difference:
    """How far what the processes have made of a cell is from what one makes of it."""
    ours = open_checkpoint(target_of(cell, folder))
    theirs = open_checkpoint(reference_of(cell, folder))
    assert ours.keys() == theirs.keys(), cell
    weights = [np.abs(ours[name].read() - theirs[name].read()).max() for name in theirs]
    losses = [np.subtract(one.losses, reference.losses) for one in outcomes]
    norms = [np.divide(one.norms, reference.norms) - 1 for one in outcomes]
    return Difference(
        float(np.abs(losses).max()),
        float(np.abs(norms).max()),
        float(np.max(weights)),  # as `max` does not, this says what is not a number
        int(any(one.answers != reference.answers for one in outcomes)),
    )


def table(found: Mapping[Cell, Difference]) -> str:
    """A table in Markdown: the largest differences of each family in each layout."""
    lines = [
        ["family", *(f"{data} x {model}" for data, model in SIDES)],
        ["---"] * (1 + len(SIDES)),
    ]
    for family in sorted({cell.family for cell in found}):
        line = [family]
        for sides in SIDES:
            each = [
                found[cell]
                for cell in found
                if (cell.family, cell.data, cell.model) == (family, *sides)
            ]
            line.append(describe(each))
        lines.append(line)
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def describe(each: Sequence[Difference]) -> str:
    """The largest differences of some cells, in words."""
    worst = reduce(Difference.join, each)
    said = f"loss {worst.loss:.0e}, norm {worst.norm:.0e}, weights {worst.weight:.0e}"
    return f"{said}, answers {len(each) - worst.answers} of {len(each)}"


def main(line: list[str] | None = None) -> int:
    """Run the grid; the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, help="a new folder for what comes of the runs")
    parser.add_argument("--families", nargs="+", default=FAMILIES, choices=FAMILIES)
    options = parser.parse_args(line)

    start_mindspore()
    cells = all_cells(options.families)
    if options.output is None:
        with tempfile.TemporaryDirectory() as folder:
            found = run_grid(cells, Path(folder))
    else:
        options.output.mkdir(parents=True)
        found = run_grid(cells, options.output.resolve())

    print(table(found))
    different = [cell for cell in found if not found[cell].small]
    for cell in different:
        print(f"{cell.name}: {found[cell]}")
    return 1 if different else 0


def run_grid(
    cells: Sequence[Cell], folder: Path, timeout: float = 20_000
) -> dict[Cell, Difference]:
    """How far each cell is from one process, of starts of msrun of at most so many seconds."""
    began, found = time.monotonic(), {}
    references = run_references(cells, folder)
    for count in sorted({cell.size for cell in cells}):
        together = [cell for cell in cells if cell.size == count]
        for cell, outcomes in run_cells(together, folder, timeout).items():
            found[cell] = compare(cell, outcomes, references[cell.reference], folder)
        print(
            f"{count} processes: {len(together)} cells, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    return found


def start_mindspore() -> None:
    """Set MindSpore up as all runs have it."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    tiny_models.set_up()


if __name__ == "__main__":
    sys.exit(main())
