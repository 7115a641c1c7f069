"""ShareGPT conversations: ``conversations`` of ``from`` and ``value``, or ``conversation`` of
question and answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat import Thoughts, converse
from mmdata.formats._chat_flat import flatten_with, read_chats
from mmdata.formats._chat_record import read_chat
from mmdata.formats._flat import TurnColumns
from mmdata.formats._format import Sample
from mmdata.formats._grounding import BoxStyle
from mmdata.formats._sources import RecordSource, mapping
from mmdata.formats._turn_reader import read_any_turns
from mmdata.schema import Conversation
from mmdata.sources.record import Record
from mmdata.store.encode import FlatRows

__all__ = ["TURNS", "ShareGpt", "turns_field"]

TURNS: Final = ("messages", "conversations", "conversation")
"""The fields that may hold the turns; the first that does is read."""
_IMAGE_PATH: Final = re.compile(r"<img>[^<>]+</img>")
_CHAT_SPEAKERS: Final = frozenset({"user", "assistant", "system"})
_BESIDE: Final = frozenset(
    {"id", "system", "images", "videos", "audios", "image", "video", "audio"}
)


@registry.register("sharegpt")
@dataclass(frozen=True)
class ShareGpt(RecordSource):
    """ShareGPT conversations, with media beside them as LLaMA-Factory has it.

    ``dataset_name`` is what rows have in the column ``source``.

    ``boxes`` says which boxes in texts become regions ([phrases and boxes](../tasks/boxes.md)),
    ``thoughts`` whether ``<think>…</think>`` before an answer stays text or becomes a ``reasoning``
    part.
    """

    summary: ClassVar[str] = (
        "ShareGPT conversations, LLaMA-Factory's and ms-swift's, with or without media"
    )
    shape: ClassVar[str] = (
        '[{"conversations": [{"from": "human", "value": "<image>What is it?"}, '
        '{"from": "gpt", "value": "A cup."}], "images": ["1.jpg"]}]'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "pairs of question and answer": (
            '{"system": "Be brief.", "conversation": [{"human": "What is a cup?", "assistant": "A '
            'vessel."}]}'
        ),
        "speakers that say their role (MiniCPM-V)": (
            '{"image": {"<image_00>": "1.jpg", "<image_01>": "2.jpg"}, "conversations": [{"role": '
            '"user", "content": "What do <image_00> and <image_01> share?"}, {"role": '
            '"assistant", "content": "A cup."}]}'
        ),
        "tools that are called (LLaMA-Factory)": (
            '{"tools": "[{\\"name\\": \\"weather\\", \\"parameters\\": {\\"city\\": {\\"type\\": '
            '\\"string\\"}}}]", "conversations": [{"from": "human", "value": "Is it raining in '
            'Oslo?"}, {"from": "function_call", "value": "{\\"name\\": \\"weather\\", '
            '\\"arguments\\": {\\"city\\": \\"Oslo\\"}}"}, {"from": "observation", "value": '
            '"rain"}, {"from": "gpt", "value": "Yes."}]}'
        ),
        "a preference pair (LLaMA-Factory)": (
            '{"conversations": [{"from": "human", "value": "What is a cup?"}], "chosen": {"from": '
            '"gpt", "value": "A vessel."}, "rejected": {"from": "gpt", "value": "A hat."}}'
        ),
        "an answer that was judged": (
            '{"conversations": [{"from": "human", "value": "What is a cup?"}, {"from": "gpt", '
            '"value": "A vessel."}], "kto_tag": true}'
        ),
        "answers that are not trained on": (
            '{"conversations": [{"from": "human", "value": "What is a cup?"}, {"from": "gpt", '
            '"value": "A hat.", "train": false}, {"from": "human", "value": "No."}, {"from": '
            '"gpt", "value": "A vessel."}]}'
        ),
        "a video": (
            '{"videos": ["1.mp4"], "conversations": [{"from": "human", "value": "<video>What '
            'happens?"}, {"from": "gpt", "value": "It falls."}]}'
        ),
        "turns as text, as tables hold them": (
            '{"conversations": "[{\\"from\\": \\"human\\", \\"value\\": \\"What is a cup?\\"}, '
            '{\\"from\\": \\"gpt\\", \\"value\\": \\"A vessel.\\"}]"}'
        ),
        "pairs of input and output (XTuner)": (
            '{"conversation": [{"system": "Be brief.", "input": "What is a cup?", "output": "A '
            'vessel."}]}'
        ),
        "a path between two marks (MindFormers)": (
            '{"id": "1", "conversations": [{"from": "user", "value": '
            '"<|reserved_special_token_3|>1.mp4<|reserved_special_token_4|>What happens?"}, '
            '{"from": "assistant", "value": "It falls."}]}'
        ),
        "files listed before the words, and where they stand (MindFormers' data_process.py)": (
            '{"conversations": [{"from": "human", "value": '
            '"<|reserved_special_token_3|>1.jpg<|reserved_special_token_4|>What is in <image>?"}, '
            '{"from": "gpt", "value": "<text>A cup."}]}'
        ),
    }

    dataset_name: str = "sharegpt"
    boxes: BoxStyle = "auto"
    thoughts: Thoughts = "text"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``conversation``, or ``conversations`` without fields and
        marks of others.
        """
        if sample.every("conversation"):
            return True
        # MiniCPM-V's, and XComposer's
        is_chat = all(_has_roles(record) for record in sample.records)
        others = (
            (sample.some("image", "model", "video") and not is_chat)
            or _IMAGE_PATH.search(str(sample.records))
            or ("<box>" in str(sample.records) and not (is_chat and sample.some("image")))
        )
        return sample.every("conversations") and not others

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        field = turns_field(value)
        if field is None:
            raise RecordError("'conversations' is absent or empty", reason="no_conversation")
        chat = read_chat(value, record, read_any_turns(value[field]), frozenset({field}))
        return converse(chat, record, self.dataset_name, thoughts=self.thoughts, boxes=self.boxes)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        if self.thoughts != "text":
            return None
        return flatten_with(_read, records, self.dataset_name, boxes=self.boxes)


def _read(values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
    return read_chats(values, records, turns_fields=TURNS, mapped_fields=_BESIDE, has_system=True)


def turns_field(value: dict[str, Any]) -> str | None:
    """Return the field of a record that its turns are in; None where all are empty or absent."""
    return next((field for field in TURNS if value.get(field)), None)


def _has_roles(record: Mapping[str, Any]) -> bool:
    """Return whether a record's turns say ``role`` and ``content``, or are a user's and an
    assistant's in any case, as no LLaVA record does.
    """
    turns = record.get("conversations")
    if not isinstance(turns, list) or not turns:
        return False
    return all(
        isinstance(turn, dict)
        and ("role" in turn or str(turn.get("from")).strip().lower() in _CHAT_SPEAKERS)
        for turn in turns
    )
