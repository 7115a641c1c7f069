"""What MindFormers' ``data_process.py`` writes is read as what it was made of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from mmdata.formats import make, registry
from mmdata.formats._batches import read_batches
from mmdata.schema import Conversation, Image, Text, Video, assistant, user

START: Final = "<|reserved_special_token_3|>"
END: Final = "<|reserved_special_token_4|>"


def listed(*paths: str) -> str:
    return "".join(f"{START}{path}{END}" for path in paths)


def read(folder: Path, *records: dict[str, Any], alone: bool = False) -> list[Conversation | str]:
    """Return the conversation of each record, or the reason against it."""
    file = folder / "source.json"
    file.write_text(json.dumps(records))
    reader: Any = make("sharegpt")
    if alone:
        kind = registry.get("sharegpt")
        reader = type(kind.__name__, (kind,), {"flatten": None})()
    found: dict[int, Conversation | str] = {}
    for batch in read_batches(reader, [file]):
        found |= dict(zip(batch.origins.numbers, batch.conversations(), strict=True))
        found |= {reject.record: reject.reason.value for _, reject in batch.rejects}
    return [found[number] for number in range(len(records))]


def record(*texts: str) -> dict[str, Any]:
    speakers = ("human", "gpt") * len(texts)
    turns = [{"from": who, "value": text} for who, text in zip(speakers, texts, strict=False)]
    return {"conversations": turns}


@pytest.mark.parametrize(
    ("paths", "words", "parts"),
    [
        (["a.mp4"], "<image>\nWhat?", (Video(0), Text("What?"))),
        (["a.mp4"], "What?", (Video(0), Text("What?"))),
        (["a.jpg", "b.jpg"], "<image><image>\nWhat?", (Image(0), Image(1), Text("What?"))),
        (["a.jpg", "b.jpg"], "A <image> or <image>?", ("A ", Image(0), " or ", Image(1), "?")),
        (["a.jpg"], "What is in <image>?", ("What is in ", Image(0), "?")),
        ([], "What?", ("What?",)),
        ([], "<text>What?", ("What?",)),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_files_that_are_listed_stand_where_the_words_show_them(
    paths: list[str], words: str, parts: tuple[Any, ...], alone: bool, tmp_path: Path
) -> None:
    first = listed(*(paths or [""])) + words

    (found,) = read(tmp_path, record(first, "<text>That.", "<text>So?", "<text>Yes."), alone=alone)

    assert isinstance(found, Conversation)
    assert found.messages == (user(*parts), assistant("That."), user("So?"), assistant("Yes."))
    assert [medium.path for medium in found.media] == paths


@pytest.mark.parametrize("first", [f"{listed('a.jpg')}<image> <image>?", f"{listed('')}<image>?"])
def test_more_places_than_files_are_refused(first: str, tmp_path: Path) -> None:
    assert read(tmp_path, record(first, "<text>That.")) == ["media_mismatch"]


def test_tags_of_a_page_are_words_where_nothing_is_listed(tmp_path: Path) -> None:
    (found,) = read(tmp_path, record("<text> is which tag?", "<text>That</text> is one."))

    assert isinstance(found, Conversation)
    assert [message.text for message in found.messages] == [
        "<text> is which tag?",
        "<text>That</text> is one.",
    ]
