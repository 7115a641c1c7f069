"""Checkpoints: every tensor accounted for, every bit kept, never more than a tensor in memory."""

from __future__ import annotations

import hashlib
import json
import tracemalloc
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from mindspore.nn.utils import no_init_parameters
from numpy.typing import NDArray

import models.cogvlm2_video as cogvlm2
import models.llava_next_video as llava
import models.qwen_vl as qwen
import models.visualglm as visualglm
from models import family_module
from models.cache import make_caches
from models.checkpoint import convert_dtype, open_checkpoint, write_checkpoint
from models.names import Weight, mindformers_name
from models.weights import (
    export_weights,
    import_weights,
    load_weights,
    parameter_shapes,
    save_weights,
)
from tests.models.golden import model_folders, read_json, weights_of
from tests.models.samples import ALL_FAMILIES, small
from tests.models.test_model_cogvlm2_video import CASES
from tests.models.test_model_visualglm import config_of
from tests.reference import cases

pytestmark = pytest.mark.mindspore


def qwen_config(folder: Path) -> qwen.QwenVLConfig:
    info = read_json(folder / "info.json")
    return qwen.from_hf({**info["llm"], "visual": info["visual"]})


def family_of(folder: Path) -> tuple[ModuleType, Any]:
    if "llava_next_video" in folder.parts:
        return llava, llava.from_hf(read_json(folder / "config.json"))
    if "qwen_vl" in folder.parts:
        return qwen, qwen_config(folder)
    if "visualglm" in folder.parts:
        return visualglm, config_of(read_json(folder / "config.json"))
    return cogvlm2, cogvlm2.from_hf(read_json(folder / "config.json"))


def whole_models() -> list[Any]:
    return [
        *model_folders("llava_next_video", "config.json"),
        *model_folders("qwen_vl", "info.json"),
        *model_folders(
            "cogvlm2_video", "config.json", any_of=tuple(f"{name}.npz" for name in CASES)
        ),
        *model_folders("visualglm", "config.json"),
    ]


def contents(path: Path) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    return {
        name: (t.dtype, t.shape, t.read().tobytes()) for name, t in open_checkpoint(path).items()
    }


def write(path: Path, arrays: dict[str, NDArray[Any]], dtype: str = "F32") -> None:
    write_checkpoint(path, list(arrays), ((dtype, array) for array in arrays.values()))


@pytest.mark.parametrize("folder", whole_models())
def test_there_and_back_again_keeps_every_bit_of_a_model(folder: Path, tmp_path: Path) -> None:
    family, config = family_of(folder)
    with no_init_parameters():
        shapes = parameter_shapes(family.MODEL(config))
    weights, source = family.weight_map(config), weights_of(folder)

    there = import_weights(source, tmp_path / "ours", weights, shapes)
    export_weights(tmp_path / "ours", tmp_path / "theirs", weights)

    before, after = contents(source), contents(tmp_path / "theirs")
    assert not there.unfilled
    assert all(name.endswith("inv_freq") for name in there.unused)
    assert after == {name: tensor for name, tensor in before.items() if name not in there.unused}


@pytest.mark.parametrize("folder", whole_models())
def test_mindformers_names_lead_a_model_there_and_back_too(folder: Path, tmp_path: Path) -> None:
    family, config = family_of(folder)
    with no_init_parameters():
        shapes = parameter_shapes(family.MODEL(config))
    import_weights(weights_of(folder), tmp_path / "ours", family.weight_map(config), shapes)

    export_weights(tmp_path / "ours", tmp_path / "theirs", family.mindformers_map(config))
    back = import_weights(
        tmp_path / "theirs", tmp_path / "back", family.mindformers_map(config), shapes
    )

    assert not back.unused
    assert contents(tmp_path / "back") == contents(tmp_path / "ours")


def exported(folder: Path, tmp_path: Path) -> dict[str, NDArray[Any]]:
    """The golden weights under MindFormers' names, float32."""
    family, config = family_of(folder)
    with no_init_parameters():
        shapes = parameter_shapes(family.MODEL(config))
    weights = family.weight_map(config)
    import_weights(weights_of(folder), tmp_path / "ours", weights, shapes, dtype="float32")
    export_weights(tmp_path / "ours", tmp_path / "theirs", family.mindformers_map(config))
    return {
        name: np.ascontiguousarray(t.read())
        for name, t in open_checkpoint(tmp_path / "theirs").items()
    }


