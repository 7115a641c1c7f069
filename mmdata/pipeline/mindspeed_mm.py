"""The batches of MindSpeed-MM's trainer of models that read patches of any grid.

They are those of :mod:`mmdata.pipeline.transformers` but for what its trainer makes of them
(``get_batch`` of ``pretrain_vlm.py``, ``VLMModel.forward``, and the collator in
``mindspeed_mm/data/data_utils/func_utils``, all of Ascend/MindSpeed-MM@0f147b4 and the revisions
beside it):

- rows are a multiple of 8 tokens long;
- a batch has pictures or clips: the trainer puts clips in the place of pictures, which are lost;
- a batch without media has a white picture, of one feature, behind the first row's words. Its
  attention mask is 0 there and nothing is trained: the model has no way without a picture;
- rows are not packed: samples are told apart by the attention mask alone;
- ``position_ids`` are there: those that it counts itself know no seconds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mmdata._tools.options import checked
from mmdata.errors import ConfigError, SampleError
from mmdata.image.patches import normalize_rows
from mmdata.pipeline.collate import BatchShape, Rows
from mmdata.pipeline.memory import Memory
from mmdata.pipeline.transformers import COLUMNS, transformers_arrays

if TYPE_CHECKING:
    from mmdata.pipeline.collate import Arrays

__all__ = ["COLUMNS", "mindspeed_mm_arrays"]

_MULTIPLE: Final = 8
"""What the length of rows is a multiple of (``pad_to_multiple_of`` of its collator)."""
_PICTURE: Final = ("<|vision_start|>", "<|image_pad|>", "<|vision_end|>")
"""A picture of one feature, in the tokens by whose ids the trainer finds pictures."""


@checked
def mindspeed_mm_arrays(rows: Rows, batch: BatchShape, *, memory: Memory | None = None) -> Arrays:
    """Return the arrays of a batch; pixels are written to ``memory``.

    Raises:
        ConfigError: a batch of pictures and clips.
        SampleError: no media, and no room for a picture.
    """
    length = -(-batch.length(rows) // _MULTIPLE) * _MULTIPLE
    whole = replace(batch, seq_length=length, dynamic=False)
    found = transformers_arrays(rows, whole, packed=False, memory=memory)
    if "pixel_values" in found and "pixel_values_videos" in found:
        ids = ", ".join(sample.id for row in rows for sample in row)
        raise ConfigError(
            f"the batch of {ids} has pictures and clips, of which MindSpeed-MM's trainer keeps the "
            "clips alone: take group_by='modality', and leave out samples that show both"
        )
    if "pixel_values" not in found and "pixel_values_videos" not in found:
        return _with_a_picture(found, rows, batch)
    return found


def _with_a_picture(found: Arrays, rows: Rows, batch: BatchShape) -> Arrays:
    """Return a batch of texts with a picture in the padding of its first row."""
    import numpy as np

    special = batch.template.tokenizer.special
    ids = [special[name] for name in _PICTURE]
    begins = sum(len(sample.encoded) for sample in rows[0])
    words = found["input_ids"].copy()
    if begins + len(ids) > words.shape[1]:
        raise SampleError(
            f"sample {rows[0][0].id!r} has {begins} tokens and no media: MindSpeed-MM's model "
            f"needs a picture, and a row of {words.shape[1]} has no room for its {len(ids)} "
            "tokens; give the template a smaller max_length"
        )
    words[0, begins : begins + len(ids)] = ids

    patches = batch.template.patches
    assert patches is not None, "the stream has checked it"
    white = np.full((1, *patches.view_shape), 255, np.uint8)
    grid = np.array([[1, patches.merge, patches.merge]], np.int64)
    pixels = normalize_rows(white, patches)
    named = {**found, "input_ids": words, "pixel_values": pixels, "image_grid_thw": grid}
    return {name: named[name] for name in COLUMNS if name in named}
