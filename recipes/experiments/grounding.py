"""Where is the red square? A small Qwen-VL learns to answer with boxes.

    python -m recipes.experiments.grounding build/grounding

A scene has two squares of different colours, whose edges lie on a grid of eighths (the patches of the picture).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import mmdata
from mmdata.schema import Box, Conversation, Image, Media, Part, Region, assistant, user
from recipes.experiments.experiment import ask, png, train, write_store

SIDE, CELLS = 112, 8
COLOURS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220)}


def scenes(count: int, seed: int) -> Iterator[Conversation]:
    """Pictures of two squares and the question where one of them is."""
    chance = np.random.default_rng(seed)
    for number in range(count):
        pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
        names = [str(name) for name in chance.permutation(list(COLOURS))[:2]]
        left = int(chance.integers(0, 2))  # which of them is on the left half
        boxes = {name: box(chance, (place + left) % 2) for place, name in enumerate(names)}
        for name, (x1, y1, x2, y2) in boxes.items():
            pixels[int(y1 * SIDE) : int(y2 * SIDE), int(x1 * SIDE) : int(x2 * SIDE)] = COLOURS[name]
        media = Media("image", bytes=png(pixels), width=SIDE, height=SIDE)
        answer = assistant(Region(names[0], (boxes[names[0]],)))
        yield Conversation(f"scene {seed}-{number}", (user(Image(0), names[0]), answer), (media,), "drawn")


def box(chance: np.random.Generator, half: int) -> Box:
    """A square box in the left (0) or right (1) half."""
    size = int(chance.integers(2, 5))
    x = int(chance.integers(0, CELLS // 2 - size + 1)) + half * CELLS // 2
    y = int(chance.integers(0, CELLS - size + 1))
    return x / CELLS, y / CELLS, (x + size) / CELLS, (y + size) / CELLS


def box_of(parts: tuple[Part, ...]) -> Box | None:
    """The first box of an answer."""
    return next((part.boxes[0] for part in parts if isinstance(part, Region) and part.boxes), None)


def overlap(first: Box | None, second: Box | None) -> float:
    """Intersection over union; 0 where there is no box."""
    if first is None or second is None:
        return 0.0
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    shared = max(width, 0.0) * max(height, 0.0)
    areas = ((one[2] - one[0]) * (one[3] - one[1]) for one in (first, second))
    return shared / (sum(areas) - shared)


def run(folder: Path, *overrides: str) -> float:
    """The mean overlap of the boxes that the model gives for held-out scenes with the true ones."""
    train_store = write_store(folder / "train", scenes(4096, seed=0))
    held_out = list(mmdata.open(write_store(folder / "held_out", scenes(128, seed=1))))
    config = train("grounding", train_store, folder / "run", *overrides)
    said = ask(config, held_out, max_new_tokens=40)
    pairs = zip(said, held_out, strict=True)
    return float(np.mean([overlap(box_of(answer), box_of(scene.messages[1].content)) for answer, scene in pairs]))


def main(folder: Path, *overrides: str) -> None:
    """Train and print the figure."""
    print(f"mean overlap {run(folder, *overrides):.3f} on held-out scenes", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
