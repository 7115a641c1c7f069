"""Fine-tuning and prediction from the command line on, with tiny models and drawn data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from numpy.typing import NDArray

import mmdata
from examples.synthetic import write_coco, write_videos
from mmdata.schema import replace
from models.checkpoint import open_checkpoint, write_checkpoint
from models.parallel import Layout
from models.weights import merge_lora_file
from recipes import build, finetune, predict, streams
from recipes.checkpoints import TRAINED, complete
from recipes.config import FinetuneConfig, read
from recipes.metrics import read_metrics
from tests.stores import write

pytestmark = [pytest.mark.mindspore, pytest.mark.slow]
CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
TWINS = sorted(CONFIGS.rglob("finetune*_tiny.yaml"))
QWEN = CONFIGS / "qwen_vl" / "finetune_stage3_tiny.yaml"
LLAVA = CONFIGS / "llava_next_video" / "finetune_stage2_images_tiny.yaml"
VISUALGLM = CONFIGS / "visualglm" / "finetune_lora_fewshot_tiny.yaml"


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    """Leave the other tests the mode they began with."""
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A store of pictures, one of clips, and the pictures again,
    every third of them in the split val.
    """
    folder = tmp_path_factory.mktemp("drawn")
    mmdata.convert("llava", [write_coco(folder / "coco")], folder / "pictures")
    mmdata.convert("video178k", [write_videos(folder / "0_30_s_drawn_v0_1")], folder / "clips")
    pictures = mmdata.open(folder / "pictures")
    rows = [
        replace(row, split="train" if number % 3 else "val") for number, row in enumerate(pictures)
    ]
    write(folder / "splits", rows, media_root=str(pictures.media_root))
    return {name: folder / name for name in ("pictures", "clips", "splits")}


def train(config: Path, store: Path, output: Path, *overrides: str) -> list[dict[str, float]]:
    """Run and return the lines of metrics."""
    line = [
        str(config),
        f"data.train={store}",
        f"run.output={output}",
        "data.workers=0",
        *overrides,
    ]
    assert finetune.main(line) == 0
    return read_metrics(output / "metrics.jsonl")


def tensors(path: Path) -> dict[str, NDArray[Any]]:
    return {name: tensor.read() for name, tensor in open_checkpoint(path).items()}


