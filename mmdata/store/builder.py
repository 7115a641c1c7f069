"""Making batches: conversations one by one,
or many already column by column, and the rejects among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any, Final

from mmdata.errors import SchemaError
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Reasoning, Region, Text, ToolCall
from mmdata.store.batch import (
    BATCH_BYTES,
    BATCH_RECORDS,
    ConversationBatch,
    Origins,
    PixelBoxes,
    pixel_boxes_of,
)
from mmdata.store.encode import FlatRows, encode, flatten

__all__ = ["BatchBuilder"]

_SHOWN: Final = 60  # characters of a text that a message shows


class BatchBuilder:
    """Gathers rows and rejects in the order of their records;
    :meth:`build` returns them as a batch and starts anew.

    ``num_records`` and ``nbytes`` (about) say how much has been gathered.
    """

    def __init__(self) -> None:
        self._start()

    def _start(self) -> None:
        self.num_records = 0
        self.nbytes = 0
        self._rows: list[Conversation | FlatRows] = []
        self._files: list[str] = []
        self._numbers: list[int] = []
        self._ids: list[str | None] = []
        self._positions: list[int] = []
        self._rejects: list[tuple[int, Reject]] = []
        self._pixel_boxes: dict[int, PixelBoxes] = {}  # by the row's number

    @property
    def is_full(self) -> bool:
        """Whether it is time to build:
        a batch of this size is written well, and its memory is small.
        """
        return self.num_records >= BATCH_RECORDS or self.nbytes >= BATCH_BYTES

    def append(self, conversation: Conversation, *, file: str, record: int, id: str | None) -> None:  # noqa: A002
        """Add one conversation, of the record with this number in a file,
        and this id of its own.

        Raises:
            SchemaError: its text holds a lone surrogate; nothing is added.
        """
        size = _size(conversation)
        if waiting := pixel_boxes_of(conversation):
            self._pixel_boxes[len(self._positions)] = waiting
        self._rows.append(conversation)
        self._add_origins([file], [record], [id])
        self.nbytes += size

    def extend(
        self,
        rows: FlatRows,
        *,
        files: Sequence[str],
        records: Sequence[int],
        ids: Sequence[str | None],
        nbytes: int,
    ) -> None:
        """Add many conversations that stand column by column already;
        ``nbytes`` is about what they take.
        """
        self._rows.append(rows)
        self._add_origins(files, records, ids)
        self.nbytes += nbytes

    def reject(self, reject: Reject) -> None:
        """Add the reject that a record has become."""
        self._rejects.append((self.num_records, reject))
        self.num_records += 1

    def build(self) -> ConversationBatch:
        """Return what has been gathered, and forget it."""
        pieces: list[FlatRows] = []
        for kind, group in groupby(self._rows, key=type):
            rows: list[Any] = list(group)
            pieces += rows if kind is FlatRows else [flatten(rows)]
        origins = Origins(self._files, self._numbers, self._ids)
        waiting = self._pixel_boxes
        batch = ConversationBatch(
            encode(pieces or [flatten([])]),
            origins,
            self._positions,
            self._rejects,
            [waiting.get(row, {}) for row in range(len(origins))] if waiting else (),
        )
        self._start()
        return batch

    def _add_origins(
        self, files: Sequence[str], records: Sequence[int], ids: Sequence[str | None]
    ) -> None:
        self._files += files
        self._numbers += records
        self._ids += ids
        self._positions += range(self.num_records, self.num_records + len(files))
        self.num_records += len(files)


def _size(conversation: Conversation) -> int:
    """Return about how many bytes a row takes.

    Raises:
        SchemaError: its text holds a lone surrogate, which no store can.
    """
    texts = [conversation.id]
    for message in (*conversation.messages, *(conversation.rejected or ())):
        for part in message.content:
            if isinstance(part, (Text, Region, Reasoning)):
                texts.append(part.text)
            elif isinstance(part, ToolCall):
                texts += [part.name, part.arguments]
    texts += [medium.path for medium in conversation.media if medium.path is not None]

    try:
        words = sum(len(text.encode()) for text in texts)
    except UnicodeEncodeError as error:
        raise SchemaError(
            f"conversation {conversation.id!r}: a lone surrogate, which is no character, in "
            f"{error.object[:_SHOWN]!a}",
            reason="bad_encoding",
        ) from error

    files = [
        len(medium.bytes or b"") + sum(map(len, medium.frames or ()))
        for medium in conversation.media
    ]
    return words + sum(files)
