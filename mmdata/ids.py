"""Ids that stay unique within a store."""

from __future__ import annotations

from enum import Enum, auto

from mmdata.schema import Conversation, replace

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
        self._contents: dict[int, int] = {}
        self._numbers: dict[str, int] = {}

    def meet(self, conversation: Conversation) -> Seen:
        """Return what is known of the conversation's id, and remember it."""
        content = hash((conversation.messages, conversation.media))
        earlier = self._contents.setdefault(hash(conversation.id), content)
        if earlier is content:
            return Seen.NEW
        return Seen.REPEATED if earlier == content else Seen.TAKEN

    def numbered(self, conversation: Conversation) -> Conversation:
        """Return the conversation under the first free one of ``id#2``, ``id#3`` …, its own id in ``extra``."""
        number = self._numbers.get(conversation.id, 2)
        while hash(name := f"{conversation.id}#{number}") in self._contents:
            number += 1
        self._contents[hash(name)] = 0
        self._numbers[conversation.id] = number + 1
        self.renamed += 1
        return replace(conversation, id=name, extra={"id": conversation.id, **conversation.extra})
