"""Rows of a store to records of a target, with the account of each."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from itertools import pairwise
from threading import Event
from typing import IO, TYPE_CHECKING, Any, Final

from mmdata.errors import DataError, RecordError, UsageError, nearest
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import (
    FEATURES,
    Feature,
    UnsayableError,
    drop_echo,
    drop_features,
    find_features,
)
from mmdata.exporters._media import MediaPlacer
from mmdata.exporters._plain import Columns, PlainRows, find_plain
from mmdata.exporters._read_back import Readers
from mmdata.exporters._writers import Writer
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Split
from mmdata.store.arrays import dictionary_codes, integers
from mmdata.store.decode import BatchView
from mmdata.store.reader import Store

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["Counts", "Work", "read_drop"]

_MOST_RUNS: Final = 64
"""A batch whose plain and other rows change places more often is written row by row."""
_ROWS_TOGETHER: Final = 64
"""How many rows, whose media may be in them, are written at a time."""
_BYTES_TOGETHER: Final = 64 << 20
"""About how many bytes of media, at the most: a column of Arrow's holds no more than 2 GiB."""


@dataclass(slots=True)
class Counts:
    """The account, as it grows."""

    splits: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)
    unsayable: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)

    def add(self, other: Counts) -> None:
        """Add the account of other rows."""
        for each in fields(self):
            getattr(self, each.name).update(getattr(other, each.name))


def read_drop(drop: str | Sequence[str]) -> frozenset[Feature]:
    """Return what is to be left out.

    Raises:
        UsageError: a name is none of a feature.
    """
    names = [
        each for some in ([drop] if isinstance(drop, str) else drop) for each in some.split(",")
    ]
    found: set[Feature] = set()
    for each in filter(None, names):
        if each not in FEATURES:
            raise UsageError(
                f"drop: there is nothing called {each!r}.{nearest(each, FEATURES)} "
                f"There are: {', '.join(FEATURES)}."
            )
        found.add(each)
    return frozenset(found)


