"""ms-swift's records: ``query``, ``response`` and ``history`` with media beside them, and all
spellings it converts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat import Thoughts, Turn, converse
from mmdata.formats._chat_flat import flatten_with, read_chats, read_extras, read_media_lists
from mmdata.formats._chat_record import read_chat
from mmdata.formats._flat import TurnColumns, require
from mmdata.formats._format import Sample
from mmdata.formats._grounding import BoxStyle
from mmdata.formats._meaning import is_said
from mmdata.formats._sources import RecordSource, conversation_id, json_type, mapping
from mmdata.formats._turn_reader import read_any_turns, read_literal, read_pairs
from mmdata.formats.sharegpt import TURNS, turns_field
from mmdata.schema import Conversation
from mmdata.sources.record import Record
from mmdata.store.encode import ROLE_CODES, FlatRows

__all__ = ["Swift"]

_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "system": ("system", "system_prompt"),
    "query": ("query", "prompt", "input", "instruction", "question", "problem"),
    "response": (
        "response", "answer", "output", "targets", "target", "answer_key", "answers", "solution",
        "text", "completion", "content",
    ),
    "images": ("images", "image"),
    "videos": ("videos", "video"),
    "audios": ("audios", "audio"),
}  # fmt: skip
"""ms-swift's column names and their other spellings, whatever their case."""
_ALL: Final = frozenset(chain.from_iterable(_COLUMNS.values()))
_QUESTION_ANSWER: Final = bytes([ROLE_CODES["user"], ROLE_CODES["assistant"]])
_BESIDE: Final = ("system", "images", "videos", "audios")


@registry.register("swift")
@dataclass(frozen=True)
class Swift(RecordSource):
    """ms-swift's records, old and new. ``dataset_name`` is what rows have in the column ``source``.

    Column names may be any of ms-swift's other spellings; where two fields would be the same
    column, neither is.

    ``boxes`` says which boxes in texts become regions ([phrases and boxes](../tasks/boxes.md)),
    ``thoughts`` whether ``<think>…</think>`` before an answer stays text or becomes a ``reasoning``
    part.
    """

    summary: ClassVar[str] = (
        "ms-swift: query, response, history and media; also its messages and ShareGPT forms"
    )
    shape: ClassVar[str] = (
        '{"query": "What is it?", "response": "A cup.", "history": [["Hello", "Hi"]], '
        '"videos": ["1.mp4"]}'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "the system's words beside the query": (
            '{"system": "Be brief.", "query": "<image>What is it?", "response": "A cup.", '
            '"images": ["1.jpg"]}'
        ),
        "media inside the query": (
            '{"query": "<video>1.mp4</video>What happens?", "response": "It falls."}'
        ),
        "instruction, input and output (Alpaca)": (
            '{"instruction": "Name it.", "input": "A vessel to drink from.", "output": "A cup."}'
        ),
        "a worse answer beside the better": (
            '{"query": "<image>What is it?", "response": "A cup.", "rejected_response": "A hat.", '
            '"images": ["1.jpg"]}'
        ),
        "an answer that was judged": (
            '{"query": "What is a cup?", "response": "A hat.", "label": false}'
        ),
        "messages": (
            '{"messages": [{"role": "user", "content": "<image>What is it?"}, {"role": '
            '"assistant", "content": "A cup."}], "images": ["1.jpg"]}'
        ),
        "tools that are called": (
            '{"tools": "[{\\"type\\": \\"function\\", \\"function\\": {\\"name\\": \\"weather\\", '
            '\\"parameters\\": {\\"city\\": {\\"type\\": \\"string\\"}}}}]", "messages": '
            '[{"role": "user", "content": "Is it raining in Oslo?"}, {"role": "tool_call", '
            '"content": "{\\"name\\": \\"weather\\", \\"arguments\\": {\\"city\\": '
            '\\"Oslo\\"}}"}, {"role": "tool_response", "content": "rain"}, {"role": "assistant", '
            '"content": "Yes."}]}'
        ),
        "a video given as pictures": (
            '{"query": "<video>What happens?", "response": "It falls.", "videos": [["1/0001.jpg", '
            '"1/0002.jpg"]]}'
        ),
        "phrases and boxes, in pixels": (
            '{"query": "<image>Find <ref-object>.", "response": "<bbox>", "images": ["1.jpg"], '
            '"objects": {"ref": ["the cup"], "bbox": [[64, 96, 320, 384]], "width": [640], '
            '"height": [480]}}'
        ),
        "a history as text, as tables hold it": (
            '{"query": "And a hat?", "response": "Headwear.", "history": "[[\'What is a cup?\', '
            "'A vessel.']]\"}"
        ),
    }

    dataset_name: str = "swift"
    boxes: BoxStyle = "auto"
    thoughts: Thoughts = "text"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have a query and a response by ms-swift's names, and are of no
        other format.
        """
        keys = {key.lower() for record in sample.records for key in record}
        others = {"img", "video_name", *TURNS}
        return (
            bool(keys & {*_COLUMNS["query"]})
            and bool(keys & {*_COLUMNS["response"]})
            and not keys & others
            and not any(isinstance(record.get("prompt"), list) for record in sample.records)
        )

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        if field := turns_field(value):
            value = _rename_columns(value, _BESIDE)
            turns, fields = read_any_turns(value[field]), frozenset({field})
        else:
            value = _rename_columns(_join_alpaca(value), _COLUMNS)
            turns, fields = _read_columns(value), frozenset({"query", "response", "history"})
            if isinstance(value.get("response"), list):
                fields -= {"response"}
        return converse(
            read_chat(value, record, turns, fields, label_judges=True),
            record,
            self.dataset_name,
            thoughts=self.thoughts,
            boxes=self.boxes,
        )

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        if self.thoughts != "text":
            return None
        return flatten_with(_read, records, self.dataset_name, boxes=self.boxes)


def _read(values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
    """Return the columns of records whose fields have ms-swift's own names, none of the other
    spellings.
    """
    names = set().union(*values)
    is_turns = any(field in names for field in TURNS)
    columns = _BESIDE if is_turns else _COLUMNS
    spellings = {name for column in columns for name in _COLUMNS[column]} - {*columns}
    require(
        not any(
            name in spellings or (name != name.lower() and name.lower() in _ALL) for name in names
        )
    )
    require("objects" not in names and "audios" not in names)
    if is_turns:
        mapped = frozenset({"id", *_BESIDE})
        return read_chats(
            values, records, turns_fields=TURNS, mapped_fields=mapped, has_system=True
        )

    return _read_queries(values, records)


def _read_queries(values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
    """Return the columns of records of ``query``, ``response`` and ``history``."""
    num_turns: list[int] = []
    roles = bytearray()
    texts: list[str] = []
    for value in values:
        said = [text for pair in _list_history(value) for text in (*_two(pair),)]
        said += [value["query"], value["response"]]
        system = value.get("system")
        require(system is None or type(system) is str)
        if system:
            texts.append(system)
            roles.append(ROLE_CODES["system"])
        texts += said
        roles += _QUESTION_ANSWER * (len(said) // 2)
        num_turns.append(len(said) + bool(system))

    require(set(map(type, texts)) == {str})
    mapped = frozenset({"id", "history", *_COLUMNS})
    return TurnColumns(
        ids=[record.id or conversation_id(record) for record in records],
        num_turns=num_turns,
        roles=bytes(roles),
        texts=texts,
        images=read_media_lists(values, "image"),
        videos=read_media_lists(values, "video"),
        extras=read_extras(values, records, mapped),
    )


def _list_history(value: dict[str, Any]) -> Sequence[Any]:
    history = value.get("history")
    require(history is None or type(history) is list)
    return history or ()


def _two(pair: object) -> list[Any]:
    require(isinstance(pair, list) and len(pair) == 2)
    return pair  # type: ignore[return-value]


def _rename_columns(value: dict[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """Return a record with ms-swift's names for those of ``columns`` that it spells otherwise."""
    column_of = {alias: column for column in columns for alias in _COLUMNS[column]}
    names = [column_of.get(key.lower(), key) for key in value]
    return {
        name if names.count(name) == 1 else key: found
        for name, (key, found) in zip(names, value.items(), strict=True)
    }


