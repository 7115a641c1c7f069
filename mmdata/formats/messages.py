"""Chat messages as OpenAI, Hugging Face and LLaMA-Factory write them: ``messages`` of ``role`` and
``content``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat import Chat, converse, read_turns
from mmdata.formats._chat_flat import flatten_with, read_chats
from mmdata.formats._flat import TurnColumns
from mmdata.formats._format import Sample
from mmdata.formats._parts import leftovers_of_media, media_of
from mmdata.formats._sources import JsonSource, mapping, unmapped_fields
from mmdata.schema import Conversation
from mmdata.sources.record import Record
from mmdata.store.encode import FlatRows

__all__ = ["Messages", "read_media_and_extra"]

_LISTS: Final = ("images", "image", "videos", "video")
_BESIDE: Final = frozenset(
    {"id", "messages", "images", "videos", "audios", "image", "video", "audio"}
)


@registry.register("messages")
@dataclass(frozen=True)
class Messages(JsonSource):
    """Chat messages. ``dataset_name`` is what rows have in the column ``source``.

    ``content`` is a string, in which ``<image>`` and ``<video>`` stand for the files that
    ``images`` and ``videos`` list, or an array of parts that bring their own. A message's ``loss``
    says whether it is trained on.
    """

    summary: ClassVar[str] = (
        "chat messages with role and content: OpenAI, Hugging Face, LLaMA-Factory, ms-swift 3"
    )
    shape: ClassVar[str] = (
        '[{"messages": [{"role": "user", "content": "<image>What is it?"}, '
        '{"role": "assistant", "content": "A cup."}], "images": ["1.jpg"]}]'
    )

    dataset_name: str = "messages"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``messages``."""
        return sample.every("messages")

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        if not value.get("messages"):
            raise RecordError("'messages' is absent or empty", reason="no_conversation")
        return converse(
            Chat(
                read_turns(value["messages"], "role", "content"),
                **read_media_and_extra(value, record, _BESIDE),
            ),
            record,
            self.dataset_name,
        )

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        return flatten_with(_read, records, self.dataset_name)


def _read(values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
    return read_chats(
        values, records, turns_fields=("messages",), mapped_fields=_BESIDE, has_system=False
    )


def read_media_and_extra(
    value: dict[str, Any], record: Record, mapped_fields: frozenset[str]
) -> dict[str, Any]:
    """Return what a Chat takes besides turns: the media that a record lists, and as ``extra`` what
    is not mapped.

    Raises:
        RecordError: audio is among the media.
    """
    if value.get("audios") or value.get("audio"):
        raise RecordError("the record holds audio", reason="unsupported_media")
    found = {key: leftovers_of_media(value.get(key)) for key in _LISTS}
    leftovers = {key: rest for key, rest in found.items() if rest}
    return {
        "images": [*media_of(value.get("images"), "image"), *media_of(value.get("image"), "image")],
        "videos": [*media_of(value.get("videos"), "video"), *media_of(value.get("video"), "video")],
        "extra": {**unmapped_fields(value, record, mapped_fields), **leftovers},
    }
