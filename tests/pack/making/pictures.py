"""Pictures drawn here, and what each family makes of them: by transformers, by torch, by Pillow."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import (
    LlavaNextImageProcessorPil,
)
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

from tests.pack.making.writing import FIXTURES, GOLDEN, normalize, write_arrays, write_json

FEWSHOT = FIXTURES / "fewshot-data" / "fewshot-data"
_LLAVA = GOLDEN / "llava_next_video"
_RATIOS = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]  # height, width


def drawn(height: int, width: int, seed: int, *, plain: bool = False) -> NDArray[Any]:
    """Return a picture of bands and hard-edged boxes:
    every way to resize shows, and files stay small.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    picture = (
        np.stack([rows, columns, np.sin(5 * (rows + columns) + seed) / 2 + 0.5], -1)
        * 255
        // 32
        * 32
    )
    if plain:
        picture[...] = rng.integers(0, 256, 3)
    for _ in range(4):
        top, left = rng.integers(0, max(height - 3, 1)), rng.integers(0, max(width - 3, 1))
        picture[top : top + 2 + height // 5, left : left + 2 + width // 5] = rng.integers(0, 256, 3)
    drawing: NDArray[np.uint8] = picture.astype(np.uint8)
    return drawing


def make() -> None:
    """Write the pictures and what is made of them."""
    _llava_next()
    _anyres_table()
    _cogvlm2_video()
    _qwen_vl()
    _few_shot()
    _visualglm()


def _llava_next() -> None:
    """By transformers' image processors on Pillow, which give LLaVA's own values."""
    folder, arrays = _LLAVA / "image_processor", {}
    index: dict[str, list[dict[str, Any]]] = {"anyres": [], "single": [], "video_frames": []}
    clip = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    for number, (height, width) in enumerate([(28, 28), (41, 57), (90, 31), (13, 77), (7, 5)]):
        name, picture = f"any_{height}x{width}", drawn(height, width, number)
        _save(folder / f"{name}.png", picture)
        processor = LlavaNextImageProcessorPil(
            size={"shortest_edge": 28},
            crop_size={"height": 28, "width": 28},
            image_grid_pinpoints=[[rows * 28, columns * 28] for rows, columns in _RATIOS],
        )
        arrays[name] = processor(_channels_first(picture), input_data_format="channels_first")[
            "pixel_values"
        ][0]
        index["anyres"].append(
            {"name": name, "h": height, "w": width, "crop": 28, "num_patches": len(arrays[name])}
        )
    for number, (height, width) in enumerate([(35, 60), (58, 30)]):
        name, picture = f"single_{height}x{width}", drawn(height, width, 10 + number)
        _save(folder / f"{name}.png", picture)
        arrays[f"{name}/resize_crop"] = _clip(clip, picture)
        mean = (122, 116, 104)  # CLIP's mean colour, cut to whole levels
        side = max(height, width)
        arrays[f"{name}/pad"] = _clip(
            clip, np.asarray(ImageOps.pad(_image(picture), (side, side), color=mean))
        )
        index["single"].append({"name": name, "h": height, "w": width, "crop": 28})
    for number, (height, width) in enumerate([(40, 62), (49, 33)]):
        name = f"frames_{height}x{width}"
        frames = np.stack([drawn(height, width, 20 + 2 * number + each) for each in range(2)])
        arrays[f"{name}/frames_rgb_uint8"] = frames
        arrays[f"{name}/pixel_values"] = np.stack([_clip(clip, frame) for frame in frames])
        index["video_frames"].append({"name": name, "n": 2, "h": height, "w": width, "crop": 28})
    write_arrays(folder / "expected.npz", arrays)
    write_json(folder / "index.json", index)


def _clip(processor: CLIPImageProcessorPil, picture: NDArray[Any]) -> NDArray[Any]:
    found: NDArray[Any] = processor(_channels_first(picture), input_data_format="channels_first")[
        "pixel_values"
    ][0]
    return found


def _anyres_table() -> None:
    """Sizes and counts by transformers' own functions."""
    configs = []
    for crop, patch in [(336, 14), (28, 7), (30, 6)]:
        pinpoints = [[rows * crop, columns * crop] for rows, columns in _RATIOS]
        processor = _counting(patch, pinpoints)
        sizes = [
            (crop, crop),
            (360, 640),
            (640, 360),
            (396, 704),
            (423, 752),
            (101, 999),
            (1200, 300),
            (61, 60),
            (9, 9),
        ]
        rows = [_anyres_row(processor, height, width, crop) for height, width in sizes]
        configs.append({"crop": crop, "patch": patch, "pinpoints_hw": pinpoints, "rows": rows})
    write_json(_LLAVA / "anyres_table.json", {"configs": configs})


def _counting(patch: int, pinpoints: list[list[int]]) -> LlavaNextProcessor:
    """Return a processor that can count, without a tokenizer."""
    processor = object.__new__(LlavaNextProcessor)
    processor.patch_size, processor.num_additional_image_tokens = patch, 0
    processor.image_processor = LlavaNextImageProcessorPil(image_grid_pinpoints=pinpoints)
    return processor


def feature_count(
    size: tuple[int, int], crop: int, patch: int, pinpoints: list[list[int]]
) -> tuple[int, int]:
    """Return how many tiles and how many features a picture of height and width ``size`` has."""
    best = select_best_resolution(size, pinpoints)
    tiles = 1 + (best[0] // crop) * (best[1] // crop)
    return tiles, _counting(patch, pinpoints)._get_number_of_features(*size, crop, crop)


def _anyres_row(
    processor: LlavaNextProcessor, height: int, width: int, crop: int
) -> dict[str, Any]:
    pinpoints = processor.image_processor.image_grid_pinpoints
    best = select_best_resolution((height, width), pinpoints)
    resized = get_patch_output_size(np.zeros((3, height, width), np.uint8), best, "channels_first")
    side = crop // processor.patch_size
    across = best[0] // crop, best[1] // crop
    features, newlines = processor._get_unpadded_features(height, width, side, side, *across)
    return {
        "h": height,
        "w": width,
        "best_hw": list(best),
        "resized_hw": list(resized),
        "feature_grid": [side * across[0], side * across[1]],
        "unpadded_grid": [newlines, features // newlines if newlines else 0],
        "image_tokens": processor._get_number_of_features(height, width, crop, crop),
    }


def _cogvlm2_video() -> None:
    """By torch's interpolation; the crop's offset is Python's round, half to even."""
    arrays, cases = {}, []
    shapes = [
        (2, 40, 66, 28),
        (1, 61, 30, 28),
        (1, 33, 33, 21),
        (1, 28, 91, 14),
        (1, 42, 67, 14),
        (1, 50, 31, 28),
    ]
    for number, (count, height, width, size) in enumerate(shapes):
        frames = np.stack([drawn(height, width, 30 + number + each) for each in range(count)])
        short = min(height, width)
        rows = size if short == height else int(height / width * size)
        columns = size if short == width else int(width / height * size)
        scaled = torch.nn.functional.interpolate(
            torch.from_numpy(normalize(frames)),
            (rows, columns),
            mode="bilinear",
            align_corners=False,
        )
        top, left = round((rows - size) / 2), round((columns - size) / 2)
        arrays[f"in_{number}"] = frames
        arrays[f"out_{number}"] = scaled[:, :, top : top + size, left : left + size].numpy()
        cases.append({"case": number, "size": size, "resized_hw": [rows, columns]})
    write_arrays(GOLDEN / "cogvlm2_video" / "preprocess.npz", arrays)
    write_json(GOLDEN / "cogvlm2_video" / "preprocess.json", cases)


def _qwen_vl() -> None:
    """By Pillow: to RGB, bicubic to a square."""
    folder, arrays, cases = GOLDEN / "qwen_vl" / "images", {}, []
    folder.mkdir(parents=True, exist_ok=True)
    for number, (mode, height, width) in enumerate(
        [
            ("RGB", 40, 60),
            ("RGBA", 33, 21),
            ("L", 50, 50),
            ("P", 30, 45),
            ("RGB", 1, 37),
            ("RGB", 64, 48),
        ]
    ):
        picture = _image(drawn(height, width, 40 + number)).convert(mode)
        turned = number == 5
        name = f"{mode}_{height}x{width}{'_turned' if turned else ''}.png"
        exif = Image.Exif()
        exif[0x0112] = 6
        options: dict[str, Any] = {"exif": exif} if turned else {}
        picture.save(folder / name, **options)
        cases.append(_qwen_case(folder / name, 35 if number % 2 else 28, turned))
        arrays[f"{number}/pixel_values"] = normalize(_squeeze(picture, cases[-1]["target"]))
    write_arrays(folder / "expected.npz", arrays)
    write_json(folder / "expected.json", cases)


def _qwen_case(path: Path, side: int, turned: bool) -> dict[str, Any]:
    picture = Image.open(path)
    case = {
        "file": path.name,
        "mode": picture.mode,
        "target": side,
        "rgb_sha256": _hash(np.asarray(picture.convert("RGB"))),
        "resized_sha256": _hash(_squeeze(picture, side)),
    }
    if turned:
        upright = ImageOps.exif_transpose(picture)
        case["mindformers_exif_transposed_size_wh"] = list(upright.size)
        case["exif_transposed_resized_sha256"] = _hash(_squeeze(upright, side))
    return case


def _few_shot() -> None:
    """Pictures for few-shot records: among them a PNG with alpha that is called .jpg."""
    FEWSHOT.mkdir(parents=True, exist_ok=True)
    _image(drawn(48, 64, 50)).save(FEWSHOT / "desk.jpg", quality=85)
    _image(drawn(52, 40, 51, plain=True)).convert("RGBA").save(FEWSHOT / "window.jpg", format="png")
    _image(drawn(40, 40, 52)).save(FEWSHOT / "boats.png")


def _visualglm() -> None:
    """By Pillow, as torchvision's transforms of a picture are: bicubic to 224 x 224."""
    arrays: dict[str, NDArray[Any]] = {"drawn_src": drawn(30, 70, 60, plain=True)}
    listed = [["called_jpg", "window.jpg", "RGBA"]]
    sources = {"drawn": _image(arrays["drawn_src"])} | {
        name: Image.open(FEWSHOT / file) for name, file, _ in listed
    }
    for name, picture in sources.items():
        resized = _squeeze(picture, 224)
        arrays[f"{name}_u8"] = resized
        arrays[f"{name}_norm_corner"] = normalize(resized)[:, :8, :8]
        arrays[f"{name}_norm_mean"] = normalize(resized).mean((1, 2), dtype=np.float64)
    write_arrays(GOLDEN / "visualglm" / "image_preprocess.npz", arrays)
    write_json(GOLDEN / "visualglm" / "image_preprocess.json", listed)


def _squeeze(picture: Image.Image, side: int) -> NDArray[Any]:
    return np.asarray(picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC))


def _image(pixels: NDArray[Any]) -> Image.Image:
    return Image.fromarray(pixels)


def _channels_first(pixels: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _save(path: Path, pixels: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = io.BytesIO()
    _image(pixels).save(content, "png", optimize=True)
    path.write_bytes(content.getvalue())


def _hash(pixels: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()
