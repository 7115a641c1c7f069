"""From a plan to the samples of a rank's rows."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from mmdata.errors import SampleError
from mmdata.pipeline.encode import Place, Sample
from mmdata.pipeline.plan import Cursor, EpochPlan, Step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Slab: TypeAlias = NDArray[np.uint8]  # (rows, views, size, size, 3)

__all__ = ["Outcome", "RankRows", "RankSlice", "read_steps", "read_whole_epoch"]

Outcome: TypeAlias = Sample | SampleError
Read: TypeAlias = Callable[[Iterator[Place]], Iterator[Outcome]]
Tolerates: TypeAlias = Callable[[SampleError], bool]


@dataclass(frozen=True, slots=True)
class RankSlice:
    """A rank's rows of every global batch: ``size`` of them from the ``first`` on."""

    first: int
    size: int

    @property
    def rows(self) -> slice:
        """Its rows as a slice."""
        return slice(self.first, self.first + self.size)

    def num_repeated(self, repeated: int, batch: int) -> int:
        """Return how many of its rows are among the last ``repeated`` ones of a batch."""
        return min(self.size, max(0, self.first + self.size - (batch - repeated)))


@dataclass(frozen=True, slots=True, eq=False)
class RankRows:
    """A rank's rows of a global batch, no rows at the end of an epoch,
    and where the stream stands after it.

    ``left_out`` counts the samples that had no place in a batch until then, by reason; ``empty``
    those of this batch whose place stays empty. ``slab`` is the memory that the samples' pixels
    were decoded to, if it is theirs alone.
    """

    rows: Sequence[Sequence[Sample]]
    repeated: int
    after: Cursor
    left_out: Mapping[str, int]
    empty: Mapping[str, int]
    slab: Slab | None = None


def read_steps(
    plan: EpochPlan,
    cursor: Cursor,
    share: RankSlice,
    read: Read,
    tolerates: Tolerates,
    *,
    slab: Callable[[int], Slab | None] = lambda rows: None,
) -> Iterator[RankRows]:
    """Yield the rank's rows of the steps of an epoch after ``cursor``; only these are read.

    ``slab`` makes room for the pixels of a number of rows, so that they are decoded where a batch
    has them.

    Raises:
        SampleError: of a sample whose error is not to be tolerated; otherwise its place stays
            empty.
    """
    steps: deque[tuple[Step, Slab | None]] = deque()

    def places() -> Iterator[Place]:
        for step in plan.steps(cursor):
            rows = step.rows[share.rows]
            room = slab(len(rows))
            steps.append((step, room))
            for number, row in enumerate(rows):
                yield from row if room is None else _with_room(row, room[number])

    outcomes: list[Outcome] = []
    for outcome in read(places()):
        if isinstance(outcome, SampleError) and not tolerates(outcome):
            raise outcome
        outcomes.append(outcome)
        if len(outcomes) == sum(map(len, steps[0][0].rows[share.rows])):
            yield _rank_rows(*steps.popleft(), outcomes, share, plan.batch)
            outcomes = []
    end, _ = steps.popleft()
    yield RankRows((), 0, end.after, end.counts, {})


def _with_room(row: Sequence[Place], room: NDArray[np.uint8]) -> Iterator[Place]:
    """Give each place of a row the room after those before it;
    of several in a row the plan knows the views.
    """
    for place in row:
        yield replace(place, room=room)
        room = room[place.views :] if len(row) > 1 else room


def _rank_rows(
    step: Step, slab: Slab | None, outcomes: Sequence[Outcome], share: RankSlice, batch: int
) -> RankRows:
    rows, rest = [], iter(outcomes)
    for row in step.rows[share.rows]:
        rows.append([found for _ in row if isinstance(found := next(rest), Sample)])
    empty = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, SampleError))
    if empty:
        slab = None  # whoever was late may still write to it
    return RankRows(
        rows, share.num_repeated(step.repeated, batch), step.after, step.counts, empty, slab
    )


def read_whole_epoch(
    plan: EpochPlan, cursor: Cursor, share: RankSlice, read: Read, tolerates: Tolerates
) -> Iterator[RankRows]:
    """Yield the rank's rows of the global batches of an epoch after ``cursor``,
    made of samples that could be read.

    Every rank reads all samples, so that all leave out the same ones.

    Raises:
        SampleError: of a sample whose error is not to be tolerated.
    """
    counts = Counter(cursor.counts)
    found: list[Sample] = []
    places = (
        Place(position, plan.order.index(cursor.epoch, position))
        for position in range(cursor.position, plan.order.count)
    )

    for position, outcome in enumerate(read(places), cursor.position + 1):
        if isinstance(outcome, Sample):
            found.append(outcome)
        elif tolerates(outcome):
            counts[outcome.reason] += 1
        else:
            raise outcome
        if len(found) == plan.batch:
            after = Cursor(cursor.epoch, position, counts=dict(counts))
            yield RankRows([[sample] for sample in found[share.rows]], 0, after, after.counts, {})
            found = []

    yield from _rest(plan, cursor.epoch, share, found, counts)


def _rest(
    plan: EpochPlan,
    epoch: int,
    share: RankSlice,
    found: Sequence[Sample],
    counts: Mapping[str, int],
) -> Iterator[RankRows]:
    samples = {sample.place.position: sample for sample in found}
    batches, counts = plan.leftover([(sample.place,) for sample in found], counts)
    for rows, repeated in batches:
        own = [[samples[place.position] for place in row] for row in rows[share.rows]]
        after = Cursor(epoch, plan.order.count, counts=counts)
        yield RankRows(own, share.num_repeated(repeated, plan.batch), after, counts, {})
    yield RankRows((), 0, Cursor(epoch + 1, counts=counts), counts, {})
