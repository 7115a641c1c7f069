"""Dialogues: many conversations of the commonest shape at once, column by column.

Nearly every record of the large data sets is a user and an assistant who take turns, one text each, about one image or
video or none. Converting millions of them, most of the time would go into making objects; here a whole run of records
is one object, which says the same as its :meth:`~Dialogues.conversations`. It lives between a format and the columns of
a store, and nobody else needs to know it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from mmdata.arrays import joined
from mmdata.schema import Conversation, Image, Media, MediaType, Message, Part, Role, Split, Text, Video, replace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["SPEAKERS", "Dialogues"]

SPEAKERS: Final[tuple[Role, Role]] = ("user", "assistant")
"""Who speaks first, and who answers."""


class Dialogues(Struct, frozen=True, eq=False):
    """Conversations in which the user and the assistant say a text each by turns.

    ``data`` is all their texts end to end in UTF-8, ``lengths`` how many bytes of it each text has, (texts,) int32, and
    ``turns`` how many of the texts are each dialogue's. A dialogue is about the medium of this ``type`` at its path, or
    about none where that is empty; the medium ``leads``, if it stands before the first text and not after it.
    """

    ids: Sequence[str]
    data: bytes
    lengths: NDArray[np.int32]
    turns: Sequence[int]
    paths: Sequence[str]
    leads: Sequence[bool]
    extras: Sequence[Mapping[str, Any]]
    type: MediaType = "image"
    source: str = ""
    split: Split = "train"

    @classmethod
    def of(cls, conversation: Conversation) -> Dialogues | None:
        """Return the one dialogue that says the same as ``conversation``, or None where none does."""
        parts = [part for message in conversation.messages for part in message.content]
        texts = [part.text for part in parts if type(part) is Text]
        if not texts:
            return None
        medium = conversation.media[0] if conversation.media else None
        dialogue = cls(
            [conversation.id],
            *joined(texts),
            [len(texts)],
            [(medium and medium.path) or ""],
            [type(parts[0]) is not Text],
            [conversation.extra],
            medium.type if medium else "image",
            conversation.source,
            conversation.split,
        )
        return dialogue if list(dialogue.conversations()) == [conversation] else None

    def __len__(self) -> int:
        """Return how many dialogues these are."""
        return len(self.ids)

    def conversations(self) -> Iterator[Conversation]:
        """Yield each as a conversation."""
        said = [Text(self.data[start:end].decode()) for start, end in pairwise(self._ends())]
        for place, (first, end) in enumerate(pairwise(accumulate(self.turns, initial=0))):
            contents: list[tuple[Part, ...]] = [(text,) for text in said[first:end]]
            if path := self.paths[place]:
                part = Image(0) if self.type == "image" else Video(0)
                contents[0] = (part, *contents[0]) if self.leads[place] else (*contents[0], part)
            messages = tuple([Message(SPEAKERS[n % 2], content, n % 2 == 1) for n, content in enumerate(contents)])
            media = (Media(self.type, path),) if path else ()
            yield Conversation(self.ids[place], messages, media, self.source, self.split, self.extras[place])

    def contents(self) -> list[int]:
        """Return a number for each, the same where the same is said about the same: a hash of 64 bits."""
        import xxhash

        texts, data = self._bounds()
        lengths, size = self.lengths.tobytes(), self.lengths.itemsize
        said = [xxhash.xxh3_64_intdigest(self.data[start:end]) for start, end in pairwise(data)]
        turns = [lengths[size * first : size * end] for first, end in pairwise(texts)]
        about = [(self.type, path, leads) if path else None for path, leads in zip(self.paths, self.leads, strict=True)]
        return list(map(hash, zip(said, turns, about, strict=True)))

    def take(self, places: Sequence[int]) -> Dialogues:
        """Return those at the places."""
        import numpy as np

        texts, data = self._bounds()
        return replace(
            self,
            ids=[self.ids[place] for place in places],
            data=b"".join([self.data[data[place] : data[place + 1]] for place in places]),
            lengths=np.concatenate([self.lengths[:0], *[self.lengths[texts[n] : texts[n + 1]] for n in places]]),
            turns=[self.turns[place] for place in places],
            paths=[self.paths[place] for place in places],
            leads=[self.leads[place] for place in places],
            extras=[self.extras[place] for place in places],
        )

    def _bounds(self) -> tuple[list[int], list[int]]:
        """Return where the texts and the bytes of each begin, and behind them where those of the last one end."""
        texts, ends = list(accumulate(self.turns, initial=0)), self._ends()
        return texts, [ends[first] for first in texts]

    def _ends(self) -> list[int]:
        """Return where in the data each text begins, and behind them where the last one ends."""
        import numpy as np

        return [0, *np.cumsum(self.lengths).tolist()]
