"""Torch's bicubic of bytes, in numpy: the same bytes where torch is there to say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.image.torchlike import resize_like_torch
from mmdata.image.transforms import resize_bicubic

side = st.integers(1, 70)


@settings(max_examples=40)
@given(size=st.tuples(side, side), wanted=st.tuples(side, side), seed=st.integers(0, 9))
def test_pixels_are_those_of_torch(
    size: tuple[int, int], wanted: tuple[int, int], seed: int
) -> None:
    torch = pytest.importorskip("torch")
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)

    found = resize_like_torch(pixels, wanted)

    planes = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(planes, wanted, mode="bicubic", antialias=True)
    assert np.array_equal(found, resized[0].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("wanted", [(224, 308), (308, 420), (28, 28)])
def test_pixels_are_two_levels_from_pillows_at_most(wanted: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)

    found, other = resize_like_torch(pixels, wanted), resize_bicubic(pixels, wanted)

    assert np.abs(found.astype(int) - other).max() <= 2


def test_a_picture_of_the_size_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)

    assert np.array_equal(resize_like_torch(pixels, (5, 7)), pixels)