@pytest.mark.parametrize("folder", model_folders("llava_next_video", "config.json"))
def test_a_llava_model_becomes_what_mindformers_converter_writes(
    folder: Path, tmp_path: Path
) -> None:
    found = exported(folder, tmp_path)
    told = folder.parent / "weight_conversion.json"
    converted = read_json(told).get(folder.name) if told.exists() else None
    if converted is None:
        pytest.skip(f"{folder.parent} has no weight_conversion.json that tells of {folder.name}")

    assert "full" not in converted or found.keys() == converted["full"].keys()
    # The whole model, its tower alone, its language model alone.
    for kind, expected in converted.items():
        for name, entry in expected.items():
            assert list(found[name].shape) == entry["shape"], (kind, name)
            assert hashlib.sha256(found[name].tobytes()).hexdigest() == entry["sha256_f32_le"], (
                kind,
                name,
            )


@pytest.mark.parametrize("folder", model_folders("qwen_vl", "info.json", "mindformers_names.json"))
def test_a_qwen_model_becomes_what_mindformers_converter_writes(
    folder: Path, tmp_path: Path
) -> None:
    found = exported(folder, tmp_path)
    expected = read_json(folder / "mindformers_names.json")

    assert found.keys() == {entry["name"] for entry in expected}
    for entry in expected:
        array = found[entry["name"]].astype(np.float64).ravel()
        assert list(found[entry["name"]].shape) == entry["shape"], entry["name"]
        assert array.sum() == pytest.approx(entry["sum"], rel=1e-9, abs=1e-9), entry["name"]
        checksum = (array * ((np.arange(array.size) + 1) % 97)).sum()
        assert checksum == pytest.approx(entry["checksum"], rel=1e-9, abs=1e-6), entry["name"]


@pytest.mark.parametrize("folder", model_folders("visualglm", "config.json", "weight_map.json"))
def test_a_visualglm_model_becomes_what_mindformers_converter_writes(
    folder: Path, tmp_path: Path
) -> None:
    found = exported(folder, tmp_path)
    expected = [entry for entry in read_json(folder / "weight_map.json") if entry["op"] != "skip"]

    assert found.keys() == {entry["target"] for entry in expected}
    for entry in expected:
        array = found[entry["target"]]
        assert list(array.shape) == entry["shape"], entry["target"]
        assert array.sum(dtype=np.float64) == pytest.approx(entry["sum"], rel=1e-6, abs=1e-5), (
            entry["target"]
        )
        assert (array.ravel()[0], array.ravel()[-1]) == (entry["first"], entry["last"]), entry[
            "target"
        ]


def test_the_cogvlm2_models_names_at_full_size_are_those_of_mindformers(golden: Path) -> None:
    config = cogvlm2.PRESETS["13b"]
    theirs = {weight.name: weight.sources for weight in cogvlm2.mindformers_map(config)}
    pairs = {
        name: theirs[weight.name]
        for weight in cogvlm2.weight_map(config)
        for name in weight.sources
    }

    for entry in cases(golden / "cogvlm2_video", "weight_map.json"):
        if entry["hf"].endswith("inv_freq"):
            continue
        layers = config.vision.layers if "vision" in entry["hf"] else config.language.layers
        for i in range(layers if "{i}" in entry["hf"] else 1):
            names, wrapped = (
                as_tuple(entry[key], i) for key in ("mindformers", "mindformers_lora")
            )
            assert pairs[entry["hf"].replace("{i}", str(i))] == names
            assert tuple(map(mindformers_name, wrapped)) == names


def as_tuple(names: str | list[str], layer: int) -> tuple[str, ...]:
    return tuple(
        name.replace("{i}", str(layer)) for name in ([names] if isinstance(names, str) else names)
    )


