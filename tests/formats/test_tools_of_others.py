"""What the tools that people train with make of their own demo files, and what we do.

How their code was read, for each tool in turn:

LLaMA-Factory (hiyouga/LLaMA-Factory, ``src/llamafactory/data/converter.py`` and ``data_utils.py``;
``data/dataset_info.json`` says which columns and tags a file has). ``SharegptDatasetConverter``
takes a first turn of the tag ``system`` off, or else the column ``system``; gives each turn the
role of its tag; keeps ``tools`` as the text that it is, and the media columns as lists.
``mm_plugin.py`` then puts the media, each kind in order, in the place of ``<image>`` and
``<video>``. ``processor/supervised.py`` trains on every answer. ``OpenAIDatasetConverter`` makes
the text of a call out of ``tool_calls``. Version 1's own files (``src/llamafactory/v1``:
``core/data_engine.py``, ``utils/types.py``) are in the tool's standard form, which no converter
changes: parts of ``type`` and ``value``.

ms-swift (modelscope/ms-swift, ``swift/llm/dataset/preprocessor/core.py``). ``AutoPreprocessor``
takes ``MessagesPreprocessor`` for records with ``messages``, ``conversation`` or ``conversations``,
else ``ResponsePreprocessor``, whose turns are those of ``history``, then ``query`` and
``response``. ``swift/llm/template/base.py``: ``_replace_image_tags`` makes an image of each
``<img>path</img>`` where the record lists none (of paths that are files; here they are taken to
be), and ``_add_default_tags`` puts the marks that are missing before the first turn.
``template_inputs.py`` makes ``tool`` of the role ``tool_response``, and keeps ``tools`` as they
are; ``swift/plugin/agent_template/base.py`` reads the content of a ``tool_call`` as a name and its
arguments.

The functions below say this anew, of the raw record alone: nothing in them is our code. One thing
differs on purpose, and is left out of the comparison: white space between the words of a turn and
the media at its ends, which our templates put there themselves.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import RecordError
from mmdata.formats import make
from mmdata.schema import Conversation, Image, Text, ToolCall, Video
from mmdata.sources.record import Record
from tests.reference import some

Piece = tuple[str, Any]
"""What stands in a turn: ``text`` and the words, ``image`` or ``video`` and the path, ``call`` and
the tool's name with its arguments.
"""


@dataclass(frozen=True)
class Told:
    """What a record says: turns of a role and pieces, and the tools."""

    turns: tuple[tuple[str, tuple[Piece, ...]], ...]
    tools: Any = None


# --- LLaMA-Factory
# --------------------------------------------------------------------------------------------------

TAGS = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "observation": "tool",
    "tool": "tool",
    "function_call": "call",
    "tool_call": "call",
    "tool_response": "tool",
    "system": "system",
}
"""The role of each tag; a call's text is JSON, and becomes an answer."""


def read_as_llama_factory(record: dict[str, Any]) -> Told:
    """Return what LLaMA-Factory's converters and plugin make of a record."""
    turns = record.get("messages") or record["conversations"]
    role, content = ("role", "content") if "role" in turns[0] else ("from", "value")
    said = [(TAGS[turn[role]], _content_with_calls(turn, content)) for turn in turns]
    if said[0][0] != "system" and record.get("system"):
        said = [("system", record["system"]), *said]

    media = {kind: iter(record.get(f"{kind}s") or ()) for kind in ("image", "video")}
    told = []
    for speaker, words in said:
        if isinstance(words, list) or speaker == "call":
            calls = words if isinstance(words, list) else json.loads(words)
            told.append(("assistant", _calls(calls)))
        else:
            told.append((speaker, _fill(words, media)))
    assert all(next(rest, None) is None for rest in media.values())
    tools = record.get("tools")
    return Told(tuple(told), json.loads(tools) if isinstance(tools, str) else tools)


def _content_with_calls(turn: dict[str, Any], content: str) -> Any:
    if calls := turn.get("tool_calls"):
        return [call["function"] for call in calls]
    return turn[content]


def _calls(calls: Any) -> tuple[Piece, ...]:
    found = []
    for call in calls if isinstance(calls, list) else [calls]:
        arguments = call["arguments"]
        if isinstance(arguments, str):
            arguments = json.loads(arguments)
        found.append(("call", (call["name"], arguments)))
    return tuple(found)


