"""Turns as sources spell them: who speaks, what is said, whether it is trained on, and what is
thought or called besides.

The spellings of OpenAI, Hugging Face, ShareGPT, LLaMA-Factory, ms-swift, Anthropic, Gemini and
Ollama are told by their fields; a source may mix them.
"""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import replace
from typing import Any, Final

from mmdata.errors import RecordError
from mmdata.formats._chat import Turn
from mmdata.formats._meaning import is_said
from mmdata.formats._parts import (
    ToolResult,
    is_object,
    leftovers_of_media,
    leftovers_of_parts,
    media_of,
    read_part,
    read_tool_call,
)
from mmdata.formats._sources import json_type
from mmdata.formats._turns import role_of
from mmdata.schema import Media, MediaType, Part, Reasoning, Role, ToolCall
from mmdata.sources._json import is_clean
from mmdata.sources._literal import parse_json, parse_literal

__all__ = [
    "TRAIN_FLAGS",
    "list_turns",
    "read_any_turns",
    "read_literal",
    "read_pairs",
    "read_turns",
]

_SPELLINGS: Final = (
    ("role", "content"),
    ("from", "value"),
    ("role", "parts"),
    ("role", "value"),
    ("role", "text"),
    ("from", "content"),
)
"""The fields of a turn that hold its speaker and what is said."""
_PAIRS: Final = (
    ("human", "assistant"),
    ("user", "assistant"),
    ("input", "output"),
    ("question", "answer"),
    ("q", "a"),
)
"""The fields of a question and its answer, where a turn is both."""
_CALLS: Final = frozenset({"function_call", "tool_call"})
"""The speakers whose words are the call of a tool: LLaMA-Factory's and ms-swift's."""
_REASONING: Final = ("reasoning_content", "reasoning", "thinking")
_MEDIA: Final[tuple[tuple[str, MediaType], ...]] = (
    ("images", "image"),
    ("image", "image"),
    ("videos", "video"),
    ("video", "video"),
)
"""The fields of a turn that list media beside its content, as Ollama has it."""
TRAIN_FLAGS: Final = ("train", "loss", "weight")
"""The fields of a turn that say whether it is trained on."""
_BITS: Final = 1 << 13  # an integer of more is too long to be written out
_LONGEST_LITERAL: Final = 1 << 20


def read_any_turns(value: object) -> list[Turn]:
    """Return the turns of a list of messages or of question and answer pairs, whichever spelling
    they have; the list may be JSON text, or the literal that a table holds it as.

    >>> [turn.content for turn in read_any_turns('[{"from": "human", "value": "Hi"}]')]
    ['Hi']

    Raises:
        RecordError: they are none.
    """
    turns = list_turns(value)
    first = turns[0] if turns and is_object(turns[0]) else {}
    for question, answer in _PAIRS:
        if question in first and answer in first:
            return read_pairs(turns, question, answer)
    role, content = next(
        (names for names in _SPELLINGS if all(name in first for name in names)), ("from", "value")
    )
    if "role" in first and content not in first:
        role, content = "role", "content"
    return read_turns(turns, role, content)


def list_turns(value: object) -> list[Any]:
    """Return the list that turns are in, read out of the text that a table holds it as."""
    if isinstance(value, str):
        value = read_literal(value, "the turns")
    if not isinstance(value, list):
        raise RecordError(f"the turns must be an array, found {json_type(value)}")
    return value


def read_turns(value: object, role_key: str, content_key: str) -> list[Turn]:
    """Return the turns of a list of objects that hold a speaker and a text or list of parts.

    >>> read_turns([{"who": "human", "says": "Hi"}], "who", "says")[0].role
    'user'
    """
    turns = [turn for item in list_turns(value) for turn in _read_turn(item, role_key, content_key)]
    return _settle_call_ids(turns)


