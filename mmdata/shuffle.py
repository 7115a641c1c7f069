"""Chance that is the same everywhere: random keys as a pure function of a seed and an index.

The keys are SplitMix64 outputs (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014),
which no version of any library changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["choose", "keys"]


def keys(seed: int, count: int) -> NDArray[np.uint64]:
    """Return ``count`` random keys, (count,) uint64; the key of an index depends on it and the seed alone."""
    import numpy as np

    gamma = 0x9E3779B97F4A7C15
    start = np.uint64((seed * 0xD1342543DE82EF95 + gamma) % 2**64)
    state = start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(gamma)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def choose(seed: int, count: int, total: int) -> NDArray[np.int64]:
    """Return ``count`` of the indices 0..total-1, without replacement, ascending, (count,) int64."""
    import numpy as np

    if count >= total:
        return np.arange(total, dtype=np.int64)
    chosen = np.argsort(keys(seed, total), kind="stable")[:count]
    return np.sort(chosen).astype(np.int64)