@dataclass(frozen=True, slots=True)
class Work:
    """One export on its way, or a part of it: where rows come from and go to, and the account.

    It ends early, with whatever is written, where ``stopped`` is set: what it does is thrown away.
    """

    store: Store
    exporter: Exporter
    placer: MediaPlacer
    drop: frozenset[Feature]
    split: Split | None
    strict: bool
    writer: Writer
    rejects: IO[str]
    counts: Counts
    stopped: Event = field(default_factory=Event)
    readers: Readers = field(init=False)

    def __post_init__(self) -> None:
        """Make what reads the exporter's records back."""
        object.__setattr__(self, "readers", Readers(self.exporter))

    def write_all(
        self,
        batches: Iterable[pa.RecordBatch],
        progress: Callable[[int, int], object] = lambda rows, rejects: None,
        *,
        first: int = 0,
    ) -> None:
        """Write the rows of ``batches``, which begin with the ``first`` of the store; ``progress``
        is called with how many rows have been dealt with, and how many of them are rejects.
        """
        done = 0
        for batch in batches:
            if self.stopped.is_set():
                return
            for split, rows in _rows_by_split(batch, self.split):
                whole = len(rows) == len(batch)
                part = batch if whole else batch.take(integers(rows))
                self._write_batch(part, split, rows + first + done)
            done += len(batch)
            progress(done, sum(self.counts.rejects.values()))

    def _write_batch(self, batch: pa.RecordBatch, split: Split, numbers: NDArray[np.int64]) -> None:
        """Write rows of one split in their order; ``numbers`` are theirs in the store."""
        for start, stop, plain in self._runs(batch):
            records = None if plain is None else self.exporter.records(plain)
            if records is None:
                piece = batch.slice(start, stop - start)
                self._write_rows(piece, split, numbers[start:stop].tolist())
            else:
                self.writer.write(split, records)
                self.counts.splits[split] += stop - start

    def _runs(self, batch: pa.RecordBatch) -> Iterator[tuple[int, int, PlainRows | None]]:
        """Yield runs of rows, and themselves where they are plain and can be written at once."""
        import numpy as np

        # Plain rows are written as the store has their media: by their paths, or as their frames.
        placer, as_frames = self.placer, self.placer.frames == "pictures"
        is_as_stored = placer.mode == "reference" and placer.paths == "relative"
        if not is_as_stored or (as_frames and "seconds" in self.drop):
            yield 0, len(batch), None
            return
        unsaid = {feature for feature in FEATURES if feature not in self.exporter.says}
        columns = Columns(batch)
        plain = find_plain(columns, without=unsaid | self.drop, as_frames=as_frames)
        if plain.all():  # as those of most batches: what has been found out of them is kept
            yield 0, len(batch), PlainRows(columns)
            return

        bounds = [0, *(np.flatnonzero(np.diff(plain)) + 1).tolist(), len(batch)]
        if len(bounds) > _MOST_RUNS:
            yield 0, len(batch), None
            return
        for start, stop in pairwise(bounds):
            some = Columns(batch.slice(start, stop - start)) if plain[start] else None
            yield start, stop, None if some is None else PlainRows(some)

    def _write_rows(self, batch: pa.RecordBatch, split: Split, numbers: Sequence[int]) -> None:
        view = BatchView(batch)
        records: list[Any] = []
        size = 0
        for row in range(len(batch)):
            if self.stopped.is_set():
                return
            conversation = view[row]
            try:
                record, num_bytes = self._record(conversation)
                records.append(record)
                size += num_bytes
            except DataError as error:
                self._reject(error, conversation, numbers[row])

            is_last = row == len(batch) - 1
            if is_last or (row + 1) % _ROWS_TOGETHER == 0 or size >= _BYTES_TOGETHER:
                self.writer.write(split, records)
                self.counts.splits[split] += len(records)
                records, size = [], 0

    def _record(self, conversation: Conversation) -> tuple[Any, int]:
        """Return a row as a record, and how many bytes of media are in it."""
        conversation = self.placer.choose_frames(drop_echo(conversation))
        features = find_features(conversation)
        if left := sorted(features - self.exporter.says - self.drop):
            raise UnsayableError(
                f"the row has {', '.join(left)}, which the target cannot say; "
                f"--drop {','.join(left)} leaves it out",
                what=left[0],
            )
        dropped = features & self.drop
        said = drop_features(conversation, dropped)
        media = self.placer.place(said.media)
        row = Row(said, media)
        record = self.exporter.record(row)
        if misreading := self.readers.find_misreading(row, record):
            if "marks" not in self.drop:
                raise UnsayableError(
                    f"{misreading}; --drop marks lets the words leave as they are", what="marks"
                )
            dropped |= {"marks"}
        self.counts.dropped.update(dropped)
        return record, sum(medium.num_bytes for medium in media)

    def _reject(self, error: DataError, conversation: Conversation, number: int) -> None:
        reject = Reject.from_error(
            error, record=number, file=str(self.store.path), id=conversation.id
        )
        if self.strict:
            raise RecordError(
                f"{reject.file}, row {number}, id {reject.id!r}: {reject.detail} "
                f"[{reject.reason.value}]. Nothing was written; without --strict the row is "
                "rejected and the others are written.",
                reason=reject.reason.value,
            ) from error
        self.rejects.write(json.dumps(dataclasses.asdict(reject)) + "\n")
        self.counts.rejects[reject.reason.value] += 1
        if isinstance(error, UnsayableError):
            self.counts.unsayable[error.what] += 1


def _rows_by_split(
    batch: pa.RecordBatch, wanted: Split | None
) -> Iterator[tuple[Split, NDArray[np.int64]]]:
    """Yield each split that a batch has rows of, and their numbers in it."""
    import numpy as np

    column = batch.column("split")
    codes = dictionary_codes(column)
    for code, split in enumerate(column.dictionary.to_pylist()):
        if wanted is None or split == wanted:
            rows = np.flatnonzero(codes == code)
            if len(rows):
                yield split, rows
