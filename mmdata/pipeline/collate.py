"""From the samples of a rank's rows to arrays, in the layout of our models.

All are (rows, length) int32 but for the pixels:

- ``input_ids``; ``labels``, -100 where nothing is trained; not shifted;
- ``position_ids``, of each sample for itself, the last one repeated in padding; (rows, 2, length)
  with two axes;
- ``segment_ids``, 1, 2 ... for the samples of a row, 0 for padding;
- ``pixel_values`` (views, size, size, 3) uint8: pictures, tiles and frames of the whole batch one
  after the other, black ones at the end; or (views, 3, size, size) float32, normalised;
- ``media_index``, -1 for text, else the row in the flattened media features, see
  :mod:`mmdata.pipeline.features`.

Of a family that cuts media into patches of no fixed grid, ``pixel_values`` is (patches, row) uint8,
or float32 and normalised: those of a feature are next to each other, and features, which
``media_index`` numbers, in the order of layers, rows and columns. ``grid_thw`` (media, 3) says how
many of these, in patches, each medium has, in the order of their pixels, and of packed rows
``cu_seqlens`` (samples and paddings + 1,) where each of these begins in the rows laid one after the
other. Where rows have room for
``max_views`` features, black patches and grids of zeros fill it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from mmdata.pipeline.encode import Sample
from mmdata.pipeline.features import index_features
from mmdata.pipeline.memory import Memory
from mmdata.templates import IGNORE, PixelPlan, Template

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.pipeline.produce import Slab

    Arrays: TypeAlias = dict[str, NDArray[np.generic]]

__all__ = [
    "BORDERS",
    "COLUMNS",
    "GRIDS",
    "BatchShape",
    "PixelType",
    "Rows",
    "arrays",
    "grid_of",
    "join_views",
    "media_mask",
    "num_views",
    "prepare_views",
    "texts",
]

PixelType: TypeAlias = Literal["uint8", "float32"]
Rows: TypeAlias = Sequence[Sequence[Sample]]

GRIDS = ("grid_thw",)
"""What a batch has beside for a family of patches."""
BORDERS = ("cu_seqlens",)
"""What such a batch has beside where rows are packed."""
COLUMNS = ("input_ids", "labels", "position_ids", "segment_ids", "pixel_values", "media_index")


@dataclass(frozen=True, slots=True)
class BatchShape:
    """What shapes a batch has.

    Rows have ``seq_length`` tokens, or, if it is ``dynamic``, as many as the longest one. A row has
    room for ``max_views`` views; None gives the batch as many as there are, and one at least.
    """

    template: Template
    seq_length: int
    dynamic: bool
    max_views: int | None
    pixels: PixelType

    def length(self, rows: Rows) -> int:
        """Return how many tokens the rows are long."""
        longest = max((sum(len(sample.encoded) for sample in row) for row in rows), default=0)
        return max(longest, 1) if self.dynamic else self.seq_length

    def views(self, rows: Rows) -> int:
        """Return how many views the batch has room for."""
        return max(num_views(rows), 1) if self.max_views is None else self.max_views * len(rows)

    def slab(self, rows: int, memory: Memory) -> Slab | None:
        """Return a piece of ``memory`` for the pixels of some rows,
        (rows, views, size, size, 3), if their number is known.
        """
        import numpy as np

        if self.max_views is None:
            return None
        return memory.empty((rows, self.max_views, *self.view_shape), np.uint8)

    @property
    def view_shape(self) -> tuple[int, ...]:
        """The shape of a view: a square of pixels, or the patches that become one feature."""
        patches, side = self.template.patches, self.template.view_size
        return (side, side, 3) if patches is None else patches.view_shape


def arrays(
    rows: Rows, batch: BatchShape, slab: Slab | None = None, *, memory: Memory | None = None
) -> Arrays:
    """Return the arrays of a batch; a row without samples is all padding.

    ``slab`` is memory that the batch may have for its own, with pixels of the samples in it; these
    may be moved. Without it pixels are written to ``memory``.
    """
    memory = memory or Memory()
    found = {
        **texts(rows, batch),
        "pixel_values": prepare_views(join_views(rows, batch, slab, memory), batch, memory),
        "media_index": _media_index(rows, batch),
    }
    if batch.template.patches is not None:
        found["grid_thw"] = _grids(rows, batch)
        found["cu_seqlens"] = _borders(found["segment_ids"])
    return found


def media_mask(rows: Rows, batch: BatchShape) -> NDArray[np.bool_]:
    """Return which views of a batch are not padding, (views,) bool."""
    import numpy as np

    return np.arange(batch.views(rows)) < num_views(rows)


def prepare_views(
    views: NDArray[np.uint8], batch: BatchShape, memory: Memory
) -> NDArray[np.generic]:
    """Return views (views, size, size, 3) uint8 as they are,
    or normalised, (views, 3, size, size) float32; of a family of patches (patches, row) of either.
    """
    import numpy as np

    from mmdata.image import normalize
    from mmdata.image.patches import normalize_rows

    patches = batch.template.patches
    if patches is None:
        return views if batch.pixels == "uint8" else normalize(views)
    if batch.pixels == "uint8":
        return views.reshape(-1, patches.row)
    out = memory.empty((views.size // patches.row, patches.row), np.float32)
    return normalize_rows(views, patches, out)


def num_views(rows: Rows) -> int:
    """Return how many pictures, tiles and frames the samples of some rows have."""
    return sum(len(views) for row in rows for sample in row for views in sample.views)


def texts(rows: Rows, batch: BatchShape) -> Arrays:
    """Return the arrays of a batch that are not of media."""
    import numpy as np

    shape = (len(rows), batch.length(rows))
    ids = np.full(shape, batch.template.pad_id, np.int32)
    labels = np.full(shape, IGNORE, np.int32)
    segments = np.zeros(shape, np.int32)
    axes = batch.template.position_axes
    places = np.zeros((shape[0], *axes, shape[1]), np.int32)  # (rows, length) or (rows, 2, length)
    for number, row in enumerate(rows):
        start = 0
        for segment, sample in enumerate(row, 1):
            here = (number, slice(start, start := start + len(sample.encoded)))
            ids[here] = sample.encoded.input_ids
            labels[here] = sample.encoded.labels
            segments[here] = segment
            places[number, ..., here[1]] = sample.encoded.position_ids
            if segment > 1:
                labels[number, here[1].start] = IGNORE  # what comes before it is another sample's
        if row:
            places[number, ..., start:] = places[number, ..., start - 1 : start]
    return {"input_ids": ids, "labels": labels, "position_ids": places, "segment_ids": segments}


def join_views(
    rows: Rows, batch: BatchShape, slab: Slab | None, memory: Memory
) -> NDArray[np.uint8]:
    """Return the views of all samples one after the other, black ones at the end."""
    import numpy as np

    shape = batch.views(rows), *batch.view_shape
    values = memory.empty(shape, np.uint8) if slab is None else slab.reshape(shape)
    first = 0
    for views in (views for row in rows for sample in row for views in sample.views):
        here = values[first : first + len(views)]
        # Samples decode into the slab where they can. Views that begin where they belong are there
        # whole, both being contiguous; to compare addresses costs nothing, a copy costs the batch.
        if _address(here) != _address(views):
            here[...] = views
        first += len(views)
    values[first:] = 0
    return values


def _grids(rows: Rows, batch: BatchShape) -> NDArray[np.int32]:
    """Return layers, rows and columns of patches of all media in order: (media, 3), or with as many
    rows as there may be media, zeros at the end.
    """
    import numpy as np

    grids = [grid_of(plan) for row in rows for sample in row for plan in sample.encoded.pixels]
    room = len(grids) if batch.max_views is None else batch.views(rows)
    found = np.zeros((room, 3), np.int32)
    found[: len(grids)] = np.array(grids, np.int32).reshape(-1, 3)
    return found


def _borders(segments: NDArray[np.generic]) -> NDArray[np.int32]:
    """Return where samples and padding begin and end in all rows one after the other, from 0 to the
    number of tokens; (borders,) int32.
    """
    import numpy as np

    begins = np.ones(segments.shape, bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return np.append(np.flatnonzero(begins), segments.size).astype(np.int32)


def grid_of(plan: PixelPlan) -> tuple[int, int, int]:
    """Return layers, rows and columns of the patches of a medium."""
    assert plan.grid is not None, "the media of a family of patches have grids"
    return plan.grid.layers, plan.grid.rows, plan.grid.columns


def _address(array: NDArray[np.uint8]) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def _media_index(rows: Rows, batch: BatchShape) -> NDArray[np.int32]:
    import numpy as np

    index = np.full((len(rows), batch.length(rows)), -1, np.int32)
    first = 0
    for line, row in zip(index, rows, strict=True):
        start = 0
        for sample in row:
            for plan, views in enumerate(sample.views):
                found = index_features(sample, plan, batch.template)
                _fill(line[start:], sample, plan, found.index + first * found.rows)
                first += len(views)
            start += len(sample.encoded)
    return index


def _fill(line: NDArray[np.int32], sample: Sample, plan: int, index: NDArray[np.int64]) -> None:
    for slot in sample.encoded.slots:
        if slot.plan == plan:
            line[slot.start : slot.stop], index = index[: slot.length], index[slot.length :]
    assert not len(index), "as many features as positions"
