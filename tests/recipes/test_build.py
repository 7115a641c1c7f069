"""What a recipe builds of its configuration and of files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models import family_module
from models.weights import save_lora
from recipes.build import add_adapter
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
