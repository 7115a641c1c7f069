"""How often each size of a number occurs, in equal ranges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Histogram"]

_BINS: Final = 30


@dataclass(frozen=True, slots=True)
class Histogram:
    """``counts`` of the things between each of ``edges`` and the next, which are one more; both
    are empty where there is nothing. Edges of whole numbers lie halfway between two of them.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]

    @classmethod
    def of(cls, values: NDArray[Any]) -> Histogram:
        """Return the histogram of numbers, (things,), in at most 30 ranges of one width."""
        import numpy as np

        if not len(values):
            return cls((), ())

        low, high = values.min().item(), values.max().item()
        if values.dtype.kind in "iu":
            width = max(-(-(high - low + 1) // _BINS), 1)
            bins = -(-(high - low + 1) // width)
            edges = low - 0.5 + width * np.arange(bins + 1)
        else:
            edges = np.linspace(low, high if high > low else low + 1, _BINS + 1)
        counts, _ = np.histogram(values, edges)
        return cls(tuple(edges.tolist()), tuple(counts.tolist()))
