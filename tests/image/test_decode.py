"""Any image that data sets hold, as upright RGB."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdata._tools.limits import Limits
from mmdata.errors import ImageError
from mmdata.image import decode, size_of

COLORS = np.arange(24 * 16, dtype=np.uint8).reshape(16, 24) // 2
RGB = np.stack([COLORS, 255 - COLORS, COLORS // 2], axis=2)


def encoded(picture: Image.Image, form: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def test_rgb_is_given_as_it_is() -> None:
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(RGB))), RGB)


@pytest.mark.parametrize("mode", ["L", "1", "P", "LA", "RGBA", "CMYK"])
def test_other_modes_become_rgb_as_pillow_makes_them(mode: str) -> None:
    picture = Image.fromarray(RGB).convert(mode)
    data = encoded(picture, "tiff" if mode == "CMYK" else "png")

    np.testing.assert_array_equal(decode(data), np.asarray(picture.convert("RGB")))


def test_alpha_is_dropped_and_not_blended() -> None:
    transparent = np.dstack([RGB, np.zeros_like(COLORS)])

    np.testing.assert_array_equal(decode(encoded(Image.fromarray(transparent))), RGB)


def test_sixteen_bit_grey_keeps_its_high_byte() -> None:
    deep = COLORS.astype(np.uint16) * 256 + 7

    np.testing.assert_array_equal(
        decode(encoded(Image.fromarray(deep))), np.repeat(COLORS[:, :, None], 3, axis=2)
    )


def test_of_an_animation_the_first_frame_is_given() -> None:
    first, second = Image.new("RGB", (8, 6), (255, 0, 0)), Image.new("RGB", (8, 6), (0, 255, 0))
    data = encoded(first, "gif", save_all=True, append_images=[second])

    assert (decode(data) == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_unless_left_out(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(RGB), exif=exif)

    upright, stored = decode(data), decode(data, upright=False)

    np.testing.assert_array_equal(stored, RGB)
    assert upright.shape[:2] == ((24, 16) if orientation >= 5 else (16, 24)) == size_of(data)
    if orientation == 6:
        np.testing.assert_array_equal(upright, np.rot90(RGB, -1))


def test_a_draft_is_smaller_than_the_picture_but_never_smaller_than_asked_for() -> None:
    data = encoded(Image.fromarray(RGB).resize((1600, 1200)), "jpeg")

    assert decode(data, draft=(224, 224)).shape == (300, 400, 3)
    assert decode(data, draft=(1200, 1600)).shape == (1200, 1600, 3)


def test_the_result_is_the_callers_own() -> None:
    pixels = decode(encoded(Image.fromarray(RGB)))

    pixels[:] = 0

    assert pixels.flags.writeable


@pytest.mark.parametrize("form", ["eps", "ppm"])
def test_formats_that_start_programs_stay_closed(form: str) -> None:
    data = encoded(Image.fromarray(RGB), form)

    if form == "eps":
        with pytest.raises(ImageError, match="cannot be decoded as an image"):
            decode(data)
    else:
        np.testing.assert_array_equal(decode(data), RGB)


def test_a_cut_picture_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    path = tmp_path / "cut.jpg"
    path.write_bytes(encoded(Image.fromarray(noise), "jpeg")[:-500])

    with pytest.raises(ImageError, match=r"cut.jpg: .*truncated") as caught:
        decode(path)

    assert caught.value.reason == "damaged_media"


def test_a_limit_is_told_with_the_size_that_was_found() -> None:
    with pytest.raises(ImageError, match="24x16 pixels are beyond the limit of 100 pixels"):
        decode(encoded(Image.fromarray(RGB)), limits=Limits(pixels=100))


def test_a_picture_of_as_many_pixels_as_the_limit_is_decoded() -> None:
    assert decode(encoded(Image.fromarray(RGB)), limits=Limits(pixels=24 * 16)).shape == (16, 24, 3)


@pytest.mark.parametrize("draft", [(200, 800), (800, 200), (400, 400)])
def test_a_draft_of_a_picture_on_its_side_is_at_least_as_large_as_asked(
    draft: tuple[int, int],
) -> None:
    file, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (1600, 800)).save(file, "jpeg", exif=exif)

    height, width, _ = decode(file.getvalue(), draft=draft).shape

    assert height >= draft[0]
    assert width >= draft[1]
