from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.pipeline.order import Order

counts = st.integers(1, 300)
seeds = st.integers(0, 2**40)


def whole(order: Order, epoch: int) -> list[int]:
    return [order.index(epoch, position) for position in range(order.count)]


@settings(max_examples=30)
@given(counts, seeds, st.integers(0, 1000))
def test_every_epoch_takes_each_sample_once(count: int, seed: int, epoch: int) -> None:
    assert sorted(whole(Order(count, seed), epoch)) == list(range(count))


@given(st.integers(1, 10**12), seeds, st.data())
def test_positions_of_huge_epochs_stay_inside_and_differ(
    count: int, seed: int, data: st.DataObject
) -> None:
    positions = data.draw(st.lists(st.integers(0, count - 1), unique=True, max_size=20))

    indices = [Order(count, seed).index(0, position) for position in positions]

    assert all(0 <= index < count for index in indices)
    assert len(set(indices)) == len(positions)


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(whole(Order(50, seed), epoch)) for seed in range(10) for epoch in range(10)}

    assert len(orders) == 100


def test_late_epochs_of_one_seed_are_not_early_ones_of_another() -> None:
    epochs = [0, 1, *(2**power for power in range(5, 32, 3))]

    orders = {tuple(whole(Order(30, seed), epoch)) for seed in range(40) for epoch in epochs}

    assert len(orders) == 40 * len(epochs)


def test_without_shuffling_samples_come_as_they_are() -> None:
    assert whole(Order(7, seed=3, shuffle=False), epoch=5) == list(range(7))


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 10, 17])
def test_every_sample_is_as_likely_at_every_position(count: int) -> None:
    draws = 1000
    seen = Counter(
        (position, index)
        for seed in range(draws)
        for position, index in enumerate(whole(Order(count, seed), 0))
    )

    expected = draws / count
    chi_square = sum(
        (seen[position, index] - expected) ** 2 / expected
        for position in range(count)
        for index in range(count)
    )

    freedom = (count - 1) ** 2
    assert abs(chi_square - freedom) < 5 * (2 * freedom) ** 0.5


def test_neighbours_do_not_stay_neighbours() -> None:
    indices = whole(Order(10_000, seed=1), 0)

    together = sum(abs(a - b) == 1 for a, b in pairwise(indices))

    assert together < 12  # 2 are expected of a random order


def test_a_position_outside_the_epoch_is_refused() -> None:
    with pytest.raises(IndexError, match="position 5 of an epoch of 5"):
        Order(5).index(0, 5)
