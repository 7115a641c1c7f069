"""MindFormers' `random_mapping`: rows drawn with replacement, each draw a function of its number.

It is how a run of 5,000 updates reads a data set of a hundred rows: the set is as long as `scale`
times its rows, and any row may come at any place. No seed goes in, so that each epoch, each run and
each rank draws alike; some rows may never come.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, overload

from mmdata._tools.options import PositiveInt, check_fields

__all__ = ["RandomMapping"]

# MindFormers' data loader (r1.0, that of the family whose YAML says `random_mapping`) seeds numpy's
# generator with sixteen numbers of Python's, which the number of the draw has seeded.
_SEEDS: Final = 16


@dataclass(frozen=True)
class RandomMapping(Sequence[int]):
    """Draws with replacement from ``rows``, ``scale`` times as many as these are.

    Each is made when it is asked for, some 0.1 ms: of large data sets only few are needed at once.

    >>> list(RandomMapping(range(85)))[:4]
    [21, 37, 19, 71]
    """

    rows: Sequence[int]
    scale: PositiveInt = 1

    def __post_init__(self) -> None:
        """Check the scale."""
        check_fields(self)

    def __len__(self) -> int:
        """Return the number of draws."""
        return len(self.rows) * self.scale

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> list[int]: ...
    def __getitem__(self, index: int | slice) -> int | list[int]:
        """Return the row of one draw, or those of several."""
        import numpy as np

        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        numbers = random.Random(range(len(self))[index])
        seeds = [numbers.randint(0, 2**32 - 1) for _ in range(_SEEDS)]
        # The legacy generator: its draws are frozen, those of `default_rng` may change.
        return int(self.rows[np.random.RandomState(seeds).randint(len(self.rows))])
