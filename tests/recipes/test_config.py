"""Configurations: typed, strict, and saying every fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmdata.errors import ConfigError
from models import family_module
from recipes.config import TRAINING_ONLY, FinetuneConfig, PredictConfig, read

pytestmark = pytest.mark.mindspore
CONFIGS = sorted((Path(__file__).parents[2] / "recipes" / "configs").rglob("*.yaml"))


def write(folder: Path, text: str, name: str = "c.yaml") -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize("file", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_every_yaml_that_ships_is_valid(file: Path) -> None:
    predicts = file.name.startswith("predict")

    config = read(PredictConfig, file) if predicts else read(FinetuneConfig, file)

    assert config.model.family == file.parent.name
    assert config.model.size in family_module(config.model.family).PRESETS


def test_overrides_go_before_the_file_and_the_file_before_its_base(tmp_path: Path) -> None:
    write(tmp_path, "model: {family: qwen_vl, size: big}\nrun: {steps: 1, seed: 1}", "base.yaml")
    file = write(tmp_path, "base: base.yaml\nrun: {steps: 2}\ndata: {batch_size: 3}")

    config = read(
        FinetuneConfig,
        file,
        ["run.steps=3", "data.train=a/b", "schedule.peak=1e-4", "stage=[language]"],
    )

    assert (config.model.family, config.model.size) == ("qwen_vl", "big")
    assert (config.run.steps, config.run.seed, config.data.batch_size) == (3, 1, 3)
    assert config.data.train == Path("a/b")
    assert config.schedule.peak == 1e-4
    assert config.stage == ("language",)


def test_all_faults_are_told_at_once_with_the_near_miss(tmp_path: Path) -> None:
    file = write(tmp_path, "data: {batch_sise: 2, seq_length: long}\nrnu: {}\nmodel: qwen_vl")

    with pytest.raises(ConfigError) as raised:
        read(FinetuneConfig, file)

    message = str(raised.value)
    assert str(file) in message
    assert "data.batch_sise. Did you mean 'batch_size'?" in message
    assert "rnu. Did you mean 'run'?" in message
    assert "data.seq_length must be a whole number of at least 1, found 'long'" in message
    assert "model is a section" in message


@pytest.mark.parametrize(
    "override", ["steps", "run.steps=many", "run.stesp=1", "optimizer.betas=[0.9]"]
)
def test_a_wrong_override_is_refused(tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError):
        read(FinetuneConfig, write(tmp_path, "{}"), [override])


def test_a_training_yaml_serves_for_prediction(tmp_path: Path) -> None:
    file = write(tmp_path, "model: {family: qwen_vl}\nrun: {steps: 1}\ndata: {seq_length: 8}")

    assert read(PredictConfig, file, ignore=TRAINING_ONLY).model.family == "qwen_vl"


def test_a_list_is_no_number_and_true_is_no_count(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size.*run\.steps"):
        read(FinetuneConfig, write(tmp_path, "data: {batch_size: [1]}\nrun: {steps: true}"))