def _fill(words: str, media: dict[str, Any]) -> tuple[Piece, ...]:
    """Return the pieces of a text, the next medium of its kind for each mark."""
    pieces: list[Piece] = []
    for part in re.split("(<image>|<video>)", words):
        if part in ("<image>", "<video>"):
            pieces.append((part[1:-1], next(media[part[1:-1]])))
        elif part:
            pieces.append(("text", part))
    return tuple(_strip_beside_media(pieces))


def _strip_beside_media(pieces: list[Piece]) -> list[Piece]:
    """Return the pieces of a turn without white space between its words and media at its ends."""
    spoken = [number for number, (kind, _) in enumerate(pieces) if kind == "text"]
    if not spoken:
        return pieces
    first, last = spoken[0], spoken[-1]
    if first > 0:
        pieces[first] = ("text", pieces[first][1].lstrip())
    if last < len(pieces) - 1:
        pieces[last] = ("text", pieces[last][1].rstrip())
    return [piece for piece in pieces if piece != ("text", "")]


def read_as_llama_factory_v1(record: dict[str, Any]) -> Told:
    """Return what version 1 has in its standard form."""
    kinds = {"text": "text", "image_url": "image", "video_url": "video"}
    return Told(
        tuple(
            (turn["role"], tuple((kinds[part["type"]], part["value"]) for part in turn["content"]))
            for turn in record["messages"]
        )
    )


# --- ms-swift
# --------------------------------------------------------------------------------------------------


def read_as_ms_swift(record: dict[str, Any]) -> Told:
    """Return what ms-swift's preprocessors and template make of a record."""
    said = _turns_of_ms_swift(record)
    first = 1 if said[0][0] == "system" else 0

    media = {kind: list(record.get(f"{kind}s") or ()) for kind in ("image", "video")}
    if not media["image"]:
        pattern = "<img>(.+?)</img>"
        media["image"] = [path for _, words in said for path in re.findall(pattern, words)]
        said = [(role, re.sub(pattern, "<image>", words)) for role, words in said]

    for kind in ("image", "video"):
        marks = sum(words.count(f"<{kind}>") for _, words in said[first:])
        missing = len(media[kind]) - marks
        role, words = said[first]
        said[first] = (role, f"<{kind}>" * missing + words)

    rest = {kind: iter(paths) for kind, paths in media.items()}
    told = tuple(
        ("assistant", _calls(json.loads(words))) if role == "call" else (role, _fill(words, rest))
        for role, words in said
    )
    tools = record.get("tools")
    return Told(told, json.loads(tools) if isinstance(tools, str) else tools)


def _turns_of_ms_swift(record: dict[str, Any]) -> list[tuple[str, str]]:
    system = [("system", record["system"])] if record.get("system") is not None else []
    for name in ("messages", "conversation", "conversations"):
        if name not in record:
            continue
        turns = record[name]
        if "role" in turns[0] or "from" in turns[0]:
            role, content = ("role", "content") if "role" in turns[0] else ("from", "value")
            return [(TAGS[turn[role]], turn[content]) for turn in turns]
        pairs = [(turn["human"], turn["assistant"]) for turn in turns]
        break
    else:
        pairs = [*(record.get("history") or ()), (record["query"], record["response"])]
    return [*system, *[turn for q, a in pairs for turn in (("user", q), ("assistant", a))]]


# --- ours
# --------------------------------------------------------------------------------------------------


def tell(row: Conversation) -> Told:
    """Return what a conversation of ours says."""
    assert {message.role for message in row.messages if message.train} == {"assistant"}
    assert all(message.train for message in row.messages if message.role == "assistant")
    turns = tuple(
        (message.role, tuple(_piece(part, row) for part in message.content))
        for message in row.messages
    )
    return Told(turns, json.loads(row.tools) if row.tools else None)


def _piece(part: Any, row: Conversation) -> Piece:
    if isinstance(part, Text):
        return "text", part.text
    if isinstance(part, ToolCall):
        return "call", (part.name, json.loads(part.arguments))
    assert isinstance(part, (Image, Video))
    medium = row.media[part.media]
    return medium.type, medium.path


