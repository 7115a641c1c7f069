"""Does something violent happen? Clips in the shape of RWF-2000:
a square that drifts, or one that jumps about.

    python -m recipes.experiments.violence build/violence

The clips are drawn as AVI files in RWF-2000's folders and converted. The whole of one model is
trained on them from scratch. LoRA pairs are trained beside a model that has learned from other
clips to tell red squares from blue ones, whether they drift or jump.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import mmdata
from examples.synthetic import COLOURS, drifting, write_rwf
from mmdata.schema import Conversation, Media, Video, assistant, user
from recipes import build
from recipes.experiments.experiment import ask, png, train, write_store
from recipes.scores import exact

LORA = ("lora.targets=all", "lora.rank=16", "lora.alpha=16", "lora.dropout=0", "run.steps=400")


def drawn_store(folder: Path) -> Path:
    """The store of 300 drawn clips, and of 100 more that are held out."""
    store = folder / "store"
    if not store.exists():
        write_rwf(folder / "RWF-2000", clips=150, seconds=1)
        words = {"language": "en", "prompt": "Fight?", "answers": ("1", "0")}
        mmdata.convert("rwf2000", folder / "RWF-2000", store, options=words)
    return store


def coloured(count: int) -> Iterator[Conversation]:
    """Clips, every fifth frame cached, and the question whether the square is red."""
    for number in range(count):
        colour, jump = ("red", "blue")[number % 2], (40.0, 2.0)[number // 2 % 2]
        frames = drifting(30, jump=jump, seed=1000 + number, colour=COLOURS[colour])
        taken = tuple(map(png, islice(frames, 0, None, 5)))
        media = Media(
            "video", frames=taken, frame_times=tuple(k / 6 for k in range(6)), num_frames=6
        )
        turns = (user(Video(0), "Red?"), assistant("1" if colour == "red" else "0"))
        yield Conversation(f"clip {number}", turns, (media,), "drawn", "train")


def run(folder: Path, mode: str, *overrides: str) -> float:
    """The share of held-out clips that the model judges rightly."""
    store = drawn_store(folder)
    if mode == "lora":
        colours = write_store(folder / "colours", coloured(300))
        train("violence", colours, folder / "base", "run.steps=150")
        overrides = (*LORA, f"model.weights={folder / 'base' / 'weights.safetensors'}", *overrides)
    config = train("violence", store, folder / mode, *overrides)
    split = build.StoreSplit.of(mmdata.open(store), "val")
    held_out = [split.located(number) for number in range(len(split))]
    said = ask(config, held_out, max_new_tokens=2)
    right = [
        exact(answer, clip.messages[1].content) for answer, clip in zip(said, held_out, strict=True)
    ]
    return sum(right) / len(right)


def main(folder: Path, *overrides: str) -> None:
    """Train both and print their figures."""
    for mode in ("full", "lora"):
        print(
            f"{mode}: {run(folder, mode, *overrides):.1%} of held-out clips judged rightly",
            flush=True,
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
