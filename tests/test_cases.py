"""Shapes of records that people really use become what they say.

The cases are found by walking the folder that MMDATA_CASES names. Each is a folder with a
source, ``case.json``, which says how it is converted, and ``expected.json``, which lists the
outcomes that are right.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

import mmdata
from mmdata.cli import cli
from mmdata.errors import MMDataError, UsageError
from mmdata.schema import Audio, Conversation, Image, Media, Part, Region, Text, Time, Video

VARIABLE: Final = "MMDATA_CASES"


def cases() -> list[Path]:
    folder = os.environ.get(VARIABLE)
    return sorted(path.parent for path in Path(folder).glob("*/case.json")) if folder else []


@dataclass(frozen=True)
class Outcome:
    """What a conversion came to: whether the call was refused, and its rows and rejects."""

    refused: bool
    rows: tuple[Conversation, ...] = ()
    rejects: Counter[str] | None = None


def convert(case: dict[str, Any], store: Path) -> Outcome:
    """Convert the source of a case, from the folder that it is to be converted from."""
    call = ["convert", case["format"], *case["sources"], "-o", str(store), *case["args"]]
    error = CliRunner().invoke(cli, call).exception
    if isinstance(error, UsageError):
        return Outcome(refused=True)
    assert error is None or isinstance(error, (MMDataError, SystemExit)), error
    opened = mmdata.open(store)
    rejects = Counter(line["reason"] for line in opened.rejects())
    return Outcome(False, tuple(opened), rejects)


def described(part: Part) -> object:
    """Return a part as the expectations spell it."""
    match part:
        case Text():
            return f"text:{part.text}"
        case Image() | Video() | Audio():
            return f"{type(part).__name__.lower()}:{part.media}"
        case Region():
            boxes = [[round(edge, 4) for edge in box] for box in part.boxes]
            return ["region", part.text, boxes, part.media]
        case Time():
            return ["time", part.start, part.end, part.media]
    return [type(part).__name__.lower(), str(part)]


def described_medium(medium: Media) -> str:
    place = medium.path or (f"bytes{len(medium.bytes)}" if medium.bytes else "frames")
    is_clip = medium.start is not None or medium.end is not None
    return f"{medium.type}:{place}" + (f"[{medium.start},{medium.end}]" if is_clip else "")


def has_media(row: Conversation, wanted: list[str]) -> bool:
    """Return whether a row's media are those, of which a ``*`` stands for anything."""
    found = list(map(described_medium, row.media))
    patterns = [pattern.replace("[", "[[]") for pattern in wanted]
    return len(found) == len(wanted) and all(map(fnmatchcase, found, patterns))


def says(row: Conversation, wanted: dict[str, Any]) -> bool:
    messages = [
        [message.role, list(map(described, message.content)), message.train]
        for message in row.messages
    ]
    expected = [[role, content, bool(train)] for role, content, train in wanted["messages"]]
    return (
        messages == expected
        and has_media(row, wanted["media"])
        and row.split == wanted.get("split", row.split)
        and row.id == wanted.get("id", row.id)
        and all(row.extra.get(key) == value for key, value in wanted.get("extra", {}).items())
    )


def words_of(row: Conversation, *, trained: bool = False) -> list[str]:
    """Return what a row says, with calls of tools; or only what a model is trained on."""
    return [
        part.text if isinstance(part, (Text, Region)) else str(part)
        for message in row.messages
        if message.train or not trained
        for part in message.content
        if not isinstance(part, (Image, Video, Audio))
    ]


def is_right(outcome: Outcome, wanted: dict[str, Any]) -> bool:
    """Return whether an outcome is one of those that an expectation allows."""
    if outcome.refused or wanted.get("refused"):
        return outcome.refused == bool(wanted.get("refused"))
    rows = outcome.rows
    words = [text for row in rows for text in words_of(row)]
    trained = [text for row in rows for text in words_of(row, trained=True)]
    unwanted = [*wanted.get("no_text", []), *filter(None, [wanted.get("not_prompt")])]
    return (
        len(rows) == wanted["rows"]
        and ("rejects" not in wanted or outcome.rejects == wanted["rejects"])
        and all(map(says, rows, wanted.get("conversations", [])))
        and ("media" not in wanted or all(has_media(row, wanted["media"]) for row in rows))
        and all(map(has_media, rows, wanted.get("media_sets", [])))
        and ("last_media" not in wanted or has_media(rows[-1], wanted["last_media"]))
        and not any(mark in text for mark in unwanted for text in words)
        and ("has_text" not in wanted or any(wanted["has_text"] in text for text in words))
        and ("not_trained" not in wanted or not any(wanted["not_trained"] in t for t in trained))
    )


def test_there_are_cases_where_a_folder_of_them_is_named() -> None:
    if VARIABLE not in os.environ:
        pytest.skip(f"{VARIABLE} is not set: no reference data here")

    assert cases()


@pytest.mark.parametrize("folder", cases(), ids=lambda folder: folder.name)
def test_a_shape_that_people_use_becomes_what_it_says(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, expected = (
        json.loads((folder / name).read_text()) for name in ("case.json", "expected.json")
    )
    monkeypatch.chdir(folder / case.get("cwd", "."))

    outcome = convert(case, tmp_path / "store")

    assert any(is_right(outcome, wanted) for wanted in expected["any_of"]), outcome
    if expected["detect"] and not outcome.refused:
        sources = list(map(Path, case["sources"]))
        assert mmdata.formats.detect(sources) in expected["detect"]
