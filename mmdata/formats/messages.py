"""Chat messages as OpenAI, Hugging Face, LLaMA-Factory, ms-swift 3, Anthropic and Gemini write
them: ``messages`` of ``role`` and ``content``, and the other shapes of the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from mmdata.formats._sources import RecordSource, mapping
from mmdata.formats._turn_reader import read_any_turns, read_pairs
from mmdata.schema import Conversation
from mmdata.sources.record import Record
from mmdata.store.encode import FlatRows

__all__ = ["Messages"]

_TURNS: Final = ("messages", "contents")
"""The fields that may hold all the turns: OpenAI's name, and Gemini's."""
_QUESTIONS: Final = ("question", "query", "instruction", "input")
_ANSWERS: Final = ("chosen", "chosen_response", "preferred_output")
"""The fields that hold the better answer of a pair."""
_BESIDE: Final = frozenset(
    {"id", "system", "images", "videos", "audios", "image", "video", "audio"}
)


@registry.register("messages")
@dataclass(frozen=True)
class Messages(RecordSource):
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
    examples: ClassVar[Mapping[str, str]] = {
        "the system's words beside the turns": (
            '{"system": "Be brief.", "messages": [{"role": "user", "content": "What is a cup?"}, '
            '{"role": "assistant", "content": "A vessel."}]}'
        ),
        "media in parts (OpenAI)": (
            '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": '
            '{"url": "1.jpg"}}, {"type": "text", "text": "What is it?"}]}, {"role": "assistant", '
            '"content": "A cup."}]}'
        ),
        "parts that stand for listed media": (
            '{"images": ["1.jpg", "2.jpg"], "messages": [{"role": "user", "content": [{"type": '
            '"image", "index": 1}, {"type": "text", "text": "What is it?"}, {"type": "image", '
            '"index": 0}]}, {"role": "assistant", "content": "A cup."}]}'
        ),
        "parts without a type (DashScope)": (
            '{"messages": [{"role": "user", "content": [{"image": "1.jpg"}, {"text": "What is '
            'it?"}]}, {"role": "assistant", "content": [{"text": "A cup."}]}]}'
        ),
        "blocks (Anthropic)": (
            '{"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": '
            '"url", "url": "1.jpg"}}, {"type": "text", "text": "What is it?"}]}, {"role": '
            '"assistant", "content": [{"type": "thinking", "thinking": "It has a handle."}, '
            '{"type": "text", "text": "A cup."}]}]}'
        ),
        "contents (Gemini)": (
            '{"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": [{"role": '
            '"user", "parts": [{"fileData": {"mimeType": "image/jpeg", "fileUri": "1.jpg"}}, '
            '{"text": "What is it?"}]}, {"role": "model", "parts": [{"text": "A cup."}]}]}'
        ),
        "a prompt and its completion (TRL)": (
            '{"prompt": [{"role": "user", "content": "What is a cup?"}], "completion": [{"role": '
            '"assistant", "content": "A vessel."}]}'
        ),
        "a preference pair": (
            '{"images": ["1.jpg"], "messages": [{"role": "user", "content": "<image>What is '
            'it?"}], "chosen": {"role": "assistant", "content": "A cup."}, "rejected": {"role": '
            '"assistant", "content": "A hat."}}'
        ),
        "a preference pair with the prompt in both": (
            '{"chosen": [{"role": "user", "content": "What is a cup?"}, {"role": "assistant", '
            '"content": "A vessel."}], "rejected": [{"role": "user", "content": "What is a '
            'cup?"}, {"role": "assistant", "content": "A hat."}]}'
        ),
        "a preference pair with the prompt in both and by itself (UltraFeedback)": (
            '{"prompt": "What is a cup?", "chosen": [{"role": "user", "content": "What is a '
            'cup?"}, {"role": "assistant", "content": "A vessel."}], "rejected": [{"role": '
            '"user", "content": "What is a cup?"}, {"role": "assistant", "content": "A hat."}]}'
        ),
        "a worse answer beside the better": (
            '{"messages": [{"role": "user", "content": "What is a cup?"}, {"role": "assistant", '
            '"content": "A vessel."}], "rejected_response": "A hat."}'
        ),
        "an answer that was judged": (
            '{"messages": [{"role": "user", "content": "What is a cup?"}, {"role": "assistant", '
            '"content": "A hat."}], "label": false}'
        ),
        "a worse answer as a list of turns (ms-swift)": (
            '{"messages": [{"role": "user", "content": "What is a cup?"}, {"role": "assistant", '
            '"content": "A vessel."}], "rejected_response": [{"role": "assistant", "content": "A '
            'hat."}]}'
        ),
        "an answer that was judged by number (ms-swift)": (
            '{"messages": [{"role": "user", "content": "What is a cup?"}, {"role": "assistant", '
            '"content": "A hat."}], "label": 0}'
        ),
        "a mask of what is trained on, as text": (
            '{"messages": [{"role": "user", "content": "What is a cup?"}, {"role": "assistant", '
            '"content": "A vessel."}], "loss_mask": "0,1"}'
        ),
        "answers that are not trained on": (
            '{"messages": [{"role": "user", "content": "What is a cup?"}, {"role": "assistant", '
            '"content": "A hat.", "weight": 0}, {"role": "user", "content": "No."}, {"role": '
            '"assistant", "content": "A vessel."}]}'
        ),
        "reasoning": (
            '{"messages": [{"role": "user", "content": "What is a cup?"}, {"role": "assistant", '
            '"content": "A vessel.", "reasoning_content": "One drinks from it."}]}'
        ),
        "tools that are called (OpenAI)": (
            '{"tools": [{"type": "function", "function": {"name": "weather", "parameters": '
            '{"city": {"type": "string"}}}}], "messages": [{"role": "user", "content": "Is it '
            'raining in Oslo?"}, {"role": "assistant", "content": null, "tool_calls": [{"id": '
            '"1", "type": "function", "function": {"name": "weather", "arguments": "{\\"city\\": '
            '\\"Oslo\\"}"}}]}, {"role": "tool", "tool_call_id": "1", "content": "rain"}, {"role": '
            '"assistant", "content": "Yes."}]}'
        ),
        "tools that are called (Anthropic)": (
            '{"messages": [{"role": "user", "content": "Is it raining in Oslo?"}, {"role": '
            '"assistant", "content": [{"type": "tool_use", "id": "1", "name": "weather", "input": '
            '{"city": "Oslo"}}]}, {"role": "user", "content": [{"type": "tool_result", '
            '"tool_use_id": "1", "content": "rain"}]}, {"role": "assistant", "content": "Yes."}]}'
        ),
        "a clip in a part": (
            '{"messages": [{"role": "user", "content": [{"type": "video", "video": "1.mp4", '
            '"video_start": 2.5, "video_end": 4}, {"type": "text", "text": "What happens?"}]}, '
            '{"role": "assistant", "content": "It falls."}]}'
        ),
        "a video given as pictures, two a second": (
            '{"messages": [{"role": "user", "content": [{"type": "video", "video": ["1/0001.jpg", '
            '"1/0002.jpg"], "sample_fps": 2}, {"type": "text", "text": "What happens?"}]}, '
            '{"role": "assistant", "content": "It falls."}]}'
        ),
        "pictures of a listed video": (
            '{"videos": [["1/0001.jpg", "1/0002.jpg"]], "messages": [{"role": "user", "content": '
            '"<video>What happens?"}, {"role": "assistant", "content": "It falls."}]}'
        ),
        "a video as its pictures in the record, with the seconds of each": (
            '{"frames": [{"images": ["data:image/png;base64,aGk=", "data:image/png;base64,aG8="], '
            '"seconds": [0.0, 0.4]}], "messages": [{"role": "user", "content": [{"type": '
            '"frames"}, {"type": "text", "text": "What happens?"}]}, {"role": "assistant", '
            '"content": "It falls."}]}'
        ),
        "phrases and boxes (ms-swift)": (
            '{"images": ["1.jpg"], "objects": {"ref": ["the cup"], "bbox": [[100, 200, 500, '
            '800]], "bbox_type": "norm1000"}, "messages": [{"role": "user", "content": '
            '"<image>Find <ref-object>."}, {"role": "assistant", "content": "<bbox>"}]}'
        ),
        "a picture inside the record": (
            '{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": '
            '{"url": "data:image/png;base64,aGk="}}, {"type": "text", "text": "What is it?"}]}, '
            '{"role": "assistant", "content": "A cup."}]}'
        ),
        "the marks of a model family": (
            '{"images": ["1.jpg"], "messages": [{"role": "user", "content": '
            '"<|vision_start|><|image_pad|><|vision_end|>What is it?"}, {"role": "assistant", '
            '"content": "A cup."}]}'
        ),
        "the system later on, and turns of one role": (
            '{"messages": [{"role": "user", "content": "What is a cup?"}, {"role": "assistant", '
            '"content": "A vessel."}, {"role": "system", "content": "Be brief."}, {"role": '
            '"user", "content": "And a hat?"}, {"role": "user", "content": "In a word."}, '
            '{"role": "assistant", "content": "Headwear."}]}'
        ),
    }

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
        if sample.every("chosen", "rejected"):
            return not sample.some("conversations")
        if sample.every("input", "preferred_output", "non_preferred_output"):
            return True
        pairs = all(isinstance(record.get("prompt"), list) for record in sample.records)
        return sample.every("prompt") and pairs and sample.some("completion", "chosen")

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = _lift_input(mapping(record))
        turns, fields = _read_turns(value)
        chat = read_chat(value, record, turns, fields, label_judges=True)
        if not chat.turns:
            raise RecordError("'messages' is absent or empty", reason="no_conversation")
        return converse(chat, record, self.dataset_name, thoughts=self.thoughts, boxes=self.boxes)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        if self.thoughts != "text":
            return None
        return flatten_with(_read, records, self.dataset_name, boxes=self.boxes)


def _lift_input(value: dict[str, Any]) -> dict[str, Any]:
    """Return a record with what OpenAI has inside ``input``, the turns and the tools before a
    preference pair, beside it.
    """
    asked = value.get("input")
    if not isinstance(asked, dict) or "messages" not in asked or not asked.keys().isdisjoint(value):
        return value
    return {**{name: found for name, found in value.items() if name != "input"}, **asked}


def _read_turns(value: dict[str, Any]) -> tuple[list[Turn], frozenset[str]]:
    """Return the turns of a record and the fields that they were in."""
    for name in _TURNS:
        if is_said(value.get(name)):
            return read_any_turns(value[name]), frozenset({name})

    fields = [name for name in ("prompt", "completion") if is_said(value.get(name))]
    if not fields:  # RLAIF-V's and LLaMA-Factory's names of what both answers of a pair are for
        fields = [name for name in _QUESTIONS if is_said(value.get(name))]
        # Of a question alone the answer stands where another format looks for it.
        fields = fields if any(is_said(value.get(name)) for name in _ANSWERS) else []
    if not fields:
        return [], frozenset()

    turns: list[Turn] = []
    history = value.get("history")
    heard = frozenset(fields)
    if isinstance(history, list) and is_said(history):  # LLaMA-Factory's, before the question
        turns += read_pairs(history, 0, 1)
        heard |= {"history"}
    for name in fields:
        found = value[name]
        if isinstance(found, str) and name == "input" and "instruction" in fields:
            turns[-1] = Turn("user", f"{turns[-1].content}\n{found}")
        elif isinstance(found, str):
            turns.append(Turn("assistant" if name == "completion" else "user", found))
        else:
            turns += read_any_turns(found)

    return turns, heard


def _read(values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
    return read_chats(
        values, records, turns_fields=("messages",), mapped_fields=_BESIDE, has_system=True
    )
