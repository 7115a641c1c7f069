"""Does something violent happen? Clips in the shape of RWF-2000: a square that drifts, or one that jumps about.

    python -m recipes.experiments.violence build/violence

The clips are drawn as AVI files in RWF-2000's folders, converted, and their frames cached. Two models learn from them:
the whole of one is trained; of the other LoRA pairs alone, beside weights drawn at random.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mmdata
from examples.synthetic import write_rwf
from mmdata.schema import Part, Text
from recipes import build
from recipes.experiments.experiment import ask, train

MODES = {
    "full": (),
    "lora": ("lora.targets=all", "lora.rank=16", "lora.alpha=32", "lora.dropout=0", "schedule.peak=5e-3"),
}


def drawn_store(folder: Path) -> Path:
    """The store of 300 drawn clips, 75 of them held out."""
    store = folder / "store"
    if not store.exists():
        write_rwf(folder / "RWF-2000", clips=150, seconds=1)
        words = {"language": "en", "prompt": "Fight?", "answers": ("1", "0")}
        mmdata.convert("rwf2000", folder / "RWF-2000", store, options=words)
    return store


def run(folder: Path, mode: str, *overrides: str) -> float:
    """The share of held-out clips that the model judges rightly."""
    store = drawn_store(folder)
    config = train("violence", store, folder / mode, *MODES[mode], *overrides)
    split = build.Split.of(mmdata.open(store), "val")
    held_out = [split.located(number) for number in range(len(split))]
    said = ask(config, held_out, max_new_tokens=2)
    right = [words(answer) == words(clip.messages[1].content) for answer, clip in zip(said, held_out, strict=True)]
    return sum(right) / len(right)


def words(parts: tuple[Part, ...]) -> str:
    """The text of an answer."""
    return "".join(part.text for part in parts if isinstance(part, Text)).strip()


def main(folder: Path, *overrides: str) -> None:
    """Train both and print their figures."""
    for mode in MODES:
        print(f"{mode}: {run(folder, mode, *overrides):.1%} of held-out clips judged rightly", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
