"""Positions of three axes, time, row and column, as models with multimodal rotary embeddings count
them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mmdata.templates._encoded import Ids

__all__ = ["Block", "grid_block", "place_blocks", "position_delta"]


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """The features of a medium in a sequence: they begin at ``start``, and ``offsets``
    (3, features) int32 are their positions from there. What follows is ``extent`` positions on.
    """

    start: int
    offsets: Ids
    extent: int


def grid_block(
    start: int, steps: NDArray[np.int32], rows: int, columns: int, extent: int | None = None
) -> Block:
    """Return the block of a grid of features, layer by layer and row by row.

    ``steps`` (layers,) int32 is where each layer is on the axis of time. ``extent`` is by default
    one more than the largest position on any axis.
    """
    import numpy as np

    offsets = np.empty((3, len(steps), rows, columns), np.int32)
    offsets[0] = steps[:, None, None]
    offsets[1] = np.arange(rows)[:, None]
    offsets[2] = np.arange(columns)
    reach = 1 + max(int(steps[-1]), rows - 1, columns - 1)
    return Block(start, offsets.reshape(3, -1), reach if extent is None else extent)


def place_blocks(length: int, blocks: Iterable[Block]) -> Ids:
    """Return (3, length) int32: text counts up on all axes at once, a block lies on its own grid,
    and what follows counts on after the block's extent.
    """
    import numpy as np

    places = np.empty((3, length), np.int32)
    done = following = 0
    for block in blocks:
        words = block.start - done
        places[:, done : block.start] = np.arange(following, following + words)
        following += words
        done = block.start + block.offsets.shape[1]
        places[:, block.start : done] = block.offsets + following
        following += block.extent
    places[:, done:] = np.arange(following, following + length - done)
    return places


def position_delta(positions: Ids) -> int:
    """Return how far the next position is ahead of the number of tokens; a token that is generated
    after them has its number plus this.
    """
    return int(positions.max()) + 1 - positions.shape[-1] if positions.size else 0
