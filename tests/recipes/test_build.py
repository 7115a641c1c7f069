"""What a recipe builds of its configuration and of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmdata.errors import ConfigError
from models import family_module
from models.weights import cast_parameters, save_lora, save_weights
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
