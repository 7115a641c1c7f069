"""Chat messages with parts, as OpenAI and Hugging Face have them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any, ClassVar

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature
from mmdata.exporters._media import MediaMode, PlacedMedium
from mmdata.exporters._parts import Style, medium_part, messages_of, tools_of
from mmdata.exporters._plain import PlainRows
from mmdata.exporters._turns import add_extra, add_extras, media_in_order, require_whole_turns
from mmdata.exporters._writers import JsonWriter, Writer
from mmdata.store.encode import ROLE_CODES

__all__ = ["Messages"]

_ROLES = tuple(ROLE_CODES)


@registry.register("messages")
@dataclass(frozen=True)
class Messages(Exporter):
    """Messages of ``role`` and ``content``, one record a line.

    ``style`` says whose parts: ``hf`` as chat templates and TRL take them, every content a list;
    ``openai`` as the services do, words alone as a string.
    """

    summary: ClassVar[str] = "chat messages with parts: Hugging Face's chat templates, OpenAI"
    shape: ClassVar[str] = (
        '{"id": "1", "messages": [{"role": "user", "content": [{"type": "image", "image": "1.jpg"},'
        ' {"type": "text", "text": "What is it?"}]}, {"role": "assistant", "content": '
        '[{"type": "text", "text": "A cup."}]}]}'
    )
    says: ClassVar[frozenset[Feature]] = frozenset(
        {"clips", "extra", "reasoning", "system", "tools", "training"}
    )
    media_modes: ClassVar[tuple[MediaMode, ...]] = ("reference", "copy", "embed")
    fields: ClassVar[frozenset[str]] = frozenset({"messages"})
    read_by: ClassVar[str | None] = "messages"

    style: Style = "hf"

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: a turn says what no part can, or a medium is not shown.
        """
        conversation = row.conversation
        media_in_order(conversation)
        require_whole_turns(conversation)
        record = {
            "id": conversation.id,
            "messages": messages_of(conversation.messages, row.media, self.style),
            **tools_of(conversation.tools),
        }
        return add_extra(record, conversation, self.fields)

    def records(self, rows: PlainRows) -> list[dict[str, Any]] | None:
        """Return the records of plain rows."""
        if self.style == "hf":
            contents: list[Any] = [[{"type": "text", "text": text}] for text in rows.texts]
        else:
            contents = list(rows.texts)
        paths = chain.from_iterable(
            [*map(_image, images), *map(_video, videos)]
            for images, videos in zip(rows.images, rows.videos, strict=True)
        )
        for turn, pieces in rows.placed:
            contents[turn] = [
                {"type": "text", "text": words}
                if kind is None
                else medium_part(next(paths), self.style)
                for kind, words in pieces
            ]

        turns = [
            {"role": _ROLES[role], "content": content}
            for role, content in zip(rows.roles, contents, strict=True)
        ]
        bounds = pairwise(accumulate(rows.num_turns, initial=0))
        records = [
            {"id": name, "messages": turns[start:end]}
            for name, (start, end) in zip(rows.ids, bounds, strict=True)
        ]
        return records if add_extras(records, rows, self.fields) else None

    def open(self, folder: Path) -> Writer:
        """Return what writes JSON Lines."""
        return JsonWriter(folder, lines=True)


def _image(path: str) -> PlacedMedium:
    return PlacedMedium("image", path)


def _video(path: str) -> PlacedMedium:
    return PlacedMedium("video", path)
