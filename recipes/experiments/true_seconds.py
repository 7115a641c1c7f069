"""When does the square turn red? The same small model told true seconds, and told those that
dividing by the average rate gives.

    python -m recipes.experiments.true_seconds build/seconds

Eight frames lie in pairs at random times, half a second to eight seconds apart; from one pair on
the square is red, and the model is to say the second. It is right when it is within one second. The
questions and the answers of both are the same; what differs is the seconds before each pair.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

import mmdata
from mmdata.schema import Conversation, Media, Video, assistant, user
from recipes.experiments.experiment import ask, png, train, write_store
from recipes.scores import seconds

Told: TypeAlias = Literal["true", "average"]

PAIRS, SIDE = 4, 32
RED, BLUE = (220, 40, 40), (50, 80, 220)


def clips(count: int, seed: int, told: Told) -> Iterator[Conversation]:
    """Clips with cached frames that carry the times that are told of them, one question and its
    answer each.
    """
    chance = np.random.default_rng(seed)
    for number in range(count):
        gaps = chance.uniform(0.5, 8.0, PAIRS - 1)
        begins = np.concatenate([[0.0], np.cumsum(gaps)])
        times = np.stack([begins, begins + 0.1], 1).ravel().round(2)  # (frames,)
        turn = int(chance.integers(1, PAIRS))
        colours = [RED if pair >= turn else BLUE for pair in range(PAIRS) for _ in range(2)]
        frames = tuple(png(square(colour, chance)) for colour in colours)
        shown = times if told == "true" else by_average_rate(times)
        media = Media(
            "video", frames=frames, frame_times=tuple(shown.tolist()), num_frames=len(frames)
        )
        turns = (user(Video(0), "Red at?"), assistant(str(int(times[2 * turn]))))
        yield Conversation(f"clip {seed}-{number}", turns, (media,), "drawn")


def by_average_rate(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """What the number of each frame divided by the average rate gives for its time."""
    rate = (len(times) - 1) / times[-1]
    told: NDArray[np.float64] = (np.arange(len(times)) / rate).round(2)
    return told


def square(colour: tuple[int, int, int], chance: np.random.Generator) -> NDArray[np.uint8]:
    """A square somewhere on grey, (SIDE, SIDE, 3) uint8."""
    pixels = np.full((SIDE, SIDE, 3), 128, np.uint8)
    x, y = chance.integers(0, SIDE // 3, 2)
    pixels[y : y + SIDE * 2 // 3, x : x + SIDE * 2 // 3] = colour
    return pixels


def run(folder: Path, told: Told, *overrides: str) -> float:
    """The share of held-out clips of which the model that is told so names the right second."""
    train_store = write_store(folder / f"train_{told}", clips(4096, 0, told))
    held_out = list(mmdata.open(write_store(folder / f"held_out_{told}", clips(256, 1, told))))
    config = train("true_seconds", train_store, folder / told, *overrides)
    said = ask(config, held_out, max_new_tokens=4)
    pairs = zip(said, held_out, strict=True)
    return float(np.mean([seconds(answer, clip.messages[1].content) for answer, clip in pairs]))


def main(folder: Path, *overrides: str) -> None:
    """Train both and print their figures."""
    ways: tuple[Told, ...] = ("true", "average")
    for told in ways:
        print(f"{told} seconds: {run(folder, told, *overrides):.1%} within one second", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
