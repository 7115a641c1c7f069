"""Which row of a model's media features each position of a sequence takes.

A model turns every view (a picture, a tile, a frame) into the same number of feature rows, and lays those of a batch
one after the other: row ``r`` of view ``v`` has the index ``v * rows + r``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from mmdata.errors import ConfigError
from mmdata.templates import Encoded, Template

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.pipeline.encode import Sample

    Index = NDArray[np.int64]  # (positions,)

__all__ = ["Features", "features"]

_LLAVA: Final = frozenset({"llava_next_video", "llava_pad", "anyres"})


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """How many ``rows`` a view gives, and the ``index`` of the row for each position of a medium, (positions,) int64.

    The index counts from the medium's own first view.
    """

    rows: int
    index: Index


def features(sample: Sample, plan: int, template: Template) -> Features:
    """Return the features that the positions of one medium of a sample take, ``plan`` in ``sample.encoded.pixels``.

    Families take all rows of all views in order, but for LLaVA-NeXT, see :class:`_LlavaGrid`.
    """
    import numpy as np

    wanted, views = positions(sample.encoded, plan), len(sample.views[plan])
    pixels = sample.encoded.pixels[plan]
    if pixels.resize in _LLAVA:
        grid = _LlavaGrid.of(pixels.size, template)
        if pixels.resize == "anyres":
            return Features(grid.rows, grid.tiled(_known(sample.sizes[plan]), pixels.size, pixels.pinpoints))
        return Features(grid.rows, grid.frames(views, wanted) if pixels.frames else grid.picture(wanted))
    if wanted % views:
        raise ConfigError(f"{wanted} positions for {views} views: these features have no known arrangement")
    return Features(wanted // views, np.arange(wanted))


def positions(encoded: Encoded, plan: int) -> int:
    """Return how many positions a medium takes."""
    return sum(slot.length for slot in encoded.slots if slot.plan == plan)


@dataclass(frozen=True, slots=True)
class _LlavaGrid:
    """LLaVA-NeXT's rows of a view: a grid of ``side`` x ``side``, the ``pooled`` one, and the newline vector."""

    side: int
    pooled: int

    @classmethod
    def of(cls, size: int, template: Template) -> _LlavaGrid:
        side = size // int(getattr(template, "patch", 14))
        stride = int(getattr(template, "stride", 2))
        return cls(side, -(-side // stride) if getattr(template, "pool", "") == "bilinear" else side // stride)

    @property
    def rows(self) -> int:
        return self.side**2 + self.pooled**2 + 1

    def picture(self, wanted: int) -> Index:
        """The grid of the only view; then the newline, if there is a position for it."""
        import numpy as np

        index = np.arange(self.side**2)
        return index if wanted == len(index) else np.append(index, self.rows - 1)

    def frames(self, views: int, wanted: int) -> Index:
        """The pooled grids of all views, with as many newlines as there are positions for.

        That is none, one at the end, one a frame, or one a row of the grid (``video_newline`` of the template).
        """
        import numpy as np

        first = (np.arange(views) * self.rows)[:, None, None]  # (views, 1, 1)
        grid = first + self.side**2 + np.arange(self.pooled**2).reshape(self.pooled, self.pooled)
        newline = first + self.rows - 1
        flat, ends = grid.reshape(views, -1), newline.reshape(views, 1)
        lines = np.concatenate([grid, np.broadcast_to(newline, (views, self.pooled, 1))], 2)
        arrangements = (flat, np.append(flat, ends[-1]), np.concatenate([flat, ends], 1), lines)
        return next(found.ravel() for found in arrangements if found.size == wanted)

    @lru_cache(maxsize=256)  # noqa: B019  # grids are few; pictures of a data set are of few sizes
    def tiled(self, picture: tuple[int, int], size: int, pinpoints: tuple[tuple[int, int], ...]) -> Index:
        """The first view's grid, then the tiles' as one map without its border, each of its rows ended by a newline."""
        import numpy as np

        from mmdata.image import anyres

        patch = size // self.side
        kept = anyres.feature_grid(picture, side=size, patch=patch, pinpoints=pinpoints)
        down, across = kept.rows // self.side, kept.columns // self.side
        tile = (1 + np.arange(down * across).reshape(down, 1, across, 1)) * self.rows
        place = np.arange(self.side**2).reshape(1, self.side, 1, self.side)
        grid = (tile + place).reshape(kept.rows, kept.columns)[kept.top : kept.bottom, kept.left : kept.right]
        newlines = np.full((len(grid), 1), self.rows - 1)
        index: Index = np.concatenate([np.arange(self.side**2), np.concatenate([grid, newlines], 1).ravel()])
        index.setflags(write=False)
        return index


def _known(size: tuple[int, int] | None) -> tuple[int, int]:
    assert size is not None, "pictures are measured when they are read"
    return size
