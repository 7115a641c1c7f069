"""Optimizers against torch's and MindSpore's,
step by step, on whole models and on single tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn
from mindspore.nn.utils import no_init_parameters

import models.llava_next_video as llava
import models.qwen_vl as qwen
from models import family_module
from models.model import train_only
from models.weights import model_parameters
from recipes.optimizers import AdamW, clip_by_norm, layer_rates
from tests.models import test_model_llava_next_video, test_model_qwen_vl
from tests.models.golden import arrays, convert, ints, model_folders, read_json, weights_of

pytestmark = pytest.mark.mindspore


def descend(
    model: nn.Cell, inputs: dict[str, Tensor], steps: int, clip: float | None, **options: Any
) -> tuple[list[float], list[float]]:
    """Loss and gradient norm before each of `steps` steps at rate 1e-3."""
    parameters = model.trainable_params()
    optimizer = AdamW(parameters, **options)
    forward = ms.value_and_grad(lambda: model(**inputs), None, parameters)
    losses: list[float] = []
    norms: list[float] = []
    for _ in range(steps):
        loss, gradients = forward()
        clipped, norm = clip_by_norm(gradients, clip or np.inf)
        optimizer(clipped, Tensor(1e-3, ms.float32))
        losses.append(float(loss))
        norms.append(float(norm))
    return losses, norms


STAGES = {
    "full": ("",),
    "freeze_vision": (*llava.PARTS["projector"], *llava.PARTS["newline"], *llava.PARTS["language"]),
    "adapter_only": llava.PARTS["projector"],
}


@pytest.mark.slow
@pytest.mark.parametrize("folder", model_folders("llava_next_video", "config.json"))
def test_a_llava_model_trains_as_with_torch(folder: Path, tmp_path: Path) -> None:
    config = llava.from_hf(read_json(folder / "config.json"))
    told = folder.parent / "train_trajectory.json"
    trajectories = (
        [each for each in read_json(told) if each["model"] == folder.name] if told.exists() else []
    )
    if not trajectories:
        pytest.skip(f"{folder.parent} has no train_trajectory.json that tells of {folder.name}")
    for expected in trajectories:
        model = convert(llava, config, weights_of(folder), tmp_path / "w")
        train_only(model, STAGES[expected["trainable"]])
        found = test_model_llava_next_video.cases(model, folder)
        inputs = next((inputs for name, _, inputs in found if name == expected["case"]), None)
        if inputs is None:
            continue
        assert expected["lr"] == 1e-3

        losses, norms = descend(
            model,
            inputs,
            len(expected["loss"]),
            expected["clip_global_norm"],
            betas=tuple(expected["betas"]),
            eps=expected["eps"],
            weight_decay=expected["weight_decay"],
            decay_matrices_only=False,
        )

        assert losses == pytest.approx(expected["loss"], rel=1e-4), expected["case"]
        assert norms == pytest.approx(expected["grad_norm_before_clip"], rel=1e-3), expected["case"]


@pytest.mark.parametrize("rule", ["adamw_bias_corrected", "adam_weight_decay_no_bias_correction"])
@pytest.mark.parametrize("folder", model_folders("qwen_vl", "info.json", "io.npz"))
def test_a_qwen_model_trains_as_with_torch_and_as_with_mindformers(
    folder: Path, rule: str, tmp_path: Path
) -> None:
    info, case = read_json(folder / "info.json"), arrays(folder / "io.npz")
    expected = info["trajectories"]
    config = qwen.from_hf({**info["llm"], "visual": info["visual"]})
    model = convert(qwen, config, weights_of(folder), tmp_path / "w")
    train_only(model, qwen.PARTS["resampler"] + qwen.PARTS["language"])
    model.set_train(True)
    inputs = {"labels": ints(case["labels"]), **test_model_qwen_vl.model_inputs(case)}
    assert expected["lr"] == 1e-3

    losses, _ = descend(
        model,
        inputs,
        len(expected[rule]),
        expected["clip_global_norm"],
        betas=tuple(expected["betas"]),
        eps=expected["eps"],
        weight_decay=expected["weight_decay_on_ndim_ge_2"],
        bias_correction=rule == "adamw_bias_corrected",
    )

    assert losses == pytest.approx(expected[rule], rel=1e-4)


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("mode", [ms.PYNATIVE_MODE, ms.GRAPH_MODE])
@pytest.mark.parametrize("kept", [np.float32, np.float16])
def test_a_step_is_the_formula(corrected: bool, mode: int, kept: type[np.floating[Any]]) -> None:
    rng = np.random.default_rng(0)
    start, gradients = (
        rng.normal(size=(3, 4)).astype(kept),
        rng.normal(size=(5, 3, 4)).astype(kept),
    )
    parameter = Parameter(Tensor(start.copy()), name="x")
    optimizer = AdamW(
        [parameter], betas=(0.8, 0.9), eps=1e-3, weight_decay=0.1, bias_correction=corrected
    )

    ms.set_context(mode=mode)
    for gradient in gradients:
        optimizer((Tensor(gradient),), Tensor(0.01, ms.float32))
    ms.set_context(mode=ms.PYNATIVE_MODE)

    x, m, v = start.astype(np.float64), np.zeros((3, 4)), np.zeros((3, 4))
    for step, gradient in enumerate(gradients.astype(np.float64), 1):
        m, v = 0.8 * m + 0.2 * gradient, 0.9 * v + 0.1 * gradient**2
        c1, c2 = (1 - 0.8**step, 1 - 0.9**step) if corrected else (1, 1)
        x -= 0.01 * (m / c1 / (np.sqrt(v / c2) + 1e-3) + 0.1 * x)
    (found,) = optimizer.updated
    np.testing.assert_allclose(found.asnumpy(), x, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(parameter.asnumpy(), found.asnumpy().astype(kept))


def test_norms_and_biases_do_not_decay() -> None:
    vector, matrix = (
        Parameter(Tensor(np.ones(shape, np.float32)), name=f"p{len(shape)}")
        for shape in ((2,), (2, 2))
    )
    optimizer = AdamW([vector, matrix], weight_decay=0.5)

    optimizer(
        (Tensor(np.zeros(2, np.float32)), Tensor(np.zeros((2, 2), np.float32))),
        Tensor(0.1, ms.float32),
    )

    np.testing.assert_array_equal(vector.asnumpy(), 1)
    np.testing.assert_allclose(matrix.asnumpy(), 0.95, rtol=1e-6)


def test_layers_learn_the_slower_the_further_they_are_from_the_output() -> None:
    module = family_module("visualglm")
    with no_init_parameters():
        names = list(model_parameters(module.MODEL(module.PRESETS["tiny"])))  # stacks of two layers

    rates = dict(zip(names, layer_rates(names, 0.5, names), strict=True))
    some = layer_rates(["language.layers.0.mlp.up.weight"], 0.5, names)

    assert some == [0.25]
    assert rates["language.layers.1.mlp.up.weight"] == rates["vision.layers.1.norm1.bias"] == 0.5
    assert rates["language.layers.0.mlp.up.weight"] == rates["qformer.layers.0.norm_cross.bias"]
    assert {rates[name] for name in ("language.embedding.weight", "vision.positions")} == {0.125}
    full = ("language.head.weight", "language.norm.weight", "projector.bias", "vision_norm.weight")
    assert {rates[name] for name in full} == {1.0}
    assert set(layer_rates(names, 1.0, names)) == {1.0}


def test_each_parameter_moves_at_its_own_rate() -> None:
    slow, fast = (Parameter(Tensor(np.ones((2, 2), np.float32)), name=name) for name in "ab")
    optimizer = AdamW([slow, fast], rates=[0.25, 1.0])

    optimizer((Tensor(np.ones((2, 2), np.float32)),) * 2, Tensor(0.1, ms.float32))

    np.testing.assert_allclose(1 - slow.asnumpy(), 0.025, rtol=1e-4)
    np.testing.assert_allclose(1 - fast.asnumpy(), 0.1, rtol=1e-4)


def test_clipping_keeps_the_direction() -> None:
    gradients = (Tensor(np.array([3.0], np.float32)), Tensor(np.array([[4.0]], np.float32)))

    clipped, norm = clip_by_norm(gradients, 1.0)
    untouched, _ = clip_by_norm(gradients, 10.0)

    assert float(norm) == 5
    np.testing.assert_allclose([float(clipped[0]), float(clipped[1])], [0.6, 0.8], rtol=1e-5)
    assert float(untouched[0]) == 3
