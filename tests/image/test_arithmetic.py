"""How pictures are resized, cropped, squared and tiled,
against the arithmetic of the originals written out plainly.
"""

from __future__ import annotations

import io
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from mmdata.image import anyres, normalize, resizers
from mmdata.image.transforms import (
    CLIP_MEAN,
    CLIP_STD,
    center_crop,
    resize_bilinear_without_antialias,
)
from mmdata.pipeline.encode import decode_views
from mmdata.schema import Media
from mmdata.templates import PixelPlan
from mmdata.templates.llava_next_video import num_image_tokens

SIDE = 224
sides = st.integers(1, 60)
few = settings(max_examples=25)


def ramp(height: int, width: int) -> NDArray[np.uint8]:
    """A picture whose every pixel tells its place, as long as no side has more than 512 pixels."""
    down, across = np.mgrid[:height, :width]
    levels = [down % 256, across % 256, 16 * (down // 256) + 128 * (across // 256)]
    return np.stack([level.astype(np.uint8) for level in levels], axis=2)


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def without_black(height: int, width: int) -> NDArray[np.uint8]:
    return np.bitwise_or(noise(height, width), np.uint8(1))


def bicubic(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Pillow's, height first where more than twice as much of it is lost,
    as Pillow 13 does by itself.
    """
    image = Image.fromarray(picture)
    if 0 < image.height - height > 2 * (image.width - width):
        image = image.resize((image.width, height), Image.Resampling.BICUBIC)
    return np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))


def pixels_of(prepared: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return (height, width, 3) uint8 from what :func:`normalize` made of it."""
    levels = (prepared.transpose(1, 2, 0) * np.array(CLIP_STD) + np.array(CLIP_MEAN)) * 255
    assert np.abs(levels - np.rint(levels)).max() < 1e-3
    rounded: NDArray[np.uint8] = np.rint(levels).astype(np.uint8)
    return rounded


# --- where the centre is
# ---------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("upright", "step"), [(False, 1), (True, 5)])
def test_a_bilinear_crop_is_where_torchvision_has_it_for_every_width(
    upright: bool, step: int
) -> None:
    """The offset is ``int(round((width - side) / 2.0))``,
    and Python rounds a half to the even number: 0.5 to 0.
    """
    resize = resizers.get("crop_bilinear")
    for width in range(SIDE + 1, 461, step):
        picture = ramp(SIDE, width)
        # A pixel less for some widths: the floats of the original.
        columns = math.floor(width / SIDE * SIDE)
        left = round((columns - SIDE) / 2)

        cropped = (
            resize(picture.transpose(1, 0, 2), SIDE).transpose(1, 0, 2)
            if upright
            else resize(picture, SIDE)
        )

        whole = picture
        if columns < width:
            whole = np.rint(
                resize_bilinear_without_antialias(picture[None], (SIDE, columns))[0]
            ).astype(np.uint8)
        np.testing.assert_array_equal(cropped, whole[:, left : left + SIDE], err_msg=str(width))


def test_a_half_goes_to_the_even_pixel() -> None:
    lefts = {
        width: int(
            pixels_of(normalize(resizers.resize_frames(ramp(16, width)[None], 16))[0])[0, 0, 1]
        )
        for width in (17, 19, 21, 23, 18)
    }

    assert lefts == {17: 0, 19: 2, 21: 2, 23: 4, 18: 1}


@pytest.mark.parametrize(("upright", "step"), [(False, 1), (True, 5)])
def test_a_bicubic_crop_has_the_larger_half_of_an_odd_margin_after_it(
    upright: bool, step: int
) -> None:
    resize = resizers.get("crop")
    for width in range(SIDE + 1, 461, step):
        picture = ramp(SIDE, width)
        left = (width - SIDE) // 2

        cropped = (
            resize(picture.transpose(1, 0, 2), SIDE).transpose(1, 0, 2)
            if upright
            else resize(picture, SIDE)
        )

        np.testing.assert_array_equal(cropped, picture[:, left : left + SIDE], err_msg=str(width))


@few
@given(height=sides, width=sides, side=sides)
def test_what_is_smaller_than_its_crop_has_a_black_border(
    height: int, width: int, side: int
) -> None:
    picture = without_black(height, width)

    cropped = center_crop(picture, side)

    assert cropped.shape == (side, side, 3)
    rows, columns = cropped.any(axis=(1, 2)), cropped.any(axis=(0, 2))
    assert (rows.sum(), columns.sum()) == (min(height, side), min(width, side))
    assert int(rows.argmax()) == max(0, math.ceil((side - height) / 2))
    assert int(columns.argmax()) == max(0, math.ceil((side - width) / 2))


@few
@given(height=st.integers(30, 60), width=st.integers(30, 60), side=st.integers(4, 40))
def test_what_a_sample_shows_of_a_picture_is_what_its_resizer_gives(
    height: int, width: int, side: int
) -> None:
    picture, file = noise(height, width), io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    medium = Media("image", bytes=file.getvalue())

    for name, resize in (
        ("squeeze", resizers.squeeze),
        ("crop", resizers.crop),
        ("pad", resizers.pad),
    ):
        [shown] = decode_views(medium, PixelPlan(0, name, side))
        np.testing.assert_array_equal(shown, resizers.get(name)(picture, side))
        np.testing.assert_array_equal(normalize(shown), normalize(resize(picture, side)))


@few
@given(height=sides, width=sides)
def test_padding_squares_a_picture_in_the_mean_colour_with_an_odd_pixel_after_it(
    height: int, width: int
) -> None:
    side = max(height, width)
    picture = noise(height, width)
    top, left = (side - height) // 2, (side - width) // 2

    squared = pixels_of(normalize(resizers.pad(picture, side)))

    inside = np.zeros((side, side), bool)
    inside[top : top + height, left : left + width] = True
    np.testing.assert_array_equal(squared[inside].reshape(picture.shape), picture)
    assert (squared[~inside] == (122, 116, 104)).all()  # int(mean * 255)


# --- resizing
# --------------------------------------------------------------------------------------------------


@few
@given(height=sides, width=sides, side=sides)
def test_the_shorter_side_becomes_the_side_and_the_longer_one_is_cut_to_a_whole_number(
    height: int, width: int, side: int
) -> None:
    picture = noise(height, width)
    size = (
        (side, int(side * width / height))
        if height <= width
        else (int(side * height / width), side)
    )

    resized = bicubic(picture, *size)

    np.testing.assert_array_equal(resizers.crop(picture, side), center_crop(resized, side))


@few
@given(height=sides, width=sides, side=sides)
def test_a_picture_is_squeezed_by_pillows_bicubic(height: int, width: int, side: int) -> None:
    picture = noise(height, width)

    squeezed = bicubic(picture, side, side)

    np.testing.assert_array_equal(pixels_of(normalize(resizers.squeeze(picture, side))), squeezed)


def _bilinear(row: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """A row at another length, pixel by pixel:
    two samples about each half-pixel centre, which is never below 0.
    """
    out = []
    for place in range(length):
        centre = max(
            Fraction(2 * place + 1, 2) * Fraction(len(row), length) - Fraction(1, 2), Fraction(0)
        )
        first = int(centre)
        second = min(first + 1, len(row) - 1)
        out.append(row[first] * float(1 - centre + first) + row[second] * float(centre - first))
    return np.array(out)


@few
@given(height=sides, width=sides, rows=sides, columns=sides)
def test_bilinear_without_antialias_is_two_samples_an_axis(
    height: int, width: int, rows: int, columns: int
) -> None:
    picture = noise(height, width)

    down = _bilinear(picture.astype(np.float64), rows)
    expected = _bilinear(down.transpose(1, 0, 2), columns).transpose(1, 0, 2)

    resized = resize_bilinear_without_antialias(picture[None], (rows, columns))[0]
    np.testing.assert_allclose(resized, expected, atol=1e-2)
    window = (slice(rows // 3, rows), slice(0, columns // 2 + 1))
    np.testing.assert_array_equal(
        resize_bilinear_without_antialias(picture[None], (rows, columns), window)[0],
        resized[window],
    )


@few
@given(height=st.integers(8, 60), width=st.integers(8, 60), side=st.integers(4, 40))
def test_the_whole_numbers_of_a_bilinear_crop_are_the_exact_ones_rounded(
    height: int, width: int, side: int
) -> None:
    frames = np.stack([noise(height, width, 1), noise(height, width, 2)])

    exact = normalize(resizers.resize_frames(frames, side))

    for frame, prepared in zip(frames, exact, strict=True):
        rounded = normalize(resizers.crop_bilinear(frame, side))
        assert np.abs(rounded - prepared).max() <= 0.501 / 255 / min(CLIP_STD)


def test_normalizing_is_the_formula_of_clip() -> None:
    levels = np.arange(256, dtype=np.uint8)
    pixels = np.stack([levels, levels[::-1], np.roll(levels, 7)], axis=1)[None]  # (1, 256, 3)

    expected = (pixels / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)

    assert CLIP_MEAN == (0.48145466, 0.4578275, 0.40821073)
    assert CLIP_STD == (0.26862954, 0.26130258, 0.27577711)
    np.testing.assert_allclose(normalize(pixels).transpose(1, 2, 0), expected, atol=1e-6)
    np.testing.assert_array_equal(normalize(np.stack([pixels] * 2))[1], normalize(pixels))


# --- anyres
# --------------------------------------------------------------------------------------------------

shapes = st.tuples(st.integers(1, 90), st.integers(1, 90))
SMALL = tuple(
    (rows * 12, columns * 12) for rows, columns in [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]
)


@given(
    size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)),
    pinpoints=st.permutations(anyres.PINPOINTS),
)
@example(size=(90, 100), pinpoints=[(672, 672), (336, 672), (672, 336)])
def test_the_best_canvas_keeps_most_pixels_then_wastes_least_then_comes_first(
    size: tuple[int, int], pinpoints: list[tuple[int, int]]
) -> None:
    """``select_best_resolution`` of LLaVA, in its own words."""
    height, width = size
    best, most, least = None, 0, math.inf
    for rows, columns in pinpoints:
        scale = min(columns / width, rows / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        wasted = rows * columns - effective
        if effective > most or (effective == most and wasted < least):
            best, most, least = (rows, columns), effective, wasted

    assert best in (None, anyres.best_canvas(size, pinpoints))


@few
@given(size=shapes, fast=st.booleans())
def test_the_tiles_are_the_canvas_with_the_picture_in_its_middle(
    size: tuple[int, int], fast: bool
) -> None:
    picture = without_black(*size)
    rows, columns = anyres.best_canvas(size, SMALL)

    views = anyres.views(picture, 12, SMALL, fast=fast)

    height, width = anyres.fit(size, (rows, columns))
    tiles = views[1:].reshape(rows // 12, columns // 12, 12, 12, 3)
    canvas = tiles.transpose(0, 2, 1, 3, 4).reshape(rows, columns, 3)
    top, left = (rows - height) // 2, (columns - width) // 2
    inside = canvas[top : top + height, left : left + width].copy()
    canvas[top : top + height, left : left + width] = 0
    assert not canvas.any()
    assert inside.shape == (height, width, 3)
    if not fast:
        np.testing.assert_array_equal(inside, bicubic(picture, height, width))
        np.testing.assert_array_equal(views[0], bicubic(picture, 12, 12))


@given(size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)))
def test_a_picture_fills_its_canvas_in_one_direction_and_its_other_side_is_rounded_up(
    size: tuple[int, int],
) -> None:
    height, width = size
    rows, columns = anyres.best_canvas(size)

    found = anyres.fit(size, (rows, columns))

    assert found[0] == rows or found[1] == columns
    scale = min(Fraction(rows, height), Fraction(columns, width))
    for side, length, most in zip(found, size, (rows, columns), strict=True):
        assert side in (
            min(math.ceil(length * scale), most),
            min(math.ceil(length * scale) + 1, most),
        )


@given(size=st.tuples(st.integers(1, 3000), st.integers(1, 3000)))
# (748, 352): 48 features of height are 50.99999999999999 in floats, where 51 are meant.
@example(size=(748, 352))
@example(size=(376, 893))
@example(size=(1128, 235))
def test_features_are_unpadded_to_the_aspect_of_the_picture(size: tuple[int, int]) -> None:
    """``unpad_image`` of transformers, in its own words;
    the kept features are a view, a grid and a newline a row.
    """
    height, width = size
    canvas = anyres.best_canvas(size)
    rows, columns = canvas[0] // 336 * 24, canvas[1] // 336 * 24
    if width / height > columns / rows:
        padding = (rows - int(round(height * (columns / width), 7))) // 2
        expected = (rows - 2 * padding, columns)
    else:
        padding = (columns - int(round(width * (rows / height), 7))) // 2
        expected = (rows, columns - 2 * padding)

    grid = anyres.feature_grid(size)

    assert grid.kept == expected
    assert (grid.bottom - grid.top, grid.right - grid.left) == expected
    assert (grid.top + grid.bottom, grid.left + grid.right) == (rows, columns)
    assert num_image_tokens(size) == 24 * 24 + expected[0] * expected[1] + expected[0]
