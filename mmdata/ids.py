"""Ids that stay unique within a store."""

from __future__ import annotations

from enum import Enum, auto

from mmdata.dialogue import Dialogue, Row
from mmdata.schema import replace

__all__ = ["Ids", "Seen"]


class Seen(Enum):
    """What is known of a conversation's id: never met, met with other content, met with this very content."""

    NEW = auto()
    TAKEN = auto()
    REPEATED = auto()


class Ids:
    """The ids met so far, as hashes: some hundred bytes an id, whatever its length."""

    def __init__(self) -> None:
        self.renamed = 0
        self._contents: dict[int, int] = {}  # the first of each id
        self._others: set[tuple[int, int]] = set()
        self._numbers: dict[str, int] = {}

    def meet(self, row: Row) -> Seen:
        """Return what is known of the row's id, and remember it.

        Rows that say the same must be met in the same form, all as dialogues or all as conversations.
        """
        if isinstance(row, Dialogue):
            content = hash((row.texts, (row.type, row.path, row.leads) if row.path else None))
        else:
            content = hash((row.messages, row.media))
        name = hash(row.id)
        earlier = self._contents.setdefault(name, content)
        if earlier is content:
            return Seen.NEW
        if earlier == content or (name, content) in self._others:
            return Seen.REPEATED
        self._others.add((name, content))
        return Seen.TAKEN

    def numbered(self, row: Row) -> Row:
        """Return the row under the first free one of ``id#2``, ``id#3`` …, its own id in ``extra``."""
        number = self._numbers.get(row.id, 2)
        while hash(name := f"{row.id}#{number}") in self._contents:
            number += 1
        self._contents[hash(name)] = 0
        self._numbers[row.id] = number + 1
        self.renamed += 1
        return replace(row, id=name, extra={"id": row.id, **row.extra})
