"""Where is the red square? A small model learns to answer with boxes.

    python -m recipes.experiments.grounding build/grounding

A scene has two squares of different colours and of two sizes, anywhere on a grid of sixths (the
patches of the picture) but not one over the other. No two pictures are the same, so those held out
are new. As the published model comes to its pictures with a language model that can write, so does
this one: its language part alone has some steps to learn the form of an answer; else what tells the
pictures apart dies away while the form is learnt.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mmdata
from mmdata.schema import Box, Conversation, Image, Media, Region, assistant, user
from recipes.experiments.experiment import ask, png, train, write_store
from recipes.scores import iou, overlap

SIDE, CELLS = 84, 6
COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 170, 60),
    "blue": (50, 80, 220),
    "yellow": (230, 210, 50),
    "white": (240, 240, 240),
}
TRAIN, HELD_OUT = 6144, 256
WORDS = ("stage=[language]", "schedule.warmup_steps=30", "run.steps=100")


def scenes(count: int, seed: int) -> Iterator[Conversation]:
    """Different pictures of two squares, and the question where one of them is."""
    chance = np.random.default_rng(seed)
    seen: set[bytes] = set()
    while len(seen) < count:
        names = [str(name) for name in chance.permutation(list(COLOURS))[:2]]
        boxes = box(chance), box(chance)
        file = png(picture(dict(zip(names, boxes, strict=True))))
        if overlap(*boxes) or file in seen:
            continue
        seen.add(file)
        media = Media("image", bytes=file, width=SIDE, height=SIDE)
        turns = (user(Image(0), names[0]), assistant(Region("", boxes[:1])))
        yield Conversation(f"scene {len(seen)}", turns, (media,), "drawn")


def box(chance: np.random.Generator) -> Box:
    """A square box of two or three cells a side."""
    size = int(chance.integers(2, 4))
    x, y = map(int, chance.integers(0, CELLS - size + 1, 2))
    return x / CELLS, y / CELLS, (x + size) / CELLS, (y + size) / CELLS


def picture(boxes: dict[str, Box]) -> NDArray[Any]:
    """Boxes filled with their colours on grey, (SIDE, SIDE, 3) uint8."""
    pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
    for name, corners in boxes.items():
        x1, y1, x2, y2 = (round(corner * SIDE) for corner in corners)
        pixels[y1:y2, x1:x2] = COLOURS[name]
    return pixels


def run(folder: Path, *overrides: str) -> float:
    """The mean overlap of the boxes that the model gives for held-out scenes with the true ones."""
    drawn = scenes(TRAIN + HELD_OUT, seed=0)
    train_store = write_store(folder / "train", islice(drawn, TRAIN))
    held_out = list(mmdata.open(write_store(folder / "held_out", drawn)))
    words = train("grounding", train_store, folder / "words", *overrides, *WORDS)
    weights = f"model.weights={words.run.output / 'weights.safetensors'}"
    config = train("grounding", train_store, folder / "run", weights, *overrides)
    said = ask(config, held_out, max_new_tokens=24)
    pairs = zip(said, held_out, strict=True)
    return float(np.mean([iou(answer, scene.messages[1].content) for answer, scene in pairs]))


def main(folder: Path, *overrides: str) -> None:
    """Train and print the figure."""
    print(f"mean overlap {run(folder, *overrides):.3f} on held-out scenes", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
