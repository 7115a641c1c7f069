"""The tables of `devices.md`: every published job at full size, and what a device of it holds.

    python -m docs.jobs

writes them into the page; a test sees that they stand there. Needs MindSpore, which building the
site does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from models import family_module
from models.parallel import Layout
from recipes import dry
from recipes.config import TRAINING_ONLY, FinetuneConfig, PredictConfig, read
from recipes.memory import GB, Memory

PAGE: Final = Path(__file__).parent / "devices.md"
CONFIGS: Final = Path(__file__).parents[1] / "recipes" / "configs"
BEGIN, END = "<!-- made by docs/jobs.py -->", "<!-- end -->"

# Parameters of the published checkpoints, from the shapes in their index files (CogVLM2-Video
# without its buffers of rotary frequencies).
PUBLISHED: Final = {
    ("cogvlm2_video", "13b"): ("THUDM/cogvlm2-video-llama3-chat", 12_507_530_496),
    ("llava_next_video", "7b"): ("llava-hf/LLaVA-NeXT-Video-7B-hf", 7_063_431_168),
    ("qwen_vl", "9.6b"): ("Qwen/Qwen-VL-Chat", 9_656_935_168),
    ("visualglm", "6b"): ("THUDM/visualglm-6b", 7_802_193_408),
    ("qwen2_5_vl", "3b"): ("Qwen/Qwen2.5-VL-3B-Instruct", 3_754_622_976),
    ("qwen2_5_vl", "7b"): ("Qwen/Qwen2.5-VL-7B-Instruct", 8_292_166_656),
    ("qwen3_vl", "2b"): ("Qwen/Qwen3-VL-2B-Instruct", 2_127_532_032),
    ("qwen3_vl", "4b"): ("Qwen/Qwen3-VL-4B-Instruct", 4_437_815_808),
    ("qwen3_vl", "8b"): ("Qwen/Qwen3-VL-8B-Instruct", 8_767_123_696),
}


@dataclass(frozen=True)
class Published:
    """A job as it is published: a file of `recipes/configs`, and what differs from it."""

    path: str
    overrides: tuple[str, ...] = ()

    @property
    def config(self) -> FinetuneConfig | PredictConfig:
        """Its configuration."""
        file = CONFIGS / f"{self.path}.yaml"
        if Path(self.path).name.startswith("finetune"):
            return read(FinetuneConfig, file, self.overrides)
        return read(PredictConfig, file, self.overrides, ignore=TRAINING_ONLY)


JOBS: Final = (
    Published("cogvlm2_video/finetune_lora_rwf2000"),
    Published("cogvlm2_video/finetune_lora_rwf2000", ("parallel.data=8",)),
    Published("llava_next_video/finetune_stage2_images"),
    Published("llava_next_video/finetune_stage3_videos"),
    Published("qwen_vl/finetune_stage3_bf16"),
    Published("qwen_vl/finetune_stage3_fp16"),
    Published("qwen_vl/finetune_stage3_bf16_two_nodes"),
    Published("qwen_vl/finetune_lora"),
    Published("visualglm/finetune_lora_fewshot"),
    Published("visualglm/finetune_lora_fewshot", ("parallel.data=8",)),
    Published("qwen2_5_vl/finetune_lora"),
    Published("qwen2_5_vl/finetune_whole"),
    Published("qwen3_vl/finetune_lora"),
    Published("qwen3_vl/finetune_whole"),
    Published("cogvlm2_video/predict"),
    Published("cogvlm2_video/predict", ("parallel.model=2",)),
    Published("llava_next_video/predict_images"),
    Published("llava_next_video/predict_images", ("parallel.model=2",)),
    Published("llava_next_video/predict_videos"),
    Published("llava_next_video/predict_videos", ("parallel.model=2",)),
    Published("qwen_vl/predict"),
    Published("qwen_vl/predict", ("parallel.model=2",)),
    Published("visualglm/predict"),
    Published("qwen2_5_vl/predict"),
    Published("qwen3_vl/predict"),
)
LIMIT: Final = 64 * GB


@cache
def memory_of(job: Published) -> Memory:
    """What a device of a job needs."""
    config = job.config
    return dry.measure(config, dry.planned_layout(config.parallel, None))[1]


def tables() -> str:
    """Both tables, as they stand in the page."""
    return "\n".join([*job_table(), "", *count_table()])


def job_table() -> Iterator[str]:
    """A row a job."""
    yield (
        "| job | devices | layout | weights | gradients | optimizer | gathered | activations "
        "| logits | cache | in all |"
    )
    yield "| --- | --- | --- |" + " ---: |" * 8
    for job in JOBS:
        layout = dry.planned_layout(job.config.parallel, None)
        memory = memory_of(job)
        parts = (
            memory.weights,
            memory.gradients,
            memory.optimizer,
            memory.gathered,
            memory.activations,
            memory.logits,
            memory.cache,
            memory.total,
        )
        figures = " | ".join(f"{part / GB:.1f}" if part else "" for part in parts)
        yield f"| `{job.path}` | {layout.size} | {say_layout(job)} | {figures} |"


def say_layout(job: Published) -> str:
    """The layout of a job, in a few words."""
    parallel = job.config.parallel
    said = f"data {parallel.data or 1} x model {parallel.model}"
    said += f", shard {parallel.shard}" if parallel.shard != "none" else ""
    return said + (", recompute" if parallel.recompute else "")


def count_table() -> Iterator[str]:
    """A row a published size."""
    yield "| family | size | checkpoint | its parameters | ours |"
    yield "| --- | --- | --- | ---: | ---: |"
    for (family, size), (checkpoint, published) in PUBLISHED.items():
        yield f"| {family} | {size} | {checkpoint} | {published:,} | {count(family, size):,} |"


@cache
def count(family: str, size: str) -> int:
    """The parameters of a preset."""
    assert size in family_module(family).PRESETS
    overrides = [f"model.family={family}", f"model.size={size}"]
    config = read(PredictConfig, CONFIGS / "cogvlm2_video" / "predict.yaml", overrides)
    return dry.count_numbers(dry.held_parameters(config, Layout()))


def main() -> None:
    """Write the tables into the page."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
