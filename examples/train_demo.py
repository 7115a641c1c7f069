"""The end of the tour:
a tiny model learns from the demo's pictures for some steps and answers one question.

python -m examples.train_demo FOLDER        (after python -m examples.demo FOLDER)
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

RECIPES = Path(__file__).resolve().parent.parent / "recipes"
CONFIG = RECIPES / "configs" / "llava_next_video" / "finetune_stage2_images_tiny.yaml"


def learn_and_answer(folder: Path, steps: int = 80) -> None:
    """Train on ``folder/stores/coco`` and ask about one of its pictures;
    both commands are shown.
    """
    output = folder / "trained"
    python(
        folder,
        f"-m recipes.finetune {CONFIG} data.train=stores/coco data.batch_size=4 "
        f"run.output={output} run.steps={steps} run.checkpoint_every=0 schedule.peak=4e-3",
    )
    picture = min((folder / "coco" / "train2017").iterdir())
    weights = output / "weights.safetensors"
    options = "device=CPU generation.length=448 generation.max_new_tokens=24"
    question = ["--image", str(picture), "--prompt", "What is in the picture?"]
    python(folder, f"-m recipes.predict {CONFIG} {options} model.weights={weights}", *question)


def python(folder: Path, line: str, *more: str) -> None:
    """Run one command as a shell would, and show it."""
    arguments = [*line.split(), *more]
    print(f"\n$ python {' '.join(arguments)}", flush=True)
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True)


if __name__ == "__main__":
    learn_and_answer(Path(sys.argv[1]))
