"""Qwen-VL's conversations, with pictures, phrases and boxes marked in the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature, UnsayableError
from mmdata.exporters._turns import (
    add_extra,
    join_pieces,
    media_in_order,
    require_turns,
    require_words,
)
from mmdata.schema import Box, Image, MediaType, Message, Region, Text

__all__ = ["QwenVL"]

_GRID: Final = 1000
_TAKEN: Final = re.compile(r"[<>\n]")
"""What may not be in a path."""


@registry.register("qwen_vl")
@dataclass(frozen=True)
class QwenVL(Exporter):
    """Qwen-VL's JSON. Boxes are in whole thousandths of the picture, to which they are rounded; a
    box is of the picture that was shown last.
    """

    summary: ClassVar[str] = "Qwen-VL's JSON, with pictures, phrases and boxes in the text"
    shape: ClassVar[str] = (
        '[{"id": "1", "conversations": [{"from": "user", "value": "Picture 1: <img>1.jpg</img>'
        '\\nFind the dog."}, {"from": "assistant", "value": '
        '"<ref>dog</ref><box>(12,30),(480,999)</box>"}]}]'
    )
    says: ClassVar[frozenset[Feature]] = frozenset({"boxes", "extra"})
    fields: ClassVar[frozenset[str]] = frozenset({"conversations"})
    read_by: ClassVar[str | None] = "qwen_vl"

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: its turns are not user and assistant by turns, it has a video, a path
                that cannot stand between marks, or a box of a picture not shown last.
        """
        conversation = row.conversation
        require_turns(conversation, may_have_system=False)
        numbers = list(dict.fromkeys(media_in_order(conversation)))
        if any(medium.type != "image" for medium in row.media):
            raise UnsayableError("Qwen-VL takes images alone", what="media")
        pictures = _Pictures(
            {n: f"Picture {place}" for place, n in enumerate(numbers, start=1)}, row
        )
        turns = [
            {"from": message.role, "value": pictures.spell(message)}
            for message in conversation.messages
        ]
        record: dict[str, Any] = {"id": conversation.id, "conversations": turns}
        return add_extra(record, conversation, self.fields)


class _Pictures:
    """What the pictures of one row are called, and which was shown last."""

    def __init__(self, names: dict[int, str], row: Row) -> None:
        self._names = names
        self._row = row
        self._shown = 0

    def spell(self, message: Message) -> str:
        pieces: list[tuple[MediaType | None, str]] = []
        for part in message.content:
            if isinstance(part, Text):
                pieces.append((None, require_words(part.text)))
            elif isinstance(part, Image):
                self._shown = part.media
                pieces.append(("image", self._mark(part)))
            elif isinstance(part, Region):
                pieces.append((None, self._region(part)))
            else:
                raise UnsayableError(f"a turn has a part of type {type(part).__name__.lower()}")
        return join_pieces(pieces, "\n")

    def _mark(self, part: Image) -> str:
        path = self._row.media[part.media].reference
        if _TAKEN.search(path):
            raise UnsayableError(f"the path {path!r} cannot stand between marks", what="media")
        return f"{self._names[part.media]}: <img>{path}</img>"

    def _region(self, part: Region) -> str:
        if part.media != self._shown:
            raise UnsayableError("a box is of a picture that was not shown last", what="boxes")
        phrase = f"<ref>{part.text}</ref>" if part.text else ""
        return phrase + "".join(map(_spell_box, part.boxes))


def _spell_box(box: Box) -> str:
    x1, y1, x2, y2 = (round(side * _GRID) for side in box)
    return f"<box>({x1},{y1}),({x2},{y2})</box>"