def _join_alpaca(value: dict[str, Any]) -> dict[str, Any]:
    """Return a record with Alpaca's ``instruction`` and ``input`` as one query; any other as
    it is.
    """
    task, text, answer = value.get("instruction"), value.get("input") or "", value.get("output")
    others = {key.lower() for key in value} & {*_COLUMNS["query"]} - {"instruction", "input"}
    if not isinstance(task, str) or not isinstance(text, str) or "input" not in value or others:
        return value
    ours = {"query": f"{task}\n{text}".strip("\n")}
    if isinstance(answer, str) and "response" not in value:
        ours["response"] = answer  # whatever `text` is beside it
    read = {"instruction", "input", *(["output"] if "response" in ours else [])}
    return {**ours, **{key: found for key, found in value.items() if key not in read}}


def _read_columns(value: dict[str, Any]) -> list[Turn]:
    """Return the turns of ``history``, ``query`` and ``response``; of several responses the first.

    Either may be a list of messages, as TRL has prompt and completion. Without a response there is
    the better one of a pair, which is read later.
    """
    response = _column(value, "response")
    query = _column(value, "query", "")
    if isinstance(query, list) and query and isinstance(query[0], dict):
        turns = read_any_turns(query)
    elif isinstance(query, str):
        turns = [Turn("user", query)]
    else:
        raise RecordError(f"'query' must be a string, found {json_type(query)}")

    turns = [*read_pairs(_history(value.get("history")), 0, 1), *turns]
    if isinstance(response, list) and response and isinstance(response[0], dict):
        return [*turns, *read_any_turns(response)]

    answer = response[0] if isinstance(response, list) and response else response
    if answer is None or answer == []:
        if is_said(value.get("chosen")):
            return turns
        raise RecordError(
            "'response' is missing: there is no answer to learn from", reason="no_conversation"
        )
    if not isinstance(answer, str):
        raise RecordError(f"'response' must be a string, found {json_type(answer)}")
    if is_said(chosen := value.get("chosen")):
        if chosen != answer:
            raise RecordError(
                "'chosen' and another field are both the better answer; keep one of them, or name "
                "the format `messages`, which reads 'chosen'",
                reason="unsupported_field",
            )
        return turns

    return [*turns, Turn("assistant", answer)]


def _column(value: dict[str, Any], name: str, default: Any = None) -> Any:
    """Return the field that is a column; several that could be are none of them."""
    if name not in value and (several := [key for key in value if key.lower() in _COLUMNS[name]]):
        raise RecordError(
            f"{' and '.join(map(repr, several))} could all be the {name}; keep one of them"
        )
    return value.get(name, default)


def _history(history: object) -> object:
    """Return a history, read out of the literal that a CSV file holds it as."""
    if history is None or history in ("", {}):
        return []
    if not isinstance(history, str):
        return history
    found = read_literal(history, "'history'")
    if not isinstance(found, list) or not all(isinstance(pair, list) for pair in found):
        raise RecordError(f"'history' is a string but no list of pairs: {history[:60]!r}")
    return found
