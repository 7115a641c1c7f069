"""Which media rows stand where in a LLaVA-NeXT(-Video) sequence:
the reference that the model tests feed from.

Written from the published algorithm: best resolution, unpadding (rounded to 7 decimals), newline
after each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.llava_next_video import LlavaNextVideoConfig


def best_resolution(height: int, width: int, pinpoints: list[list[int]]) -> tuple[int, int]:
    def fit(pinpoint: Sequence[int]) -> tuple[int, int]:
        rows, columns = pinpoint
        scale = min(columns / width, rows / height)
        effective = min(int(width * scale) * int(height * scale), width * height)
        return effective, effective - rows * columns  # more of the picture, then less waste

    rows, columns = max(pinpoints, key=fit)
    return rows, columns


def unpad(rows: int, columns: int, height: int, width: int) -> tuple[slice, slice]:
    if width / height > columns / rows:
        padding = (rows - int(round(height * (columns / width), 7))) // 2
        return slice(padding, rows - padding), slice(0, columns)
    padding = (columns - int(round(width * (rows / height), 7))) // 2
    return slice(0, rows), slice(padding, columns - padding)


def picture_rows(
    config: LlavaNextVideoConfig, pinpoints: list[list[int]], height: int, width: int
) -> NDArray[Any]:
    """Media rows of one picture whose first tile is image 0."""
    size, side = config.vision.image_size, config.vision.side
    best = best_resolution(height, width, pinpoints)
    down, across = best[0] // size, best[1] // size
    tile, row, column = np.meshgrid(
        np.arange(down * across), np.arange(side), np.arange(side), indexing="ij"
    )
    rows = (tile + 1) * config.media_rows + row * side + column
    grid = (
        rows.reshape(down, across, side, side)
        .transpose(0, 2, 1, 3)
        .reshape(down * side, across * side)
    )
    grid = grid[unpad(len(grid), grid.shape[1], height, width)]
    grid = np.concatenate([grid, np.full((len(grid), 1), config.media_rows - 1)], 1)
    return np.concatenate([np.arange(side**2), grid.ravel()])


def frame_rows(config: LlavaNextVideoConfig, frames: int) -> NDArray[Any]:
    """Media rows of a clip whose first frame is image 0."""
    pooled = config.vision.side**2 + np.arange(config.pooled_side**2)
    return (np.arange(frames)[:, None] * config.media_rows + pooled).ravel()


def model_inputs(
    config: LlavaNextVideoConfig, settings: dict[str, Any], case: dict[str, NDArray[Any]]
) -> dict[str, Any]:
    """What the model reads for one golden case: numpy arrays by argument name."""
    ids = case["input_ids"]
    index = np.full(ids.shape, -1)
    images: list[NDArray[Any]] = []
    if "pixel_values" in case:
        place(index, ids == settings["image_token_index"], pictures(config, settings, case, images))
    if "pixel_values_videos" in case:
        place(index, ids == settings["video_token_index"], clips(config, case, images))
    inputs = {"input_ids": ids, "segment_ids": case["attention_mask"]}
    inputs |= {name: case[name] for name in ("labels", "position_ids") if name in case}
    if images:
        inputs |= {"pixel_values": np.concatenate(images), "media_index": index}
    return inputs


def pictures(
    config: LlavaNextVideoConfig,
    settings: dict[str, Any],
    case: dict[str, NDArray[Any]],
    images: list[NDArray[Any]],
) -> NDArray[Any]:
    rows = []
    for tiles, (height, width) in zip(case["pixel_values"], case["image_sizes"], strict=True):
        first = sum(map(len, images))
        rows.append(
            first * config.media_rows
            + picture_rows(config, settings["image_grid_pinpoints"], height, width)
        )
        images.append(tiles)
    return np.concatenate(rows)


def clips(
    config: LlavaNextVideoConfig, case: dict[str, NDArray[Any]], images: list[NDArray[Any]]
) -> NDArray[Any]:
    rows = []
    for frames in case["pixel_values_videos"]:
        rows.append(sum(map(len, images)) * config.media_rows + frame_rows(config, len(frames)))
        images.append(frames)
    return np.concatenate(rows)


def place(index: NDArray[Any], where: NDArray[Any], rows: NDArray[Any]) -> None:
    assert where.sum() == len(rows), "placeholders and features must be as many"
    index[where] = rows
