"""LLaVA-NeXT-Video against transformers' outputs on the same weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, load_param_into_net
from numpy.typing import NDArray

import models.llava_next_video as llava
from models.modules import normalise_pixels
from tests.models.anyres import model_inputs
from tests.models.golden import (
    arrays,
    convert,
    gradients,
    greedy,
    ints,
    model_folders,
    read_json,
    relative,
    weights_of,
    worst,
)
from tests.reference import files

pytestmark = pytest.mark.mindspore
FOLDERS = pytest.mark.parametrize(
    "folder", model_folders("llava_next_video", "config.json"), scope="module"
)


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> llava.LlavaNextVideo:
    config = llava.from_hf(read_json(folder / "config.json"))
    model: llava.LlavaNextVideo = convert(
        llava, config, weights_of(folder), tmp_path_factory.mktemp("llava") / "w.safetensors"
    )
    return model


def tensors(inputs: dict[str, NDArray[Any]]) -> dict[str, Tensor]:
    return {name: Tensor(a) if name == "pixel_values" else ints(a) for name, a in inputs.items()}


def cases(model: Any, folder: Path) -> list[tuple[str, dict[str, NDArray[Any]], dict[str, Tensor]]]:
    settings = read_json(folder / "config.json")
    found = [(path.stem, arrays(path)) for path in sorted(folder.glob("*.npz"))]
    return [
        (name, case, tensors(model_inputs(model.config, settings, case))) for name, case in found
    ]


@FOLDERS
def test_logits_and_loss_are_those_of_the_reference(
    model: llava.LlavaNextVideo, folder: Path
) -> None:
    for name, case, inputs in cases(model, folder):
        labels = inputs.pop("labels", None)
        real = case["attention_mask"] > 0

        logits = model(**inputs).asnumpy()

        assert worst(logits[real], case["logits"][real]) < 1e-4, name
        if labels is not None:
            assert worst(model(labels=labels, **inputs), case["loss"]) < 1e-5, name


@FOLDERS
def test_features_are_those_of_the_reference(model: llava.LlavaNextVideo, folder: Path) -> None:
    other = llava.LlavaNextVideo(replace(model.config, pool_before_projector=False))
    load_param_into_net(other, dict(model.parameters_and_names()))
    for name, case, inputs in cases(model, folder):
        if "pixel_values" not in inputs:
            continue
        pixels, index = inputs["pixel_values"], inputs["media_index"].asnumpy()
        rows = (
            model.media(pixels)
            .asnumpy()
            .reshape(-1, model.config.language.hidden)[index[index >= 0]]
        )
        side = model.config.vision.side**2

        if "image_features" in case:
            assert worst(rows, case["image_features"]) < 1e-4, name
        if "video_features" in case:
            assert worst(rows, np.concatenate(case["video_features"])) < 1e-4, name
        if "video_features_project_then_pool" in case:
            later = other.media(pixels).asnumpy()[:, side:-1].reshape(-1, rows.shape[-1])
            assert worst(later, np.concatenate(case["video_features_project_then_pool"])) < 1e-4, (
                name
            )
        if "vision_hidden_minus2" in case:
            hidden = case["vision_hidden_minus2"]
            assert worst(model.vision(pixels), hidden.reshape(-1, *hidden.shape[-2:])) < 1e-4, name
        if "projected_patches" in case:
            patches = case["projected_patches"]
            assert (
                worst(model.media(pixels)[:, :side], patches.reshape(-1, *patches.shape[-2:]))
                < 1e-4
            ), name


@FOLDERS
def test_gradients_are_those_of_the_reference(model: llava.LlavaNextVideo, folder: Path) -> None:
    for name, case, inputs in cases(model, folder):
        expected = {
            key.removeprefix("grad::"): value
            for key, value in case.items()
            if key.startswith("grad::")
        }
        if not expected:
            continue

        found = gradients(model, llava.weight_map(model.config), inputs)

        for parameter, gradient in expected.items():
            assert relative(found[parameter].reshape(gradient.shape), gradient) < 1e-3, (
                name,
                parameter,
            )
        norm = np.sqrt(
            sum(np.square(gradient, dtype=np.float64).sum() for gradient in found.values())
        )
        assert norm == pytest.approx(case["grad_global_norm"], rel=1e-4), name
        for parameter in case["params_without_grad"]:
            assert not found[parameter].any(), (name, parameter)


@FOLDERS
def test_greedy_answers_are_those_of_the_reference(
    model: llava.LlavaNextVideo, folder: Path
) -> None:
    for _, case, inputs in cases(model, folder):
        if "greedy_ids" in case:
            greedy(model, inputs, case["greedy_ids"][0], case["greedy_logits"][0])


def test_pooling_is_that_of_llava_next(golden: Path) -> None:
    for file in files(golden / "llava_next_video", "video_pool_newline.npz"):
        _pools_as_llava_next(arrays(file))


def _pools_as_llava_next(cases: dict[str, NDArray[Any]]) -> None:
    for name, expected in cases.items():
        group, _, variant = name.partition("/")
        mode, _, stride = variant.partition("_s")
        if not stride.isdigit():
            continue
        x = cases[f"{group}/x"]
        side = int(x.shape[1] ** 0.5)
        vision = llava.clip(
            layers=2, layers_used=1, image_size=side, patch_size=1, hidden=4, heads=1, mlp=4
        )
        config = replace(
            llava.PRESETS["tiny"], vision=vision, pool_mode=mode, pool_stride=int(stride)
        )

        pooled = llava.FramePool(config)(Tensor(x))

        assert worst(pooled, expected) < 1e-5, name


def test_bytes_are_normalised_on_the_device() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 4, 4, 3), dtype=np.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)

    found = normalise_pixels(Tensor(pixels), mean, std, ms.float32)

    assert (
        worst(found, ((pixels / 255 - mean) / std).transpose(0, 3, 1, 2).astype(np.float32)) < 1e-6
    )
