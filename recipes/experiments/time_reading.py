"""When does the square turn red? The same small model with true times, and with none.

    python -m recipes.experiments.time_reading build/time

Six frames lie at random times, half a second to eight seconds apart; in one of them the square has
turned from blue to red, and the model is to say the second. It is right when it is within one
second.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mmdata
from mmdata.schema import Conversation, Media, Video, assistant, user
from recipes.experiments.experiment import ask, png, train, write_store
from recipes.scores import seconds

FRAMES, SIDE = 6, 28
RED, BLUE = (220, 40, 40), (50, 80, 220)


def clips(count: int, seed: int) -> Iterator[Conversation]:
    """Clips with cached frames that carry their own times, one question and its answer each."""
    chance = np.random.default_rng(seed)
    for number in range(count):
        times = np.concatenate([[0.0], np.cumsum(chance.uniform(0.5, 8.0, FRAMES - 1))]).round(2)
        turn = int(chance.integers(1, FRAMES))
        frames = tuple(png(square(RED if k >= turn else BLUE, chance)) for k in range(FRAMES))
        media = Media("video", frames=frames, frame_times=tuple(times.tolist()), num_frames=FRAMES)
        turns = (user(Video(0), "Red at?"), assistant(str(round(times[turn]))))
        yield Conversation(f"clip {seed}-{number}", turns, (media,), "drawn")


def square(colour: tuple[int, int, int], chance: np.random.Generator) -> NDArray[Any]:
    """A square somewhere on grey, (SIDE, SIDE, 3) uint8."""
    pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
    x, y = chance.integers(0, SIDE // 3, 2)
    pixels[y : y + SIDE * 2 // 3, x : x + SIDE * 2 // 3] = colour
    return pixels


def run(folder: Path, index: str, *overrides: str) -> float:
    """The share of held-out clips of which the model
    that reads `index` (second or none) names the right second.
    """
    train_store = write_store(folder / "train", clips(4096, seed=0))
    held_out = list(mmdata.open(write_store(folder / "held_out", clips(256, seed=1))))
    config = train(
        "time_reading", train_store, folder / index, f"template.index={index}", *overrides
    )
    said = ask(config, held_out, max_new_tokens=3)
    pairs = zip(said, held_out, strict=True)
    return float(np.mean([seconds(answer, clip.messages[1].content) for answer, clip in pairs]))


def main(folder: Path, *overrides: str) -> None:
    """Train both and print their figures."""
    for index in ("second", "none"):
        print(f"index {index}: {run(folder, index, *overrides):.1%} within one second", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
