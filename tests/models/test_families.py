"""What holds for every family, whatever its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import mindspore as ms
import numpy as np
import pytest
from mindspore.nn.utils import no_init_parameters
from numpy.typing import NDArray

from models import family_module
from models.cache import drop_caches
from models.generate import Generator, Prompt, Sampling, choose, media_room
from models.model import train_only
from models.weights import parameter_shapes
from tests.models.golden import worst
from tests.models.samples import ALL_FAMILIES, batch, sample, small, smallest, with_another_picture

pytestmark = pytest.mark.mindspore

# Parameters of the published checkpoints, computed from their shapes (for CogVLM2-Video without
# inv_freq buffers).
PUBLISHED = {
    ("llava_next_video", "7b"): 7_063_431_168,
    ("qwen_vl", "9.6b"): 9_656_935_168,
    ("cogvlm2_video", "13b"): 12_507_530_496,
    ("visualglm", "6b"): 7_802_193_408,
    ("qwen2_5_vl", "3b"): 3_754_622_976,
    ("qwen2_5_vl", "7b"): 8_292_166_656,
    ("qwen3_vl", "2b"): 2_127_532_032,
    ("qwen3_vl", "4b"): 4_437_815_808,
    ("qwen3_vl", "8b"): 8_767_123_696,
}


@pytest.fixture
def graph_mode() -> Iterator[None]:
    ms.set_context(mode=ms.GRAPH_MODE)
    yield
    ms.set_context(mode=ms.PYNATIVE_MODE)


@pytest.mark.parametrize(("family", "size"), PUBLISHED)
def test_the_published_size_has_the_published_number_of_parameters(family: str, size: str) -> None:
    with no_init_parameters():
        model = family_module(family).MODEL(family_module(family).PRESETS[size])

    shapes = parameter_shapes(model)

    assert sum(int(np.prod(shape)) for shape in shapes.values()) == PUBLISHED[family, size]
    assert shapes.keys() == {
        weight.name for weight in family_module(family).weight_map(model.config)
    }
    if hasattr(family_module(family), "mindformers_map"):
        assert shapes.keys() == {
            weight.name for weight in family_module(family).mindformers_map(model.config)
        }


def without_labels(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: tensor for name, tensor in inputs.items() if name != "labels"}


@ALL_FAMILIES
def test_running_a_model_leaves_the_names_of_its_parameters(family: str) -> None:
    model = small(family)

    Generator(model, 1, 80).generate(prompts(model, [0], 64), 2)

    assert all(path == parameter.name for path, parameter in model.parameters_and_names())


@ALL_FAMILIES
def test_packed_samples_do_not_see_each_other(family: str) -> None:
    model = small(family)
    first, second, third = (sample(model, seed) for seed in range(3))
    length = len(first["input_ids"]) + len(second["input_ids"]) + 3

    packed = model(**without_labels(batch(model, [[first, second], [third]], length))).asnumpy()

    begin = len(first["input_ids"])
    for one, found in ((first, packed[0]), (second, packed[0, begin:]), (third, packed[1])):
        expected = model(**without_labels(batch(model, [[one]], len(one["input_ids"])))).asnumpy()[
            0
        ]
        assert worst(found[: len(expected)], expected) < 1e-4


@ALL_FAMILIES
def test_the_loss_of_a_packed_row_is_the_mean_over_its_targets(family: str) -> None:
    model = small(family)
    samples = [sample(model, seed, answer) for seed, answer in ((0, 3), (1, 8))]
    for one in samples:
        one["labels"][0] = 7  # a target that nothing comes before, as Qwen's data has it
    length = sum(len(one["input_ids"]) for one in samples)

    packed = float(model(**batch(model, [samples], length)))

    losses = [float(model(**batch(model, [[one]], len(one["input_ids"])))) for one in samples]
    assert packed == pytest.approx((3 * losses[0] + 8 * losses[1]) / 11, rel=1e-5)


@ALL_FAMILIES
def test_a_batch_without_targets_has_loss_zero(family: str) -> None:
    model = small(family)
    one = sample(model, 0)
    one["labels"][:] = -100

    assert float(model(**batch(model, [[one]], len(one["input_ids"])))) == 0


@ALL_FAMILIES
def test_a_picture_that_no_position_names_changes_nothing(family: str) -> None:
    model = small(family)
    inputs = batch(model, [[sample(model, 0)]], 80)
    more = with_another_picture(model, inputs)

    assert worst(model(**without_labels(more)), model(**without_labels(inputs)).asnumpy()) < 1e-4


@pytest.mark.slow
@ALL_FAMILIES
def test_graph_mode_and_pynative_agree_on_loss_and_gradients(family: str, graph_mode: None) -> None:
    model = smallest(family)
    model.set_train(True)
    inputs = batch(model, [[sample(model, 0), sample(model, 1)], [sample(model, 2)]], 100)
    order = (
        "input_ids",
        "labels",
        "position_ids",
        "segment_ids",
        "pixel_values",
        "media_index",
        "media_layout",
    )
    arrays = [inputs[name] for name in order if name in inputs]

    loss, gradients = ms.value_and_grad(model, None, model.trainable_params())(*arrays)

    ms.set_context(mode=ms.PYNATIVE_MODE)
    # Made anew: what has been compiled runs as a graph in whatever mode it is called.
    step = ms.value_and_grad(model, None, model.trainable_params())
    expected_loss, expected = step(*arrays)
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    for parameter, ours, theirs in zip(model.trainable_params(), gradients, expected, strict=True):
        assert worst(ours, theirs.asnumpy()) < 1e-3, parameter.name


def prompts(model: Any, seeds: list[int], width: int) -> Prompt:
    inputs = batch(model, [[sample(model, seed, answer=0)] for seed in seeds], width)
    arrays = {name: tensor.asnumpy() for name, tensor in inputs.items()}
    lengths = arrays.pop("segment_ids").sum(1)
    del arrays["labels"]
    return Prompt(lengths=lengths, **arrays)


@pytest.mark.slow
@ALL_FAMILIES
def test_a_batch_of_prompts_is_answered_as_each_alone(family: str) -> None:
    model = small(family)
    together = Generator(model, 3, 128).generate(prompts(model, [0, 1, 2], 64), 6)
    alone = Generator(model, 1, 80, bucket=1)

    assert together == [alone.generate(prompts(model, [seed], 64), 6)[0] for seed in (0, 1, 2)]


def test_an_answer_is_the_same_whatever_room_the_cache_has_and_however_it_is_read() -> None:
    model = small("qwen_vl")
    prompt = prompts(model, [0, 1, 2], 20)
    said = []
    for length, bucket in ((80, 80), (80, 8), (500, 16)):
        generator = Generator(model, 3, length, bucket)
        said.append(generator.generate(prompt, 12))
        if bucket < length:
            assert len(generator.reaches) > 1 and max(generator.reaches) < length

    assert said[0] == said[1] == said[2]


def test_so_many_pictures_are_computed_as_few_more_and_in_few_sizes() -> None:
    sizes = [media_room(count) for count in range(1, 2049)]

    assert all(count <= size <= count * 9 / 8 for count, size in enumerate(sizes, 1))
    assert sizes[:16] == list(range(1, 17))
    assert len({size for size in sizes if 1024 < size <= 2048}) == 8
    assert all(media_room(size) == size for size in sizes)


@ALL_FAMILIES
def test_the_cache_gives_what_reading_everything_again_gives(family: str) -> None:
    model = small(family)
    answer = Generator(model, 1, 80).generate(prompts(model, [4], 64), 6)[0]
    drop_caches(model)
    one = sample(model, 4, answer=6)
    prompt = len(one["input_ids"]) - 6
    one["input_ids"][prompt:] = answer

    logits = model(**without_labels(batch(model, [[one]], len(one["input_ids"])))).asnumpy()[0]

    assert logits[prompt - 1 : -1].argmax(-1).tolist() == answer


@pytest.mark.slow
@ALL_FAMILIES
def test_generation_in_graph_mode_gives_the_same_answer(family: str, graph_mode: None) -> None:
    model = small(family)

    answers = Generator(model, 2, 128).generate(prompts(model, [0, 1], 64), 5)

    ms.set_context(mode=ms.PYNATIVE_MODE)
    assert answers == Generator(model, 2, 128).generate(prompts(model, [0, 1], 64), 5)


def test_an_answer_ends_before_its_stop_id() -> None:
    model = small("llava_next_video")
    generator = Generator(model, 1, 80)
    answer = generator.generate(prompts(model, [0], 64), 6)[0]

    stopped = generator.generate(prompts(model, [0], 64), 6, stop_ids={answer[3]})[0]

    assert stopped == answer[: answer.index(answer[3])]


def test_a_prompt_too_long_for_the_cache_is_refused() -> None:
    model = small("llava_next_video")
    generator = Generator(model, 1, 40)

    with pytest.raises(ValueError, match="the cache holds 40"):
        generator.generate(prompts(model, [0], 64), 30)


def test_sampling_follows_its_seed_and_its_bounds() -> None:
    logits = np.log(np.array([[0.4, 0.3, 0.2, 0.1]], np.float32)).repeat(500, 0)

    def drawn(seed: int, **options: Any) -> NDArray[Any]:
        return choose(logits, Sampling(temperature=1.0, **options), np.random.default_rng(seed))

    assert drawn(0).tolist() == drawn(0).tolist() != drawn(1).tolist()
    assert set(drawn(0)) == {0, 1, 2, 3}
    assert set(drawn(0, top_k=2)) == {0, 1}
    assert set(drawn(0, top_p=0.6)) == {0, 1}
    assert np.bincount(drawn(0))[0] / 500 == pytest.approx(0.4, abs=0.08)
    assert set(choose(logits, Sampling(), np.random.default_rng(0))) == {0}


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_a_temperature_above_one_draws_more_evenly_and_one_below_less(temperature: float) -> None:
    shares = np.array([0.4, 0.3, 0.2, 0.1]) ** (1 / temperature)
    logits = np.log(np.array([[0.4, 0.3, 0.2, 0.1]], np.float32)).repeat(4000, 0)

    found = choose(logits, Sampling(temperature), np.random.default_rng(0))

    np.testing.assert_allclose(np.bincount(found) / 4000, shares / shares.sum(), atol=0.03)


def test_top_p_counts_among_those_that_top_k_left() -> None:
    logits = np.log(np.array([[0.1, 0.3, 0.2, 0.4]], np.float32)).repeat(200, 0)

    def drawn(**options: Any) -> set[int]:
        return set(choose(logits, Sampling(temperature=1.0, **options), np.random.default_rng(0)))

    assert drawn(top_k=2, top_p=0.5) == {3}  # of these two it has 4 / 7
    assert drawn(top_p=0.5) == {3, 1}
    assert drawn(top_k=3, top_p=0.95) == {3, 1, 2}
    assert drawn(top_p=0.0) == {3}


@ALL_FAMILIES
def test_half_precision_stays_near_full_precision(family: str) -> None:
    full, half = small(family), small(family, dtype="float16")
    inputs = batch(full, [[sample(full, 0)]], 64)

    assert float(half(**inputs)) == pytest.approx(float(full(**inputs)), rel=0.02)


@ALL_FAMILIES
def test_only_the_named_parts_train(family: str) -> None:
    model = small(family)
    parts = family_module(family).PARTS

    chosen = train_only(model, parts["language"])

    assert {p.name for p in model.trainable_params()} == set(chosen)
    assert all(name.startswith("language.") for name in chosen)
    with pytest.raises(ValueError, match="no parameter begins with langauge"):
        train_only(model, ["langauge."])


def test_a_repetition_penalty_makes_what_was_said_less_likely_whatever_its_sign() -> None:
    logits = np.array([[2.0, 1.5, -1.0, -1.5], [2.0, -3.0, -1.0, -1.5]])
    seen = np.array([[True, False, True, False], [True, True, True, True]])
    rng = np.random.default_rng(0)

    def chosen(penalty: float) -> list[int]:
        return list(choose(logits, Sampling(repetition_penalty=penalty), rng, seen))

    assert chosen(1.0) == [0, 0]
    assert chosen(1.3) == [0, 0]  # 2 / 1.3 is more than 1.5
    assert chosen(1.4) == [1, 0]
    only_negative = np.array([[-1.0, -1.5]])
    found = choose(only_negative, Sampling(repetition_penalty=1.6), rng, seen[:1, :2])
    assert found.tolist() == [1]  # -1.6 beside -1.5


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown dtype 'fp16'"):
        family_module("qwen_vl").MODEL(
            replace(family_module("qwen_vl").PRESETS["tiny"], dtype="fp16")
        )
