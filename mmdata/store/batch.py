"""A batch of conversations: what formats hand to a conversion,
and what every step of it takes and gives back.

The rows are Arrow columns as a store keeps them. Beside them stands where each row came from and,
in their places among the records, the rejects that other records have become, so that one object
carries the whole account.
"""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import TYPE_CHECKING, Final, TypeAlias

from mmdata.rejects import Reject
from mmdata.schema import Box, Conversation, Message, Part, Region
from mmdata.schema import replace as replace_fields
from mmdata.store.arrays import integers, list_lengths, list_values, lists_of
from mmdata.store.decode import BatchView
from mmdata.store.encode import arrow_schema, encode, flatten, make_structs
from mmdata.store.faults import UNSTORABLE, blame_row

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "BATCH_BYTES",
    "BATCH_RECORDS",
    "ConversationBatch",
    "Origins",
    "PixelBoxes",
    "pixel_boxes_of",
]

PixelBoxes: TypeAlias = Mapping[int, tuple[Box, ...]]
"""Boxes in pixels, by the number of their region in the row."""

BATCH_RECORDS: Final = 4096
"""How many records a batch accounts for at the most, and how many rows one of a store has: reading
at random is the faster, the fewer batches a store has.
"""
BATCH_BYTES: Final = 16 << 20
"""About how many bytes the rows of a batch take at the most, one of them aside."""


@dataclass(frozen=True, slots=True)
class Origins:
    """Where rows came from: the source file of each,
    its record's number in it, and the record's own id or None.
    """

    files: Sequence[str]
    numbers: Sequence[int]
    ids: Sequence[str | None]

    def __len__(self) -> int:
        """Return how many rows these are the origins of."""
        return len(self.files)

    def __getitem__(self, rows: slice) -> Origins:
        """Return those of consecutive rows."""
        return Origins(self.files[rows], self.numbers[rows], self.ids[rows])

    def select(self, rows: Sequence[int]) -> Origins:
        """Return those of some rows."""
        files, numbers, ids = self.files, self.numbers, self.ids
        return Origins(
            [files[row] for row in rows], [numbers[row] for row in rows], [ids[row] for row in rows]
        )


