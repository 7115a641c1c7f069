"""The columns of MindFormers' multimodal data sets:
``input_ids, images, image_context_pos, labels``.

- ``input_ids`` and ``labels`` (rows, length + 1) int32, which the network shortens by one at either
  end;
- ``images`` (rows, max_views, 3, size, size) float32, normalised;
- ``image_context_pos`` (rows, max_views, positions, 2) int32: for each position that features take,
  row and position.

Where a row has fewer images, MindFormers repeats the last one at the end of the sequence, over
whatever text is there. Here it is repeated at its own place, which changes nothing; a row without
images has a white one at the end of its padding, and is refused if it has no padding to spare.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mmdata.errors import SampleError
from mmdata.pipeline.collate import BatchShape, Rows, num_views, texts
from mmdata.pipeline.encode import Sample
from mmdata.templates import IGNORE

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.pipeline.collate import Arrays

__all__ = ["COLUMNS", "mindformers_arrays"]

COLUMNS = ("input_ids", "images", "image_context_pos", "labels")


def mindformers_arrays(rows: Rows, batch: BatchShape, first_row: int = 0) -> Arrays:
    """Return the four arrays; ``first_row`` is the number of the first row in the global batch.

    Raises:
        SampleError: a sample's views take unequal positions, or there is no room for a missing
            image.
    """
    import numpy as np

    from mmdata.image import normalize

    words = texts(rows, batch)
    size = batch.template.view_size
    views = batch.max_views or max(num_views([row]) for row in rows) or 1
    length = words["input_ids"].shape[1] + 1
    places = np.stack([_places(row, batch.template.view_positions, views, length) for row in rows])
    numbers = np.broadcast_to(
        np.arange(first_row, first_row + len(rows)).reshape(-1, 1, 1), places.shape
    )
    return {
        "input_ids": _longer(words["input_ids"], batch.template.pad_id),
        "images": np.stack([normalize(_images(row, size, views)) for row in rows]),
        "image_context_pos": np.stack([numbers, places], -1).astype(np.int32),
        "labels": _longer(words["labels"], IGNORE),
    }


def _images(row: Sequence[Sample], size: int, count: int) -> NDArray[np.uint8]:
    """The views of a row, the last one repeated: (count, size, size, 3)."""
    import numpy as np

    found = [view for sample in row for views in sample.views for view in views]
    found = found or [np.full((size, size, 3), 255, np.uint8)]
    return np.stack([*found, *[found[-1]] * (count - len(found))])


def _places(row: Sequence[Sample], positions: int, count: int, length: int) -> NDArray[np.int64]:
    """The positions of each view of a row, the last view's repeated: (count, positions)."""
    import numpy as np

    taken = [
        position
        for sample in row
        for slot in sample.encoded.slots
        for position in range(slot.start, slot.stop)
    ]
    if len(taken) != positions * num_views([row]):
        raise SampleError(
            f"sample {row[0].id!r} has {len(taken)} positions for {num_views([row])} views; "
            f"the layout mindformers wants {positions or 'as many'} for each, "
            "use the layout mmdata"
        )
    if not taken:
        return np.tile(_spare(row, positions, length), (count, 1))
    found = np.array(taken).reshape(-1, positions)
    return np.concatenate([found, np.repeat(found[-1:], count - len(found), 0)])


def _spare(row: Sequence[Sample], positions: int, length: int) -> NDArray[np.int64]:
    """The end of a row's padding, where an image that is none does no harm."""
    import numpy as np

    tokens = sum(len(sample.encoded) for sample in row)
    if tokens + positions > length:
        raise SampleError(
            f"sample {row[0].id!r} has no image and {tokens} tokens: MindFormers overwrites "
            f"{positions} positions at the end of {length}; leave text this long out, "
            "or use the layout mmdata"
        )
    return np.arange(length - positions, length)


def _longer(words: NDArray[np.generic], fill: int) -> NDArray[np.generic]:
    import numpy as np

    return np.pad(words, [(0, 0), (0, 1)], constant_values=fill)
