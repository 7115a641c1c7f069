"""LoRA against reference adapters, and its laws."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn
from mindspore.nn.utils import no_init_parameters
from numpy.typing import NDArray

import models.cogvlm2_video as cogvlm2
import models.visualglm as visualglm
from models import family_module
from models.checkpoint import open_checkpoint, read_metadata
from models.lora import LoraConfig, add_lora, lora_delta, merge_lora
from models.weights import load_weights, merge_lora_file, save_lora, save_weights
from tests.models import test_model_cogvlm2_video as cog
from tests.models import test_model_visualglm as glm
from tests.models.golden import (
    arrays,
    convert,
    ints,
    model_folders,
    read_json,
    relative,
    weights_of,
    worst,
)
from tests.models.samples import ALL_FAMILIES, batch, sample, small

pytestmark = pytest.mark.mindspore

ADAPTED = ("config.json", "vision.npz", "chat_train.npz", "chat_train_lora.npz", "lora.safetensors")
COG_LAYERS = {
    "attention.qkv": ["q", "k", "v"],
    "attention.out": ["o"],
    "mlp.gate": ["gate"],
    "mlp.up": ["up"],
    "mlp.down": ["down"],
}


def fill(model: nn.Cell, pairs: dict[str, NDArray[Any]]) -> None:
    parameters = dict(model.parameters_and_names())
    for name, array in pairs.items():
        parameters[name].set_data(Tensor(array))


@pytest.mark.parametrize("folder", model_folders("cogvlm2_video", *ADAPTED))
def test_a_cogvlm2_video_model_with_an_adapter_is_the_reference(
    folder: Path, tmp_path: Path
) -> None:
    config = cogvlm2.from_hf(read_json(folder / "config.json"))
    model = convert(cogvlm2, config, weights_of(folder), tmp_path / "w")
    stored = {
        name: tensor.read() for name, tensor in open_checkpoint(folder / "lora.safetensors").items()
    }
    case, expected = arrays(folder / "chat_train.npz"), arrays(folder / "chat_train_lora.npz")
    inputs = cog.model_inputs(case, arrays(folder / "vision.npz")["pixel_values"])
    said = read_metadata(folder / "lora.safetensors")

    add_lora(
        model,
        replace(cogvlm2.LORA, rank=int(said["rank"]), alpha=float(said["alpha"]), dropout=0.0),
    )
    for i in range(config.language.layers):
        for ours, theirs in COG_LAYERS.items():
            pairs = {
                f"language.layers.{i}.{ours}.lora_{part.lower()}": np.concatenate(
                    [stored[f"layers.{i}.{name}.lora_{part}"] for name in theirs]
                )
                for part in "AB"
            }
            fill(model, pairs)

    assert worst(model(**inputs), expected["loss"]) < 1e-4
    del inputs["labels"]
    assert worst(model(**inputs), expected["logits"]) < 1e-4
    merge_lora(model)
    assert worst(model(**inputs), expected["logits"]) < 1e-4


def glm_case(
    folder: Path, tmp_path: Path
) -> tuple[visualglm.VisualGLM, dict[str, Tensor], dict[str, NDArray[Any]], dict[str, Any]]:
    settings = read_json(folder / "config.json")
    model = convert(visualglm, glm.config_of(settings), weights_of(folder), tmp_path / "w")
    case = arrays(folder / "model_io.npz")
    inputs = {**glm.model_inputs(case, settings), "labels": ints(case["labels"])}
    return model, inputs, arrays(folder / "lora_io.npz"), settings


def glm_lora(settings: dict[str, Any], split: bool) -> LoraConfig:
    layers = "|".join(map(str, settings["lora_layers"]))
    rank, scale = settings["lora_rank"], settings[f"lora_{'sat' if split else 'mf'}_scaling"]
    targets = rf"language\.layers\.({layers})\.attention\.(qkv|out)"
    return LoraConfig(rank=rank, alpha=scale * rank, targets=targets, split=split)


def sat_pairs(io: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """SwissArmyTransformer's matrices, stacked into ours."""
    found: dict[str, list[NDArray[Any]]] = {}
    for name in sorted(name for name in io if name.startswith(f"{prefix}.")):
        layer, part = name.removeprefix(f"{prefix}.transformer.").split(".matrix_")
        path = layer.replace("query_key_value", "qkv").replace("dense", "out")
        found.setdefault(f"language.{path}.lora_{part[0].lower()}", []).append(io[name])
    return {name: np.concatenate(matrices) for name, matrices in found.items()}


