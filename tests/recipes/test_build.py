"""What a recipe builds of its configuration and of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmdata.errors import ConfigError
from models import family_module
from models.checkpoint import open_checkpoint
from models.weights import cast_parameters, model_parameters, save_lora, save_weights
from recipes.build import add_adapter, build_model
from recipes.config import Model
from tests.models.golden import worst
from tests.models.samples import ALL_FAMILIES, batch, sample, small
from tests.models.test_lora import with_pairs

pytestmark = pytest.mark.mindspore


@ALL_FAMILIES
@pytest.mark.parametrize("split", [False, True])
def test_an_adapter_from_its_file_says_what_it_said_when_it_was_saved(
    family: str, split: bool, tmp_path: Path
) -> None:
    trained, model = small(family), small(family)
    inputs = batch(model, [[sample(model, 0)]], 64)
    del inputs["labels"]
    plain = model(**inputs).asnumpy()
    with_pairs(
        trained, replace(family_module(family).LORA, rank=2, alpha=6, split=split, dropout=0.3)
    )
    save_lora(trained, tmp_path / "adapter")

    add_adapter(model, tmp_path / "adapter")
    said = model(**inputs).asnumpy()

    assert worst(trained(**inputs), said) == 0
    assert np.abs(said - plain).max() > 1e-3


def test_a_drawn_model_is_kept_in_the_type_that_was_asked_for() -> None:
    options = Model(family="qwen_vl", vocabulary="tokenizer", changes={"queries": 4})

    wide = build_model(options, 96, seed=3)
    half = build_model(replace(options, parameters="float16"), 96, seed=3)

    for ours, rounded in zip(wide.get_parameters(), half.get_parameters(), strict=True):
        np.testing.assert_array_equal(rounded.asnumpy(), ours.asnumpy().astype(np.float16))


@pytest.mark.parametrize("name", ["dtype", "parameters"])
def test_bfloat16_is_refused_on_a_cpu_by_name(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^model\.{name} is bfloat16, .* use float16"):
        build_model(Model(family="qwen_vl", **{name: "bfloat16"}), 96)  # type: ignore[arg-type]


def test_weights_stored_in_bfloat16_are_refused_on_a_cpu_unless_they_are_cast(
    tmp_path: Path,
) -> None:
    options = Model(family="qwen_vl", vocabulary="tokenizer", changes={"queries": 4})
    model = build_model(options, 96)
    cast_parameters(model, "bfloat16")
    save_weights(model, tmp_path / "w")

    with pytest.raises(ConfigError, match=r"w holds .* model\.parameters, as stored, is bfloat16"):
        build_model(replace(options, weights=tmp_path / "w"), 96)
    cast = build_model(replace(options, weights=tmp_path / "w", parameters="float32"), 96)

    assert {str(parameter.dtype) for parameter in cast.get_parameters()} == {"Float32"}


def parts_of_llava(folder: Path) -> Model:
    """A tower's and a language model's file in a folder, and the options of their model."""
    options = Model(family="llava_next_video", vocabulary="tokenizer", weights=folder)
    drawn = build_model(replace(options, weights=None), 96, seed=5)
    for part in ("vision", "language"):
        names = [name for name in model_parameters(drawn) if name.startswith(part)]
        save_weights(drawn, folder / f"{part}.safetensors", names)
    return options


def test_a_tower_and_a_language_model_become_one_with_a_fresh_projector_that_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = replace(parts_of_llava(tmp_path), fresh=("projector", "newline"))

    one, again, other = (build_model(options, 96, seed=seed) for seed in (1, 1, 2))

    said = capsys.readouterr().err.splitlines()[0]
    # Two layers of 64 * 64 with their biases, and the vector of 64.
    assert said == f"drawn, not in {tmp_path}: projector, newline (5 parameters, 8,384 numbers)"
    stored = open_checkpoint(tmp_path)
    for name, parameter in model_parameters(one).items():
        array = parameter.asnumpy()
        if name in stored:
            np.testing.assert_array_equal(array, stored[name].read())
        elif not name.endswith("bias"):
            assert array.std() > 0.01
        np.testing.assert_array_equal(array, model_parameters(again)[name].asnumpy())
    drawn = [
        model_parameters(model)["projector.linear1.weight"].asnumpy() for model in (one, other)
    ]
    assert not np.array_equal(*drawn)
    second = model_parameters(one)["projector.linear2.weight"].asnumpy()
    assert not np.array_equal(drawn[0], second)


def test_what_is_not_filled_is_refused_unless_it_is_named_and_what_is_named_is_not_filled(
    tmp_path: Path,
) -> None:
    options = parts_of_llava(tmp_path)

    with pytest.raises(ValueError, match=r"not filled \['newline', .*model\.fresh names parts"):
        build_model(options, 96)
    with pytest.raises(ValueError, match=r"not filled \['newline'\]"):
        build_model(replace(options, fresh=("projector",)), 96)
    with pytest.raises(ValueError, match=r"holds language\..*, which model\.fresh wants drawn"):
        build_model(replace(options, fresh=("projector", "newline", "language")), 96)
    with pytest.raises(ConfigError, match=r"no part 'adapter'.*it has vision, projector, newline"):
        build_model(replace(options, fresh=("adapter",)), 96)


def test_a_model_with_weights_is_not_drawn_first(tmp_path: Path) -> None:
    options = Model(family="qwen_vl", vocabulary="tokenizer", changes={"queries": 4})
    save_weights(build_model(options, 96), tmp_path / "w")

    loaded = build_model(replace(options, weights=tmp_path / "w", parameters="float16"), 96, seed=9)

    drawn = build_model(options, 96, seed=0)
    for ours, theirs in zip(loaded.get_parameters(), drawn.get_parameters(), strict=True):
        np.testing.assert_array_equal(ours.asnumpy(), theirs.asnumpy().astype(np.float16))
        # Made without numbers, which came from the file; the table is computed.
        assert ours.init_mode is not None or ours.name == "resampler.positions"
