"""A dialogue: a conversation of the commonest shape, in one object instead of a dozen.

Nearly every record of the large data sets is a user and an assistant who take turns, one text each, about one image or
video or none. Converting millions of them, most of the time would go into making objects; a :class:`Dialogue` says the
same as its :meth:`~Dialogue.conversation` in one. It lives between a format and the columns of a store, and nobody else
needs to know it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from msgspec import Struct, field

from mmdata.schema import Conversation, Image, Media, MediaType, Message, Part, Role, Split, Text, Video, replace

__all__ = ["SPEAKERS", "Dialogue", "Row"]

SPEAKERS: Final[tuple[Role, Role]] = ("user", "assistant")
"""Who speaks first, and who answers."""


class Dialogue(Struct, frozen=True, gc=False):
    """A conversation whose ``texts`` are the user's and the assistant's by turns.

    It is about the medium of this ``type`` at ``path``, or about none where that is empty; the medium ``leads``, if it
    stands before the first text and not after it.
    """

    id: str
    texts: tuple[str, ...]
    type: MediaType = "image"
    path: str = ""
    leads: bool = True
    source: str = ""
    split: Split = "train"
    extra: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, conversation: Conversation) -> Dialogue | None:
        """Return the dialogue that says the same as ``conversation``, or None where none does."""
        parts = [part for message in conversation.messages for part in message.content]
        texts = tuple([part.text for part in parts if type(part) is Text])
        if not texts:
            return None
        dialogue = cls(
            conversation.id, texts, source=conversation.source, split=conversation.split, extra=conversation.extra
        )
        if conversation.media:
            medium, leads = conversation.media[0], type(parts[0]) is not Text
            dialogue = replace(dialogue, type=medium.type, path=medium.path or "", leads=leads)
        return dialogue if dialogue.conversation() == conversation else None

    def conversation(self) -> Conversation:
        """Return the conversation."""
        contents: list[tuple[Part, ...]] = [(Text(text),) for text in self.texts]
        if self.path:
            part = Image(0) if self.type == "image" else Video(0)
            contents[0] = (part, *contents[0]) if self.leads else (*contents[0], part)
        messages = tuple([Message(SPEAKERS[turn % 2], content, turn % 2 == 1) for turn, content in enumerate(contents)])
        media = (Media(self.type, self.path),) if self.path else ()
        return Conversation(self.id, messages, media, self.source, self.split, self.extra)


Row: TypeAlias = Conversation | Dialogue
"""What becomes a row of a store."""
