"""Every family's image processing, against what the original implementations made."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmdata.image import anyres, decode, normalize
from mmdata.image.resizers import crop, get, pad, resize_frames, squeeze
from mmdata.templates.llava_next_video import num_image_tokens
from tests.reference import arrays, cases, files, read, some


def test_cogvlm2_video_prepares_frames_as_the_reference(golden: Path) -> None:
    for stored, case in _preprocessed(golden):
        number, size = case["case"], case["size"]
        expected = stored[f"out_{number}"]
        prepared = normalize(resize_frames(stored[f"in_{number}"], size))
        assert prepared.dtype == np.float32
        np.testing.assert_allclose(prepared, expected, atol=1e-4)


def _preprocessed(golden: Path) -> Iterator[tuple[Any, dict[str, Any]]]:
    for file in files(golden / "cogvlm2_video", "preprocess.json", "preprocess.npz"):
        stored = arrays(file.with_suffix(".npz"))
        yield from ((stored, case) for case in read(file))


def test_the_rounded_resize_of_cogvlm2_video_is_half_a_level_off_at_most(golden: Path) -> None:
    for stored, case in _preprocessed(golden):
        number, size = case["case"], case["size"]
        for frame, expected in zip(stored[f"in_{number}"], stored[f"out_{number}"], strict=True):
            rounded = normalize(get("crop_bilinear")(frame, size))
            assert np.abs(rounded - expected).max() <= 0.501 / 255 / 0.26130258


def test_qwen_vl_prepares_pictures_as_the_reference(golden: Path) -> None:
    for path, number, case in _pictures(golden):
        stored = arrays(path.with_name("expected.npz"))
        pixels = decode(path, upright=False)
        if hashlib.sha256(pixels.tobytes()).hexdigest() != case["rgb_sha256"]:
            assert case["file"].endswith(".jpg"), "only JPEG decoders may differ"
            continue
        resized = get("squeeze")(pixels, case["target"])
        assert hashlib.sha256(resized.tobytes()).hexdigest() == case["resized_sha256"], case["file"]
        if f"{number}/pixel_values" in stored:
            np.testing.assert_allclose(
                normalize(squeeze(pixels, case["target"])),
                stored[f"{number}/pixel_values"],
                atol=1e-5,
            )


def _pictures(golden: Path) -> list[tuple[Path, int, dict[str, Any]]]:
    """Every picture that is there, its number in the list and what was made of it."""
    told = files(golden / "qwen_vl", "images/expected.json")
    named = [
        (file.parent / case["file"], n, case) for file in told for n, case in enumerate(read(file))
    ]
    there = [
        each for each in named if each[0].is_file() and each[0].with_name("expected.npz").is_file()
    ]
    return some(there, "picture of images/expected.json with expected.npz", golden)


def test_exif_orientation_is_applied_as_mindformers_does(golden: Path) -> None:
    for path, _, case in _pictures(golden):
        if "mindformers_exif_transposed_size_wh" in case:
            pixels = decode(path)
            assert [pixels.shape[1], pixels.shape[0]] == case["mindformers_exif_transposed_size_wh"]
            resized = get("squeeze")(pixels, case["target"])
            assert (
                hashlib.sha256(resized.tobytes()).hexdigest()
                == case["exif_transposed_resized_sha256"]
            )


def test_visualglm_prepares_pictures_as_the_reference(golden: Path, fixtures: Path) -> None:
    (told,) = files(golden / "visualglm", "image_preprocess.npz")[:1]
    stored, listed = arrays(told), told.with_suffix(".json")
    named = {name: file for name, file, _ in read(listed)} if listed.is_file() else {}
    pictures = {path.name: path for path in fixtures.rglob("*") if path.name in named.values()}
    sources = {name: stored[f"{name}_src"] for name in _names(stored) if f"{name}_src" in stored}
    sources |= {
        name: decode(pictures[file])
        for name, file in named.items()
        if name in _names(stored) and file in pictures
    }

    for name, pixels in some(sources.items(), "picture of image_preprocess.npz", fixtures):
        resized = get("squeeze")(pixels, 224).astype(np.int16)
        prepared = normalize(squeeze(pixels, 224))

        # JPEG decoders may differ by a level.
        allowed = 1 if named.get(name, "").endswith(".jpg") else 0
        assert np.abs(resized - stored[f"{name}_u8"]).max() <= allowed
        corner = stored[f"{name}_norm_corner"]
        np.testing.assert_allclose(prepared[:, :8, :8], corner, atol=1e-5 + allowed / 255 / 0.26)
        np.testing.assert_allclose(
            prepared.mean((1, 2)), stored[f"{name}_norm_mean"], atol=1e-5 + allowed / 255
        )


def _names(stored: Any) -> list[str]:
    return [key.removesuffix("_u8") for key in stored if key.endswith("_u8")]


def test_llava_next_prepares_frames_and_single_pictures_as_the_reference(golden: Path) -> None:
    folder, stored, cases = _processed(golden)

    for case in cases.get("video_frames", ()):
        frames = stored[f"{case['name']}/frames_rgb_uint8"]
        for frame, expected in zip(frames, stored[f"{case['name']}/pixel_values"], strict=True):
            np.testing.assert_allclose(normalize(crop(frame, case["crop"])), expected, atol=1e-5)
    for case in _there(folder, cases, "single"):
        pixels = decode(folder / f"{case['name']}.png")
        np.testing.assert_allclose(
            normalize(crop(pixels, case["crop"])), stored[f"{case['name']}/resize_crop"], atol=1e-5
        )
        np.testing.assert_allclose(
            normalize(pad(pixels, case["crop"])), stored[f"{case['name']}/pad"], atol=1e-5
        )


def _processed(golden: Path) -> tuple[Path, Any, dict[str, Any]]:
    told = files(golden / "llava_next_video", "image_processor/index.json", "expected.npz")[0]
    return told.parent, arrays(told.with_name("expected.npz")), read(told)


def _there(folder: Path, cases: dict[str, Any], section: str) -> list[dict[str, Any]]:
    return [case for case in cases.get(section, ()) if (folder / f"{case['name']}.png").is_file()]


def test_anyres_cuts_pictures_as_the_reference(golden: Path) -> None:
    folder, stored, cases = _processed(golden)

    for case in some(_there(folder, cases, "anyres"), "picture that is cut into tiles", folder):
        side = case["crop"]
        pinpoints = [(h * side, w * side) for h, w in [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]]
        views = anyres.views(decode(folder / f"{case['name']}.png"), side, pinpoints)
        assert len(views) == case["num_patches"]
        if case["name"] in stored:
            np.testing.assert_allclose(normalize(views), stored[case["name"]], atol=1e-5)
        elif (folder / f"{case['name']}.patches.png").is_file():
            stacked = np.asarray(Image.open(folder / f"{case['name']}.patches.png"))
            np.testing.assert_array_equal(views.reshape(stacked.shape), stacked)


def test_anyres_counts_tokens_from_sizes_alone_as_the_reference(golden: Path) -> None:
    for config in cases(golden / "llava_next_video", "anyres_table.json", "configs"):
        pinpoints = [(height, width) for height, width in config["pinpoints_hw"]]
        for row in config["rows"]:
            _check_row(row, config["crop"], config["patch"], pinpoints)


def _check_row(
    row: dict[str, Any], side: int, patch: int, pinpoints: list[tuple[int, int]]
) -> None:
    size = row["h"], row["w"]
    canvas = anyres.best_canvas(size, pinpoints)
    grid = anyres.feature_grid(size, side=side, patch=patch, pinpoints=pinpoints)

    assert list(canvas) == row["best_hw"], row
    assert list(anyres.fit(size, canvas)) == row["resized_hw"], row
    assert [grid.rows, grid.columns] == row["feature_grid"], row
    assert list(grid.kept) == row["unpadded_grid"], row
    assert (
        num_image_tokens(size, side=side, patch=patch, pinpoints=pinpoints) == row["image_tokens"]
    ), row


@pytest.mark.parametrize("size", [(1, 1), (1, 3), (3, 1), (5, 3)])
def test_tiny_pictures_are_prepared_like_any_other(size: tuple[int, int]) -> None:
    pixels = np.full((*size, 3), 200, np.uint8)

    assert crop(pixels, 28).shape == squeeze(pixels, 28).shape == (28, 28, 3)
    assert anyres.views(pixels).shape[1:] == (336, 336, 3)
