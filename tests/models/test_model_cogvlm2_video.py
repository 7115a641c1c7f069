"""CogVLM2-Video against the published implementation's outputs on the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

import models.cogvlm2_video as cogvlm2
from models.modules import next_token_loss
from models.weights import import_weights, load_weights, parameter_shapes
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
CASES = ("text_only", "chat_train", "no_time_index_train", "chat_infer")


def folders(*needed: str, any_of: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Run a test once for every whole model that has these files."""
    found = model_folders("cogvlm2_video", "config.json", "vision.npz", *needed, any_of=any_of)
    return pytest.mark.parametrize("folder", found, scope="module")


TOWERS = pytest.mark.parametrize(
    "tower", model_folders("cogvlm2_video", "config.json", "vision.npz")
)


@pytest.fixture(scope="module")
def model(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> cogvlm2.CogVLM2Video:
    config = cogvlm2.from_hf(read_json(folder / "config.json"))
    model: cogvlm2.CogVLM2Video = convert(
        cogvlm2, config, weights_of(folder), tmp_path_factory.mktemp("cog") / "w.safetensors"
    )
    return model


def model_inputs(case: dict[str, NDArray[Any]], *clips: NDArray[Any]) -> dict[str, Tensor]:
    names = {"position_ids": "position_ids", "attention_mask": "segment_ids", "labels": "labels"}
    inputs = {ours: ints(case[name]) for name, ours in names.items() if name in case}
    media = case["token_type_ids"] == 1
    if media.any():
        inputs["media_index"] = ints(np.where(media, np.cumsum(media).reshape(media.shape) - 1, -1))
        inputs["pixel_values"] = Tensor(np.concatenate(clips))
    return {"input_ids": ints(case["input_ids"]), **inputs}


@TOWERS
def test_every_stage_of_the_vision_tower_is_that_of_the_reference(
    tower: Path, tmp_path: Path
) -> None:
    settings, case = read_json(tower / "config.json"), arrays(tower / "vision.npz")
    text = {
        "vocab_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "num_multi_query_heads": 1,
    }
    config = cogvlm2.from_hf({"rms_norm_eps": 1e-5, **text, **settings})
    model = cogvlm2.MODEL(config)
    weights = cogvlm2.weight_map(config)
    import_weights(weights_of(tower), tmp_path / "w", weights, parameter_shapes(model))
    account = load_weights(model, tmp_path / "w")
    pixels = Tensor(case["pixel_values"])

    x = model.vision.embed(pixels)
    layers = [x := layer(x) for layer in model.vision.layers]
    conv = model.adapter.convolve(x[:, 1:]).asnumpy()
    output = model.media(pixels)

    assert all(name.startswith("language.") for name in account.unfilled)
    assert worst(output, case["output"]) < 1e-4
    for i, layer in enumerate(layers):
        assert worst(layer, case.get(f"layer_{i}", layer.asnumpy())) < 1e-4
    if "patch_embed" in case:
        assert worst(model.vision.embed(pixels), case["patch_embed"]) < 1e-4
    if "conv" in case:
        assert worst(conv.swapaxes(1, 2).reshape(case["conv"].shape), case["conv"]) < 1e-4
    if "glu" in case:
        assert worst(output[:, 1:-1], case["glu"]) < 1e-4


@folders(any_of=tuple(f"{name}.npz" for name in CASES))
def test_logits_and_losses_are_those_of_the_reference(model: Any, folder: Path) -> None:
    clip = arrays(folder / "vision.npz")["pixel_values"]
    for name in (name for name in CASES if (folder / f"{name}.npz").exists()):
        case = arrays(folder / f"{name}.npz")
        inputs = model_inputs(case, clip)
        labels = inputs.pop("labels", None)

        logits = model(**inputs)

        assert worst(logits, case["logits"]) < 1e-4, name
        if labels is not None:
            assert worst(model(labels=labels, **inputs), case["loss"]) < 1e-4, name


@folders("chat_train.npz")
def test_hidden_states_are_those_of_the_reference(model: Any, folder: Path) -> None:
    clip, case = arrays(folder / "vision.npz")["pixel_values"], arrays(folder / "chat_train.npz")
    inputs = model_inputs(case, clip)
    del inputs["labels"]

    layers, final = layer_outputs(model, inputs), model.hidden(**inputs)

    # The reference puts the last one through the final norm.
    for i, layer in enumerate(layers[:-1]):
        assert worst(layer, case[f"hidden_{i}"]) < 1e-4, i
    assert worst(final, case[f"hidden_{len(layers) - 1}"]) < 1e-4


@folders("batch2_padded.npz")
def test_a_padded_batch_gives_each_sample_what_it_gets_alone(model: Any, folder: Path) -> None:
    case = arrays(folder / "batch2_padded.npz")
    inputs = model_inputs(
        case, arrays(folder / "vision.npz")["pixel_values"], case["pixel_values_1"]
    )
    labels = inputs.pop("labels")

    logits = model(**inputs)

    valid = len(case["logits_1_valid"])
    assert worst(logits[0], case["logits_0"]) < 1e-4
    assert worst(logits[1, :valid], case["logits_1_valid"]) < 1e-4
    for row, loss in enumerate(case["loss_per_sample"]):
        assert worst(next_token_loss(logits[row : row + 1], labels[row : row + 1]), loss) < 1e-4


@folders("chat_train.npz", "chat_train_grads.npz", "chat_train_grad_norms.json")
def test_gradients_are_those_of_the_reference(model: Any, folder: Path) -> None:
    clip, case = arrays(folder / "vision.npz")["pixel_values"], arrays(folder / "chat_train.npz")

    found = gradients(model, cogvlm2.weight_map(model.config), model_inputs(case, clip))

    for name, gradient in arrays(folder / "chat_train_grads.npz").items():
        assert relative(found[name.removeprefix("grad.")], gradient) < 1e-3, name
    for name, norm in read_json(folder / "chat_train_grad_norms.json").items():
        assert np.linalg.norm(found[name]) == pytest.approx(norm, rel=1e-3, abs=1e-6), name


@folders("chat_infer.npz")
def test_greedy_answers_are_those_of_the_reference(model: Any, folder: Path) -> None:
    clip, case = arrays(folder / "vision.npz")["pixel_values"], arrays(folder / "chat_infer.npz")

    greedy(model, model_inputs(case, clip), case["greedy_ids"], None)