def mindformers_pairs(io: dict[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    renamed = {
        name.removeprefix(f"{prefix}."): array
        for name, array in io.items()
        if name.startswith(f"{prefix}.")
    }
    return {
        f"language.{name.replace('query_key_value', 'qkv').replace('dense', 'out')}": array
        for name, array in renamed.items()
    }


@pytest.mark.parametrize(
    "folder", model_folders("visualglm", "config.json", "model_io.npz", "lora_io.npz")
)
@pytest.mark.parametrize("kind", ["sat", "mf"])
def test_a_visualglm_model_with_an_adapter_is_the_reference(
    folder: Path, kind: str, tmp_path: Path
) -> None:
    model, inputs, io, settings = glm_case(folder, tmp_path)
    pairs = sat_pairs if kind == "sat" else mindformers_pairs
    add_lora(model, glm_lora(settings, split=kind == "sat"))
    fill(model, pairs(io, kind))

    loss, gradients = ms.value_and_grad(lambda: model(**inputs), None, model.trainable_params())()

    assert float(loss) == pytest.approx(io[f"{kind}_loss"], rel=1e-5)
    text = {name: tensor for name, tensor in inputs.items() if name != "labels"}
    assert worst(model(**text), io[f"{kind}_logits"]) < 1e-4
    expected = pairs(io, f"{kind}grad")
    assert expected.keys() == {parameter.name for parameter in model.trainable_params()}
    for parameter, gradient in zip(model.trainable_params(), gradients, strict=True):
        assert relative(gradient.asnumpy(), expected[parameter.name]) < 1e-4, parameter.name


@pytest.mark.parametrize(
    "folder", model_folders("visualglm", "config.json", "model_io.npz", "lora_io.npz")
)
def test_descent_on_a_models_adapter_follows_the_reference(folder: Path, tmp_path: Path) -> None:
    model, inputs, io, settings = glm_case(folder, tmp_path)
    add_lora(model, glm_lora(settings, split=False))
    fill(model, mindformers_pairs(io, "mf"))
    name = next(name for name in io if name.startswith("mf_sgd"))
    rate = float(name.split("lr")[1].split("_")[0])
    step = ms.value_and_grad(lambda: model(**inputs), None, model.trainable_params())

    losses = []
    for _ in io[name]:
        loss, gradients = step()
        losses.append(float(loss))
        for parameter, gradient in zip(model.trainable_params(), gradients, strict=True):
            parameter.set_data(parameter - rate * gradient)

    assert losses == pytest.approx(io[name].tolist(), rel=1e-5)


def with_pairs(model: nn.Cell, config: LoraConfig) -> list[str]:
    """Pairs that do something: B drawn instead of zero."""
    paths = add_lora(model, config)
    rng = np.random.default_rng(0)
    for parameter in model.trainable_params():
        parameter.set_data(Tensor(rng.normal(0, 0.05, parameter.shape).astype(np.float32)))
    return paths


@ALL_FAMILIES
@pytest.mark.parametrize("targets", ["default", "all"])
def test_a_new_adapter_changes_nothing_and_only_it_trains(family: str, targets: str) -> None:
    model = small(family)
    inputs = batch(model, [[sample(model, 0)]], 64)
    before = model(**inputs).asnumpy()
    names = {name for name, _ in model.parameters_and_names()}
    lora = family_module(family).LORA

    add_lora(
        model,
        replace(lora, rank=2) if targets == "default" else replace(lora, rank=2, targets="all"),
    )

    parameters = dict(model.parameters_and_names())
    assert worst(model(**inputs), before) == 0
    assert names < parameters.keys()  # a checkpoint of the plain model fits
    assert all(path == parameter.name for path, parameter in parameters.items())
    assert all(
        parameter.name.endswith((".lora_a", ".lora_b")) for parameter in model.trainable_params()
    )


@ALL_FAMILIES
def test_merged_and_unmerged_are_equal(family: str, tmp_path: Path) -> None:
    model = small(family)
    inputs = batch(model, [[sample(model, 0)]], 64)
    del inputs["labels"]
    plain = {name for name, _ in model.parameters_and_names()}
    with_pairs(
        model, replace(family_module(family).LORA, rank=4, alpha=8, targets="all", dropout=0.0)
    )
    save_weights(model, tmp_path / "base", sorted(plain))
    save_lora(model, tmp_path / "lora")
    unmerged = model(**inputs).asnumpy()

    merge_lora(model)
    merge_lora_file(tmp_path / "base", tmp_path / "lora", tmp_path / "merged")

    assert {name for name, _ in model.parameters_and_names()} == plain
    assert worst(model(**inputs), unmerged) < 1e-4 * np.abs(unmerged).max()
    other = small(family)
    assert not load_weights(other, tmp_path / "merged").unfilled
    assert worst(other(**inputs), model(**inputs).asnumpy()) < 1e-5 * np.abs(unmerged).max()


def test_the_published_sizes_have_the_published_number_of_pairs() -> None:
    expected = {("cogvlm2_video", "13b"): 20_971_520, ("visualglm", "6b"): 491_520}
    for (family, size), count in expected.items():
        with no_init_parameters():
            model = family_module(family).MODEL(family_module(family).PRESETS[size])
            add_lora(model, family_module(family).LORA)
        assert sum(parameter.size for parameter in model.trainable_params()) == count


def test_targets_that_fit_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="no linear layer fits"):
        add_lora(small("qwen_vl"), LoraConfig(rank=2, alpha=2, targets="wq", split=False))


@pytest.mark.slow
def test_an_adapter_trains_in_graph_mode_as_in_pynative() -> None:
    model = small("cogvlm2_video")
    with_pairs(model, replace(family_module("cogvlm2_video").LORA, rank=2, dropout=0.0))
    inputs = batch(model, [[sample(model, 0)]], 64)
    step = ms.value_and_grad(lambda: model(**inputs), None, model.trainable_params())
    expected, gradients = step()

    ms.set_context(mode=ms.GRAPH_MODE)
    order = ("input_ids", "labels", "position_ids", "segment_ids", "pixel_values", "media_index")
    loss, found = ms.value_and_grad(model, None, model.trainable_params())(
        *(inputs[name] for name in order)
    )
    ms.set_context(mode=ms.PYNATIVE_MODE)

    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    for ours, theirs in zip(found, gradients, strict=True):
        assert relative(ours.asnumpy(), theirs.asnumpy()) < 1e-3


def test_dropout_acts_in_training_only() -> None:
    model = small("qwen_vl")
    with_pairs(model, replace(family_module("qwen_vl").LORA, rank=4, dropout=0.5))
    inputs = batch(model, [[sample(model, 0)]], 64)

    assert float(model(**inputs)) == float(model(**inputs))
    model.set_train(True)
    assert float(model(**inputs)) != float(model(**inputs))


def test_a_delta_has_one_block_for_each_part() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(6, 5)), rng.normal(size=(9, 2))

    delta = lora_delta(a, b, (4, 2, 3))

    np.testing.assert_allclose(delta[4:6], b[4:6] @ a[2:4])
