"""Models that several processes hold together: what each holds, and that together they are one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore.nn.utils import no_init_parameters

from models import FAMILIES, family_module
from models.lora import LoraConfig, add_lora, lora_metadata
from models.parallel import Cut, Layout, ModelGroup, cuts_of
from models.weights import load_weights, model_parameters, save_weights, whole_shapes
from tests import msrun
from tests.models.parallel_job import TRAINED
from tests.models.samples import ALL_FAMILIES, batch, sample, small

pytestmark = pytest.mark.mindspore
HALF = 0.02  # how near float16 comes, whose numbers are 1/1,000 apart


def run_job(folder: Path, data: int, model: int, *names: str) -> list[dict[str, Any]]:
    """The report of each process of `parallel_job` under msrun."""
    count = data * model
    job = ["-m", "tests.models.parallel_job", str(folder), str(data), str(model), *names]
    msrun.run(count, job, folder / "log")
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(count)]


def assert_one(reports: list[dict[str, Any]], layout: Layout) -> None:
    """Each case of the job came out as one process does it, on every process."""
    for name in reports[0]:
        cases = [report[name] for report in reports]
        for case in cases:
            whole, piece = case["parameters"]
            assert piece < whole, name
            # The data of a row are its own, and so are gradients before they are added up.
            near = HALF if name == "half" else 1e-5
            assert case["gradient_error"] < near, name
            for kind in ("losses", "norms") if name in TRAINED else ():
                ours, theirs = np.transpose(case[kind])
                assert ours == pytest.approx(theirs, rel=near), (name, kind)
            assert case.get("weight_error", 0.0) < near, name
            for kind in ("greedy", "sampled") if name in FAMILIES else ():
                assert case[kind][0] == case[kind][1], (name, kind)
        for row in range(layout.data):
            shared = [case["shared"] for case in cases[row * layout.model :][: layout.model]]
            assert len(set(shared)) == 1, name


@pytest.mark.slow
def test_two_processes_with_half_a_model_each_train_and_answer_as_one(tmp_path: Path) -> None:
    assert_one(run_job(tmp_path, 1, 2), Layout(1, 2))


def test_the_processes_of_a_row_are_neighbours() -> None:
    layouts = [Layout(2, 3, rank) for rank in range(6)]

    assert [(one.data_rank, one.model_rank) for one in layouts] == [
        *((0, 0), (0, 1), (0, 2)),
        *((1, 0), (1, 1), (1, 2)),
    ]
    assert [one.model_ranks for one in layouts] == [[0, 1, 2]] * 3 + [[3, 4, 5]] * 3
    assert [one.data_ranks for one in layouts] == [[0, 3], [1, 4], [2, 5]] * 2


@pytest.mark.parametrize(
    ("values", "said"),
    [((0, 2, 0), "both must be at least 1"), ((2, 2, 4), "rank 4 is outside of data 2 x model 2")],
)
def test_a_layout_that_cannot_be_is_refused(values: tuple[int, int, int], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Layout(*values)


CUTS = [
    Cut(0, (8,), 4),
    Cut(1, (12,), 4),
    Cut(0, (8, 4, 4), 4),
    Cut(0, (8, 6, 6), 4, (1, 2, 2)),  # two key heads for four processes
    Cut(0, (13,), 4, padded=True),
    Cut(0, (5,), 4, padded=True),  # nothing but padding on the last
]


@pytest.mark.parametrize("cut", CUTS)
def test_the_pieces_of_a_parameter_make_it_whole_again(cut: Cut) -> None:
    shape = (sum(cut.parts), 3) if cut.axis == 0 else (3, sum(cut.parts))
    whole = np.arange(1.0, 1 + np.prod(shape)).reshape(shape)

    pieces = [cut.take(whole, rank) for rank in range(cut.size)]

    assert {piece.shape for piece in pieces} == {cut.local_shape(shape)}
    assert cut.whole_shape(pieces[0].shape) == shape or cut.padded
    np.testing.assert_array_equal(cut.join(pieces), whole)


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="6 rows cannot be divided among 4 processes"):
        Cut(0, (8, 6), 4)


def pieces_of(make: Callable[[], Any], size: int) -> list[Any]:
    """The model of each process of a group, none of which speaks to the others."""
    models = [make() for _ in range(size)]
    for rank, model in enumerate(models):
        model.divide(ModelGroup(size, rank))
    return models


@ALL_FAMILIES
def test_the_shares_of_a_model_are_all_of_it_and_nothing_twice(family: str) -> None:
    whole = small(family)
    one, two = pieces_of(lambda: small(family), 2)
    cuts = cuts_of(one)

    for name, parameter in model_parameters(whole).items():
        parts = [model_parameters(model)[name].asnumpy() for model in (one, two)]
        if name in cuts:
            np.testing.assert_array_equal(cuts[name].join(parts), parameter.asnumpy(), name)
        else:
            np.testing.assert_array_equal(parts[0], parameter.asnumpy(), name)
            np.testing.assert_array_equal(parts[1], parameter.asnumpy(), name)
    halves = {name for name in whole_shapes(whole) if name.startswith("language.")} - cuts.keys()
    # Of the decoder, norms alone are whole, and biases of what is summed.
    assert all(
        ".norm" in name or name.endswith(("_norm.weight", "out.bias", "down.bias"))
        for name in halves
    )


@ALL_FAMILIES
def test_a_process_reads_its_pieces_of_a_whole_checkpoint(family: str, tmp_path: Path) -> None:
    save_weights(small(family), tmp_path / "whole.safetensors")
    drawn = pieces_of(lambda: small(family), 2)[1]
    config = small(family).config

    with no_init_parameters():
        model = family_module(family).MODEL(config)
        model.divide(ModelGroup(2, 1))
    account = load_weights(model, tmp_path / "whole.safetensors")

    assert not account.unfilled
    assert not account.unused
    for name, parameter in model_parameters(model).items():
        np.testing.assert_array_equal(
            parameter.asnumpy(), model_parameters(drawn)[name].asnumpy(), name
        )


@ALL_FAMILIES
def test_a_layout_that_does_not_divide_the_heads_is_refused(family: str) -> None:
    with pytest.raises(ValueError, match="4 attention heads cannot be divided among 3 processes"):
        small(family).divide(ModelGroup(3))


def test_key_heads_that_can_neither_be_divided_nor_repeated_are_refused() -> None:
    config = family_module("qwen3_vl").PRESETS["tiny"].language
    language = replace(config, heads=12, num_kv_heads=4, vocabulary=96)

    with pytest.raises(ValueError, match="4 key heads can neither be divided among 6 processes"):
        small("qwen3_vl", language=language).divide(ModelGroup(6))


def test_the_file_of_divided_pairs_tells_of_whole_layers() -> None:
    told = []
    for divide in (False, True):
        model = small("cogvlm2_video")
        if divide:
            model.divide(ModelGroup(2, 1))
        add_lora(model, LoraConfig(2, 4.0, r"language\.layers\..*", split=True))
        told.append((lora_metadata(model), whole_shapes(model)))

    assert told[0] == told[1]


def test_a_model_of_one_process_and_its_shape_alone_need_no_others() -> None:
    model = pieces_of(lambda: small("qwen2_5_vl"), 2)[0]
    one = sample(model, 0)

    loss = model(**batch(model, [[one]], len(one["input_ids"])))

    assert loss.shape == ()
    assert loss.dtype == ms.float32
