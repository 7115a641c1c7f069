"""LLaMA-Factory's data: ShareGPT's turns or OpenAI's, and the ``dataset_info.json`` that tells it
how to read them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final, Literal

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature, UnsayableError
from mmdata.exporters._json_columns import list_records
from mmdata.exporters._media import MediaMode
from mmdata.exporters._plain import ASSISTANT, SYSTEM, USER, PlainRows
from mmdata.exporters._turns import (
    add_extra,
    add_media,
    divide_turn,
    ending_of,
    options_for_thoughts,
    require_dialog,
    spell_call,
    text_of,
    think,
)
from mmdata.exporters._writers import JUDGED, KINDS, PAIRS, JsonWriter, Writer, kind_of
from mmdata.schema import Conversation, Message

__all__ = ["LlamaFactory"]

_SHAREGPT: Final = {
    "user": "human",
    "assistant": "gpt",
    "system": "system",
    "tool": "observation",
    "call": "function_call",
}
_OPENAI: Final = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "tool": "observation",
    "call": "function_call",
}
_COLUMNS: Final[dict[str, Any]] = {"images": [], "videos": [], "tools": ""}
"""What every record has: a column that ``dataset_info.json`` names must be there."""


@registry.register("llamafactory")
@dataclass(frozen=True)
class LlamaFactory(Exporter):
    """LLaMA-Factory's JSON and its ``dataset_info.json``; ``name`` is what its data sets are called
    there, with the split behind it.

    ``style`` says how turns are spelt: ``sharegpt`` or ``openai``. Preference pairs are in a file
    of their own, ``train_pairs.json``, and judged answers in ``train_judged.json``, for it reads
    each kind of data another way.
    """

    summary: ClassVar[str] = "LLaMA-Factory's ShareGPT or OpenAI turns with dataset_info.json"
    shape: ClassVar[str] = (
        '[{"id": "1", "conversations": [{"from": "human", "value": "<image>What is it?"}, '
        '{"from": "gpt", "value": "A cup."}], "images": ["1.jpg"]}]'
    )
    says: ClassVar[frozenset[Feature]] = frozenset(
        {"extra", "judgement", "reasoning", "rejected", "system", "tools"}
    )
    media_modes: ClassVar[tuple[MediaMode, ...]] = ("reference", "copy")
    fields: ClassVar[frozenset[str]] = frozenset(
        {"messages", "conversations", "conversation", "images", "videos", "audios"}
    )
    read_by: ClassVar[str | None] = "sharegpt"

    style: Literal["sharegpt", "openai"] = "sharegpt"
    name: str = "mmdata"

    @property
    def _keys(self) -> tuple[str, str]:
        return ("from", "value") if self.style == "sharegpt" else ("role", "content")

    @property
    def _names(self) -> Mapping[str, str]:
        return _SHAREGPT if self.style == "sharegpt" else _OPENAI

    @property
    def _turns(self) -> str:
        return "conversations" if self.style == "sharegpt" else "messages"

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: its turns are not the user's and the assistant's by turns, it has a turn
                with words and calls, or a pair is no two answers.
        """
        conversation = row.conversation
        require_dialog(conversation)
        messages: Sequence[Message] = conversation.messages
        chosen: Sequence[Message] = ()
        if conversation.rejected is not None:
            if conversation.desirable is not None:
                raise UnsayableError("a pair has a judgement besides", what="judgement")
            messages, chosen = ending_of(conversation)
            if len(chosen) != 1 or len(conversation.rejected) != 1:
                raise UnsayableError("a pair is two answers, of a turn each", what="rejected")

        record: dict[str, Any] = {
            "id": conversation.id,
            self._turns: [self._turn(message) for message in messages],
        }
        if conversation.rejected is not None:
            record["chosen"] = self._turn(chosen[0])
            record["rejected"] = self._turn(conversation.rejected[0])
        if conversation.desirable is not None:
            record["kto_tag"] = conversation.desirable
        if conversation.tools is not None:
            record["tools"] = conversation.tools
        record = {**_COLUMNS, **add_media(record, conversation, row.media)}
        return add_extra(record, conversation, self.fields)

    def _turn(self, message: Message) -> dict[str, str]:
        speaker, said = self._keys
        thought, words, calls = divide_turn(message)
        if not calls:
            text = think(thought, "" if words is None else text_of(words))
            return {speaker: self._names[message.role], said: text}
        if words is not None or thought is not None:
            raise UnsayableError("a turn has words and calls; it must be one of both", what="tools")
        spelt = (
            spell_call(calls[0]) if len(calls) == 1 else f"[{', '.join(map(spell_call, calls))}]"
        )
        return {speaker: self._names["call"], said: spelt}

    def records(self, rows: PlainRows) -> Any:
        """Return the records of plain rows as JSON."""
        codes = {SYSTEM: "system", USER: "user", ASSISTANT: "assistant"}
        names = {code: self._names[role] for code, role in codes.items()}
        return list_records(rows, self._turns, self._keys, names, self.fields, always=',"tools":""')

    def reading_options(self, conversation: Conversation) -> Mapping[str, Any]:
        """Return that thoughts are read, of a row that has some."""
        return options_for_thoughts(conversation)

    def open(self, folder: Path) -> Writer:
        """Return what writes a file for each kind of data."""
        return JsonWriter(folder, kind_of=kind_of)

    def finish(self, folder: Path, splits: Mapping[str, int]) -> Sequence[str]:
        """Write ``dataset_info.json``, which names a data set for each file."""
        files = [f"{split}{kind}.json" for split in splits for kind in KINDS]
        info = {
            f"{self.name}_{file.removesuffix('.json')}": self._entry(file)
            for file in files
            if (folder / file).is_file()
        }
        text = json.dumps(info, indent=2, ensure_ascii=False)
        (folder / "dataset_info.json").write_text(f"{text}\n", encoding="utf-8")
        return ("dataset_info.json",)

    def _entry(self, file: str) -> dict[str, Any]:
        """Return what LLaMA-Factory is told of a file, as its data/README.md has it."""
        speaker, said = self._keys
        names = self._names
        columns = {
            "messages": self._turns,
            "images": "images",
            "videos": "videos",
            "tools": "tools",
        }
        stem = file.removesuffix(".json")
        if stem.endswith(PAIRS):
            columns |= {"chosen": "chosen", "rejected": "rejected"}
        if stem.endswith(JUDGED):
            columns |= {"kto_tag": "kto_tag"}
        tags = {
            "role_tag": speaker,
            "content_tag": said,
            "user_tag": names["user"],
            "assistant_tag": names["assistant"],
            "observation_tag": names["tool"],
            "function_tag": names["call"],
            "system_tag": names["system"],
        }
        entry: dict[str, Any] = {"file_name": file, "formatting": "sharegpt"}
        if stem.endswith(PAIRS):
            entry["ranking"] = True
        return {**entry, "columns": columns, "tags": tags}
