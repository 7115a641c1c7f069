"""Pictures are resized by the same arithmetic whichever Pillow is installed."""

from __future__ import annotations

import numpy as np
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mmdata.image.transforms import resize_bicubic

SIDE = st.integers(1, 60)


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * 1000 + width).integers(
        0, 256, (height, width, 3), np.uint8
    )


@settings(max_examples=200)
@given(SIDE, SIDE, SIDE, SIDE)
def test_height_goes_first_where_more_than_twice_as_much_of_it_is_lost(
    height: int, width: int, new_height: int, new_width: int
) -> None:
    pixels = noise(height, width)
    first = (
        (width, new_height)
        if 0 < height - new_height > 2 * (width - new_width)
        else (new_width, height)
    )

    one = Image.fromarray(pixels).resize(first, Image.Resampling.BICUBIC)
    both = one.resize((new_width, new_height), Image.Resampling.BICUBIC)

    np.testing.assert_array_equal(resize_bicubic(pixels, (new_height, new_width)), np.asarray(both))


@pytest.mark.skipif(
    int(PIL.__version__.partition(".")[0]) < 13, reason="Pillow before 13: the law above holds it"
)
@settings(max_examples=200)
@given(SIDE, SIDE, SIDE, SIDE)
def test_it_is_what_pillow_13_does(
    height: int, width: int, new_height: int, new_width: int
) -> None:
    pixels = noise(height, width)

    theirs = Image.fromarray(pixels).resize((new_width, new_height), Image.Resampling.BICUBIC)

    np.testing.assert_array_equal(
        resize_bicubic(pixels, (new_height, new_width)), np.asarray(theirs)
    )