def read_pairs(value: object, user_key: str | int, assistant_key: str | int) -> list[Turn]:
    """Return the turns of a list of questions and answers; each pair an object or an array.

    >>> [turn.content for turn in read_pairs([["Hi", "Hello"]], 0, 1)]
    ['Hi', 'Hello']
    """
    if not isinstance(value, list):
        raise RecordError(f"the turns must be an array, found {json_type(value)}")

    found = []
    for pair in value:
        if isinstance(pair, (list, tuple)) and len(pair) != 2:
            raise RecordError(f"a pair of turns has two texts, found {len(pair)}")
        if not isinstance(pair, (list, tuple, dict)):
            raise RecordError(
                f"a pair of turns must be an array or an object, found {json_type(pair)}"
            )
        try:
            question, answer = pair[user_key], pair[assistant_key]  # type: ignore[index]
        except (TypeError, KeyError):
            raise RecordError(f"a pair of turns needs {user_key!r} and {assistant_key!r}") from None
        train, extra = (
            _read_train_flag(pair, "assistant", {user_key, assistant_key})
            if is_object(pair)
            else (None, {})
        )
        if is_object(pair) and isinstance(pair.get("system"), str) and is_said(pair["system"]):
            found.append(Turn("system", pair["system"]))  # XTuner's
            extra.pop("system", None)
        found += [Turn("user", question, extra=leftovers_of_parts(user_key, question))]
        found += [
            Turn("assistant", answer, train, {**extra, **leftovers_of_parts(assistant_key, answer)})
        ]

    return found


def read_literal(text: str, what: str) -> Any:
    """Return the value that JSON text, or a Python literal as tables are exported with, stands for.

    Raises:
        RecordError: it is neither, too long, holds what JSON could not, or has a key twice in one
            object; ``what`` names it.
    """
    if len(text) > _LONGEST_LITERAL:
        raise RecordError(
            f"{what} is a literal of {len(text)} characters, more than {_LONGEST_LITERAL}"
        )
    try:
        found = _as_json(parse_literal(text, what))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{what} is a string but no list: {text[:60]!r}") from error
    if not is_clean(found):
        raise RecordError(f"{what} holds a NUL or a lone surrogate", reason="bad_encoding")
    return found


def _as_json(value: Any) -> Any:
    """Return a literal's value as JSON would have it.

    Raises:
        ValueError: JSON has no such value, or an object would have a key twice.
    """
    if isinstance(value, (list, tuple)):
        return [_as_json(item) for item in value]
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key that is no string")
        return {key: _as_json(item) for key, item in value.items()}
    if isinstance(value, int) and value.bit_length() > _BITS:
        raise ValueError("a long integer")
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("no number")
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueError("no value of JSON's")


def _read_turn(turn: object, role_key: str, content_key: str) -> list[Turn]:
    """Return the turn that an object is; several where it brings what tools gave back."""
    if not is_object(turn):
        raise RecordError(f"a turn must be an object, found {json_type(turn)}")

    speaker = turn.get(role_key)
    called = _read_calls(turn)
    if role_key not in turn or (content_key not in turn and not called):
        raise RecordError(
            f"a turn needs {role_key!r} and {content_key!r}, found {', '.join(turn) or 'neither'}"
        )

    content = turn.get(content_key)
    heard = {role_key, content_key, *called}
    after: list[Part] = [call for some in called.values() for call in some]
    if isinstance(speaker, str) and speaker.strip().lower() in _CALLS:
        role: Role = "assistant"
        after = [*_read_called(content), *after]
        content = None
    else:
        role = role_of(speaker)

    before, thought = _read_reasoning(turn, role)
    media, shown, rests = _read_media(turn)
    train, extra = _read_train_flag(turn, role, heard | thought | shown)
    extra |= leftovers_of_parts(content_key, content) | rests
    whole = Turn(role, content, train, extra, before, after, media)
    return _split_results(whole) if isinstance(content, list) else [whole]


def _read_calls(turn: dict[str, Any]) -> dict[str, list[ToolCall]]:
    """Return the tools that a turn calls beside its words, by the field that says so."""
    found: dict[str, list[ToolCall]] = {}
    if is_said(calls := turn.get("tool_calls")):
        if isinstance(calls, str):
            calls = read_literal(calls, "'tool_calls'")
        if not isinstance(calls, list):
            raise RecordError(f"'tool_calls' must be an array, found {json_type(calls)}")
        found["tool_calls"] = list(map(read_tool_call, calls))
    if is_object(call := turn.get("function_call")) and is_said(call):
        found["function_call"] = [read_tool_call(call)]
    return found


def _read_called(content: object) -> list[ToolCall]:
    """Return the calls that the words of a turn are: an object, a list of them, or JSON text."""
    if isinstance(content, str):
        try:
            found = parse_json(content, "a tool call")
        except ValueError as error:
            raise RecordError(f"a tool call must be JSON, found {content[:60]!r}") from error
    else:
        found = content
    return list(map(read_tool_call, found if isinstance(found, list) else [found]))


