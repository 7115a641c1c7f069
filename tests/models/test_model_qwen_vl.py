"""Qwen-VL against the published implementation's outputs on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

import models.qwen_vl as qwen
from models.model import train_only
from tests.models.golden import (
    arrays,
    convert,
    gradients,
    greedy,
    ints,
    layer_outputs,
    model_folders,
    read_json,
    relative,
    weights_of,
    worst,
)

pytestmark = pytest.mark.mindspore
FOLDERS = pytest.mark.parametrize(
    "folder", model_folders("qwen_vl", "info.json", "io.npz"), scope="module"
)


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> qwen.QwenVL:
    info = read_json(folder / "info.json")
    config = qwen.from_hf({**info["llm"], "visual": info["visual"]})
    model: qwen.QwenVL = convert(
        qwen, config, weights_of(folder), tmp_path_factory.mktemp("qwen") / "w.safetensors"
    )
    return model


def model_inputs(case: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    index = np.full(case["input_ids"].shape, -1)
    for image, (row, start, end) in enumerate(case["image_spans"]):
        queries = end - start - 1
        index[row, start + 1 : end] = image * queries + np.arange(queries)
    return {
        "input_ids": ints(case["input_ids"]),
        "segment_ids": ints(case["attention_mask"]),
        "pixel_values": Tensor(case["pixel_values"]),
        "media_index": ints(index),
    }


@FOLDERS
def test_every_stage_of_the_vision_tower_is_that_of_the_reference(
    model: qwen.QwenVL, folder: Path
) -> None:
    case = arrays(folder / "io.npz")
    pixels = Tensor(case["pixel_values"])

    vit = model.vision(pixels)

    assert worst(model.vision.embed(pixels), case["ln_pre"]) < 5e-5
    assert worst(vit, case["vit"]) < 5e-5
    assert worst(model.resampler(vit), case["attn_pool"]) < 5e-5
    assert worst(model.media(pixels), case["image_features"]) < 5e-5


@FOLDERS
def test_training_and_evaluation_are_those_of_the_reference(
    model: qwen.QwenVL, folder: Path
) -> None:
    case = arrays(folder / "io.npz")
    inputs, labels, real = model_inputs(case), ints(case["labels"]), case["attention_mask"] > 0
    for mode in ("train", "eval"):
        model.set_train(mode == "train")

        logits, loss = model(**inputs).asnumpy(), model(labels=labels, **inputs)

        assert worst(logits[real], case[f"{mode}_logits"][real]) < 2e-4, mode
        assert worst(loss, case[f"{mode}_loss"]) < 1e-5, mode


@FOLDERS
def test_hidden_states_are_those_of_the_reference(model: qwen.QwenVL, folder: Path) -> None:
    case = arrays(folder / "io.npz")
    inputs, real = model_inputs(case), case["attention_mask"] > 0
    model.set_train(False)

    layers, final = layer_outputs(model, inputs), model.hidden(**inputs).asnumpy()

    for i, layer in enumerate(layers[1:]):
        assert worst(layer[real], case[f"eval_layer{i}"][real]) < 2e-4, i
    assert worst(final[real], case["eval_ln_f"][real]) < 2e-4


@FOLDERS
def test_gradients_are_those_of_the_reference(model: qwen.QwenVL, folder: Path) -> None:
    case, info = arrays(folder / "io.npz"), read_json(folder / "info.json")
    train_only(model, qwen.PARTS["resampler"] + qwen.PARTS["language"])
    model.set_train(True)

    found = gradients(
        model, qwen.weight_map(model.config), {"labels": ints(case["labels"]), **model_inputs(case)}
    )

    assert found.keys() == info["grad_norms"].keys()
    for name, norm in info["grad_norms"].items():
        assert np.linalg.norm(found[name]) == pytest.approx(norm, rel=1e-4), name
    for name, gradient in case.items():
        if name.startswith("grad/"):
            assert relative(found[name.removeprefix("grad/")], gradient) < 1e-4, name


@FOLDERS
def test_greedy_answers_are_those_of_the_reference(model: qwen.QwenVL, folder: Path) -> None:
    case = arrays(folder / "io.npz")
    inputs, length = model_inputs(case), int(case["greedy_prompt_len"])
    prompt = {name: inputs[name][-1:, :length] for name in ("input_ids", "media_index")}

    greedy(
        model,
        {**prompt, "pixel_values": inputs["pixel_values"]},
        case["greedy_tokens"],
        case["greedy_logits"],
    )
