"""Each family at a size for tests, and random batches that it can read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

from models import FAMILIES, family_module
from models.model import VisionLanguageModel
from models.patches import MERGE, PatchModel, patch_layout

ALL_FAMILIES = pytest.mark.parametrize("family", FAMILIES)
VOCABULARY = 96
MEDIA_AT = 2  # where the picture's rows begin in a sample

# One layer, but for what only several have: a layer behind the last that is used, layers that look
# through windows, layers that feed the decoder, layers that look at the picture and that do not.
FEWEST_LAYERS: dict[str, dict[str, dict[str, Any]]] = {
    "cogvlm2_video": {"vision": {"layers": 1}},
    "llava_next_video": {"vision": {"layers": 2, "layers_used": 1}},
    "qwen2_5_vl": {"vision": {"layers": 2}},
    "qwen3_vl": {"vision": {"layers": 2, "deepstack": (0,)}},
    "qwen_vl": {"vision": {"layers": 1}},
    "visualglm": {"vision": {"layers": 1}},
}


def small(family: str, **changes: Any) -> VisionLanguageModel:
    """A freshly drawn model, the tiny preset with few
    words (and few queries), in evaluation mode.
    """
    config = family_module(family).PRESETS["tiny"]
    language = replace(config.language, vocabulary=VOCABULARY)
    config = replace(config, **{"language": language, **changes})
    if family == "qwen_vl":
        config = replace(config, queries=4)
    if family == "visualglm":
        config = replace(config, qformer=replace(config.qformer, queries=4))
    ms.set_seed(0)
    model: VisionLanguageModel = family_module(family).MODEL(config)
    for name, parameter in model.parameters_and_names():
        if parameter.ndim > 1 and "positions" not in name:  # wide enough to tell tokens apart
            parameter.set_data(parameter * 5)
    model.set_train(False)
    return model


def smallest(family: str, **changes: Any) -> VisionLanguageModel:
    """As `small`, with the fewest layers that have all that is in a family: what is compiled takes
    as long as there are layers.
    """
    config = family_module(family).PRESETS["tiny"]
    fewest = {**FEWEST_LAYERS[family], "language": {"layers": 1, "vocabulary": VOCABULARY}}
    parts = {name: replace(getattr(config, name), **values) for name, values in fewest.items()}
    return small(family, **parts, **changes)


def sample(
    model: VisionLanguageModel, seed: int, answer: int = 5, images: int = 1
) -> dict[str, NDArray[Any]]:
    """One conversation with pictures at its beginning;
    rows of `media_index` count from its own first picture.
    """
    rng = np.random.default_rng(seed)
    media = _patches(model, rng, images) if _reads_patches(model) else _pictures(model, rng, images)
    rows = media_rows(media, model)
    prompt = MEDIA_AT + rows + int(rng.integers(2, 5))
    length = prompt + answer
    index = np.full(length, -1)
    index[MEDIA_AT : MEDIA_AT + rows] = np.arange(rows)
    ids = rng.integers(4, VOCABULARY, length)
    return {
        "input_ids": ids,
        "labels": np.where(np.arange(length) >= prompt, ids, -100),
        "position_ids": positions(model, prompt, length),
        "media_index": index,
        **media,
    }


def _reads_patches(model: VisionLanguageModel) -> bool:
    """Whether it reads pictures of any size, patch by patch."""
    return isinstance(model, PatchModel)


def _pictures(
    model: VisionLanguageModel, rng: np.random.Generator, count: int
) -> dict[str, NDArray[Any]]:
    side = model.config.vision.image_size
    return {"pixel_values": rng.integers(0, 256, (count, side, side, 3), dtype=np.uint8)}


def _patches(
    model: VisionLanguageModel, rng: np.random.Generator, count: int
) -> dict[str, NDArray[Any]]:
    """Pictures of 4 x 2, 4 x 4 … patches."""
    layout = patch_layout(np.array([[1, 4, 2 + 2 * number] for number in range(count)]))
    values = rng.standard_normal((len(layout), model.config.vision.patch_values), np.float32)
    return {"pixel_values": values, "media_layout": layout}


def media_rows(media: Mapping[str, NDArray[Any]], model: VisionLanguageModel) -> int:
    """How many rows the features of some pictures have."""
    count = len(media["pixel_values"])
    return count // MERGE**2 if _reads_patches(model) else count * model.config.media_rows


def with_another_picture(
    model: VisionLanguageModel, inputs: dict[str, Tensor]
) -> dict[str, Tensor]:
    """The inputs with pictures more that no position names."""
    more = {
        **inputs,
        "pixel_values": ms.ops.cat((inputs["pixel_values"], 255 - inputs["pixel_values"])),
    }
    if "media_layout" in inputs:
        layout = inputs["media_layout"].asnumpy()
        more["media_layout"] = Tensor(
            np.concatenate([layout, _shifted(layout, layout[:, 0].max())])
        )
    return more


def _shifted(layout: NDArray[Any], pictures: int) -> NDArray[Any]:
    return layout + np.array([pictures, 0, 0, 0, 0], np.int32)


def positions(model: VisionLanguageModel, prompt: int, length: int) -> NDArray[Any]:
    index = np.arange(length)
    if model.position_step == 1:
        return index
    return np.stack([np.minimum(index, prompt - 1), np.maximum(0, index - prompt + 1)])


def batch(
    model: VisionLanguageModel, rows: list[list[dict[str, NDArray[Any]]]], length: int
) -> dict[str, Tensor]:
    """Rows of packed samples, padded to `length`: what a data pipeline would hand over."""
    samples = [sample for row in rows for sample in row]
    fill = {"input_ids": 0, "labels": -100, "position_ids": 0, "media_index": -1, "segment_ids": 0}
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in fill}
    first = 0
    for row in rows:
        parts: dict[str, list[NDArray[Any]]] = {name: [] for name in fill}
        for segment, one in enumerate(row, 1):
            index = np.where(one["media_index"] >= 0, one["media_index"] + first, -1)
            whole = {
                **one,
                "media_index": index,
                "segment_ids": np.full_like(one["input_ids"], segment),
            }
            for name in fill:
                parts[name].append(whole[name])
            first += media_rows(one, model)
        for name, value in fill.items():
            joined = np.concatenate(parts[name], -1)
            room = [(0, 0)] * (joined.ndim - 1) + [(0, length - joined.shape[-1])]
            columns[name].append(np.pad(joined, room, constant_values=value))
    tensors = {name: Tensor(np.stack(column).astype(np.int32)) for name, column in columns.items()}
    tensors["pixel_values"] = Tensor(np.concatenate([one["pixel_values"] for one in samples]))
    if _reads_patches(model):
        layouts, pictures = [], 0
        for one in samples:
            layouts.append(_shifted(one["media_layout"], pictures))
            pictures = int(layouts[-1][:, 0].max())
        tensors["media_layout"] = Tensor(np.concatenate(layouts))
    return tensors
