"""From a batch of the pipeline to what a model takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mmdata.pipeline.collate import COLUMNS
from models.patches import patch_layout

TEXTS = COLUMNS[:4]


def media_layout(batch: Mapping[str, NDArray[Any]]) -> NDArray[np.int32] | None:
    """Where each patch of a batch is, as many rows as it has patches; None for families that read
    pictures of one size.
    """
    if "grid_thw" not in batch:
        return None
    return patch_layout(batch["grid_thw"], room=len(batch["pixel_values"]))


def model_inputs(batch: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """The arrays of a batch in the order in which `VisionLanguageModel.construct` takes them; of a
    batch that has no picture and no room for one, those of its texts.
    """
    layout = media_layout(batch)
    if layout is None:
        return [batch[name] for name in COLUMNS]
    texts = [batch[name] for name in TEXTS]
    if not len(layout):
        return texts
    media = [batch[name] for name in COLUMNS[len(TEXTS) :]]
    return [*texts, *media, cast("NDArray[Any]", layout)]
