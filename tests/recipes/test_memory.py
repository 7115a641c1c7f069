"""What a device needs, reckoned from shapes."""

from __future__ import annotations

import pytest

from recipes.memory import (
    RUNTIME,
    Choice,
    Held,
    Memory,
    Shard,
    Stack,
    Step,
    find_fitting,
    gathered_bytes,
    prediction_memory,
    training_memory,
)

H, LAYERS, VOCABULARY, TOKENS = 64, 3, 100, 10


def gpt_layer(n: int, trained: bool, dtype: str) -> dict[str, Held]:
    """A layer as Korthikanti et al. reckon with: a hidden layer of four times the width."""
    shapes = {
        "attention.qkv": (3 * H, H),
        "attention.out": (H, H),
        "mlp.up": (4 * H, H),
        "mlp.down": (H, 4 * H),
        "norm1": (H,),
        "norm2": (H,),
    }
    return {
        f"language.layers.{n}.{name}.weight": Held(shape, dtype, trained)
        for name, shape in shapes.items()
    }


def gpt(trained: bool = True, dtype: str = "float16") -> dict[str, Held]:
    parameters = {
        name: held for n in range(LAYERS) for name, held in gpt_layer(n, trained, dtype).items()
    }
    for name in ("embedding", "head"):
        parameters[f"language.{name}.weight"] = Held((VOCABULARY, H), dtype, trained)
    return parameters


NUMBERS = sum(held.numbers for held in gpt().values())


def step(fused: bool = True, accumulated: bool = False) -> Step:
    stack = Stack(TOKENS, TOKENS, 4)
    return Step(stack, stack, "float16", fused, accumulated)


def train(
    parameters: dict[str, Held] | None = None,
    data: int = 1,
    shard: Shard = "none",
    recompute: bool = False,
    **options: bool,
) -> Memory:
    held = gpt() if parameters is None else parameters
    return training_memory(held, step(**options), data=data, shard=shard, recompute=recompute)


def test_a_gpt_layer_keeps_forty_bytes_a_token_and_unit_of_width() -> None:
    assert train().activations == 40 * H * TOKENS * LAYERS


def test_recomputed_layers_keep_their_input_and_one_all_of_its_work() -> None:
    assert train(recompute=True).activations == (2 * LAYERS + 40) * H * TOKENS


def test_without_a_fused_operator_attention_keeps_its_scores() -> None:
    more = train(fused=False).activations - train().activations

    assert more == LAYERS * TOKENS * TOKENS * 4 * (2 + 2 + 4)


def test_float32_alone_is_sixteen_bytes_a_parameter_and_a_copy_of_the_gradients() -> None:
    memory = train(gpt(dtype="float32"))

    assert (memory.weights, memory.gradients, memory.optimizer) == (
        4 * NUMBERS,
        (4 + 4) * NUMBERS,
        (4 + 4) * NUMBERS,
    )


def test_half_precision_has_masters() -> None:
    memory = train()

    assert (memory.weights, memory.gradients, memory.optimizer) == (
        2 * NUMBERS,
        (2 + 4) * NUMBERS,
        (4 + 4 + 4) * NUMBERS,
    )


def test_a_spread_optimizer_costs_its_share() -> None:
    memory = train(data=4, shard="optimizer")

    assert memory.weights == train().weights
    assert memory.optimizer == train().optimizer // 4
    assert memory.gradients == 2 * NUMBERS + NUMBERS


def test_spread_weights_cost_their_share_and_those_in_use() -> None:
    norms = LAYERS * 2 * H
    memory = train(data=4, shard="weights", recompute=True)

    assert memory.weights == (NUMBERS - norms) + 2 * norms  # float32 slices, a quarter each
    layer = 12 * H * H
    largest = 4 * H * H
    assert memory.gathered == 2 * (2 * VOCABULARY * H + layer) + 4 * largest
    assert gathered_bytes(gpt(), recompute=False) == memory.gathered + 2 * (LAYERS - 1) * layer


def test_on_one_device_nothing_is_spread() -> None:
    assert train(shard="weights") == train(shard="optimizer") == train()


def test_accumulation_keeps_the_sums() -> None:
    more = train(accumulated=True).gradients - train().gradients

    assert more == 4 * NUMBERS


@pytest.mark.parametrize("shard", ["optimizer", "weights"])
def test_more_devices_never_need_more_each(shard: Shard) -> None:
    needs = [train(data=data, shard=shard, recompute=True).total for data in (2, 4, 8, 16)]

    assert needs == sorted(needs, reverse=True)


def test_a_part_in_front_of_all_that_trains_works_on_one_layer_at_a_time() -> None:
    tower = {
        name.replace("language", "vision"): Held(held.shape, held.dtype, trained=False)
        for name, held in gpt().items()
        if ".layers." in name
    }

    frozen = train(gpt() | tower).activations - train().activations
    thawed = {name: Held(held.shape, held.dtype, trained=True) for name, held in tower.items()}

    assert frozen == 40 * H * TOKENS
    assert train(gpt() | thawed).activations == 2 * train().activations


def test_lora_pairs_train_in_float32_beside_frozen_weights() -> None:
    pair = {"language.layers.0.mlp.up.lora_a": Held((8, H), "float32", trained=True)}

    memory = train(gpt(trained=False) | pair)

    assert memory.weights == 2 * NUMBERS + 4 * 8 * H
    assert (memory.gradients, memory.optimizer) == (8 * 8 * H, 8 * 8 * H)
    # The layers behind the pair keep what they need, though they do not train.
    assert memory.activations > LAYERS * 40 * H * TOKENS


def test_a_prediction_keeps_weights_keys_and_values() -> None:
    memory = prediction_memory(gpt(), step(), layers=LAYERS, length=TOKENS)

    assert memory.weights == 2 * NUMBERS
    assert memory.cache == 2 * LAYERS * TOKENS * 2 * H
    assert memory.activations == 40 * H * TOKENS
    assert memory.gradients == memory.optimizer == 0


def test_a_memory_is_said_by_its_parts() -> None:
    memory = Memory(weights=12 * 10**9, cache=5 * 10**8)

    assert memory.total == 125 * 10**8 + RUNTIME
    assert str(memory) == "14.5 GB (weights 12.0, cache 0.5, runtime 2.0)"


def test_what_fits_is_ordered_by_the_trouble_that_it_makes() -> None:
    small, large = Memory(10), Memory(10**12)
    choices = [
        Choice(8, 1, "weights", True, small),
        Choice(4, 2, "optimizer", False, small),
        Choice(8, 1, "none", False, large),
        Choice(8, 1, "optimizer", True, small),
    ]

    fitting = find_fitting(choices, 64 * 10**9)

    assert [str(choice) for choice in fitting] == [
        "parallel: {data: 8, model: 1, shard: optimizer, recompute: true}",
        "parallel: {data: 8, model: 1, shard: weights, recompute: true}",
        "parallel: {data: 4, model: 2, shard: optimizer}",
    ]
