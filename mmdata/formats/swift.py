"""ms-swift's records: ``query``, ``response`` and ``history`` with media beside them, and all
spellings it converts.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat import Chat, Turn, converse, read_pairs
from mmdata.formats._chat_flat import flatten_with, read_chats, read_media_lists
from mmdata.formats._flat import TurnColumns, require
from mmdata.formats._format import Sample
from mmdata.formats._sources import JsonSource, conversation_id, json_type, mapping, unmapped_fields
from mmdata.formats.messages import read_media_and_extra
from mmdata.formats.sharegpt import TURNS, prepend_system, read_any_turns, turns_field
from mmdata.schema import Conversation
from mmdata.sources._json import is_clean
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
_MARKS: Final = ("<bbox>", "<ref-object>")
_BITS: Final = 1 << 13  # an integer of more is too long to be written out
_LONGEST_LITERAL: Final = 1 << 20


@registry.register("swift")
@dataclass(frozen=True)
class Swift(JsonSource):
    """ms-swift's records, old and new. ``dataset_name`` is what rows have in the column ``source``.

    Column names may be any of ms-swift's other spellings; where two fields would be the same
    column, neither is.
    """

    summary: ClassVar[str] = (
        "ms-swift: query, response, history and media; also its messages and ShareGPT forms"
    )
    shape: ClassVar[str] = (
        '{"query": "What is it?", "response": "A cup.", "history": [["Hello", "Hi"]], '
        '"videos": ["1.mp4"]}'
    )

    dataset_name: str = "swift"

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
        )

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        if field := turns_field(value):
            value = _rename_columns(value, _BESIDE)
            found, mapped_fields = read_any_turns(value[field]), frozenset({"id", field, *_BESIDE})
        else:
            value = _rename_columns(_alpaca(value), _COLUMNS)
            found, mapped_fields = _rows(value), frozenset({"id", "history", *_COLUMNS})
            if isinstance(value["response"], list):
                mapped_fields -= {"response"}
        _refuse_marks(found, value)
        return converse(
            Chat(
                prepend_system(found, value), **read_media_and_extra(value, record, mapped_fields)
            ),
            record,
            self.dataset_name,
        )

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        return flatten_with(_read, records, self.dataset_name)


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
        said = [text for pair in value.get("history") or () for text in (*_two(pair),)]
        said += [value["query"], value["response"]]
        if system := value.get("system"):
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
        extras=[
            unmapped_fields(value, record, mapped)
            for value, record in zip(values, records, strict=True)
        ],
    )


def _two(pair: object) -> list[Any]:
    require(isinstance(pair, list) and len(pair) == 2)
    return pair  # type: ignore[return-value]


def _refuse_marks(turns: Iterable[Turn], value: dict[str, Any]) -> None:
    """Refuse a record whose words are left open for its ``objects``: a model would learn to say the
    marks.
    """
    open_words = [
        mark
        for turn in turns
        for mark in _MARKS
        if isinstance(turn.content, str) and mark in turn.content
    ]
    if value.get("objects") and open_words:
        raise RecordError(
            f"{open_words[0]} stands for one of 'objects', which are not read; "
            "the format qwen_vl reads boxes in text",
            reason="media_mismatch",
        )


def _rename_columns(value: dict[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    """Return a record with ms-swift's names for those of ``columns`` that it spells otherwise."""
    column_of = {alias: column for column in columns for alias in _COLUMNS[column]}
    names = [column_of.get(key.lower(), key) for key in value]
    return {
        name if names.count(name) == 1 else key: found
        for name, (key, found) in zip(names, value.items(), strict=True)
    }


def _alpaca(value: dict[str, Any]) -> dict[str, Any]:
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


def _rows(value: dict[str, Any]) -> list[Turn]:
    """Return the turns of ``history``, ``query`` and ``response``; of several responses the
    first.
    """
    response = _column(value, "response")
    answer = response[0] if isinstance(response, list) and response else response
    if answer is None or answer == []:
        raise RecordError(
            "'response' is missing: there is no answer to learn from", reason="no_conversation"
        )
    query = _column(value, "query", "")
    for name, text in (("query", query), ("response", answer)):
        if not isinstance(text, str):
            raise RecordError(f"{name!r} must be a string, found {json_type(text)}")
    return [
        *read_pairs(_history(value.get("history")), 0, 1),
        Turn("user", query),
        Turn("assistant", answer),
    ]


def _column(value: dict[str, Any], name: str, default: Any = None) -> Any:
    """Return the field that is a column; several that could be are none of them."""
    if name not in value and (several := [key for key in value if key.lower() in _COLUMNS[name]]):
        raise RecordError(
            f"{' and '.join(map(repr, several))} could all be the {name}; keep one of them"
        )
    return value.get(name, default)


def _history(history: object) -> object:
    """Return a history, read out of the literal that a CSV file holds it as."""
    if history is None or history == "":
        return []
    if not isinstance(history, str):
        return history
    if len(history) > _LONGEST_LITERAL:
        raise RecordError(
            f"'history' is a literal of {len(history)} characters, more than {_LONGEST_LITERAL}"
        )
    try:
        found = _as_json(ast.literal_eval(history))
        if not isinstance(found, list) or not all(isinstance(pair, list) for pair in found):
            raise ValueError("something else")
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise RecordError(
            f"'history' is a string but no list of pairs: {history[:60]!r}"
        ) from error
    if not is_clean(found):
        raise RecordError("'history' holds a NUL or a lone surrogate", reason="bad_encoding")
    return found


def _as_json(value: Any) -> Any:
    """Return a literal's value as JSON would have it.

    Raises:
        ValueError: JSON has none such: bytes, sets, complex numbers, keys that are no strings,
            numbers without end.
    """
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _as_json(item) for key, item in value.items()}
    known = value is None or isinstance(value, (str, bool))
    if (
        known
        or (isinstance(value, int) and value.bit_length() < _BITS)
        or (isinstance(value, float) and isfinite(value))
    ):
        return value
    raise ValueError("JSON has no such value")
