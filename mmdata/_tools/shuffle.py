"""Chance that is the same everywhere: random keys as a pure function of a seed and an index.

The keys are SplitMix64 outputs (Steele, Lea and Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), which no version of any library changes. :func:`permute` builds
permutations from them that take no memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["choose", "keys", "permute"]

_WORD: Final = 2**64 - 1
_GAMMA: Final = 0x9E3779B97F4A7C15
_ROUNDS: Final = 6  # of the Feistel network; four make it pseudorandom (Luby and Rackoff, 1988)
_LEAST_HALF: Final = 4  # bits; in a smaller network few permutations are reached


def keys(seed: int, count: int) -> NDArray[np.uint64]:
    """Return ``count`` random keys, (count,) uint64;
    the key of an index depends on it and the seed alone.
    """
    import numpy as np

    start = np.uint64((seed * 0xD1342543DE82EF95 + _GAMMA) % 2**64)
    state = start + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(_GAMMA)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def choose(seed: int, count: int, total: int) -> NDArray[np.int64]:
    """Return ``count`` of the indices 0..total-1,
    without replacement, ascending, (count,) int64.
    """
    import numpy as np

    if count >= total:
        return np.arange(total, dtype=np.int64)
    chosen = np.argsort(keys(seed, total), kind="stable")[:count]
    return np.sort(chosen).astype(np.int64)


def permute(seed: int, count: int, index: int) -> int:
    """Return where ``index`` goes in a random permutation of 0..count-1,
    in constant time and memory.

    A Feistel network permutes the next larger square of a power of two; what falls outside is sent
    through it again until it falls inside (Black and Rogaway, "Ciphers with arbitrary finite
    domains", 2002).

    >>> sorted(permute(7, 5, index) for index in range(5))
    [0, 1, 2, 3, 4]
    """
    half = max(_LEAST_HALF, (max(count - 1, 1).bit_length() + 1) // 2)
    start = _mix(seed & _WORD)
    while True:
        index = _feistel(start, half, index)
        if index < count:
            return index


def _feistel(start: int, half: int, index: int) -> int:
    mask = (1 << half) - 1
    left, right = index >> half, index & mask
    for number in range(_ROUNDS):
        key = (start + (number << half | right) * _GAMMA) & _WORD
        left, right = right, left ^ (_mix(key) & mask)
    return left << half | right


def _mix(state: int) -> int:
    """SplitMix64's output for a state."""
    state = ((state ^ state >> 30) * 0xBF58476D1CE4E5B9) & _WORD
    state = ((state ^ state >> 27) * 0x94D049BB133111EB) & _WORD
    return state ^ state >> 31
