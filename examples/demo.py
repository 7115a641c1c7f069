"""A tour: drawn sources in four shapes, a store of each,
a mixture of them, and a tiny model that learns from one.

    python -m examples.demo [FOLDER]

Every step prints the command that does the same from a shell.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from examples.synthetic import write_coco, write_fewshot, write_rwf, write_videos
from examples.train_demo import learn_and_answer

MIX = """datasets:
  - store: stores/rwf
  - store: stores/videos
    sampling_strategy: first:50%
  - store: stores/coco
    repeat: 2
  - store: stores/fewshot
"""


def main() -> None:
    """Make the sources, convert, mix and look."""
    if len(sys.argv) > 1:
        tour(Path(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory(prefix="mmdata-demo-") as folder:
        tour(Path(folder))


def tour(folder: Path) -> None:
    """Run every step of the tour in ``folder``."""
    print("Drawing clips and pictures in four shapes of sources …", flush=True)
    write_rwf(folder / "RWF-2000")
    write_videos(folder / "0_30_s_drawn_v0_1")
    write_coco(folder / "coco")
    write_fewshot(folder / "drawn")
    (folder / "mix.yaml").write_text(MIX)

    mmdata(folder, "formats")
    mmdata(
        folder,
        "convert rwf2000 RWF-2000 -o stores/rwf --check decode --overwrite --option language=en",
    )
    mmdata(folder, "convert video178k 0_30_s_drawn_v0_1 -o stores/videos --check probe --overwrite")
    mmdata(folder, "convert llava coco/detail_drawn.json -o stores/coco --overwrite")
    mmdata(folder, "convert fewshot drawn/fewshot-data/dataset.json -o stores/fewshot --overwrite")
    for store in ("rwf", "videos", "coco", "fewshot"):
        mmdata(folder, f"info stores/{store}")
    mmdata(folder, "mix mix.yaml --plan")
    mmdata(folder, "mix mix.yaml -o stores/mixed --overwrite")
    mmdata(folder, "info stores/mixed")
    mmdata(folder, "show stores/mixed 0")
    mmdata(folder, "check stores/mixed")

    print(
        "\nFine-tuning a tiny model on what was converted, and asking it about a picture …",
        flush=True,
    )
    learn_and_answer(folder.resolve())


def mmdata(folder: Path, arguments: str) -> None:
    """Run one command as a shell would, and show it."""
    print(f"\n$ mmdata {arguments}", flush=True)
    subprocess.run([sys.executable, "-m", "mmdata", *arguments.split()], cwd=folder, check=True)


if __name__ == "__main__":
    main()
