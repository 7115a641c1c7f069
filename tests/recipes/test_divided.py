"""Recipes in two processes that hold one model together, beside one process."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest

from mmdata.errors import ConfigError
from models.checkpoint import open_checkpoint
from models.parallel import Layout, ModelGroup, cuts_of
from models.weights import model_parameters, save_weights
from recipes import build, finetune, predict
from recipes.config import Model, Parallel, PredictConfig
from recipes.metrics import read_metrics
from tests import msrun
from tests.recipes.test_finetune import CONFIGS, stores

__all__ = ["stores"]

pytestmark = pytest.mark.mindspore
# A vocabulary of 441 tokens, so that the halves are padded, and pairs of layers divided both ways.
CONFIG = str(CONFIGS / "visualglm" / "finetune_lora_fewshot_tiny.yaml")


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    """Leave the other tests the mode they began with."""
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


def start_in_two(folder: Path, lines: list[list[str]]) -> subprocess.Popen[str]:
    """Start two processes on the recipes."""
    return msrun.start(2, write_job(folder, lines), folder / "log")


def run_in_two(folder: Path, lines: list[list[str]]) -> str:
    """What the first of two processes says while both run the recipes."""
    said = msrun.run(2, write_job(folder, lines), folder / "log")
    assert "answer" not in said[1]
    return said[0]


def write_job(folder: Path, lines: list[list[str]]) -> list[str]:
    """What a process is started with that runs the recipes."""
    (folder / "lines.json").write_text(json.dumps(lines))
    return ["-m", "tests.recipes.divided_job", str(folder / "lines.json")]


def answers_in(text: str) -> list[dict[str, Any]]:
    """The lines of JSON that `predict` has written, among whatever else was said."""
    # Not by `splitlines`: an answer may have what that takes for the end of a line.
    return [json.loads(line) for line in text.split("\n") if line.startswith('{"position"')]


@pytest.mark.slow
def test_two_processes_fine_tune_and_answer_with_one_model_as_one_process_does(
    stores: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = next(stores["pictures"].parent.rglob("*.jpg"))
    questions = tmp_path / "questions.jsonl"
    questions.write_text(
        json.dumps({"prompt": "What is here?", "image": str(picture)})
        + "\n"
        + json.dumps({"prompt": "Hello"})
    )

    def recipes(output: Path, *layout: str) -> list[list[str]]:
        """Fine-tune, and ask what has come of it."""
        train = [f"data.train={stores['pictures']}", "data.workers=0", "run.graph=false"]
        train += ["run.steps=2", f"run.output={output}", "schedule.warmup_steps=1"]
        ask = [f"model.weights={output / 'base.safetensors'}", "graph=false", "device=CPU"]
        ask += [f"model.adapter={output / 'adapter.safetensors'}"]
        ask += ["generation.max_new_tokens=4", "generation.length=400"]
        return [
            ["finetune", CONFIG, *train, "lora.targets=all", *layout],
            ["predict", CONFIG, "--batch", str(questions), *ask, *layout],
        ]

    heard = run_in_two(tmp_path, recipes(tmp_path / "two", "parallel.model=2"))
    train, ask = recipes(tmp_path / "one")
    assert finetune.main(train[1:]) == 0
    assert predict.main(ask[1:]) == 0
    alone = capsys.readouterr().out

    assert answers_in(heard) == answers_in(alone)
    assert len(answers_in(alone)) == 2
    for name in ("base.safetensors", "adapter.safetensors"):
        one, two = (open_checkpoint(tmp_path / folder / name) for folder in ("one", "two"))
        assert one.keys() == two.keys()
        for key, tensor in one.items():
            np.testing.assert_allclose(two[key].read(), tensor.read(), atol=1e-5, err_msg=key)
    losses = [
        [line["loss"] for line in read_metrics(tmp_path / folder / "metrics.jsonl")]
        for folder in ("one", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


@pytest.mark.parametrize(
    ("options", "processes", "layout"),
    [
        (Parallel(), 8, Layout(8, 1)),
        (Parallel(model=2), 8, Layout(4, 2)),
        (Parallel(data=4, model=2), 8, Layout(4, 2)),
    ],
)
def test_as_many_train_side_by_side_as_there_are_processes_for(
    options: Parallel, processes: int, layout: Layout
) -> None:
    assert build.lay_out(options, processes, 0) == layout


@pytest.mark.parametrize("options", [Parallel(model=3), Parallel(data=2, model=2)])
def test_a_layout_of_another_number_of_processes_is_refused(options: Parallel) -> None:
    with pytest.raises(ConfigError, match=r"does not fit 8 processes; give recipes\.launch"):
        build.lay_out(options, 8, 0)


def test_a_layout_that_nobody_has_started_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"start it with python -m recipes\.launch"):
        build.join_devices(Parallel(model=2), several=False)


def test_a_model_that_does_not_divide_is_refused_by_the_name_of_the_option() -> None:
    options = Model("qwen3_vl", "tiny", vocabulary="tokenizer")

    with pytest.raises(
        ConfigError, match=r"parallel\.model=3 for qwen3_vl tiny: 4 attention heads"
    ):
        build.build_model(options, 282, group=ModelGroup(3))


def test_key_heads_that_are_repeated_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    options = Model("qwen3_vl", "tiny", vocabulary="tokenizer")

    for size in (2, 4):
        build.build_model(options, 282, group=ModelGroup(size))

    said = capsys.readouterr().err
    assert said.splitlines() == [
        "parallel.model=4: the 2 key heads are repeated, each is held by 2 processes"
    ]


def test_a_prediction_by_one_process_of_a_layout_for_two_is_refused() -> None:
    config = PredictConfig(Model("qwen3_vl"), parallel=Parallel(model=2))

    with pytest.raises(ConfigError, match=r"parallel\.model is 2, the group has 1 processes"):
        next(predict.predict(config, [{"prompt": "Hello"}]))


def test_a_part_drawn_afresh_is_the_same_in_all_layouts(tmp_path: Path) -> None:
    shape = Model("qwen3_vl", "tiny", vocabulary="tokenizer")
    drawn = build.build_model(shape, 97)
    names = [name for name in model_parameters(drawn) if not name.startswith("language.")]
    save_weights(drawn, tmp_path / "tower.safetensors", names)
    options = Model(
        "qwen3_vl",
        "tiny",
        vocabulary="tokenizer",
        weights=tmp_path / "tower.safetensors",
        fresh=("language",),
    )

    whole = model_parameters(build.build_model(options, 97))
    pieces = [build.build_model(options, 97, group=ModelGroup(2, rank)) for rank in range(2)]

    for name, cut in cuts_of(pieces[0]).items():
        parts = [model_parameters(model)[name].asnumpy() for model in pieces]
        np.testing.assert_array_equal(cut.join(parts), whole[name].asnumpy(), name)
