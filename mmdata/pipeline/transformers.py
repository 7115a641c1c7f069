"""The arguments of transformers' models that read patches of any grid, under their own names, so
that ``model(**batch)`` needs no collator.

- ``input_ids`` and ``labels`` (rows, length) int64, not shifted;
- ``attention_mask`` (rows, length) int64, 1 where no padding is; not for packed rows, whose samples
  the model tells apart by positions, if it is called with ``use_cache=False``;
- ``position_ids`` (3, rows, length) int64, of time, row and column; of packed rows (4, rows,
  length): first that in the sample's own text, which begins anew with every sample;
- ``pixel_values`` (patches, row) float32 and ``image_grid_thw`` (images, 3) int64 of all pictures
  in order, ``pixel_values_videos`` and ``video_grid_thw`` of all clips; a batch without either
  lacks its two arrays, as the models want it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmdata._tools.options import checked
from mmdata.image.patches import normalize_rows
from mmdata.pipeline.collate import BatchShape, Rows, grid_of, texts
from mmdata.pipeline.memory import Memory

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.pipeline.collate import Arrays

__all__ = ["COLUMNS", "transformers_arrays"]

COLUMNS = (
    "input_ids",
    "attention_mask",
    "labels",
    "position_ids",
    "pixel_values",
    "image_grid_thw",
    "pixel_values_videos",
    "video_grid_thw",
)


@checked
def transformers_arrays(
    rows: Rows, batch: BatchShape, *, packed: bool, memory: Memory | None = None
) -> Arrays:
    """Return the arrays of a batch; ``packed`` says whether rows may hold several samples, and
    ``memory`` is where pixels are written.
    """
    import numpy as np

    words = texts(rows, batch)
    segments = words["segment_ids"]  # (rows, length), 0 for padding
    places = words["position_ids"].transpose(1, 0, 2).astype(np.int64)
    found: Arrays = {
        "input_ids": words["input_ids"].astype(np.int64),
        "labels": words["labels"].astype(np.int64),
    }
    if packed:
        found["position_ids"] = np.concatenate([_own_places(segments)[None], places])
    else:
        found["position_ids"] = places
        found["attention_mask"] = (segments != 0).astype(np.int64)

    for name, grids, clips in (
        ("pixel_values", "image_grid_thw", False),
        ("pixel_values_videos", "video_grid_thw", True),
    ):
        taken = [
            (plan, views)
            for row in rows
            for sample in row
            for plan, views in zip(sample.encoded.pixels, sample.views, strict=True)
            if bool(plan.frames) == clips
        ]
        if taken:
            found[name] = _normalized([views for _, views in taken], batch, memory or Memory())
            found[grids] = np.array([grid_of(plan) for plan, _ in taken], np.int64)
    return {name: found[name] for name in COLUMNS if name in found}


def _normalized(
    taken: Sequence[NDArray[np.uint8]], batch: BatchShape, memory: Memory
) -> NDArray[np.float32]:
    """Return the patches of media one after the other, (patches, row) float32; they are written
    where they belong, for at this size a copy costs as much as the arithmetic.
    """
    import numpy as np

    patches = batch.template.patches
    assert patches is not None, "the stream has checked it"
    counts = [views.size // patches.row for views in taken]
    rows = memory.empty((sum(counts), patches.row), np.float32)
    first = 0
    for views, count in zip(taken, counts, strict=True):
        normalize_rows(views, patches, rows[first : first + count])
        first += count
    return rows


def _own_places(segments: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return how far each token is from the first of its sample, or of the padding; (rows, length)
    int64.
    """
    import numpy as np

    index = np.arange(segments.shape[1])
    begins = np.ones(segments.shape, bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    first = np.maximum.accumulate(np.where(begins, index, 0), axis=1)
    own: NDArray[np.int64] = index - first
    return own
