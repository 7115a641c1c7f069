"""Which row of a model's media features each position of a medium takes.

A model turns every view (a picture, a tile, a frame) into the same number of feature rows, and lays
those of a batch one after the other: row ``r`` of view ``v`` has the index ``v * rows + r``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from mmdata.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Index: TypeAlias = NDArray[np.int64]  # (positions,)

__all__ = ["FeatureIndex", "index_all_rows"]


@dataclass(frozen=True, slots=True, eq=False)
class FeatureIndex:
    """How many ``rows`` a view gives, and the ``index`` of the row
    for each position of a medium, (positions,) int64.

    The index counts from the medium's own first view.
    """

    rows: int
    index: Index


def index_all_rows(positions: int, views: int) -> FeatureIndex:
    """Return the index of models whose positions take all rows of all views in order.

    Raises:
        ConfigError: the positions cannot be shared out evenly among the views.
    """
    import numpy as np

    if positions % views:
        raise ConfigError(
            f"{positions} positions for {views} views: these features have no known arrangement"
        )
    return FeatureIndex(positions // views, np.arange(positions))
