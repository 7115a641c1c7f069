from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import RecordError
from mmdata.formats import Origin, registry
from mmdata.formats.fewshot import Fewshot
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Image, Media, assistant, user
from mmdata.sources.record import Record
from tests.reference import files

FEWSHOT = registry.get("fewshot")()


def test_a_record_becomes_a_question_about_an_image_and_its_answer_byte_for_byte() -> None:
    value = {
        "label": "雨。 ",
        "img": "fewshot-data/2p.png",
        "prompt": "这张图片的背景里有什么内容？",
    }

    found = FEWSHOT.conversation(Record(value, "fewshot-data/dataset.json", 3))

    assert found == Conversation(
        "dataset:3",
        (user(Image(0), "这张图片的背景里有什么内容？"), assistant("雨。 ")),
        (Media("image", "fewshot-data/2p.png"),),
        "fewshot",
    )


HISTORY: Any = [["What is it?", "A cup."], ["Is it full?", "No."]]


@pytest.mark.parametrize("history", [HISTORY, json.dumps(HISTORY), repr(HISTORY)])
def test_what_was_asked_before_comes_before_with_the_image_in_the_first_question(
    history: Any,
) -> None:
    value = {"img": "a.jpg", "prompt": "Why?", "label": "So.", "history": history}

    found = FEWSHOT.conversation(Record(value, "a.json", 0))

    assert found.messages == (
        user(Image(0), "What is it?"),
        assistant("A cup."),
        user("Is it full?"),
        assistant("No."),
        user("Why?"),
        assistant("So."),
    )
    assert found.extra == {}
    assert Fewshot().flatten([Record(value, "a.json", 0)]) is None


@pytest.mark.parametrize("history", [3, "nothing", [["a"]], [["a", ""]], [["a", None]]])
def test_a_history_that_is_none_is_refused(history: Any) -> None:
    value = {"img": "a.jpg", "prompt": "Why?", "label": "So.", "history": history}

    with pytest.raises(RecordError, match=r"history|pair|turns"):
        FEWSHOT.conversation(Record(value, "a.json", 0))


def test_media_are_relative_to_the_folder_above_the_file(tmp_path: Path) -> None:
    file = tmp_path / "fewshot-data" / "dataset.json"
    file.parent.mkdir()
    file.write_text("[]")

    assert FEWSHOT.media_root([file]) == tmp_path
    origin = Origin(file.as_posix(), folders=("fewshot-data", ""))
    assert next(iter(FEWSHOT.candidates("fewshot-data/1.jpg", origin))) == "fewshot-data/1.jpg"
    assert "my-data/a/1.jpg" in FEWSHOT.candidates(
        "fewshot-data/a/1.jpg", Origin(file.as_posix(), folders=("my-data", ""))
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"img": None}, "malformed"),
        ({"img": ""}, "missing_media"),
        ({"prompt": ["a"]}, "malformed"),
        ({"prompt": " "}, "empty_turn"),
        ({"label": ""}, "empty_turn"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(change: dict[str, Any], reason: str) -> None:
    value = {"img": "a.jpg", "prompt": "Q", "label": "A"} | change

    with pytest.raises(RecordError) as caught:
        FEWSHOT.conversation(Record(value, "a.json", 0))

    assert caught.value.reason == reason


@pytest.mark.parametrize("key", ["img", "prompt", "label"])
def test_a_missing_field_is_named(key: str) -> None:
    value = {"img": "a.jpg", "prompt": "Q", "label": "A"}
    del value[key]

    with pytest.raises(RecordError, match=f"'{key}' is missing"):
        FEWSHOT.conversation(Record(value, "a.json", 0))


def test_fields_without_a_home_are_kept() -> None:
    value = {"img": "a.jpg", "prompt": "Q", "label": "A", "id": 5, "note": [1]}

    found = FEWSHOT.conversation(Record(value, "a.json", 0, "5"))

    assert (found.id, found.extra) == ("5", {"id": 5, "note": [1]})


def test_the_real_file_is_read_whole(fixtures: Path) -> None:
    for file in files(fixtures / "fewshot-data", "dataset.json"):
        found = list(FEWSHOT.records([file]))
        conversations = [
            FEWSHOT.conversation(item) for item in found if not isinstance(item, Reject)
        ]

        assert len(conversations) == len(found) > 0
        root = FEWSHOT.media_root([file])
        pictures = [path for path in file.parent.iterdir() if path != file]
        named = {(root / str(each.media[0].path)).resolve() for each in conversations}
        assert not pictures or named & {path.resolve() for path in pictures}