@dataclass(frozen=True, slots=True, eq=False)
class ConversationBatch:
    """Rows of :func:`mmdata.store.encode.arrow_schema`,
    where they came from, and the rejects among them.

    The batch accounts for ``num_records`` records: ``positions`` are the places of the rows among
    them, ascending, and each reject comes with its own. A batch never changes: what works on one
    returns another.

    ``pixel_boxes`` are those that wait for the size of their picture, which
    :func:`mmdata.conversion.boxes.scale_boxes` finds: of each row the boxes of its regions that are
    in pixels, by the region's number among those of its messages and then of the rejected ones. In
    the columns these regions have no boxes. It is nothing where none waits. A store takes no batch
    in which one does.
    """

    columns: pa.RecordBatch
    origins: Origins
    positions: Sequence[int]
    rejects: Sequence[tuple[int, Reject]] = ()
    pixel_boxes: Sequence[PixelBoxes] = ()

    @classmethod
    def from_conversations(cls, conversations: Sequence[Conversation]) -> ConversationBatch:
        """Return conversations as a batch; each counts as a record of a file without a name.

        Raises:
            SchemaError: a row holds what a store cannot; with its id and the field.
        """
        try:
            columns = _columns(conversations)
        except UNSTORABLE as error:
            raise blame_row(conversations, error, _columns) from error
        count = len(conversations)
        origins = Origins([""] * count, range(count), [None] * count)
        waiting = list(map(pixel_boxes_of, conversations))
        return cls(
            columns,
            origins,
            range(count),
            pixel_boxes=waiting if any(waiting) else (),
        )

    @classmethod
    def concatenate(cls, batches: Sequence[ConversationBatch]) -> ConversationBatch:
        """Return the rows and the rejects of several batches, of one at least, as one batch."""
        import pyarrow as pa

        table = pa.Table.from_batches([batch.columns for batch in batches]).unify_dictionaries()
        (columns,) = table.combine_chunks().to_batches() or [batches[0].columns]
        positions: list[int] = []
        rejects: list[tuple[int, Reject]] = []
        start = 0
        for batch in batches:
            positions += [start + position for position in batch.positions]
            rejects += [(start + position, reject) for position, reject in batch.rejects]
            start += batch.num_records
        origins = [batch.origins for batch in batches]
        return cls(
            columns,
            Origins(
                list(chain.from_iterable(some.files for some in origins)),
                list(chain.from_iterable(some.numbers for some in origins)),
                list(chain.from_iterable(some.ids for some in origins)),
            ),
            positions,
            rejects,
            _join_pixel_boxes(batches),
        )

    def __len__(self) -> int:
        """Return how many rows there are, rejects not counted."""
        return len(self.positions)

    def __repr__(self) -> str:
        """Return the numbers of rows and rejects."""
        return f"ConversationBatch({len(self)} rows, {len(self.rejects)} rejects)"

    @property
    def num_records(self) -> int:
        """How many records the batch accounts for: rows and rejects."""
        return len(self.positions) + len(self.rejects)

    @property
    def media(self) -> pa.StructArray:
        """The media of all rows, one after the other."""
        return list_values(self.columns.column("media"))

    @property
    def num_media(self) -> NDArray[np.int32]:
        """How many media each row has, (rows,) int32."""
        return list_lengths(self.columns.column("media"))

    def conversations(self) -> Iterator[Conversation]:
        """Yield each row as a conversation."""
        view = BatchView(self.columns)
        for row in range(len(self)):
            waiting = self.pixel_boxes[row] if self.pixel_boxes else None
            yield _with_pixel_boxes(view[row], waiting) if waiting else view[row]

    def head(self, records: int) -> ConversationBatch:
        """Return what accounts for the first records, rows and rejects."""
        if records >= self.num_records:
            return self
        places = sorted([*self.positions, *(position for position, _ in self.rejects)])
        return self._between(
            0, bisect_left(self.positions, places[records]), places[0], places[records]
        )

    def slice(self, start: int, stop: int) -> ConversationBatch:
        """Return the rows ``start`` to ``stop``, the last left out, without a copy.

        Rejects go with the row before them, those before the first row with the first, so that
        slices which follow one another account for all records once.
        """
        first = self.positions[start] if 0 < start < len(self) else -1
        last = self.positions[stop] if stop < len(self) else sys.maxsize
        return self._between(start, stop, first, last)

    def _between(self, start: int, stop: int, first: int, last: int) -> ConversationBatch:
        rows = slice(start, stop)
        rejects = [
            (position, reject) for position, reject in self.rejects if first <= position < last
        ]
        columns = self.columns.slice(start, stop - start)
        return ConversationBatch(
            columns, self.origins[rows], self.positions[rows], rejects, self.pixel_boxes[rows]
        )

    def select(self, rows: Sequence[int]) -> ConversationBatch:
        """Return some rows, by their numbers in ascending order, and all the rejects."""
        import numpy as np

        if len(rows) == len(self):
            return self
        columns = self.columns.take(integers(np.asarray(rows, np.int64)))
        positions = [self.positions[row] for row in rows]
        waiting = [self.pixel_boxes[row] for row in rows] if self.pixel_boxes else ()
        return ConversationBatch(
            columns, self.origins.select(rows), positions, self.rejects, waiting
        )

    def reject(self, errors: Mapping[int, Exception]) -> ConversationBatch:
        """Return the batch with some of its rows turned into rejects:
        by their numbers, why they are.
        """
        if not errors:
            return self
        files, numbers, ids = self.origins.files, self.origins.numbers, self.origins.ids
        new = [
            (
                self.positions[row],
                Reject.from_error(error, record=numbers[row], file=files[row], id=ids[row]),
            )
            for row, error in errors.items()
        ]
        kept = self.select([row for row in range(len(self)) if row not in errors])
        return replace(kept, rejects=sorted([*self.rejects, *new], key=_position))

    def with_columns(self, **columns: pa.Array) -> ConversationBatch:
        """Return the batch with other columns of these names, (rows,) each."""
        import pyarrow as pa

        schema = self.columns.schema
        arrays = [columns.get(name, self.columns.column(name)) for name in schema.names]
        return replace(self, columns=pa.RecordBatch.from_arrays(arrays, schema=schema))

    def with_media(self, **fields: pa.Array) -> ConversationBatch:
        """Return the batch with other values in these fields of its media, (media,) each."""
        old, list_type = self.media, arrow_schema().field("media").type
        arrays = {field.name: fields.get(field.name, old.field(field.name)) for field in old.type}
        return self.with_columns(
            media=lists_of(self.num_media, make_structs(old.type, **arrays), list_type)
        )


def pixel_boxes_of(conversation: Conversation) -> PixelBoxes:
    """Return the boxes that are in pixels, by the region's number in the conversation."""
    return {
        number: region.boxes
        for number, region in enumerate(_regions(conversation))
        if region.unit == "pixel"
    }


def _regions(conversation: Conversation) -> list[Region]:
    messages = chain(conversation.messages, conversation.rejected or ())
    return [part for message in messages for part in message.content if type(part) is Region]


def _with_pixel_boxes(conversation: Conversation, waiting: PixelBoxes) -> Conversation:
    """Return a conversation that the columns hold with the boxes that they do not."""
    numbers = count()

    def fill(part: Part) -> Part:
        if type(part) is not Region or (number := next(numbers)) not in waiting:
            return part
        return replace_fields(part, boxes=waiting[number], unit="pixel")

    def fill_all(messages: Sequence[Message]) -> tuple[Message, ...]:
        return tuple(
            Message(message.role, tuple(map(fill, message.content)), message.train)
            for message in messages
        )

    # In this order, as the numbers are counted.
    messages = fill_all(conversation.messages)
    rejected = None if conversation.rejected is None else fill_all(conversation.rejected)
    return replace_fields(conversation, messages=messages, rejected=rejected)


def _join_pixel_boxes(batches: Sequence[ConversationBatch]) -> Sequence[PixelBoxes]:
    if not any(batch.pixel_boxes for batch in batches):
        return ()
    return [waiting for batch in batches for waiting in batch.pixel_boxes or [{}] * len(batch)]


def _position(reject: tuple[int, Reject]) -> int:
    return reject[0]


def _columns(rows: Sequence[Conversation]) -> pa.RecordBatch:
    return encode([flatten(rows)])
