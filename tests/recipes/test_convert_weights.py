"""The weight recipes, from the command line on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import family_module
from models.checkpoint import open_checkpoint, write_checkpoint
from models.lora import add_lora
from models.weights import load_weights, save_lora, save_weights
from recipes import convert_weights, merge_lora
from tests.models.golden import model_folders, weights_of

pytestmark = pytest.mark.mindspore
LLAVA = pytest.mark.parametrize("folder", model_folders("llava_next_video", "config.json"))


def tensors(path: Path) -> dict[str, bytes]:
    return {name: tensor.read().tobytes() for name, tensor in open_checkpoint(path).items()}


@LLAVA
def test_a_folder_with_its_config_converts_there_and_back(folder: Path, tmp_path: Path) -> None:
    ours, theirs = str(tmp_path / "ours.safetensors"), str(tmp_path / "theirs.safetensors")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())

    assert convert_weights.main(["llava_next_video", str(folder), ours]) == 0
    assert convert_weights.main(["llava_next_video", ours, theirs, "--to", "hf"]) == 0

    assert tensors(tmp_path / "theirs.safetensors") == tensors(weights_of(folder))


def test_a_clip_and_a_llama_in_one_folder_fill_all_but_the_projector(tmp_path: Path) -> None:
    llava = family_module("llava_next_video")
    model = llava.MODEL(llava.PRESETS["tiny"])
    clip, llama = bases(llava, model)
    (tmp_path / "both").mkdir()
    for part, arrays in (("vision", clip), ("language", llama)):
        source = tmp_path / f"{part}.safetensors"
        write_checkpoint(source, list(arrays), (("F32", array) for array in arrays.values()))
        line = ["llava_next_video", str(source), str(tmp_path / "both" / source.name)]
        assert convert_weights.main([*line, "--part", part, "--size", "tiny"]) == 0

    account = load_weights(model, tmp_path / "both")

    assert not account.unused
    assert {name.split(".")[0] for name in account.unfilled} == {"projector", "newline"}


def bases(llava: Any, model: Any) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """A CLIP and a Llama checkpoint of the model's shape,
    under the names these have on their own.
    """
    parameters = dict(model.parameters_and_names())
    clip: dict[str, NDArray[Any]] = {"logit_scale": np.ones((), np.float32)}
    llama: dict[str, NDArray[Any]] = {}
    for weight in llava.weight_map(model.config):
        for name, part in zip(
            weight.sources, weight.split(parameters[weight.name].asnumpy()), strict=True
        ):
            if name.startswith("vision_tower."):
                clip[name.removeprefix("vision_tower.")] = np.ascontiguousarray(part)
            if name.startswith("language_model."):
                llama[name.removeprefix("language_model.")] = np.ascontiguousarray(part)
    return clip, llama


def test_missing_parameters_are_listed_and_fail(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "some.safetensors"
    write_checkpoint(source, ["stray"], [("F32", np.ones(2, np.float32))])

    code = convert_weights.main(["visualglm", str(source), str(tmp_path / "out"), "--size", "tiny"])

    printed = capsys.readouterr().out
    assert code == 1
    assert "1 unused:\n  stray" in printed
    assert "language.head.weight" in printed


def test_an_adapter_is_merged_from_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qwen = family_module("qwen_vl")
    model = qwen.MODEL(
        replace(qwen.PRESETS["tiny"], language=replace(qwen.PRESETS["tiny"].language, vocabulary=8))
    )
    save_weights(model, tmp_path / "base")
    paths = add_lora(model, replace(qwen.LORA, rank=2))
    save_lora(model, tmp_path / "lora")

    merge_lora.main([str(tmp_path / name) for name in ("base", "lora", "merged")])

    assert f"{len(paths)} layers changed" in capsys.readouterr().out
    assert tensors(tmp_path / "merged") == tensors(tmp_path / "base")  # B is still zero


@pytest.mark.parametrize("layout", ["published", "head_first"])
def test_tensors_are_read_in_the_layout_that_was_named(layout: str) -> None:
    module = family_module("visualglm")
    config = module.PRESETS["tiny"]
    options = convert_weights.arguments(["visualglm", "in", "out", "--layout", layout])

    found = convert_weights.names(module, config, options)

    assert found == module.weight_map(config, head_first=layout == "head_first")
    assert any(weight.heads for weight in found) == (layout == "head_first")


@pytest.mark.parametrize(
    "line",
    [
        ["--size", "70b"],
        ["--layout", "head_first"],
    ],
)
def test_calls_that_make_no_sense_are_refused(line: list[str]) -> None:
    with pytest.raises(SystemExit) as refused:
        convert_weights.main(["qwen_vl", "in", "out", *line])

    assert refused.value.code == 2


def test_a_layout_of_published_names_is_refused_with_those_of_mindformers(
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ["visualglm", "in", "out", "--layout", "head_first", "--from", "mindformers"]

    with pytest.raises(SystemExit) as refused:
        convert_weights.main(line)

    assert refused.value.code == 2
    assert "MindFormers' have one layout" in capsys.readouterr().err


def test_a_damaged_source_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")

    code = convert_weights.main(
        ["qwen_vl", str(tmp_path / "bad.safetensors"), str(tmp_path / "out"), "--size", "tiny"]
    )

    assert code == 1
    assert "bad.safetensors: not a safetensors file" in capsys.readouterr().err
