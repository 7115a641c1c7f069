"""What a conversion says of its rows besides how many there are: fields that have no home, media
that are not as one would expect, and videos that are oddly made.

Whoever converts a source shall hear of what was kept and is not read by any model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mmdata.store.arrays import list_lengths, list_values, valid_bytes
from mmdata.store.batch import ConversationBatch

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from mmdata.store import Store

__all__ = ["NOTHING", "Account", "count_batch", "count_oddities"]

_TURNS: Final = "turns"
"""Where formats keep the fields of a record's turns, by the number of the turn."""

# Only the keys are wanted: values are stepped over, not read.
_keys: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_turns: Final = msgspec.json.Decoder(dict[str, dict[str, msgspec.Raw]])


@dataclass(frozen=True, slots=True)
class Account:
    """Counts over rows.

    ``extra`` has in how many rows each field went to ``extra``; a field of turns is called
    ``turns.NAME``. ``without_media`` are rows that have no medium, ``with_media`` all others.
    ``unplaced`` are media that no part of a message refers to, ``doubled`` those that a row holds
    again. ``oddities`` has how many media are oddly made, by kind (docs/videos.md).
    """

    extra: Mapping[str, int]
    with_media: int
    without_media: int
    unplaced: int
    doubled: int
    oddities: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Account) -> Account:
        """Return the counts over the rows of both."""
        return Account(
            Counter(self.extra) + Counter(other.extra),
            self.with_media + other.with_media,
            self.without_media + other.without_media,
            self.unplaced + other.unplaced,
            self.doubled + other.doubled,
            Counter(self.oddities) + Counter(other.oddities),
        )

    def as_notes(self) -> dict[str, Any]:
        """Return what a manifest says of it: what is not worth a word is left out.

        >>> Account({}, with_media=3, without_media=1, unplaced=0, doubled=0).as_notes()
        {'without_media': 1}
        >>> Account({}, with_media=0, without_media=4, unplaced=0, doubled=0).as_notes()
        {}
        """
        notes = asdict(self)
        notes["extra"] = dict(sorted(self.extra.items()))
        notes["oddities"] = dict(sorted(self.oddities.items()))
        del notes["with_media"]
        if not self.with_media:
            del notes["without_media"]  # a source of text alone
        return {name: count for name, count in notes.items() if count}


NOTHING: Final = Account({}, with_media=0, without_media=0, unplaced=0, doubled=0)
"""The counts over no row."""


def count_batch(batch: ConversationBatch) -> Account:
    """Return the counts over the rows of a batch."""
    import numpy as np

    if not len(batch):
        return NOTHING
    without_media = int(np.count_nonzero(batch.num_media == 0))
    return Account(
        extra=_count_fields(batch.columns.column("extra").to_pylist()),
        with_media=len(batch) - without_media,
        without_media=without_media,
        unplaced=_count_unplaced(batch),
        doubled=_count_doubled(batch),
        oddities=_count_kinds(batch.media),
    )


def count_oddities(store: Store) -> Mapping[str, int]:
    """Return how many media of a store are oddly made, by kind, as far as its rows say it."""
    counts: Counter[str] = Counter()
    for batch in store.batches():
        counts += _count_kinds(list_values(batch.column("media")))
    return dict(sorted(counts.items()))


def _count_kinds(media: pa.StructArray) -> Counter[str]:
    kinds = media.field("oddities")
    # Nearly all are null, and then there is nothing to make lists of.
    return Counter() if kinds.null_count == len(kinds) else Counter(kinds.flatten().to_pylist())


def _count_fields(extras: Sequence[str]) -> Counter[str]:
    counts: Counter[str] = Counter()
    # Rows of one source have few sets of fields: counting these takes a fraction of the time that
    # counting each field of each row does.
    rows: Counter[tuple[str, ...]] = Counter()
    for extra in extras:
        if extra == "{}":
            continue
        fields = _keys.decode(extra)
        rows[tuple(fields)] += 1
        if _TURNS in fields:
            counts.update(_fields_of_turns(fields[_TURNS]))
            counts[_TURNS] -= 1
    for names, count in rows.items():
        counts.update(dict.fromkeys(names, count))
    return +counts


def _fields_of_turns(turns: msgspec.Raw) -> set[str]:
    try:
        return {f"{_TURNS}.{name}" for each in _turns.decode(turns).values() for name in each}
    except msgspec.DecodeError:  # a field of the source's own that has this name
        return {_TURNS}


def _count_unplaced(batch: ConversationBatch) -> int:
    """Return how many media no part refers to, of what was said or rejected."""
    import numpy as np

    num_media = batch.num_media
    if not num_media.any():
        return 0
    starts = np.cumsum(num_media) - num_media
    placed = np.zeros(int(num_media.sum()), bool)
    for name in ("messages", "rejected"):
        column = batch.columns.column(name)
        if column.null_count < len(column):
            rows, numbers = _references(column)
            placed[starts[rows] + numbers] = True
    return int(np.count_nonzero(~placed))


def _references(messages: pa.ListArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the row of each part that refers to a medium, and the medium's number in the row,
    (references,) each.
    """
    import numpy as np

    content = list_values(messages).field("content")
    row_of_message = np.repeat(np.arange(len(messages)), list_lengths(messages))
    row_of_part = np.repeat(row_of_message, list_lengths(content))
    media = list_values(content).field("media")

    # Where there is none Arrow may hold any number, which is not looked at.
    there = np.frombuffer(valid_bytes(media), bool)
    numbers = np.frombuffer(media.buffers()[1], np.int32)[media.offset : media.offset + len(media)]
    return row_of_part[there], numbers[there].astype(np.int64)


def _count_doubled(batch: ConversationBatch) -> int:
    """Return how many media a row holds again: the same file, between the same times."""
    num_media = batch.num_media
    if len(num_media) == 0 or int(num_media.max()) < 2:
        return 0
    media = batch.media
    columns = [media.field(name).to_pylist() for name in ("path", "start", "end")]
    keys = list(zip(*columns, strict=True))
    ends = accumulate(num_media.tolist(), initial=0)
    doubled = 0
    for start, end in pairwise(ends):
        if end - start > 1:
            files = [key for key in keys[start:end] if key[0] is not None]
            doubled += len(files) - len(set(files))
    return doubled
