"""MindSpeed-MM's JSON for its understanding models: ``messages`` with marks, and lists of media."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature
from mmdata.exporters._json_columns import list_records
from mmdata.exporters._plain import ASSISTANT, SYSTEM, USER, PlainRows
from mmdata.exporters._turns import (
    add_extra,
    add_media,
    require_turns,
    text_of,
)

__all__ = ["MindSpeedMM"]

_NAMES: Final = {SYSTEM: "system", USER: "user", ASSISTANT: "assistant"}


@registry.register("mindspeed_mm")
@dataclass(frozen=True)
class MindSpeedMM(Exporter):
    """The records that MindSpeed-MM trains Qwen2-VL and its like on."""

    summary: ClassVar[str] = "MindSpeed-MM's messages with images and videos beside"
    shape: ClassVar[str] = (
        '[{"id": "1", "messages": [{"role": "user", "content": "<image>What is it?"}, '
        '{"role": "assistant", "content": "A cup."}], "images": ["1.jpg"]}]'
    )
    says: ClassVar[frozenset[Feature]] = frozenset({"extra", "system"})
    fields: ClassVar[frozenset[str]] = frozenset({"messages", "images", "videos"})
    read_by: ClassVar[str | None] = "messages"

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: its turns are not a system's, or none, and then the user's and the
                assistant's by turns.
        """
        conversation = row.conversation
        require_turns(conversation, may_have_system=True)
        turns = [
            {"role": message.role, "content": text_of(message)} for message in conversation.messages
        ]
        record = {"id": conversation.id, "messages": turns}
        return add_extra(add_media(record, conversation, row.media), conversation, self.fields)

    def records(self, rows: PlainRows) -> Any:
        """Return the records of plain rows as JSON."""
        return list_records(rows, "messages", ("role", "content"), _NAMES, self.fields)
