"""Which samples make up each global batch: the order cut into windows, the windows into batches.

A plan is made without decoding and is the same on every rank. Where all samples are alike to it, a
window is a batch and nothing is looked at; packing and grouping look at (read and tokenize) every
sample of a window, on every rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from mmdata.errors import SampleError
from mmdata.pipeline.encode import Place
from mmdata.pipeline.group import Rows
from mmdata.pipeline.order import Order

__all__ = ["DROPPED_LAST", "REPEATED", "Cursor", "EpochPlan", "Step"]

DROPPED_LAST: Final = "dropped_last"
REPEATED: Final = "repeated"

Arrange: TypeAlias = Callable[[Sequence[Place]], tuple[list[Rows], list[Rows]]]
"""From the places of a window to whole global batches,
and to the rows that make none, those alike together.
"""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a stream stands:
    ``within`` steps into the window that begins at ``position`` of ``epoch``.

    ``carry`` are positions before it that are still to come (from windows before), and ``counts``
    the samples that were left out before it, by reason, with those dropped (``dropped_last``) or
    repeated at the end of an epoch.
    """

    epoch: int = 0
    position: int = 0
    within: int = 0
    carry: tuple[int, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """A global batch: its rows, how many at their end repeat others,
    and where the stream stands after it.

    ``counts`` are those of the cursor and what was left out in the window so far. A step without
    rows ends an epoch.
    """

    rows: Rows
    repeated: int
    after: Cursor
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class EpochPlan:
    """The steps of an epoch.

    ``look`` encodes a sample to see what it is, and is None where nothing depends on it; of what it
    raises, the sample is left out and counted where ``skips`` says so. ``window`` is the number of
    samples that are arranged together.
    """

    order: Order
    arrange: Arrange
    batch: int
    window: int
    drop_last: bool
    look: Callable[[int, int], Place] | None
    skips: Callable[[SampleError], bool]

    def steps(self, cursor: Cursor) -> Iterator[Step]:
        """Yield the steps of the epoch that come after ``cursor``, then one without rows.

        Raises:
            SampleError: a sample that cannot be encoded and is not to be left out.
        """
        while cursor.position < self.order.count or cursor.carry:
            batches, rest, after = self._window(cursor)
            ends = after.position == self.order.count
            if ends:
                batches, after = self._ending(batches, rest, after)
            for number, (rows, repeated) in enumerate(batches, 1):
                place = replace(cursor, within=number) if ends or number < len(batches) else after
                if number > cursor.within:
                    yield Step(rows, repeated, place, after.counts)
            cursor = after
        yield Step((), 0, Cursor(cursor.epoch + 1, counts=cursor.counts), cursor.counts)

    def leftover(
        self, rows: Rows, counts: Mapping[str, int]
    ) -> tuple[list[tuple[Rows, int]], Mapping[str, int]]:
        """Return what becomes of rows that make no whole batch
        at the end of an epoch, and the counts after it.
        """
        if not rows:
            return [], counts
        if self.drop_last:
            return [], Counter(counts) + Counter({DROPPED_LAST: sum(map(len, rows))})
        missing = self.batch - len(rows)
        repeats = tuple(rows[number % len(rows)] for number in range(missing))
        repeated = Counter({REPEATED: sum(map(len, repeats))})
        return [((*rows, *repeats), missing)], Counter(counts) + repeated

    def _ending(
        self, batches: list[tuple[Rows, int]], rest: list[Rows], after: Cursor
    ) -> tuple[list[tuple[Rows, int]], Cursor]:
        counts = after.counts
        for rows in rest:
            last, counts = self.leftover(rows, counts)
            batches = batches + last
        return batches, replace(after, carry=(), counts=counts)

    def _window(self, cursor: Cursor) -> tuple[list[tuple[Rows, int]], list[Rows], Cursor]:
        """Return the batches of the window at ``cursor``,
        the rows that are left, and the cursor after it.
        """
        counts = Counter(cursor.counts)
        places = [self._place(cursor.epoch, position) for position in cursor.carry]
        position, size = cursor.position, 0

        while True:
            size += self.window
            while len(places) < size and position < self.order.count:
                places += self._look_at(cursor.epoch, position, counts)
                position += 1
            batches, rest = self.arrange(places)
            if batches or position == self.order.count:
                break

        # What made no batch comes first in the next window, so that no sample waits for ever.
        left = [place.position for rows in rest for row in rows for place in row]
        after = Cursor(cursor.epoch, position, 0, tuple(sorted(left)), counts)
        return [(rows, 0) for rows in batches], rest, after

    def _look_at(self, epoch: int, position: int, counts: Counter[str]) -> list[Place]:
        try:
            return [self._place(epoch, position)]
        except SampleError as error:
            if not self.skips(error):
                raise
            counts[error.reason] += 1
            return []

    def _place(self, epoch: int, position: int) -> Place:
        index = self.order.index(epoch, position)
        return Place(position, index) if self.look is None else self.look(position, index)
