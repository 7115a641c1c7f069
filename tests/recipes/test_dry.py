"""Jobs without their weights: the published ones at full size, and what would fit instead."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore.nn.utils import no_init_parameters

from docs import jobs
from mmdata.errors import ConfigError
from models import FAMILIES, family_module
from models.lora import add_lora
from models.modules import Embedding, Linear
from models.parallel import Layout, ModelGroup, cuts_of
from models.weights import model_parameters
from recipes import build, dry, finetune, predict
from recipes.config import FinetuneConfig, Lora, Model, PredictConfig, read
from recipes.memory import GB, is_spread

pytestmark = pytest.mark.mindspore
CONFIGS = Path(__file__).parents[2] / "recipes" / "configs"
LLAVA = CONFIGS / "llava_next_video" / "finetune_stage2_images.yaml"


@pytest.fixture(autouse=True)
def mode() -> Iterator[None]:
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize("job", jobs.JOBS, ids=lambda job: " ".join([job.path, *job.overrides]))
def test_a_published_job_fits_devices_of_64_gb(job: jobs.Published) -> None:
    assert jobs.memory_of(job).total <= jobs.LIMIT
    assert dry.device_memory(job.config) == 64


def test_every_full_size_yaml_is_a_published_job() -> None:
    full = {
        str(path.relative_to(CONFIGS).with_suffix(""))
        for path in CONFIGS.rglob("*.yaml")
        if "_tiny" not in path.stem
    }

    assert {job.path for job in jobs.JOBS} == full


@pytest.mark.slow
def test_the_page_has_the_tables_that_its_script_makes() -> None:
    page = jobs.PAGE.read_text(encoding="utf-8")

    assert f"{jobs.BEGIN}\n\n{jobs.tables()}\n\n{jobs.END}" in page


def test_a_preset_has_as_many_parameters_as_the_published_checkpoint() -> None:
    counts = {(family, size): jobs.count(family, size) for family, size in jobs.PUBLISHED}

    assert counts == {key: published for key, (_, published) in jobs.PUBLISHED.items()}


def test_a_divided_model_is_held_in_shares_that_make_it_up() -> None:
    config = read(FinetuneConfig, LLAVA)
    whole = dry.held_parameters(config, Layout())
    half = dry.held_parameters(config, Layout(1, 2))

    with no_init_parameters():
        model = family_module("llava_next_video").MODEL(dry.model_shape(config))
        model.divide(ModelGroup(2))
    cuts = cuts_of(model)

    assert whole.keys() == half.keys()
    for name, held in half.items():
        expected = cuts[name].whole_shape(held.shape) if name in cuts else held.shape
        assert whole[name].shape == expected, name
    assert len(cuts) == 5 * 32 + 2


def test_a_job_that_cannot_fit_is_refused_with_layouts_that_would() -> None:
    config = read(FinetuneConfig, LLAVA, ["parallel={data: 8, model: 1, shard: none}"])

    with pytest.raises(dry.DoesNotFitError) as raised:
        dry.describe_job(config)

    said = str(raised.value)
    assert "a device needs 1" in said
    assert "it has 64 GB (run.device_memory). On 8 devices fits: parallel: {data: 8, " in said
    assert "parallel: {data: 4, model: 2, shard: optimizer, recompute: true} 52.8 GB" in said


def test_each_layout_that_an_error_suggests_fits() -> None:
    config = read(FinetuneConfig, LLAVA)

    fitting = dry.search_layouts(config, 8, 64 * GB)

    assert fitting
    for choice in fitting[: dry.SHOWN]:
        parallel = replace(
            config.parallel,
            data=choice.data,
            model=choice.model,
            shard=choice.shard,
            recompute=choice.recompute,
        )
        layout = Layout(choice.data, choice.model)
        _, memory = dry.measure(replace(config, parallel=parallel), layout)
        assert memory == choice.memory
        assert memory.total <= 64 * GB


def test_where_too_few_devices_cannot_hold_a_job_more_are_searched() -> None:
    line = ["parallel={data: 1, model: 1, shard: none}"]

    with pytest.raises(dry.DoesNotFitError, match=r"On 4 devices fits: "):
        dry.describe_job(read(FinetuneConfig, LLAVA, line))


def test_where_nothing_fits_that_is_said() -> None:
    config = read(FinetuneConfig, LLAVA, ["run.device_memory=3"])

    with pytest.raises(dry.DoesNotFitError, match="Nothing fits on up to 64 devices"):
        dry.describe_job(config)


def test_a_cpu_has_no_limit_unless_it_is_given() -> None:
    config = read(FinetuneConfig, LLAVA, ["run.device=CPU"])

    assert "estimated" in dry.describe_job(config).splitlines()[-1]
    with pytest.raises(dry.DoesNotFitError, match="it has 8 GB"):
        dry.describe_job(replace(config, run=replace(config.run, device_memory=8.0)))


def test_a_layout_must_be_that_of_the_processes_that_were_started() -> None:
    config = read(FinetuneConfig, LLAVA)

    assert dry.describe_job(config, 8) == dry.describe_job(config)
    with pytest.raises(ConfigError, match=r"does not fit 4 processes; give recipes\.launch"):
        dry.describe_job(config, 4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "cogvlm2_video/finetune_lora_rwf2000",
        "llava_next_video/finetune_stage3_videos",
        "qwen_vl/finetune_stage3_bf16",
        "qwen2_5_vl/finetune_lora",
        "qwen3_vl/finetune_whole",
        "visualglm/finetune_lora_fewshot",
    ],
)
def test_a_dry_run_needs_no_file_and_makes_a_step_of_a_small_model(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # A graph takes a minute to compile; without one, dropout and recomputation do not go together.
    line = [str(CONFIGS / f"{path}.yaml"), "run.dry=true", "run.graph=false", "lora.dropout=0"]

    # Shapes and limits are Ascend's, which is not at hand.
    assert finetune.main(line) == 0

    no_device, layout, parameters, memory, step = capsys.readouterr().out.splitlines()
    assert no_device == "no Ascend here: the step is made on the CPU"
    assert layout.startswith("layout: data ")
    assert parameters.startswith("parameters: ")
    assert memory.endswith("of 64 GB")
    loss, norm = (float(word) for word in step.replace(",", "").split() if "." in word)
    assert np.isfinite([loss, norm]).all()
    assert norm > 0
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_of_what_cannot_fit_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert finetune.main([str(LLAVA), "run.dry=true", "parallel.shard=none"]) == 1
    assert "fits: parallel: {" in capsys.readouterr().err


def test_a_prediction_has_a_dry_run(capsys: pytest.CaptureFixture[str]) -> None:
    line = [str(CONFIGS / "cogvlm2_video" / "predict.yaml"), "dry=true", "--prompt", "Q"]

    assert predict.main(line) == 0
    assert "parameters: 12,507,530,496" in capsys.readouterr().out
    assert predict.main([*line, "device_memory=20"]) == 1
    assert "it has 20 GB (device_memory). On 4 devices fits" in capsys.readouterr().err


def test_a_full_size_model_takes_no_memory_for_its_weights() -> None:
    code = (
        "import resource\n"
        "from docs import jobs\n"
        "used = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = used()\n"
        "print(jobs.memory_of(jobs.JOBS[0]).total)\n"
        "print(used() - before)"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )

    needs, grown = map(int, done.stdout.split())
    assert needs > 50 * GB
    assert grown < 500  # MB


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("targets", ["all", "ALL"])
def test_all_of_lora_is_every_linear_layer_but_the_head(family: str, targets: str) -> None:
    module = family_module(family)
    options = build.lora_config(module, Lora(targets=targets))
    with no_init_parameters():
        model = module.MODEL(module.PRESETS["tiny"])
        paths = add_lora(model, options)

    assert not any(path.endswith(".head") for path in paths)
    assert any(path.startswith("vision.") for path in paths)
    assert any(path.startswith("language.") for path in paths)
    trained = {parameter.name for parameter in model.trainable_params()}
    assert len(trained) == 2 * len(paths)


def test_a_device_of_its_own_number_is_refused_where_there_are_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MS_ROLE", "MS_WORKER")

    with pytest.raises(ConfigError, match="device_id 3: each of the processes"):
        build.start_mindspore("CPU", graph=False, device_id=3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("parallel.model_parallel=2", "MindFormers' model_parallel is here: parallel.model."),
        (
            "parallel_config={data_parallel: 8, vocab_emb_dp: false}",
            "parallel_config is here: parallel. MindFormers' data_parallel is here: parallel.data.",
        ),
        ("parallel.vocab_emb_dp=true", "the vocabulary is divided among parallel.model devices"),
        ("parallel.use_seq_parallel=true", "use_seq_parallel is here: not built"),
        ("recompute_config={recompute: true}", "is here: parallel.recompute."),
        ("auto_trans_ckpt=true", "every layout loads every checkpoint"),
        ("lora.lora_target_modules=ALL", "ms-swift's lora_target_modules is here: lora.targets"),
        ("run.max_device_memory=58GB", "is here: run.device_memory"),
    ],
)
def test_a_key_of_another_tool_is_refused_with_the_name_of_ours(line: str, said: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(FinetuneConfig, LLAVA, [line])

    assert said in str(raised.value)


def test_a_prediction_takes_a_device() -> None:
    assert read(PredictConfig, CONFIGS / "qwen_vl" / "predict.yaml", ["device_id=1"]).device_id == 1


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_reckoned_to_be_spread_is_what_the_model_spreads(family: str) -> None:
    config = PredictConfig(model=Model(family=family))
    with no_init_parameters():
        model = family_module(family).MODEL(dry.model_shape(config))
    cells = {
        f"{path}.weight"
        for path, cell in model.cells_and_names()
        if isinstance(cell, Linear | Embedding)
    }

    held = dry.held_parameters(config, Layout())

    assert {name for name, one in held.items() if is_spread(name, one)} == cells & held.keys()


@pytest.mark.parametrize(
    "line",
    [
        ["model.parameters=float16", "stage=[resampler, language]"],
        ["model.parameters=float32"],
        ["model.parameters=float16", "lora.targets=default", "lora.dropout=0"],
    ],
)
def test_weights_and_the_optimizer_are_reckoned_as_they_are_held(line: list[str]) -> None:
    path = CONFIGS / "qwen_vl" / "finetune_stage3_tiny.yaml"
    config = dry.shrink(read(FinetuneConfig, path, ["run.graph=false", *line]))
    model = build.build_model(config.model, dry.SMALL_VOCABULARY)
    _, _, trainer = finetune.build_trainer(config, model, Layout(), None)
    optimizer = trainer.optimizer

    _, memory = dry.measure(config, Layout())

    assert memory.weights == sum(p.nbytes for p in model_parameters(model).values())
    state = [*optimizer.first, *optimizer.second, *optimizer.masters]
    assert memory.optimizer == sum(parameter.nbytes for parameter in state)
