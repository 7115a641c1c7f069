"""ShareGPT conversations: ``conversations`` of ``from`` and ``value``, or ``conversation`` of
question and answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat import Chat, Turn, converse, read_pairs, read_turns
from mmdata.formats._chat_flat import flatten_with, read_chats
from mmdata.formats._flat import TurnColumns
from mmdata.formats._format import Sample
from mmdata.formats._sources import JsonSource, json_type, mapping
from mmdata.formats.messages import read_media_and_extra
from mmdata.schema import Conversation
from mmdata.sources.record import Record
from mmdata.store.encode import FlatRows

__all__ = ["TURNS", "ShareGpt", "prepend_system", "read_any_turns", "turns_field"]

TURNS: Final = ("messages", "conversations", "conversation")
"""The fields that may hold the turns; the first that does is read."""
_BESIDE: Final = frozenset(
    {"id", "system", "images", "videos", "audios", "image", "video", "audio"}
)


@registry.register("sharegpt")
@dataclass(frozen=True)
class ShareGpt(JsonSource):
    """ShareGPT conversations, with media beside them as LLaMA-Factory has it.

    ``dataset_name`` is what rows have in the column ``source``.
    """

    summary: ClassVar[str] = (
        "ShareGPT conversations, LLaMA-Factory's and ms-swift's, with or without media"
    )
    shape: ClassVar[str] = (
        '[{"conversations": [{"from": "human", "value": "<image>What is it?"}, '
        '{"from": "gpt", "value": "A cup."}], "images": ["1.jpg"]}]'
    )

    dataset_name: str = "sharegpt"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``conversation``, or ``conversations`` without fields and
        marks of others.
        """
        if sample.every("conversation"):
            return True
        others = (
            sample.some("image", "model", "video")
            or "<img>" in str(sample.records)
            or "<box>" in str(sample.records)
        )
        return sample.every("conversations") and not others

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        field = turns_field(value)
        if field is None:
            raise RecordError("'conversations' is absent or empty", reason="no_conversation")
        found = prepend_system(read_any_turns(value[field]), value)
        return converse(
            Chat(found, **read_media_and_extra(value, record, _BESIDE | {field})),
            record,
            self.dataset_name,
        )

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        return flatten_with(_read, records, self.dataset_name)


def _read(values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
    return read_chats(values, records, turns_fields=TURNS, mapped_fields=_BESIDE, has_system=True)


def turns_field(value: dict[str, Any]) -> str | None:
    """Return the field of a record that its turns are in; None where all are empty or absent."""
    return next((field for field in TURNS if value.get(field)), None)


def read_any_turns(value: object) -> list[Turn]:
    """Return the turns of a list of messages or of question and answer pairs, whichever spelling
    they have.
    """
    first = value[0] if isinstance(value, list) and value and isinstance(value[0], dict) else {}
    if "human" in first and "assistant" in first:
        return read_pairs(value, "human", "assistant")
    return (
        read_turns(value, "role", "content")
        if "role" in first
        else read_turns(value, "from", "value")
    )


def prepend_system(found: list[Turn], value: dict[str, Any]) -> list[Turn]:
    """Return the turns, first of them the text of the record's field ``system`` if it has one."""
    text = value.get("system")
    if not text:
        return found
    if not isinstance(text, str):
        raise RecordError(f"'system' must be a string, found {json_type(text)}")
    if found[0].role == "system":
        raise RecordError(
            "the record has a field 'system' and a turn of the system's", reason="role_order"
        )
    return [Turn("system", text), *found]
