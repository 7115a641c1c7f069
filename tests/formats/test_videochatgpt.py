from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import RecordError
from mmdata.formats import Origin, detect, make, registry
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Media, Video, assistant, user
from mmdata.sources.record import Record
from mmdata.testing import check_format

READER = registry.get("videochatgpt")()
INSTRUCT = {"video_id": "v_abc", "q": "What happens?", "a": "It fades."}


def read(tmp_path: Path, *rows: Any) -> list[Conversation]:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))
    return [
        READER.conversation(item) for item in READER.records([file]) if isinstance(item, Record)
    ]


def test_a_row_becomes_a_question_about_a_video(tmp_path: Path) -> None:
    row = {
        "video_name": "v_abc",
        "question": "What?",
        "question_1": "None",
        "question_2": None,
        "answer": "That.",
    }

    assert read(tmp_path, row) == [
        Conversation(
            "rows:0",
            (user(Video(0), "What?"), assistant("That.")),
            (Media("video", "Test_Videos/v_abc.mp4"),),
            "videochatgpt",
            "test",
        )
    ]


def test_paraphrases_are_numbered_through_in_each_file_by_itself(tmp_path: Path) -> None:
    twice = {"video_name": "v", "question_1": "What?", "question_2": "Which?", "answer": "That."}
    once = {"video_name": "v", "question": "Why?", "answer": "So."}
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text(json.dumps([once, twice, once]))

    found = [item for item in READER.records([tmp_path]) if isinstance(item, Record)]

    assert [(Path(item.file).name, item.number) for item in found] == [
        (name, number) for name in ("a.json", "b.json") for number in range(4)
    ]
    assert [item.value.get("group") for item in found] == [None, 1, 1, None] * 2


def test_a_record_of_videoinstruct_is_a_question_to_train_on(tmp_path: Path) -> None:
    assert read(tmp_path, INSTRUCT | {"type": "human"}) == [
        Conversation(
            "rows:0",
            (user(Video(0), "What happens?"), assistant("It fades.")),
            (Media("video", "Test_Videos/v_abc.mp4"),),
            "videochatgpt",
            "train",
            {"type": "human"},
        )
    ]


def test_records_of_both_dialects_keep_the_laws_of_formats(tmp_path: Path) -> None:
    benchmark = {"video_name": "v", "question": "Q?", "answer": "A.", "a": "B."}
    rows = [INSTRUCT, INSTRUCT | {"q": None}, benchmark, INSTRUCT, {"video_id": "v", "a": "A."}]
    file = tmp_path / "rows.json"
    file.write_text(json.dumps(rows))

    check_format(READER, [file])
    file.write_text(json.dumps([benchmark, {**benchmark, **INSTRUCT}] * 20))
    check_format(READER, [file])

    assert [row.split for row in read(tmp_path, INSTRUCT, benchmark)] == ["train", "test"]


def test_records_of_videoinstruct_are_recognised(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    file.write_text(json.dumps([INSTRUCT]))

    assert detect([file]) == "videochatgpt"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("v", "Test_Videos/v.mp4"),
        ("v.mp4", "Test_Videos/v.mp4"),
        ("v.mkv", "Test_Videos/v.mkv"),
        ("v.1", "Test_Videos/v.1.mp4"),
    ],
)
def test_a_name_gets_the_suffix_that_it_lacks(tmp_path: Path, name: str, path: str) -> None:
    (one,) = read(tmp_path, INSTRUCT | {"video_id": name})

    assert one.media[0].path == path


def test_without_a_folder_videos_are_in_the_media_root() -> None:
    reader = make("videochatgpt", {"folder": ""})

    assert reader.conversation(Record(INSTRUCT, "a.json", 0)).media[0].path == "v_abc.mp4"
    assert "v_abc.mkv" in reader.candidates("v_abc.mp4", Origin("a.json"))


def test_a_name_with_its_suffix_is_looked_for_as_it_is() -> None:
    for name in ("v.mp4", "v.MKV"):
        row = READER.conversation(Record(INSTRUCT | {"video_id": name}, "a.json", 0))
        origin = Origin("a.json", extra_json=json.dumps(row.extra))

        places = tuple(READER.candidates(str(row.media[0].path), origin))

        assert places == (f"Test_Videos/{name}", name)


def test_paraphrases_become_two_conversations_of_one_group(tmp_path: Path) -> None:
    single = {"video_name": "v", "question": "Q?", "answer": "A."}
    double = {
        "video_name": "v",
        "question": "None",
        "question_1": "Q1?",
        "question_2": "Q2?",
        "answer": "A.",
        "n": 1,
    }

    found = read(tmp_path, single, double, single)

    assert [(one.id, one.messages[0].text) for one in found] == [
        ("rows:0", "Q?"), ("rows:1", "Q1?"), ("rows:2", "Q2?"), ("rows:3", "Q?"),
    ]  # fmt: skip
    assert [one.extra for one in found[1:3]] == [
        {"n": 1, "group": 1, "asked_as": key} for key in ("question_1", "question_2")
    ]


def test_a_rows_own_group_is_kept_beside_ours(tmp_path: Path) -> None:
    row = {
        "video_name": "v",
        "question_1": "Q1?",
        "question_2": "Q2?",
        "answer": "A.",
        "group": "g",
    }

    assert read(tmp_path, row)[0].extra == {"group": "g", "group#2": 0, "asked_as": "question_1"}


def test_broken_rows_keep_their_place_in_the_count(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    double = {"video_name": "v", "question_1": "Q1?", "question_2": "Q2?", "answer": "A."}
    file.write_text(f'{json.dumps(double)}\n{{"video_name": \n{json.dumps(double)}\n')

    found = list(READER.records([file]))

    assert [item.record if isinstance(item, Reject) else item.number for item in found] == [
        0,
        1,
        2,
        3,
        4,
    ]
    assert isinstance(found[2], Reject)


def test_a_video_is_looked_for_under_every_suffix_of_the_archive() -> None:
    places = tuple(READER.candidates("Test_Videos/v_abc.mp4", Origin("a.json")))

    assert places[:3] == ("Test_Videos/v_abc.mp4", "Test_Videos/v_abc.MP4", "Test_Videos/v_abc.mkv")
    assert "v_abc.mp4" in places


def test_a_name_with_its_suffix_is_that_file_and_no_other(tmp_path: Path) -> None:
    [found] = read(tmp_path, {"video_name": "v_abc.avi", "question": "What?", "answer": "That."})
    origin = Origin("a.json", extra_json=json.dumps(dict(found.extra)))

    assert found.media == (Media("video", "Test_Videos/v_abc.avi"),)
    assert tuple(READER.candidates("Test_Videos/v_abc.avi", origin)) == (
        "Test_Videos/v_abc.avi",
        "v_abc.avi",
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": "None"}, "no_conversation"),
        ({"answer": None}, "no_conversation"),
        ({"answer": 3}, "malformed"),
        ({"question": " "}, "empty_turn"),
        ({"video_name": ""}, "missing_media"),
        ({"video_name": ["v"]}, "malformed"),
    ],
)
def test_a_row_that_cannot_be_read_says_why(change: dict[str, Any], reason: str) -> None:
    value = {"video_name": "v", "question": "Q?", "answer": "A."} | change

    with pytest.raises(RecordError) as caught:
        READER.conversation(Record(value, "a.json", 0))

    assert caught.value.reason == reason
