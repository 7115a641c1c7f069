"""Families that read pictures of any size, against transformers' outputs on the same weights."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor
from numpy.typing import NDArray

import models.qwen2_5_vl as qwen2_5
import models.qwen3_vl as qwen3
from models.cache import drop_caches
from models.generate import Generator, Prompt
from models.patches import (
    MERGE,
    normalise_patches,
    patch_layout,
    same_picture,
    split_segments,
)
from tests.models.golden import (
    arrays,
    convert,
    ints,
    model_folders,
    read_json,
    weights_of,
    worst,
)

pytestmark = pytest.mark.mindspore

MODULES: dict[str, ModuleType] = {"qwen2_5_vl": qwen2_5, "qwen3_vl": qwen3}
FOLDERS = pytest.mark.parametrize(
    ("family", "folder"),
    [
        pytest.param(family, *found.values, marks=found.marks, id=f"{family}-{found.id}")
        for family in MODULES
        for found in model_folders(family, "config.json", "io.npz")
    ],
    scope="module",
)
KINDS = ("image", "video")


@pytest.fixture(scope="module")
def model(family: str, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    module = MODULES[family]
    config = module.from_hf(read_json(folder / "config.json"))
    return convert(
        module, config, weights_of(folder), tmp_path_factory.mktemp(family) / "w.safetensors"
    )


def cases(folder: Path) -> dict[str, dict[str, NDArray[Any]]]:
    """The arrays of each case, without its name before theirs."""
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for name, array in arrays(folder / "io.npz").items():
        case, _, inner = name.partition("/")
        found.setdefault(case, {})[inner] = array
    return found


def pixels_of(case: dict[str, NDArray[Any]], kind: str) -> NDArray[Any]:
    found = case["pixel_values" if kind == "image" else "pixel_values_videos"]
    return found.astype(np.float32)


def features_of(case: dict[str, NDArray[Any]], kind: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """The features of the pictures or clips of a case, and those of the deepstack."""
    features = case[f"{kind}_features"]
    return features, case.get(f"{kind}_deepstack", np.zeros((0, *features.shape), np.float32))


def model_inputs(case: dict[str, NDArray[Any]], config: dict[str, Any]) -> dict[str, Tensor]:
    """What a model takes of a case: the pictures first, then the clips."""
    ids = case["input_ids"][None]
    inputs = {
        "input_ids": ints(ids),
        "position_ids": ints(case["position_ids"][None]),
        "segment_ids": ints(np.ones_like(ids)),
    }
    kinds = [kind for kind in KINDS if f"{kind}_grid_thw" in case]
    if not kinds:
        return inputs
    index, first = np.full(ids.shape, -1), 0
    for kind in kinds:
        places = ids == config[f"{kind}_token_id"]
        index[places] = first + np.arange(places.sum())
        first += places.sum()
    grids = np.concatenate([case[f"{kind}_grid_thw"] for kind in kinds])
    pixels = np.concatenate([pixels_of(case, kind) for kind in kinds])
    return {
        **inputs,
        "pixel_values": Tensor(pixels),
        "media_index": ints(index),
        "media_layout": ints(patch_layout(grids)),
    }


@FOLDERS
def test_the_towers_features_are_those_of_the_reference(
    model: Any, family: str, folder: Path
) -> None:
    compared = 0
    for case in cases(folder).values():
        for kind in KINDS:
            if f"{kind}_grid_thw" not in case:
                continue
            pixels, layout = pixels_of(case, kind), patch_layout(case[f"{kind}_grid_thw"])
            room = 8  # padding of another size of batch changes nothing
            padded = np.pad(pixels, ((0, room), (0, 0)))
            more = patch_layout(case[f"{kind}_grid_thw"], len(layout) + room)

            for values, places in ((pixels, layout), (padded, more)):
                features, deep = model.vision(Tensor(values)[None], ints(places))

                expected, expected_deep = features_of(case, kind)
                count = len(expected)
                assert worst(features[0, :count], expected) < 5e-5
                assert len(deep) == len(expected_deep)
                for ours, theirs in zip(deep, expected_deep, strict=True):
                    assert worst(ours[0, :count], theirs) < 5e-5
                compared += 1
    assert compared


@FOLDERS
def test_logits_and_losses_are_those_of_the_reference(
    model: Any, family: str, folder: Path
) -> None:
    config = read_json(folder / "config.json")
    for name, case in cases(folder).items():
        inputs = model_inputs(case, config)

        logits = model(**inputs)
        loss = model(labels=ints(case["labels"][None]), **inputs)

        assert worst(logits[0], case["logits"]) < 2e-4, name
        assert worst(loss, case["loss"]) < 1e-5, name


@pytest.mark.slow
@FOLDERS
def test_decoding_with_the_cache_gives_what_reading_everything_again_gives(
    model: Any, family: str, folder: Path
) -> None:
    config, steps = read_json(folder / "config.json"), 6
    for case in cases(folder).values():
        inputs = model_inputs(case, config)
        length = inputs["input_ids"].shape[1]
        named = {name: value.asnumpy() for name, value in inputs.items() if name != "segment_ids"}
        generator = Generator(model, 1, length + steps, bucket=16)

        answer = generator.generate(Prompt(lengths=np.array([length]), **named), steps)[0]
        drop_caches(model)

        ids, positions = named["input_ids"], named["position_ids"]
        for token in answer:
            read = {**inputs, "input_ids": ints(ids), "position_ids": ints(positions)}
            read["segment_ids"] = ints(np.ones_like(ids))
            if "media_index" in inputs:
                room = ids.shape[1] - length
                index = np.pad(named["media_index"], ((0, 0), (0, room)), constant_values=-1)
                read["media_index"] = ints(index)
            assert int(model(**read)[0, -1].argmax()) == token
            ids = np.append(ids, [[token]], 1)
            positions = np.append(positions, positions[..., -1:] + 1, -1)


@pytest.mark.parametrize("family", MODULES)
def test_bytes_are_normalised_on_the_device_as_before_it(family: str) -> None:
    config = MODULES[family].PRESETS["tiny"]
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (4, config.vision.patch_values), dtype=np.uint8)
    mean, std = (np.array(each)[:, None] for each in (config.pixel_mean, config.pixel_std))
    expected = ((values.reshape(4, 3, -1) / 255 - mean) / std).reshape(4, -1)

    found = normalise_patches(Tensor(values), config.pixel_mean, config.pixel_std, ms.float32)

    assert worst(found, expected) < 1e-5


def test_the_layout_goes_through_blocks_of_four_patches_pair_by_pair() -> None:
    layout = patch_layout(np.array([[2, 2, 4], [1, 4, 2]]), room=26)

    assert layout[:5].tolist() == [
        [1, 0, 0, 2, 4],
        [1, 0, 1, 2, 4],
        [1, 1, 0, 2, 4],
        [1, 1, 1, 2, 4],
        [1, 0, 2, 2, 4],
    ]
    assert layout[:, 0].tolist() == [1] * 8 + [2] * 8 + [3] * 8 + [0] * 2
    assert MERGE == 2


GRIDS = np.array([[2, 8, 10], [1, 4, 4], [3, 6, 6], [1, 12, 4]])


def drawn_layout() -> NDArray[np.int32]:
    """Pictures and clips of several sizes, some alike, and padding."""
    return patch_layout(GRIDS, room=len(patch_layout(GRIDS)) + 8)


@pytest.mark.parametrize("window", [0, 4, 6])
def test_segments_part_the_patches_as_the_mask_does(window: int) -> None:
    layout = drawn_layout()
    real = layout[:, 0] > 0
    masked = same_picture(ints(layout), window)[0, 0].asnumpy()

    groups, back = split_segments(layout, window)

    seen = np.zeros(masked.shape, bool)
    order = []
    for index, count, length, mask in groups:
        places = index.asnumpy().reshape(count, length)
        there = np.ones((count, length), bool) if mask is None else mask.asnumpy()[:, 0, 0]
        order.append(places.ravel())
        for members in (row[known] for row, known in zip(places, there, strict=True)):
            assert not seen[members].any()  # of no segment before
            seen[np.ix_(members, members)] = True
    assert np.concatenate(order)[back.asnumpy()].tolist() == list(range(len(layout)))
    assert np.array_equal(seen[np.ix_(real, real)], masked[np.ix_(real, real)])
    assert seen[np.ix_(~real, ~real)].sum() == (~real).sum()


def test_segments_cost_the_squares_of_pictures_and_not_of_the_batch() -> None:
    layout = patch_layout(np.array([[1, 32, 32], *[[1, 2, 2]] * 100, *[[1, 2, 4]] * 3]))

    groups, _ = split_segments(layout)

    cost = sum(count * length**2 for _, count, length, _ in groups)
    assert cost == 1024**2 + 100 * 4**2 + 3 * 8**2


@pytest.mark.parametrize("family", MODULES)
def test_attention_by_segments_gives_what_a_mask_over_all_patches_gives(family: str) -> None:
    module = MODULES[family]
    model = module.MODEL(module.PRESETS["tiny"])
    layout = drawn_layout()
    values = np.random.default_rng(0).normal(size=(len(layout), model.config.vision.patch_values))
    pixels, places = Tensor(values[None], ms.float32), ints(layout)

    features, deep = model.vision(pixels, places)
    by_mask, deep_by_mask = model.vision.construct(pixels, places)

    real = int((layout[:, 0] > 0).sum()) // MERGE**2
    assert np.isfinite(features.asnumpy()).all()
    for found, expected in zip((features, *deep), (by_mask, *deep_by_mask), strict=True):
        assert worst(found[0, :real], expected[0, :real].asnumpy()) < 1e-6
