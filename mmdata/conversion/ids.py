"""Ids that stay unique within a store."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any, Literal, TypeAlias

from mmdata.errors import RecordError
from mmdata.schema import Conversation
from mmdata.store.arrays import text
from mmdata.store.batch import ConversationBatch
from mmdata.store.contents import hash_contents
from mmdata.store.encode import encode_extra

__all__ = ["DuplicateIds", "Ids", "Seen", "hash_content", "keep_own_id", "settle_ids"]

DuplicateIds: TypeAlias = Literal["number", "reject"]
"""What becomes of an id that a record with other content has:
a number behind it, or the record is a reject.
"""


class Seen(Enum):
    """What is known of a conversation's id:
    never met, met with other content, met with this very content.
    """

    NEW = auto()
    TAKEN = auto()
    REPEATED = auto()


class Ids:
    """The ids met so far, as hashes: some hundred bytes an id, whatever its length.

    A content is a number that stands for what is said about which media.
    """

    def __init__(self) -> None:
        self.renamed = 0
        self._contents: dict[int, int] = {}  # the first of each id
        self._others: set[tuple[int, int]] = set()
        self._numbers: dict[str, int] = {}

    def add(self, id: str, content: int) -> Seen:  # noqa: A002
        """Return what is known of an id, and remember it."""
        name = hash(id)
        earlier = self._contents.setdefault(name, content)
        if earlier is content:
            return Seen.NEW
        if earlier == content or (name, content) in self._others:
            return Seen.REPEATED
        self._others.add((name, content))
        return Seen.TAKEN

    def add_all_if_new(self, ids: Sequence[str], contents: Sequence[int]) -> bool:
        """Remember ids if all of them are new; return whether they are."""
        names = list(map(hash, ids))
        new = len(set(names)) == len(names) and self._contents.keys().isdisjoint(names)
        if new:
            self._contents.update(zip(names, contents, strict=True))
        return new

    def add_numbered(self, id: str) -> str:  # noqa: A002
        """Return the first free one of ``id#2``, ``id#3`` …, which is taken then."""
        number = self._numbers.get(id, 2)
        while hash(name := f"{id}#{number}") in self._contents:
            number += 1
        self._contents[hash(name)] = 0
        self._numbers[id] = number + 1
        self.renamed += 1
        return name


def hash_content(conversation: Conversation) -> int:
    """Return the content of a conversation:
    the same where the same is said, within this process.
    """
    said = (
        conversation.messages,
        conversation.media,
        conversation.tools,
        conversation.rejected,
        conversation.desirable,
    )
    return hash(said)


def keep_own_id(extra: Mapping[str, Any], id: str) -> dict[str, Any]:  # noqa: A002
    """Return the ``extra`` of a row that has got a number, with the id it had before."""
    return {"id": id, **extra}


def settle_ids(
    batch: ConversationBatch,
    ids: Ids,
    policy: DuplicateIds,
    contents: Sequence[int] | None = None,
) -> ConversationBatch:
    """Return the batch with every id unique among all that ``ids`` has met; it remembers them.

    A row that repeats both id and content of an earlier one is a reject; of one with other content
    ``policy`` says. ``contents`` are the hashes of what the rows say, where they are known.
    """
    own = batch.columns.column("id").to_pylist()
    contents = hash_contents(batch) if contents is None else contents
    if ids.add_all_if_new(own, contents):
        return batch

    settled = [
        _settle(name, content, ids, policy) for name, content in zip(own, contents, strict=True)
    ]
    errors = {row: to for row, to in enumerate(settled) if isinstance(to, RecordError)}
    names = [
        name if isinstance(to, RecordError) else to for to, name in zip(settled, own, strict=True)
    ]
    if names != own:
        extras = batch.columns.column("extra").to_pylist()
        changed = [
            extra if name == before else encode_extra(keep_own_id(json.loads(extra), before))
            for name, before, extra in zip(names, own, extras, strict=True)
        ]
        batch = batch.with_columns(id=text(names), extra=text(changed))
    return batch.reject(errors)


def _settle(own: str, content: int, ids: Ids, policy: DuplicateIds) -> str | RecordError:
    """Return the id that a row gets, its own or that with a number, or why it gets none."""
    seen = ids.add(own, content)
    if seen is Seen.NEW:
        return own
    if seen is Seen.TAKEN and policy == "number":
        return ids.add_numbered(own)
    what = "id and content" if seen is Seen.REPEATED else "id"
    return RecordError(f"an earlier record has the {what} of {own!r}", reason="duplicate_id")
