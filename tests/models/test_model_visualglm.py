"""VisualGLM against SwissArmyTransformer's outputs on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

import models.visualglm as visualglm
from models.cache import attention_mask
from models.vit import VisionConfig
from tests.models.golden import (
    arrays,
    convert,
    greedy,
    ints,
    layer_outputs,
    model_folders,
    read_json,
    weights_of,
    worst,
)

pytestmark = pytest.mark.mindspore
FOLDERS = pytest.mark.parametrize(
    "folder", model_folders("visualglm", "config.json", "model_io.npz"), scope="module"
)


def config_of(settings: dict[str, Any]) -> visualglm.VisualGLMConfig:
    vit, qformer, glm = settings["vit"], settings["qf"], settings["glm"]
    return visualglm.VisualGLMConfig(
        vision=VisionConfig(
            image_size=settings["image_size"],
            patch_size=settings["patch"],
            hidden=vit["hidden_size"],
            layers=vit["num_layers"],
            heads=vit["num_attention_heads"],
            mlp=vit["inner_hidden_size"],
        ),
        qformer=visualglm.QFormerConfig(
            queries=qformer["queries"],
            hidden=qformer["hidden_size"],
            layers=qformer["num_layers"],
            heads=qformer["num_attention_heads"],
            mlp=qformer.get("inner_hidden_size", 4 * qformer["hidden_size"]),
            cross_layers=tuple(i for i, cross in enumerate(qformer["is_decoder"]) if cross),
        ),
        language=visualglm.GLMConfig(
            vocabulary=glm["vocab_size"],
            hidden=glm["hidden_size"],
            layers=glm["num_layers"],
            heads=glm["num_attention_heads"],
            mlp=glm["inner_hidden_size"],
        ),
    )


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> visualglm.VisualGLM:
    config = config_of(read_json(folder / "config.json"))
    source = weights_of(folder)
    model: visualglm.VisualGLM = convert(
        visualglm, config, source, tmp_path_factory.mktemp("visualglm") / "w.safetensors"
    )
    return model


def model_inputs(case: dict[str, NDArray[Any]], settings: dict[str, Any]) -> dict[str, Tensor]:
    queries, before = settings["qf"]["queries"], settings["pre_image"]
    index = np.full(case["input_ids"].shape, -1)
    index[:, before : before + queries] = np.arange(len(index) * queries).reshape(
        len(index), queries
    )
    return {
        "input_ids": ints(case["input_ids"]),
        "position_ids": ints(case["position_ids"]),
        "pixel_values": Tensor(case["image"]),
        "media_index": ints(index),
    }


@FOLDERS
def test_every_stage_of_the_image_path_is_that_of_the_reference(model: Any, folder: Path) -> None:
    case = arrays(folder / "model_io.npz")
    pixels = Tensor(case["image"])

    x = model.vision.embed(pixels)
    vit = [x := layer(x) for layer in model.vision.layers]
    out = model.vision_norm(x)
    query = Tensor(np.repeat(model.qformer.query.asnumpy()[None], len(case["image"]), 0))
    qformer = [query := layer(query, out) for layer in model.qformer.layers]

    assert worst(np.stack([layer.asnumpy() for layer in vit]), case["vit_hidden"]) < 1e-4
    assert worst(out, case["vit_out"]) < 1e-4
    assert worst(np.stack([layer.asnumpy() for layer in qformer]), case["qformer_hidden"]) < 1e-4
    assert worst(model.qformer(out), case["qformer_out"]) < 1e-4
    assert worst(model.media(pixels), case["image_embeds"]) < 1e-4


@FOLDERS
def test_logits_and_loss_are_those_of_the_reference(model: Any, folder: Path) -> None:
    case = arrays(folder / "model_io.npz")
    inputs = model_inputs(case, read_json(folder / "config.json"))
    text = {name: inputs[name] for name in ("input_ids", "position_ids")}

    assert worst(model(**inputs), case["logits"]) < 1e-4
    assert worst(model(**text), case["logits_text_only"]) < 1e-4
    assert model(labels=ints(case["labels"]), **inputs).asnumpy() == pytest.approx(
        case["loss"], rel=1e-5
    )


@FOLDERS
def test_hidden_states_are_those_of_the_reference(model: Any, folder: Path) -> None:
    case = arrays(folder / "model_io.npz")

    layers = layer_outputs(model, model_inputs(case, read_json(folder / "config.json")))

    assert worst(np.stack(layers[1:]), case["glm_hidden"]) < 1e-4


@FOLDERS
def test_every_token_sees_the_prompt_and_what_came_before(model: Any, folder: Path) -> None:
    case = arrays(folder / "model_io.npz")
    prompt = Tensor(case["position_ids"][:, 1] == 0)

    mask = attention_mask(prompt.shape[1], None, None, prefix=prompt)

    np.testing.assert_array_equal(mask.asnumpy(), case["attention_mask_allow"] == 1)


@pytest.mark.parametrize(
    "folder", model_folders("visualglm", "config.json", "qkv_layouts.npz"), scope="module"
)
def test_head_first_checkpoints_give_the_same_parameters(
    model: Any, folder: Path, tmp_path: Path
) -> None:
    layouts = arrays(folder / "qkv_layouts.npz")
    weights = visualglm.weight_map(model.config, head_first=True)
    for i in range(model.config.language.layers):
        for part in ("weight", "bias"):
            weight = next(
                w for w in weights if w.name == f"language.layers.{i}.attention.qkv.{part}"
            )
            ours, theirs = layouts[f"contiguous.{i}.{part}"], layouts[f"headfirst.{i}.{part}"]

            np.testing.assert_array_equal(weight.join([theirs], ours.shape), ours)
            np.testing.assert_array_equal(weight.split(ours)[0], theirs)


@FOLDERS
def test_greedy_answers_are_those_of_the_reference(model: Any, folder: Path) -> None:
    case = arrays(folder / "model_io.npz")
    prompt, output = case["greedy_prompt"], case["greedy_output"]
    inputs = model_inputs(case, read_json(folder / "config.json"))
    inputs = {
        name: tensor[:1, ..., : len(prompt)]
        for name, tensor in inputs.items()
        if name != "pixel_values"
    }
    inputs |= {"pixel_values": Tensor(case["image"][:1])}

    assert inputs["input_ids"].asnumpy()[0].tolist() == prompt.tolist()
    greedy(model, inputs, output[len(prompt) :], case["greedy_logits"])
