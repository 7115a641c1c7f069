"""The weight recipes, from the command line on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import family_module
from models.checkpoint import FLOATS, convert_dtype, open_checkpoint, write_checkpoint
from models.lora import add_lora
from models.weights import load_weights, model_parameters, save_lora, save_weights
from recipes import convert_weights, merge_lora
from recipes.defaults import generation_of
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


def tiny(family: str, folder: Path) -> Any:
    """A tiny model with few words, saved; its file is ours.safetensors."""
    module = family_module(family)
    config = module.PRESETS["tiny"]
    model = module.MODEL(config)
    save_weights(model, folder / "ours.safetensors")
    return model


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(("to", "name"), [("hf", "a.safetensors"), ("mindformers", "a.ckpt")])
def test_the_type_is_that_which_was_asked_for_in_either_direction(
    dtype: str, to: str, name: str, tmp_path: Path
) -> None:
    model = tiny("llava_next_video", tmp_path)
    line = ["llava_next_video", str(tmp_path / "ours.safetensors"), str(tmp_path / name)]

    assert convert_weights.main([*line, "--to", to, "--size", "tiny", "--dtype", dtype]) == 0

    assert {tensor.dtype for tensor in open_checkpoint(tmp_path / name).values()} == {FLOATS[dtype]}
    back = ["llava_next_video", str(tmp_path / name), str(tmp_path / "back"), "--from", to]
    assert convert_weights.main([*back, "--size", "tiny"]) == 0
    found = open_checkpoint(tmp_path / "back")
    for key, parameter in model.parameters_and_names():
        rounded = convert_dtype(parameter.asnumpy(), "F32", FLOATS[dtype])
        np.testing.assert_array_equal(found[key].read(), rounded)


def test_names_for_lora_wrap_the_language_model_and_lead_back(tmp_path: Path) -> None:
    tiny("cogvlm2_video", tmp_path)
    ours, theirs, back = (str(tmp_path / name) for name in ("ours.safetensors", "a.ckpt", "back"))
    size = ["--size", "tiny"]

    line = ["cogvlm2_video", ours, theirs, "--to", "mindformers", "--sft", "lora", *size]
    assert convert_weights.main(line) == 0
    assert (
        convert_weights.main(["cogvlm2_video", theirs, back, "--from", "mindformers", *size]) == 0
    )

    names = open_checkpoint(tmp_path / "a.ckpt")
    inside = {name for name in names if name.startswith("llm_model.")}
    assert "llm_model.pet_model.lora_model.model.layers.0.attention.wq.weight" in inside
    assert all(name.startswith("llm_model.pet_model.lora_model.") for name in inside)
    assert not any("pet_model" in name for name in names.keys() - inside)
    assert tensors(tmp_path / "back") == tensors(tmp_path / "ours.safetensors")


def test_visualglm_comes_apart_into_the_files_of_mindformers_and_together_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = set(model_parameters(tiny("visualglm", tmp_path)))
    size = ["--size", "tiny", "--part"]
    beginnings = {
        "vit": ("visual_encoder.",),
        "qformer": ("ln_vision.", "query_tokens", "qformer.", "llm_proj."),
        "glm": ("transformer.", "lm_head."),
        "lite": ("transformer.word_embeddings.",),
    }

    found = {}
    for part, names in beginnings.items():
        ours, theirs = str(tmp_path / "ours.safetensors"), tmp_path / f"{part}.ckpt"
        line = ["visualglm", ours, str(theirs), "--to", "mindformers", *size, part]
        assert convert_weights.main(line) == 0
        assert all(name.startswith(names) for name in open_checkpoint(theirs))

        back = tmp_path / f"{part}.safetensors"
        line = ["visualglm", str(theirs), str(back), "--from", "mindformers", *size, part]
        assert convert_weights.main(line) == 0
        found[part] = tensors(back)

    assert {*found["vit"], *found["qformer"], *found["glm"]} == whole
    assert sum(map(len, found.values())) == len(whole) + 1
    assert {**found["vit"], **found["qformer"], **found["glm"]} == tensors(
        tmp_path / "ours.safetensors"
    )
    assert list(found["lite"]) == ["language.embedding.weight"]

    capsys.readouterr()
    with pytest.raises(SystemExit):
        convert_weights.main(["qwen_vl", "in", "out", "--part", "vit"])
    assert "no part 'vit'; there are full, vision, language" in capsys.readouterr().err


def test_names_for_lora_are_those_of_mindformers_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        convert_weights.main(["cogvlm2_video", "in", "out", "--sft", "lora"])
    assert "give --to mindformers" in capsys.readouterr().err

    tiny("llava_next_video", tmp_path)
    line = ["llava_next_video", str(tmp_path / "ours.safetensors"), str(tmp_path / "out")]
    line += ["--to", "mindformers", "--sft", "lora", "--size", "tiny"]
    assert convert_weights.main(line) == 1
    assert "no name of this model begins with it" in capsys.readouterr().err


def test_a_part_has_the_size_that_the_config_beside_it_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    llava = family_module("llava_next_video")
    shape = llava.PRESETS["tiny"]
    shape = replace(
        shape,
        vision=replace(shape.vision, hidden=32, mlp=48, layers=2, layers_used=1),
        language=replace(shape.language, layers=1, num_kv_heads=2, vocabulary=50),
    )
    clip, llama = bases(llava, llava.MODEL(shape))
    vision, text = shape.vision, shape.language
    told = {
        "vision": {
            "vision_config": {
                "hidden_size": vision.hidden,
                "intermediate_size": vision.mlp,
                "num_hidden_layers": vision.layers,
                "num_attention_heads": vision.heads,
                "image_size": vision.image_size,
                "patch_size": vision.patch_size,
            }
        },
        "language": {
            "vocab_size": text.vocabulary,
            "hidden_size": text.hidden,
            "intermediate_size": text.mlp,
            "num_hidden_layers": text.layers,
            "num_attention_heads": text.heads,
            "num_key_value_heads": text.num_kv_heads,
            "rms_norm_eps": 1e-6,
        },
    }
    for part, arrays in (("vision", clip), ("language", llama)):
        (tmp_path / part).mkdir()
        (tmp_path / part / "config.json").write_text(json.dumps(told[part]))
        source = tmp_path / part / "model.safetensors"
        write_checkpoint(source, list(arrays), (("F32", array) for array in arrays.values()))
        target = tmp_path / f"{part}.safetensors"
        line = ["llava_next_video", str(tmp_path / part), str(target), "--part", part]

        assert convert_weights.main(line) == 0

        made = open_checkpoint(target)
        assert len(made) == sum(
            name.startswith(part) for name in model_parameters(llava.MODEL(shape))
        )

    options = convert_weights.arguments([*line[:2], "out", "--part", "language"])
    assert convert_weights.model_config(llava, options).language.eps == 1e-6
    (tmp_path / "vision" / "config.json").write_text("{}")
    capsys.readouterr()
    line = ["llava_next_video", str(tmp_path / "vision"), str(tmp_path / "out"), "--part", "vision"]
    assert convert_weights.main(line) == 1
    assert "no 'num_hidden_layers' in it" in capsys.readouterr().err


def test_what_lies_beside_the_weights_about_generation_goes_with_them(tmp_path: Path) -> None:
    tiny("llava_next_video", tmp_path)
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "hf" / "model.safetensors"
    line = ["llava_next_video", str(ours), str(theirs), "--to", "hf", "--size", "tiny"]
    assert convert_weights.main(line) == 0
    (tmp_path / "hf" / "generation_config.json").write_text('{"do_sample": true, "top_p": 0.3}')
    (tmp_path / "hf" / "tokenizer_config.json").write_text('{"model_max_length": 700}')

    line = ["llava_next_video", str(tmp_path / "hf"), str(tmp_path / "back.safetensors")]
    assert convert_weights.main([*line, "--size", "tiny"]) == 0

    values = {"model": {"weights": str(tmp_path / "back.safetensors")}}
    found = generation_of(values)["generation"]
    assert (found["top_p"], found["length"]) == (0.3, 700)
    assert tensors(tmp_path / "back.safetensors") == tensors(ours)


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
