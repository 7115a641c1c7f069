"""ShareGPT conversations: ``conversations`` of ``from`` and ``value``, or ``conversation`` of question and answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat import Chat, Turn, converse, pairs, turns
from mmdata.formats._format import Record, Sample
from mmdata.formats._sources import JsonSource, kind, mapping
from mmdata.formats.messages import beside
from mmdata.schema import Conversation

__all__ = ["ShareGpt", "spoken", "with_system"]

_HOMED: Final = frozenset(
    {
        "id",
        "conversations",
        "conversation",
        "messages",
        "system",
        "images",
        "videos",
        "audios",
        "image",
        "video",
        "audio",
    }
)


@registry.register("sharegpt")
@dataclass(frozen=True)
class ShareGpt(JsonSource):
    """ShareGPT conversations, with media beside them as LLaMA-Factory has it. ``source`` is the name rows get."""

    summary: ClassVar[str] = "ShareGPT conversations, LLaMA-Factory's and ms-swift's, with or without media"
    shape: ClassVar[str] = (
        '[{"conversations": [{"from": "human", "value": "<image>What is it?"}, '
        '{"from": "gpt", "value": "A cup."}], "images": ["1.jpg"]}]'
    )

    source: str = "sharegpt"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``conversation``, or ``conversations`` without fields and marks of others."""
        if sample.every("conversation"):
            return True
        others = (
            sample.some("image", "model", "video") or "<img>" in str(sample.records) or "<box>" in str(sample.records)
        )
        return sample.every("conversations") and not others

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        found = spoken(value)
        if not found:
            raise RecordError("'conversations' is absent or empty", reason="no_conversation")
        return converse(Chat(with_system(found, value), **beside(value, record, _HOMED)), record, self.source)


def spoken(value: dict[str, Any]) -> list[Turn]:
    """Return the turns of a record in whichever of the three spellings it has them; none where it has none."""
    if value.get("messages"):
        return turns(value["messages"], "role", "content")
    if value.get("conversations"):
        return turns(value["conversations"], "from", "value")
    if value.get("conversation"):
        return pairs(value["conversation"], "human", "assistant")
    return []


def with_system(found: list[Turn], value: dict[str, Any]) -> list[Turn]:
    """Return the turns, first of them the text of the record's field ``system`` if it has one."""
    text = value.get("system")
    if not text:
        return found
    if not isinstance(text, str):
        raise RecordError(f"'system' must be a string, found {kind(text)}")
    if found[0].role == "system":
        raise RecordError("the record has a field 'system' and a turn of the system's", reason="role_order")
    return [Turn("system", text), *found]
