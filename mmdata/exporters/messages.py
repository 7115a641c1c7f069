"""Chat messages with parts, as OpenAI and Hugging Face have them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature
from mmdata.exporters._json_columns import concat, escape, extras_of, part_objects, turns_of
from mmdata.exporters._media import MediaMode
from mmdata.exporters._parts import Style, messages_of, tools_of
from mmdata.exporters._plain import PlainRows
from mmdata.exporters._turns import (
    add_extra,
    media_in_order,
    require_whole_turns,
)
from mmdata.exporters._writers import LINE_END, JsonWriter, Writer
from mmdata.schema import MediaType
from mmdata.store.encode import ROLE_CODES

__all__ = ["Messages"]

_PARTS: Final[dict[MediaType, tuple[str, str]]] = {
    "image": ('{"type":"image","image":"', '"}'),
    "video": ('{"type":"video","video":"', '"}'),
}
_FRONTS: Final = {
    code: f'{{"role":"{role}","content":[' for role, code in ROLE_CODES.items() if role != "tool"
}


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
        {"clips", "extra", "reasoning", "seconds", "system", "tools", "training"}
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

    def records(self, rows: PlainRows) -> Any:
        """Return the records of plain rows as JSON, or None where a field in ``extra`` would
        be read as something else; those of ``openai`` are asked for one by one.
        """
        extras = extras_of(rows, self.fields, ("id", "messages"))
        if extras is None or self.style != "hf":
            return None
        parts = part_objects(rows, _PARTS)
        turns = turns_of(rows, parts, _FRONTS, "]}")
        head = ('{"id":"', escape(rows.id_array), '","messages":[')
        return concat(*head, turns, "]", extras, "}" + LINE_END)

    def open(self, folder: Path) -> Writer:
        """Return what writes JSON Lines."""
        return JsonWriter(folder, lines=True)
