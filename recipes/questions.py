"""Questions to a model: lines of JSON, or the rows of a store, with what was answered there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from mmdata import formats
from mmdata.errors import DataError, SchemaError
from mmdata.pipeline.encode import Samples
from mmdata.schema import (
    Conversation,
    Image,
    Media,
    Message,
    Part,
    Video,
    assistant,
    replace,
    user,
)
from mmdata.sources.record import Record
from recipes.scores import text_of


@dataclass(frozen=True)
class Question:
    """A conversation that ends with a question, or the `fault` for which there is none.

    `number` is its place in the input, from 0, `record` the line that it was read from, and
    `reference` what was answered there, if anything.
    """

    number: int
    id: str
    conversation: Conversation | None = None
    fault: str | None = None
    reference: Any = None
    record: Mapping[str, Any] = field(default_factory=dict)


def read_questions(file: Path) -> list[Question]:
    """The questions of a file of JSON Lines, one for each line that is not blank.

    Raises:
        OSError: if it cannot be read.
    """
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    return [read_line(line, number) for number, line in enumerate(filter(str.strip, lines))]


def read_line(line: str, number: int) -> Question:
    """The question of a line of JSON."""
    try:
        record = json.loads(line)
        if not isinstance(record, dict):
            raise ValueError(f"expected an object, found {line.strip()[:40]!r}")
    except ValueError as error:
        return Question(number, f"line-{_digest(line)}", fault=f"no question: {error}")
    return question_of(record, number)


def question_of(record: Mapping[str, Any], number: int = 0) -> Question:
    """The question of a record, whose `id` it has, or one made of what it says."""
    name = record.get("id")
    name = f"question-{_digest(json.dumps(record))}" if name is None else str(name)
    try:
        if "messages" in record:
            conversation, reference = _read_messages(record, name, number)
        else:
            conversation, reference = replace(question(record), id=name), record.get("answer")
    except KeyError as error:
        fault = f"no question: no {error} in it, which has {', '.join(record)}"
        return Question(number, name, fault=fault, record=record)
    except (DataError, SchemaError, TypeError, ValueError) as error:
        return Question(number, name, fault=f"no question: {error}", record=record)
    return Question(number, name, conversation, reference=reference, record=record)


def question(record: Mapping[str, Any]) -> Conversation:
    """The conversation of `prompt` (or `question`), `history`, `image` or `images`, `video` or
    `videos`; its pictures and clips go to the first question.

    Raises:
        KeyError: if there is no prompt.
    """
    media = tuple(
        Media(kind, path=str(path))
        for kind in ("image", "video")
        for path in _listed(record.get(kind), record.get(f"{kind}s"))
    )
    shown: tuple[Part, ...] = tuple(
        Image(n) if one.type == "image" else Video(n) for n, one in enumerate(media)
    )
    messages: list[Message] = []
    for asked, answered in record.get("history") or ():
        messages += [user(asked), assistant(answered)]
    messages.append(user(record["question"] if "question" in record else record["prompt"]))
    first = messages[0]
    messages[0] = user(*shown, *first.content)
    return Conversation("question", tuple(messages), media)


def _listed(*values: Any) -> list[Any]:
    """The values that are there, those in lists one by one."""
    found: list[Any] = []
    for value in values:
        if value:
            found += value if isinstance(value, list) else [value]
    return found


def _read_messages(record: Mapping[str, Any], name: str, number: int) -> tuple[Conversation, Any]:
    """The conversation of `messages`, and the answer that it ends with, if it does."""
    messages = record["messages"]
    if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
        raise ValueError("'messages' must be a list of objects")

    # What is written for training ends with an answer, and the format asks for one.
    answered = messages[-1].get("role") == "assistant"
    ended = messages if answered else [*messages, {"role": "assistant", "content": "?"}]
    raw = {**record, "messages": ended}
    found = formats.make("messages").conversation(Record(raw, "questions", number, id=name))
    if answered:
        return found, written(found.messages[-1].content)
    return replace(found, messages=found.messages[:-1]), None


def row_questions(samples: Samples) -> list[Question]:
    """The questions of stored conversations; what a row ends with is the reference."""
    found = []
    for number in range(len(samples)):
        row = samples.located(number)
        last = row.messages[-1] if row.messages else None
        reference = written(last.content) if last and last.role == "assistant" else None
        found.append(Question(number, row.id, row, reference=reference))
    return found


def written(parts: Sequence[Part]) -> Any:
    """Parts as text, or, where they are more than text, as they are stored."""
    text = text_of(parts)
    return text if text else msgspec.to_builtins(list(parts))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]
