"""How far reading some sources has come, for whoever shows progress.

Those who read say which share of the sources comes before what they hand over next; whoever takes
it counts the records. So it is known which share of the sources any number of records is, those
that were taken long before they are dealt with among them: nothing is read for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

__all__ = ["Meter", "Tell", "tell_nobody"]

Tell: TypeAlias = Callable[[float], object]
"""What a reader calls, before it hands over records, with the share of its file that comes before
those which are to follow.
"""


def tell_nobody(share: float) -> None:
    """Do nothing: nobody asks how far reading is."""


class _Mark(NamedTuple):
    """So many records are this share of the sources."""

    records: int
    share: float


class Meter:
    """Knows which share of some sources a number of records is, 0 to 1.

    >>> meter = Meter()
    >>> meter.tell(0.5)
    >>> meter.take(100)
    >>> meter.share_of(50)
    0.25
    """

    def __init__(self) -> None:
        self._told = 0.0
        self._taken = 0
        self._passed = _Mark(0, 0.0)
        self._ahead: deque[_Mark] = deque()

    def tell(self, share: float) -> None:
        """Note that what is taken next ends at a share of the sources."""
        self._told = share

    def take(self, records: int) -> None:
        """Note that so many records were taken."""
        self._taken += records
        last = self._ahead[-1] if self._ahead else self._passed
        if self._told > last.share:
            self._ahead.append(_Mark(self._taken, self._told))

    def end(self, share: float) -> None:
        """Note that all that was taken so far is a share of the sources: a file has ended."""
        self.tell(share)
        self.take(0)

    def share_of(self, records: int) -> float | None:
        """Return which share of the sources the first so many records are, those between two marks
        alike; None where no reader has told. They never become fewer.
        """
        while self._ahead and self._ahead[0].records <= records:
            self._passed = self._ahead.popleft()
        begin, share = self._passed
        if self._ahead and records > begin:
            end = self._ahead[0]
            share += (end.share - share) * (records - begin) / (end.records - begin)
        return share or None