def read(name: str, value: Any) -> Conversation:
    return make(name).conversation(Record(value, "a.json", 0))


def records_of(files: Iterable[Path]) -> list[dict[str, Any]]:
    """Return the records of JSON arrays and of JSON lines."""
    found: list[dict[str, Any]] = []
    for file in files:
        text = file.read_text(encoding="utf-8")
        if text.lstrip()[:1] == "[":
            found += json.loads(text)
        else:
            found += [json.loads(line) for line in text.splitlines() if line.strip()]
    return found


@pytest.mark.parametrize(
    ("pattern", "name", "their_reading"),
    [
        ("llama_factory/mllm*.json", "messages", read_as_llama_factory),
        ("llama_factory/mllm*.json", "sharegpt", read_as_llama_factory),
        ("llama_factory/v1_*.jsonl", "messages", read_as_llama_factory_v1),
        ("ms_swift/*.json*", "swift", read_as_ms_swift),
    ],
    ids=["llama_factory", "llama_factory_as_sharegpt", "llama_factory_v1", "ms_swift"],
)
def test_the_demo_files_of_a_tool_say_what_its_own_code_makes_of_them(
    fixtures: Path, pattern: str, name: str, their_reading: Callable[[dict[str, Any]], Told]
) -> None:
    annotations = fixtures / "annotations"
    records = records_of(some(sorted(annotations.glob(pattern)), pattern, annotations))

    for record in records:
        if "audios" in record:
            with pytest.raises(RecordError, match="audio"):
                read(name, record)
        else:
            assert tell(read(name, record)) == their_reading(record), record


TOOLS = [{"name": "weather", "parameters": {"city": {"type": "string"}}}]
CALL = {"name": "weather", "arguments": {"city": "Oslo"}}
OPENAI_CALL = {"type": "function", "function": {**CALL, "arguments": '{"city": "Oslo"}'}}


def speak(role: str, content: str, *turns: tuple[str, Any]) -> list[dict[str, Any]]:
    """Return turns whose fields are called so."""
    return [{role: speaker, content: words} for speaker, words in turns]


@pytest.mark.parametrize("calls", [CALL, [CALL], [CALL, {"name": "time", "arguments": {}}]])
@pytest.mark.parametrize("media", [{}, {"images": ["a.jpg"]}])
@pytest.mark.parametrize("system", [{}, {"system": "Be brief."}])
def test_calls_of_tools_say_what_llama_factory_makes_of_them(
    calls: Any, media: dict[str, Any], system: dict[str, Any]
) -> None:
    record = {
        "conversations": speak(
            "from",
            "value",
            ("human", "<image>Is it raining?" if media else "Is it raining?"),
            ("function_call", json.dumps(calls)),
            ("observation", '{"rain": true}'),
            ("gpt", "Yes."),
        ),
        "tools": json.dumps(TOOLS),
        **media,
        **system,
    }

    assert tell(read("sharegpt", record)) == read_as_llama_factory(record)


@pytest.mark.parametrize("tools", [TOOLS, json.dumps(TOOLS)], ids=["list", "text"])
def test_tool_calls_of_openai_say_what_llama_factory_makes_of_them(tools: Any) -> None:
    record = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "<image>Is it raining?"},
            {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]},
            {"role": "tool", "content": "rain"},
            {"role": "assistant", "content": "Yes."},
        ],
        "images": ["a.jpg"],
        "tools": tools,
    }

    assert tell(read("messages", record)) == read_as_llama_factory(record)


@pytest.mark.parametrize("tools", [TOOLS, json.dumps(TOOLS)], ids=["list", "text"])
def test_calls_of_tools_say_what_ms_swift_makes_of_them(tools: Any) -> None:
    record = {
        "messages": speak(
            "role",
            "content",
            ("system", "Be brief."),
            ("user", "<image>Is it raining here?"),
            ("tool_call", json.dumps(CALL)),
            ("tool_response", "rain"),
            ("assistant", "Yes."),
        ),
        "images": ["a.jpg"],
        "tools": tools,
    }

    assert tell(read("swift", record)) == read_as_ms_swift(record)
