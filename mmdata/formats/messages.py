"""Chat messages as OpenAI, Hugging Face, LLaMA-Factory, ms-swift 3, Anthropic and Gemini write
them: ``messages`` of ``role`` and ``content``, and the other shapes of the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat import Thoughts, Turn, converse
from mmdata.formats._chat_flat import flatten_with, read_chats
from mmdata.formats._chat_record import read_chat
from mmdata.formats._flat import TurnColumns
from mmdata.formats._format import Sample
from mmdata.formats._grounding import BoxStyle
from mmdata.formats._meaning import is_said
from mmdata.formats._sources import JsonSource, mapping
from mmdata.formats._turn_reader import read_any_turns
from mmdata.schema import Conversation
from mmdata.sources.record import Record
from mmdata.store.encode import FlatRows

__all__ = ["Messages"]

_TURNS: Final = ("messages", "contents")
"""The fields that may hold all the turns: OpenAI's name, and Gemini's."""
_QUESTIONS: Final = ("question", "query", "instruction", "input")
_BESIDE: Final = frozenset(
    {"id", "system", "images", "videos", "audios", "image", "video", "audio"}
)


@registry.register("messages")
@dataclass(frozen=True)
class Messages(JsonSource):
    """Chat messages. ``dataset_name`` is what rows have in the column ``source``.

    ``content`` is a string, in which ``<image>`` and ``<video>`` stand for the files that
    ``images`` and ``videos`` list, or an array of parts that bring their own. A message's ``loss``,
    ``train`` or ``weight`` says whether it is trained on. Turns may be in ``contents`` (Gemini), in
    ``prompt`` and ``completion`` (TRL), or in ``chosen`` and ``rejected``.

    ``boxes`` says which boxes in texts become regions ([phrases and boxes](../tasks/boxes.md)),
    ``thoughts`` whether ``<think>…</think>`` before an answer stays text or becomes a ``reasoning``
    part.
    """

    summary: ClassVar[str] = (
        "chat messages with role and content: OpenAI, Hugging Face, LLaMA-Factory, ms-swift 3, TRL"
    )
    shape: ClassVar[str] = (
        '[{"messages": [{"role": "user", "content": "<image>What is it?"}, '
        '{"role": "assistant", "content": "A cup."}], "images": ["1.jpg"]}]'
    )

    dataset_name: str = "messages"
    boxes: BoxStyle = "auto"
    thoughts: Thoughts = "text"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``messages`` or ``contents``, or their turns in the
        fields of a preference pair or of a prompt and its completion.
        """
        if sample.every("messages") or sample.every("contents"):
            return True
        pairs = all(isinstance(record.get("prompt"), list) for record in sample.records)
        return (sample.every("prompt") and pairs and sample.some("completion", "chosen")) or (
            sample.every("chosen", "rejected") and not sample.some("prompt", "conversations")
        )

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        turns, fields = _read_turns(value)
        chat = read_chat(value, record, turns, fields)
        if not chat.turns:
            raise RecordError("'messages' is absent or empty", reason="no_conversation")
        return converse(chat, record, self.dataset_name, thoughts=self.thoughts, boxes=self.boxes)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        if self.thoughts != "text":
            return None
        return flatten_with(_read, records, self.dataset_name, boxes=self.boxes)


def _read_turns(value: dict[str, Any]) -> tuple[list[Turn], frozenset[str]]:
    """Return the turns of a record and the fields that they were in."""
    for name in _TURNS:
        if is_said(value.get(name)):
            return read_any_turns(value[name]), frozenset({name})
    fields = [name for name in ("prompt", "completion") if is_said(value.get(name))]
    if not fields:  # RLAIF-V's and LLaMA-Factory's names of what both answers of a pair are for
        fields = [name for name in _QUESTIONS if is_said(value.get(name))]
    turns: list[Turn] = []
    for name in fields:
        found = value[name]
        if isinstance(found, str) and name == "input" and turns:
            turns[-1] = Turn("user", f"{turns[-1].content}\n{found}")
        elif isinstance(found, str):
            turns.append(Turn("assistant" if name == "completion" else "user", found))
        else:
            turns += read_any_turns(found)
    return turns, frozenset(fields)


def _read(values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
    return read_chats(
        values, records, turns_fields=("messages",), mapped_fields=_BESIDE, has_system=True
    )
