"""The full-size YAMLs as jobs: as they are but for a model, a vocabulary and pictures that are
small, the device, and float16 where a CPU lacks bfloat16.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest

from mmdata.schema import Conversation
from models.parallel import Layout
from recipes import build, finetune, streams
from recipes.checkpoints import OPTIMIZER, TRAINED, complete
from recipes.config import FinetuneConfig, read
from tests.conversations import plain
from tests.pipeline.words import WordTemplate
from tests.recipes.test_finetune import CONFIGS, stores, tensors, train

__all__ = ["stores"]

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]
JOBS = [path for path in sorted(CONFIGS.rglob("finetune*.yaml")) if "_tiny" not in path.stem]

# What is small, a family: the shape of the pictures, and of the model where the preset leaves it.
SMALL = {
    "cogvlm2_video": ["template.image_size=56", "template.frames=uniform:4", "data.max_views=4"],
    "llava_next_video": [
        "template.image_size=56",
        "template.pinpoints=[[56, 112], [112, 56], [112, 112]]",
        "template.max_length=384",
    ],
    "qwen_vl": [
        "model.changes.queries=16",
        "template.image_size=112",
        "template.image_tokens=16",
        "template.max_length=320",
    ],
    "qwen2_5_vl": [
        "template.max_length=384",
        "template.min_pixels=3136",
        "template.max_pixels=16384",
        "data.max_views=48",
    ],
    "qwen3_vl": [
        "template.max_length=384",
        "template.min_pixels=3136",
        "template.max_pixels=16384",
        "data.max_views=48",
    ],
    "visualglm": [
        "model.changes.qformer.queries=8",
        "template.image_size=56",
        "template.image_tokens=8",
        "template.max_source=96",
    ],
}
LENGTHS = {
    "cogvlm2_video": 192,
    "llava_next_video": 384,
    "qwen_vl": 320,
    "qwen2_5_vl": 384,
    "qwen3_vl": 384,
    "visualglm": 352,
}

# Rows of the published data; Qwen-VL's LoRA has none of its own, twenty thousand are a small set.
ROWS = {
    "finetune_lora_rwf2000": 1_600,
    "finetune_stage2_images": 665_298,
    "finetune_stage3_videos": 178_510,
    "finetune_lora": 20_000,
    "finetune_whole": 20_000,
    "finetune_stage3_bf16": 23_240,
    "finetune_stage3_bf16_two_nodes": 23_240,
    "finetune_stage3_fp16": 23_240,
    "finetune_lora_fewshot": 85,
}
FEWEST = 300  # updates: fewer have taught no model of these anything


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def job(path: Path) -> list[str]:
    """What differs from the YAML."""
    config = read(FinetuneConfig, path)
    family = config.model.family
    line = ["model.size=tiny", "model.vocabulary=tokenizer", "model.weights=null"]
    line += ["tokenizer.path=bytes", f"data.seq_length={LENGTHS[family]}", *SMALL[family]]
    line += [
        f"model.{name}=float16"
        for name in ("dtype", "parameters")
        if getattr(config.model, name) == "bfloat16"
    ]
    if "videos" in path.stem:
        line += ["template.frames=uniform:4", "data.max_views=4"]
    # Dropout draws anew after a stop.
    line += ["lora.dropout=0"] if config.lora.targets else []
    line += ["parallel.data=null", "parallel.model=1", "parallel.shard=none"]
    return [*line, "run.device=CPU", "run.parallel=false", "run.graph=false", "data.isolated=false"]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_full_size_job_updates_writes_a_checkpoint_and_goes_on_from_it(
    path: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    clips = "video" in path.stem or "rwf" in path.stem
    config = read(FinetuneConfig, path)
    # The drawn clips have one split; of the pictures every third is held out.
    undivided = ["data.train_split=null", "data.evaluate_split=null"]
    splits = undivided if clips else ["data.train_split=train"]
    store = stores["clips" if clips else "splits"]
    # Beyond the first update, whose rate is 0 where the warm-up begins there.
    options = [*job(path), *splits, "run.steps=2", "run.checkpoint_every=1"]

    lines = train(path, store, tmp_path / "whole", *options)
    first, last = complete(tmp_path / "whole")
    (tmp_path / "cut" / "checkpoints").mkdir(parents=True)
    (tmp_path / "cut" / "checkpoints" / first.name).symlink_to(first)
    (line,) = train(path, store, tmp_path / "cut", *options, "run.resume=true")

    assert all(np.isfinite([one["loss"], one["gradient_norm"]]).all() for one in lines)
    assert [one["loss_scale"] for one in lines] == [config.loss_scale.start] * 2
    assert line["loss"] == lines[1]["loss"]
    again = complete(tmp_path / "cut")[-1]
    for name in (TRAINED, OPTIMIZER):
        one, other = tensors(last / name), tensors(again / name)
        assert {key: value.tobytes() for key, value in one.items()} == {
            key: value.tobytes() for key, value in other.items()
        }
    before = tensors(first / OPTIMIZER)
    after = tensors(last / OPTIMIZER)
    assert any(not np.array_equal(before[name], after[name]) for name in before)
    half = config.model.parameters in ("float16", "bfloat16") and not config.lora.targets
    assert any("master" in name for name in after) == half


class Rows:
    """So many samples, which nobody reads."""

    fingerprint = "rows"

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def located(self, index: int) -> Conversation:
        return plain(index)


@pytest.mark.parametrize("path", JOBS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_full_size_job_makes_enough_updates_and_reaches_its_peak_rate(path: Path) -> None:
    config = read(FinetuneConfig, path)
    layout = Layout(config.parallel.data or 1, config.parallel.model)
    samples = streams.training_samples(config, Rows(ROWS[path.stem]), layout)
    stream = streams.make_stream(config, samples, WordTemplate(), layout)

    steps = streams.total_steps(config, stream)
    schedule = build.build_schedule(config.schedule, steps)

    assert steps >= FEWEST
    assert max(schedule(step) for step in range(steps)) == pytest.approx(config.schedule.peak)
    assert finetune.rate_warning(config, schedule, steps) is None


def test_a_run_that_ends_before_its_rate_has_grown_is_told_so(
    stores: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = CONFIGS / "visualglm" / "finetune_lora_fewshot_tiny.yaml"

    train(path, stores["pictures"], tmp_path, "run.steps=2", "run.graph=false")

    said = capsys.readouterr().err
    assert (
        "warning: 2 updates reach a rate of 1.00e-07, the peak of the schedule is 1.00e-05" in said
    )
    assert "schedule.warmup_steps" in said
