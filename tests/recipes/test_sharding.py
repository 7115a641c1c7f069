"""What is divided among the processes of a layout is there once in all, and comes back whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.parallel import Cut, Layout
from models.sharding import DataGroup
from recipes.buckets import fill_buckets
from recipes.sharding import count_once, join_shares, slice_shares

pytestmark = pytest.mark.mindspore

CUTS = [
    None,
    Cut(0, (8,), 4),
    Cut(1, (12,), 4),
    Cut(0, (8, 4, 4), 4),
    Cut(0, (8, 6, 6), 4, (1, 2, 2)),  # two key heads for four processes
    Cut(0, (13,), 4, padded=True),
]


@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from("ab")), min_size=1), st.integers(1, 20)
)
def test_every_parameter_is_in_one_bucket_of_its_kind_that_is_not_too_large(
    drawn: list[tuple[int, str]], largest: int
) -> None:
    sizes = {2 * i: size for i, (size, _) in enumerate(drawn)}
    kinds = {2 * i: kind for i, (_, kind) in enumerate(drawn)}

    buckets = fill_buckets(sizes, kinds, largest)

    assert sorted(i for bucket in buckets for i in bucket.indices) == sorted(sizes)
    for bucket in buckets:
        assert len({kinds[i] for i in bucket.indices}) == 1
        assert bucket.sizes == tuple(sizes[i] for i in bucket.indices)
        assert bucket.numbers <= largest or len(bucket.indices) == 1


@pytest.mark.parametrize("numbers", [1, 5, 6, 7])
def test_the_slices_of_all_processes_are_the_array_and_zeros(numbers: int) -> None:
    array = np.arange(1, numbers + 1)

    slices = [DataGroup(3, rank, "").take(array) for rank in range(3)]

    assert len({len(piece) for piece in slices}) == 1
    joined = np.concatenate(slices)
    np.testing.assert_array_equal(joined[:numbers], array)
    assert not joined[numbers:].any()


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("data", [1, 2, 3])
def test_every_number_counts_once_in_a_norm_however_many_processes_hold_it(
    cut: Cut | None, data: int
) -> None:
    model = 4
    shape = (5, 3) if cut is None else (sum(cut.parts), 3) if cut.axis == 0 else (3, 12)
    wholes = [np.random.default_rng(seed).random(shape) for seed in (0, 1)]

    total = 0.0
    for rank in range(data * model):
        layout = Layout(data, model, rank)
        held = [w if cut is None else cut.take(w, layout.model_rank) for w in wholes]
        # Two parameters in one bucket, of which this process has its slice.
        shares = join_shares([count_once(each.shape, cut, layout) for each in held])
        flat = np.concatenate([each.reshape(-1) for each in held])
        length = math.ceil(len(flat) / data)
        first = layout.data_rank * length
        piece = flat[first : first + length]
        for a, b, share in slice_shares(shares, first, first + length):
            total += share * (piece[a:b] ** 2).sum()

    assert total == pytest.approx(sum((whole**2).sum() for whole in wholes))
