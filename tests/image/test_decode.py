"""Any image that data sets hold, as upright RGB."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

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


def tiff(
    samples: bytes, size: tuple[int, int], bits: int, *, tags: dict[int, int] | None = None
) -> bytes:
    """A grey TIFF in one strip, little-endian, made by hand: Pillow writes no samples of 12 bits.

    A tag is a number, a type (4 is a 32-bit integer), a count and a value (TIFF 6.0, 2).
    """
    width, height = size
    found = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    found |= {279: len(samples)} | (tags or {})
    entries = [struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(found.items())]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return struct.pack("<4sI", b"II*\0", 8 + len(samples)) + samples + directory


def profile_of(size: int) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().ljust(size, b"\0")


def test_large_texts_and_colour_profiles_of_a_png_change_nothing(tmp_path: Path) -> None:
    texts = PngInfo()
    texts.add_text("prompt", "a" * 2_000_000, zip=True)
    texts.add_itxt("notes", "b" * 2_000_000, zip=True)
    texts.add(b"zTXt", b"late\0\0" + zlib.compress(bytes(2_000_000)), after_idat=True)
    data = encoded(Image.fromarray(RGB), pnginfo=texts, icc_profile=profile_of(1_500_000))
    (tmp_path / "large.png").write_bytes(data)

    np.testing.assert_array_equal(decode(data), RGB)
    np.testing.assert_array_equal(decode(tmp_path / "large.png"), RGB)
    assert size_of(data) == (16, 24)


def test_many_texts_of_a_png_that_are_large_together_change_nothing() -> None:
    texts = PngInfo()
    for number in range(70):
        texts.add_text(f"page {number}", "a" * 1_000_000, zip=True)

    np.testing.assert_array_equal(decode(encoded(Image.fromarray(RGB), pnginfo=texts)), RGB)


def test_a_small_text_of_a_png_still_tells_the_orientation_beside_a_large_one() -> None:
    texts = PngInfo()
    texts.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    texts.add_text("prompt", "a" * 2_000_000, zip=True)
    data = encoded(Image.fromarray(RGB), pnginfo=texts)

    np.testing.assert_array_equal(decode(data), np.rot90(RGB, -1))
    assert size_of(data) == (24, 16)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_of_a_turned_tiff_is_that_of_its_pixels(orientation: int) -> None:
    data = encoded(Image.fromarray(RGB), "tiff", tiffinfo={0x0112: orientation})

    assert size_of(data) == decode(data).shape[:2]


def test_samples_of_twelve_bits_keep_their_highest_eight() -> None:
    # Two samples in three bytes: 0x123 and 0xFED.
    data = tiff(bytes.fromhex("123fed"), (2, 1), 12)

    assert decode(data)[0, :, 0].tolist() == [0x12, 0xFE]


def test_twelve_bits_in_sixteen_are_refused_and_not_given_as_black() -> None:
    deep = COLORS.astype(np.uint16) * 16

    with pytest.raises(ImageError, match=r"brightest sample is 2032 of 65535; .* scale them"):
        decode(encoded(Image.fromarray(deep)))


def test_a_black_picture_of_sixteen_bits_is_black() -> None:
    assert not decode(encoded(Image.fromarray(np.zeros((4, 6), np.uint16)))).any()


@pytest.mark.parametrize(
    "deep",
    [COLORS.astype(np.int32), COLORS.astype(np.float32), COLORS.astype(np.float32) / 255],
    ids=["integers", "floats", "floats to 1"],
)
@pytest.mark.parametrize("read", [decode, size_of])
def test_samples_whose_white_nobody_states_are_refused(
    deep: np.ndarray[Any, Any], read: Callable[[bytes], object]
) -> None:
    with pytest.raises(ImageError, match="nothing says what is white; convert it to 8 or 16 bits"):
        read(encoded(Image.fromarray(deep), "tiff"))


def test_a_deep_ppm_says_what_is_white_and_is_scaled() -> None:
    samples = b"".join(struct.pack(">H", value) for value in (0, 500, 1000))

    assert decode(b"P5 3 1 1000\n" + samples)[0, :, 0].tolist() == [0, 128, 255]


def test_avif_is_read() -> None:
    found = decode(encoded(Image.new("RGB", (24, 16), (200, 30, 90)), "avif", quality=100))

    assert np.abs(found.astype(int) - (200, 30, 90)).max() <= 2


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_a_heic_picture_is_named_with_what_to_do(brand: bytes) -> None:
    data = struct.pack(">I4s4sI", 16, b"ftyp", brand, 0) + bytes(64)

    with pytest.raises(ImageError, match=r"is a HEIC picture, .*; convert it to JPEG"):
        decode(data)


def test_what_is_no_picture_is_told_which_formats_are_read() -> None:
    with pytest.raises(ImageError, match="its format is none of JPEG, PNG, WEBP"):
        decode(b"<html>not found</html>")


def deep_png(samples: np.ndarray[Any, Any], colour_type: int) -> bytes:
    """A PNG of 16-bit ``samples`` (height, width, bands), which Pillow itself does not write."""
    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


@pytest.mark.parametrize(("colour_type", "bands"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_twelve_bits_in_sixteen_are_refused_as_grey_is(
    colour_type: int, bands: int
) -> None:
    samples = np.full((4, 5, bands), 3000, np.uint16)

    with pytest.raises(ImageError, match=r"its brightest sample is .* of 65535"):
        decode(deep_png(samples, colour_type))

    scaled = decode(deep_png(samples << 4, colour_type))
    assert (scaled == 3000 >> 4).all()
    assert (decode(deep_png(samples * 0, colour_type)) == 0).all()


def test_a_tiff_that_xmp_turns_has_the_size_of_its_pixels() -> None:
    xmp = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
        b"</rdf:RDF></x:xmpmeta>"
    )
    file = io.BytesIO()
    Image.new("RGB", (8, 6)).save(file, "TIFF", tiffinfo={700: xmp})

    assert size_of(file.getvalue()) == decode(file.getvalue()).shape[:2]


def test_an_avif_that_is_cut_or_damaged_is_named(tmp_path: Path) -> None:
    data = encoded(Image.fromarray(RGB), "avif", quality=90)
    middle = len(data) // 2
    (tmp_path / "cut.avif").write_bytes(data[:middle])
    (tmp_path / "bad.avif").write_bytes(data[:middle] + b"\xff" * (len(data) - middle))

    for name in ("cut.avif", "bad.avif"):
        with pytest.raises(ImageError, match=name) as caught:
            decode(tmp_path / name)
        assert "built without" not in str(caught.value)