def _read_reasoning(turn: dict[str, Any], role: Role) -> tuple[list[Part], frozenset[str]]:
    """Return what an assistant thinks before it speaks, and the field that says so."""
    if role != "assistant":
        return [], frozenset()
    said = [name for name in _REASONING if isinstance(turn.get(name), str) and is_said(turn[name])]
    if len(said) > 1 and len({turn[name] for name in said}) > 1:
        raise RecordError(f"{' and '.join(said)} both say what is thought; keep one of them")
    return [Reasoning(turn[name]) for name in said[:1]], frozenset(said)


def _read_media(turn: dict[str, Any]) -> tuple[list[Media], frozenset[str], dict[str, Any]]:
    """Return the media beside a turn's content, the fields that list them, and what is left of
    those.
    """
    fields = [(name, kind) for name, kind in _MEDIA if is_said(turn.get(name))]
    media = [medium for name, kind in fields for medium in media_of(turn[name], kind)]
    rests = {name: rest for name, kind in fields if (rest := leftovers_of_media(turn[name], kind))}
    return media, frozenset(name for name, _ in fields), rests


def _split_results(turn: Turn) -> list[Turn]:
    """Return a turn with each of its results of tools as a turn of its own, in order."""
    if not any(is_object(part) and _is_result(part) for part in turn.content):
        return [turn]
    if turn.media:
        raise RecordError(
            "media stand beside what tools gave back; a part must show them",
            reason="unsupported_field",
        )

    found: list[Turn] = []
    others: list[Any] = []
    for part in turn.content:
        piece = read_part(part) if is_object(part) and _is_result(part) else None
        if isinstance(piece, ToolResult):
            if others:
                found.append(replace(turn, content=others, extra={}, train=None))
                others = []
            extra = {} if piece.call_id is None else {"tool_call_id": piece.call_id}
            found.append(Turn("tool", piece.content, extra=extra))
        else:
            others.append(part)

    if others:
        found.append(replace(turn, content=others, extra={}))

    found[-1] = replace(found[-1], extra={**found[-1].extra, **turn.extra})
    return found


def _is_result(part: dict[str, Any]) -> bool:
    return part.get("type") == "tool_result" or "functionResponse" in part


def _settle_call_ids(turns: Sequence[Turn]) -> list[Turn]:
    """Return turns in which results of tools that come in the order of their calls need no id."""
    waiting: list[str | None] = []
    settled: list[Turn] = []
    for turn in turns:
        waiting += [part.call_id for part in turn.after if isinstance(part, ToolCall)]
        if isinstance(turn.content, list):
            waiting += [
                part.get("id")
                for part in turn.content
                if is_object(part) and part.get("type") == "tool_use"
            ]
        call_id = turn.extra.get("tool_call_id")
        if turn.role == "tool" and waiting:
            expected = waiting.pop(0)
            if call_id is not None and call_id == expected:
                extra = {key: value for key, value in turn.extra.items() if key != "tool_call_id"}
                turn = replace(turn, extra=extra)
        settled.append(turn)

    return settled


def _read_train_flag(
    turn: dict[str, Any], role: Role, mapped_fields: Container[object]
) -> tuple[bool | None, dict[str, Any]]:
    """Return whether a turn says that it is trained on, and its fields that are not mapped.

    ``train`` says so of any turn, as axolotl has it; ``loss``, as ms-swift has it, and ``weight``,
    as OpenAI has it, of an assistant's. Any other number is more than a flag, and stays among the
    fields.
    """
    extra = {key: found for key, found in turn.items() if key not in mapped_fields}
    flags: dict[str, bool] = {}
    for name in TRAIN_FLAGS:
        flag = turn.get(name)
        if name == "loss" and isinstance(flag, (str, list, dict)) and is_said(flag):
            raise RecordError(
                f"a turn's 'loss' must be true, false or a number, found {json_type(flag)}"
            )
        if flag is None:
            extra.pop(name, None)
        elif isinstance(flag, (bool, int, float)) and flag in (0, 1):
            if name == "train" or role == "assistant":
                flags[name] = bool(flag)
                del extra[name]
            elif not flag:  # which goes without saying
                del extra[name]

    if len(set(flags.values())) > 1:
        raise RecordError(f"{' and '.join(flags)} disagree on whether the turn is trained on")

    return next(iter(flags.values()), None), extra