@ALL_FAMILIES
def test_shards_in_any_cut_give_the_same_file(family: str, tmp_path: Path) -> None:
    model = small(family)
    weights, shapes = family_module(family).weight_map(model.config), parameter_shapes(model)
    save_weights(model, tmp_path / "ours")
    export_weights(tmp_path / "ours", tmp_path / "theirs.safetensors", weights)
    tensors = {
        name: tensor.read()
        for name, tensor in open_checkpoint(tmp_path / "theirs.safetensors").items()
    }
    (tmp_path / "shards").mkdir()
    for shard in range(3):
        part = dict(list(tensors.items())[shard::3])
        write(tmp_path / "shards" / f"model-{shard}.safetensors", part)

    import_weights(tmp_path / "theirs.safetensors", tmp_path / "whole", weights, shapes)
    import_weights(tmp_path / "shards", tmp_path / "cut", weights, shapes)

    assert (tmp_path / "cut").read_bytes() == (tmp_path / "whole").read_bytes()


def test_memory_is_bounded_by_a_tensor_and_not_by_the_model(tmp_path: Path) -> None:
    size = 1 << 20
    names = [f"tensor{i}" for i in range(32)]
    write(
        tmp_path / "big.safetensors",
        {name: np.full((size // 4,), 1.0, np.float32) for name in names},
    )
    weights = [Weight(f"ours{i}", (name,)) for i, name in enumerate(names)]
    tracemalloc.start()

    import_weights(
        tmp_path / "big.safetensors",
        tmp_path / "small.safetensors",
        weights,
        {weight.name: (size // 4,) for weight in weights},
        dtype="float16",
    )

    assert tracemalloc.get_traced_memory()[1] < 3 * size
    tracemalloc.stop()


def test_each_layout_of_transformers_leads_to_the_same_names() -> None:
    full = "vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight"
    assert llava.canonical_name("model.vision_tower.encoder.layers.0.mlp.fc1.weight") == full
    assert llava.canonical_name("vision_tower.encoder.layers.0.mlp.fc1.weight") == full
    assert (
        llava.canonical_name("model.vision_tower.vision_model.encoder.layers.0.mlp.fc1.weight")
        == full
    )
    assert llava.canonical_name("vision_model.encoder.layers.0.mlp.fc1.weight", "vision") == full
    assert (
        llava.canonical_name("model.language_model.norm.weight")
        == "language_model.model.norm.weight"
    )
    assert (
        llava.canonical_name("model.norm.weight", "language") == "language_model.model.norm.weight"
    )
    assert llava.canonical_name("lm_head.weight", "language") == "language_model.lm_head.weight"
    assert llava.canonical_name("lm_head.weight") == "language_model.lm_head.weight"
    assert llava.canonical_name("model.image_newline") == "image_newline"


def test_the_account_names_what_is_unused_and_what_is_unfilled(tmp_path: Path) -> None:
    write(tmp_path / "in", {"a": np.ones(2, np.float32), "stray": np.ones(3, np.float32)})

    account = import_weights(
        tmp_path / "in",
        tmp_path / "out",
        [Weight("x", ("a",)), Weight("y", ("b",))],
        {"x": (2,), "y": (2,)},
    )

    assert account.written == ("x",)
    assert account.unused == ("stray",)
    assert account.unfilled == ("y",)


def test_a_tensor_under_two_names_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "in", {"norm": np.ones(2, np.float32), "model.norm": np.ones(2, np.float32)})

    with pytest.raises(ValueError, match="twice"):
        import_weights(
            tmp_path / "in",
            tmp_path / "out",
            [],
            {},
            canonical_name=lambda n: n.removeprefix("model."),
        )


def test_new_tokens_get_the_mean_of_the_old(tmp_path: Path) -> None:
    name = "language.embedding.weight"
    write(tmp_path / "in", {"wte": np.array([[1, 2], [3, 4]], np.float32)})

    import_weights(
        tmp_path / "in",
        tmp_path / "out",
        [Weight(name, ("wte",))],
        {name: (4, 2)},
        pad_vocabulary=True,
    )

    assert open_checkpoint(tmp_path / "out")[name].read().tolist() == [
        [1, 2],
        [3, 4],
        [2, 3],
        [2, 3],
    ]


def test_faults_of_a_checkpoint_are_named(tmp_path: Path) -> None:
    one = np.ones(2, np.float32)
    write(tmp_path / "half", {"q": one})
    with pytest.raises(ValueError, match="k is missing; qkv is made of q, k"):
        import_weights(
            tmp_path / "half",
            tmp_path / "out",
            [Weight("qkv", ("q", "k"), rows=(2, 2))],
            {"qkv": (4,)},
        )
    with pytest.raises(ValueError, match=r"x should be \(3,\), but q is \(2,\)"):
        import_weights(tmp_path / "half", tmp_path / "out", [Weight("x", ("q",))], {"x": (3,)})
    write(tmp_path / "int4", {"h.0.qweight": one})
    with pytest.raises(ValueError, match="quantised"):
        import_weights(tmp_path / "int4", tmp_path / "out", [], {})
    (tmp_path / "cut").write_bytes((tmp_path / "half").read_bytes()[:-1])
    with pytest.raises(ValueError, match="does not fit the file"):
        open_checkpoint(tmp_path / "cut")
    (tmp_path / "text").write_text("no checkpoint at all")
    with pytest.raises(ValueError, match="not a safetensors file"):
        open_checkpoint(tmp_path / "text")
    with pytest.raises(FileNotFoundError, match=r"no \.safetensors file"):
        open_checkpoint(tmp_path)
    assert not list(tmp_path.glob("out*"))


def test_an_index_that_lists_more_than_the_shards_hold_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "model-1.safetensors", {"a": np.ones(1, np.float32)})
    index = {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(ValueError, match=r"b should be in model-2\.safetensors"):
        open_checkpoint(tmp_path)


def test_no_nan_becomes_a_number_in_bfloat16() -> None:
    bits = np.array([0x7F800001, 0x7FC00000, 0x7FFFFFFF, 0xFF800001, 0xFFFFFFFF], np.uint32)

    there = convert_dtype(bits.view(np.float32), "F32", "BF16")

    assert np.isnan(convert_dtype(there, "BF16", "F32")).all()
    infinite = np.array([np.inf, -np.inf], np.float32)
    np.testing.assert_array_equal(
        convert_dtype(convert_dtype(infinite, "F32", "BF16"), "BF16", "F32"), infinite
    )


def test_bfloat16_rounds_to_nearest_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -2.0, np.inf, np.nan, 3e38, 1e-40], np.float32)

    there = convert_dtype(values, "F32", "BF16")
    back = convert_dtype(there, "BF16", "F32")

    expected = np.array([1.0, 1.0, 1.015625, -2.0, np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(back[:6], expected)
    np.testing.assert_array_equal(convert_dtype(back, "F32", "BF16"), there)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_saved_weights_load_again(dtype: str, tmp_path: Path) -> None:
    model = small("visualglm")
    with no_init_parameters():
        other = visualglm.MODEL(model.config)
    save_weights(model, tmp_path / "first")
    load_weights(model, tmp_path / "first", dtype)
    save_weights(model, tmp_path / "second")

    account = load_weights(other, tmp_path / "second")
    save_weights(other, tmp_path / "third")

    assert not account.unused and not account.unfilled
    assert (tmp_path / "third").read_bytes() == (tmp_path / "second").read_bytes()


def test_caches_are_no_weights(tmp_path: Path) -> None:
    model = small("qwen_vl")
    before = parameter_shapes(model)
    make_caches(model, 1, 8, model.dtype)

    save_weights(model, tmp_path / "saved")

    assert (
        open_checkpoint(tmp_path / "saved").keys()
        == before.keys()
        == parameter_shapes(model).keys()
    )


def test_the_safetensors_package_reads_what_we_write(tmp_path: Path) -> None:
    numpy_files = pytest.importorskip("safetensors.numpy")
    arrays = {
        "a.b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "empty": np.zeros((0, 4), np.float32),
    }
    write(tmp_path / "ours", arrays)

    found = numpy_files.load_file(tmp_path / "ours")

    assert found.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
    numpy_files.save_file(arrays, tmp_path / "theirs")
    assert contents(tmp_path / "theirs") == contents(tmp_path / "ours")
