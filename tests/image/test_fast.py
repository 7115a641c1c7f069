"""FFmpeg's resizing beside Pillow's."""

from __future__ import annotations

import numpy as np
import pytest

from mmdata.image import anyres


@pytest.mark.parametrize("size", [(480, 640), (1080, 1920), (900, 101), (7, 700), (1, 1)])
def test_fast_views_of_a_smooth_picture_are_nearly_the_exact_ones(size: tuple[int, int]) -> None:
    down, across = np.linspace(0, 6, size[0])[:, None, None], np.linspace(0, 9, size[1])[:, None]
    pixels = (127 + 120 * np.sin(down + across + np.arange(3))).astype(np.uint8)

    exact, fast = anyres.views(pixels), anyres.views(pixels, fast=True)

    difference = np.abs(exact.astype(int) - fast)
    assert exact.shape == fast.shape
    assert difference.mean() < 0.6
    assert difference.max() < 30  # where a border of the picture is steep


def test_views_are_written_to_where_they_are_wanted() -> None:
    pixels = np.full((480, 640, 3), 9, np.uint8)
    room = np.full((7, 336, 336, 3), 7, np.uint8)

    views = anyres.views(pixels, out=room)

    assert views.base is room
    np.testing.assert_array_equal(room[:5], anyres.views(pixels))
    assert (room[5:] == 7).all()
