"""Which sample comes at which position: a pure function of seed, epoch and position."""

from __future__ import annotations

from dataclasses import dataclass

from mmdata._tools.options import NonNegativeInt, check_fields
from mmdata._tools.shuffle import permute

__all__ = ["Order"]


@dataclass(frozen=True, slots=True)
class Order:
    """The order in which an epoch takes ``count`` samples; constant memory, whatever the count.

    >>> order = Order(5, seed=0)
    >>> sorted(order.index(epoch=3, position=position) for position in range(5))
    [0, 1, 2, 3, 4]
    """

    count: NonNegativeInt
    seed: int = 0
    shuffle: bool = True

    def __post_init__(self) -> None:
        """Check the options."""
        check_fields(self)

    def index(self, epoch: int, position: int) -> int:
        """Return the index of the sample at ``position`` (0..count-1) of ``epoch``."""
        if not 0 <= position < self.count:
            raise IndexError(f"position {position} of an epoch of {self.count} samples")
        if not self.shuffle:
            return position
        # An epoch of one seed shares no permutation with an epoch of another: each has its number.
        return permute(self.seed << 32 | epoch, self.count, position)