@pytest.mark.parametrize("config", TWINS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_tiny_twin_trains_and_answers(
    config: Path, stores: dict[str, Path], tmp_path: Path
) -> None:
    clips = "video" in config.stem or "rwf" in config.stem
    store = stores["clips" if clips else "pictures"]
    output = tmp_path / "out"
    splits = ("data.train_split=null", "data.evaluate_split=null")

    first, last = train(
        config, store, output, "run.steps=2", "run.graph=false", "run.checkpoint_every=0", *splits
    )

    assert 0 < last["loss"] < 10 and np.isfinite(first["gradient_norm"])
    assert (output / "loss.png").stat().st_size > 0
    lora = (output / "adapter.safetensors").exists()
    weights = output / ("base.safetensors" if lora else "weights.safetensors")
    medium = mmdata.open(store).located(0).media[0]
    line = [str(config), f"--{medium.type}", str(medium.path), "--prompt", "What?", "graph=false"]
    line += [f"model.weights={weights}", "generation.length=448", "generation.max_new_tokens=3"]
    assert (
        predict.main(
            [*line, *([f"model.adapter={output / 'adapter.safetensors'}"] if lora else [])]
        )
        == 0
    )


@pytest.mark.parametrize("file", TWINS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_tiny_twin_knows_how_many_steps_its_epochs_have(
    file: Path, stores: dict[str, Path]
) -> None:
    store = stores["clips" if "video" in file.stem else "pictures"]
    config = read(
        FinetuneConfig, file, [f"data.train={store}", "data.train_split=null", "run.epochs=10"]
    )
    tokenizer = build.build_tokenizer(config.model.family, config.tokenizer)
    template = build.build_template(config.model.family, tokenizer, config.template)

    steps = streams.total_steps(config, streams.training_stream(config, template, Layout()))

    batches = len(mmdata.open(store)) // config.data.batch_size
    assert steps == 10 * batches // config.run.accumulation > 0


# What a run has to remember besides its weights: the count of steps; masters; a loss scale that
# overflows in the first step, grows back after two good ones, and overflows again in the fourth
# (67,108,864 over some hundred targets is beyond float16's largest, 65,504).
STATES = {
    "whole": (QWEN, ("optimizer.bias_correction=true", "schedule.start=0")),
    "half": (
        QWEN,
        (
            "optimizer.bias_correction=true",
            "schedule.start=0",
            "model.dtype=float16",
            "model.parameters=float16",
        ),
    ),
    "lora": (
        VISUALGLM,
        (
            "model.dtype=float16",
            "loss_scale.start=67108864",
            "loss_scale.factor=1048576",
            "loss_scale.window=2",
        ),
    ),
}


@pytest.mark.parametrize(("config", "changes"), STATES.values(), ids=STATES)
def test_a_run_resumed_after_each_checkpoint_ends_as_if_it_had_never_stopped(
    config: Path, changes: tuple[str, ...], stores: dict[str, Path], tmp_path: Path
) -> None:
    options = (
        "run.checkpoint_every=1",
        "run.accumulation=2",
        "run.keep=9",
        "run.graph=false",
        *changes,
    )
    whole = train(config, stores["pictures"], tmp_path / "whole", "run.steps=6", *options)
    checkpoints = complete(tmp_path / "whole")
    assert_rates_are_those_of_the_schedule(config, changes, whole)
    if config == QWEN:  # a rate of 0 changes nothing, the next one does
        base = tensors(tmp_path / "whole" / "base.safetensors")
        first, second = (tensors(folder / TRAINED) for folder in checkpoints[:2])
        assert all(np.array_equal(base[name], array) for name, array in first.items())
        assert not any(
            np.array_equal(base[name], array) for name, array in second.items() if array.ndim > 1
        )
    else:
        overflows = [not np.isfinite(line["gradient_norm"]) for line in whole]
        assert overflows == [True, False, False, True, False, False]
        assert len({line["loss_scale"] for line in whole}) == 2

    for stop in (2, 4):  # the schedule is that of six steps, so the run is cut and not shortened
        output = tmp_path / f"cut{stop}"
        (output / "checkpoints").mkdir(parents=True)
        for path in checkpoints[:stop]:
            (output / "checkpoints" / path.name).symlink_to(path)
        lines = train(
            config, stores["pictures"], output, "run.steps=6", "run.resume=true", *options
        )

        assert [line["step"] for line in lines] == list(range(stop + 1, 7))
        for name in ("loss", "gradient_norm", "rate", "loss_scale", "epoch", "samples"):
            np.testing.assert_equal(
                [line[name] for line in lines], [line[name] for line in whole[stop:]], name
            )
        last = complete(output)[-1]
        for name, array in tensors(last).items():
            np.testing.assert_array_equal(array, tensors(checkpoints[-1])[name], err_msg=name)
        assert (last / "state.json").read_text() == (checkpoints[-1] / "state.json").read_text()


def assert_rates_are_those_of_the_schedule(
    config: Path, changes: tuple[str, ...], lines: list[dict[str, float]]
) -> None:
    """Step k has the rate at k - 1:
    the first one is the start of the warm-up, the last one not yet the end.
    """
    schedule = build.build_schedule(read(FinetuneConfig, config, changes).schedule, len(lines))

    assert [line["rate"] for line in lines] == [schedule(step) for step in range(len(lines))]
    assert lines[0]["rate"] == 0 != schedule(1)
    assert lines[-1]["rate"] != schedule(len(lines))


def test_accumulating_two_batches_is_one_step_on_a_batch_of_both(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    options = ("run.steps=2", "run.graph=false", "data.train=" + str(stores["pictures"]))
    large = train(QWEN, stores["pictures"], tmp_path / "large", "data.batch_size=4", *options)
    small = train(QWEN, stores["pictures"], tmp_path / "small", "run.accumulation=2", *options)

    assert [line["loss"] for line in small] == pytest.approx(
        [line["loss"] for line in large], rel=1e-5
    )
    ours, theirs = (tensors(tmp_path / name / "weights.safetensors") for name in ("small", "large"))
    for name, array in ours.items():
        np.testing.assert_allclose(array, theirs[name], atol=2e-5, err_msg=name)


def test_only_the_stage_trains_and_held_out_loss_is_written(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    splits = "data.train_split=train", "data.evaluate_split=val"
    lines = train(
        QWEN,
        stores["splits"],
        tmp_path,
        "run.steps=2",
        "run.graph=false",
        "stage=[resampler]",
        *splits,
    )

    assert 0 < lines[-1]["held_out_loss"] < 10
    before, after = (
        tensors(tmp_path / "base.safetensors"),
        tensors(tmp_path / "weights.safetensors"),
    )
    changed = {
        name.split(".")[0] for name in before if not np.array_equal(before[name], after[name])
    }
    assert changed == {"resampler"}


def test_a_fresh_projector_between_a_tower_and_a_language_model_trains_and_they_do_not(
    stores: dict[str, Path], tmp_path: Path
) -> None:
    train(LLAVA, stores["pictures"], tmp_path / "base", "run.steps=1", "run.graph=false")
    base = tensors(tmp_path / "base" / "base.safetensors")
    (tmp_path / "parts").mkdir()
    for part in ("vision", "language"):
        names = [name for name in base if name.startswith(part)]
        write_checkpoint(
            tmp_path / "parts" / f"{part}.safetensors", names, (("F32", base[n]) for n in names)
        )

    train(
        LLAVA,
        stores["pictures"],
        tmp_path / "out",
        "run.steps=2",
        "run.graph=false",
        f"model.weights={tmp_path / 'parts'}",
        "model.fresh=[projector, newline]",
        "stage=[projector]",
        "schedule={name: constant, peak: 0.01}",
    )

    after = tensors(tmp_path / "out" / "weights.safetensors")
    trained = tensors(complete(tmp_path / "out")[-1] / TRAINED)
    kept = {name for name in base if np.array_equal(base[name], after[name])}
    assert kept >= {name for name in base if name.startswith(("vision", "language"))}
    assert not {name for name in kept if name.startswith("projector")}
    assert trained and all(name.startswith("projector") for name in trained)


def test_an_adapter_beside_the_weights_merged_in_memory_and_merged_by_file_say_the_same(
    stores: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(
        VISUALGLM,
        stores["pictures"],
        tmp_path,
        "run.steps=2",
        "run.graph=false",
        "schedule={name: constant, peak: 0.1}",
    )
    base, adapter, merged = (
        tmp_path / f"{name}.safetensors" for name in ("base", "adapter", "merged")
    )
    merge_lora_file(base, adapter, merged)
    questions = tmp_path / "questions.jsonl"
    picture = str(mmdata.open(stores["pictures"]).located(0).media[0].path)
    records = [
        {"prompt": "What?", "image": picture},
        {"prompt": "And why?", "history": [["Who?", "He."]]},
    ]
    questions.write_text("\n".join(map(json.dumps, records)))
    common = [str(VISUALGLM), "--batch", str(questions), "graph=false", "generation.length=192"]
    common.append("generation.max_new_tokens=6")
    capsys.readouterr()

    said = []
    for options in (
        [f"model.weights={base}", f"model.adapter={adapter}"],
        [f"model.weights={base}", f"model.adapter={adapter}", "merge=true"],
        [f"model.weights={merged}", "--batch-size", "2"],
    ):
        assert predict.main([*common, *options]) == 0
        said.append([json.loads(line)["answer"] for line in capsys.readouterr().out.splitlines()])

    assert said[0] == said[1] == said[2]
    assert len(said[0]) == 2

    alone = [str(VISUALGLM), "--prompt", "What?", "--image", picture, f"model.weights={merged}"]
    alone += [option for option in common if "=" in option]
    assert predict.main(alone) == predict.main([*alone, "--stream"]) == 0
    assert capsys.readouterr().out.splitlines() == [said[0][0]] * 2


def test_a_misspelt_override_ends_with_the_near_miss(capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune.main([str(QWEN), "run.stepz=1"]) == 2
    assert "run.stepz. Did you mean 'steps'?" in capsys.readouterr().err
