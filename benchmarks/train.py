"""One training step of each tiny family, fed by the pipeline;
beside `transformers` on torch where it has the model.

    python -m benchmarks.train [--steps 30] [--peer-python PYTHON] [--json]

Ours trains as `recipes.finetune` does, on drawn pictures and clips, in graph mode on the CPU; the
first steps, in which it compiles, do not count. Of the four families `transformers` has
LLaVA-NeXT-Video; its model is given the same sizes, tokens and frames, the same optimizer, and no
data pipeline at all. `--peer-python` is the interpreter that has torch and transformers, by default
this one. What is compared is the processor time of a step, and the time by the clock, on one core:
on several, the threads of torch spend most of the former on waiting for one another.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import PYTHON, define_operators_of_torchvision, options, print_row

CONFIGS = Path(__file__).resolve().parent.parent / "recipes" / "configs"
TWINS = {
    "cogvlm2_video": ("finetune_lora_rwf2000_tiny", "clips"),
    "llava_next_video": ("finetune_stage3_videos_tiny", "clips"),
    "qwen_vl": ("finetune_stage3_tiny", "pictures"),
    "visualglm": ("finetune_lora_fewshot_tiny", "pictures"),
}
COMPILING = 5  # steps that do not count


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--peer-python", default=PYTHON, help="that has torch and transformers")
    parser.add_argument("--only", default="", help="families whose name has this")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        kind, *rest = arguments.child
        if kind == "peer":
            print(json.dumps(peer(arguments.steps, int(rest[0]))))
        else:
            family, folder = rest
            print(json.dumps(ours(family, folder, arguments.steps)))
        return
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
        for family in TWINS:
            if arguments.only in family:
                compare(family, folder, arguments)


def draw(folder: Path) -> None:
    """Draw and convert the data, and repeat it, so that no epoch ends in what is measured."""
    import mmdata
    from examples.synthetic import write_coco, write_videos

    mmdata.convert("llava", [write_coco(folder / "coco")], folder / "pictures")
    mmdata.convert("video178k", [write_videos(folder / "0_30_s_drawn_v0_1")], folder / "clips")
    for kind in ("pictures", "clips"):
        (folder / f"{kind}.yaml").write_text(f"datasets:\n- store: {kind}\n  repeat: 200\n")


def compare(family: str, folder: str, arguments: argparse.Namespace) -> None:
    """Print the rows of one family."""
    from recipes.vocabularies import byte_tokenizer

    contestants = {"ours": [PYTHON, "ours", family, folder]}
    if family == "llava_next_video":
        vocabulary = byte_tokenizer("llama2").vocab_size
        contestants["transformers"] = [arguments.peer_python, "peer", str(vocabulary)]
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in contestants}
    for _ in range(arguments.runs):
        for name, (python, *child) in contestants.items():
            taken[name].append(run(python, child, arguments.steps))

    row: dict[str, Any] = {"more_is_better": False, "as_json": arguments.json}
    for figure, unit in (("processor", "ms of processor"), ("step", "ms")):
        steps = {
            name: 1000 * statistics.median(one[figure] for one in each)
            for name, each in taken.items()
        }
        print_row(f"{family}, a step", steps.pop("ours"), steps, unit, ["mindspore"], **row)
    waiting = 100 * statistics.median(one["waiting"] for one in taken["ours"])
    print_row(f"{family}, waiting for data", waiting, {}, "% of a step", ["mindspore"], **row)


def run(python: str, child: list[str], steps: int) -> dict[str, float]:
    """What one run of a contestant measured."""
    line = [
        "taskset",
        "-c",
        "0",
        python,
        "-m",
        "benchmarks.train",
        "--steps",
        str(steps),
        "--child",
        *child,
    ]
    found = subprocess.run(line, capture_output=True, text=True, check=False)
    if found.returncode:
        raise RuntimeError(f"{' '.join(child)} failed:\n{found.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return measured


def ours(family: str, folder: str, steps: int) -> dict[str, float]:
    """Median seconds of a step, those of the processor in a step, and the share of the former that
    was spent on waiting for data.
    """
    from recipes import finetune
    from recipes.config import FinetuneConfig, read
    from recipes.metrics import read_metrics
    from recipes.step import Trainer

    name, kind = TWINS[family]
    output = Path(folder) / family
    line = [
        f"data.train={folder}/{kind}.yaml",
        f"run.output={output}",
        f"run.steps={steps + COMPILING}",
    ]
    line += ["data.train_split=null", "data.evaluate_split=null", "run.checkpoint_every=0"]
    config = read(FinetuneConfig, CONFIGS / family / f"{name}.yaml", line)
    processor: list[float] = []

    class Timed(Trainer):
        """The recipe's trainer, under a clock."""

        def step(self, *arguments: Any) -> tuple[float, float]:
            began = time.process_time()
            found = super().step(*arguments)
            processor.append(time.process_time() - began)
            return found

    finetune.Trainer = Timed  # type: ignore[attr-defined]
    finetune.finetune(config)
    lines = read_metrics(output / "metrics.jsonl")[COMPILING:]
    spent = sum(line["seconds"] for line in lines)
    waiting = sum(line["seconds"] * line["data_wait"] for line in lines)
    return {
        "step": statistics.median(line["seconds"] for line in lines),
        "processor": statistics.median(processor[COMPILING:]),
        "waiting": waiting / spent,
    }


def peer(steps: int, vocabulary: int) -> dict[str, float]:
    """Median seconds of a step, and those of the processor, of `transformers`' LLaVA-NeXT-Video at
    the size of our tiny one with bytes for words.
    """
    import torch

    library = define_operators_of_torchvision()
    model, batch = peer_model_and_batch(vocabulary)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-6, weight_decay=0.0)
    taken, processor = [], []
    for _ in range(steps + COMPILING):
        began = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        model(**batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        taken.append(time.perf_counter() - began[0])
        processor.append(time.process_time() - began[1])
    del library
    return {
        "step": statistics.median(taken[COMPILING:]),
        "processor": statistics.median(processor[COMPILING:]),
        "waiting": 0.0,
    }


def peer_model_and_batch(vocabulary: int) -> tuple[Any, dict[str, Any]]:
    """The model, and one row of 384 tokens with 4 frames of 4 pooled features each."""
    import torch
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaNextVideoConfig,
        LlavaNextVideoForConditionalGeneration,
    )

    vision = CLIPVisionConfig(
        image_size=56,
        patch_size=14,
        hidden_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        intermediate_size=128,
    )
    text = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=128,
    )
    video, image = vocabulary - 2, vocabulary - 1
    config = LlavaNextVideoConfig(
        vision_config=vision, text_config=text, video_token_index=video, image_token_index=image
    )
    ids = torch.full((1, 384), 65)
    ids[:, 8:24] = video
    pixels = torch.rand(1, 4, 3, 56, 56)
    labels = torch.where(torch.arange(384) > 200, ids, -100)
    model = LlavaNextVideoForConditionalGeneration(config).train()
    return model, {"input_ids": ids, "pixel_values_videos": pixels, "labels": labels}


if __name__ == "__main__":
    main()
