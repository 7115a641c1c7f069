from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import RecordError, SchemaError
from mmdata.formats import Origin, make, registry
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Image, Media, Message, Text, Video, assistant, system, user
from mmdata.sources.record import Record

LLAVA = registry.get("llava")()


def turns(*texts: str) -> list[dict[str, str]]:
    return [
        {"from": ("human", "gpt")[index % 2], "value": text} for index, text in enumerate(texts)
    ]


def read(value: Any, number: int = 0) -> Conversation:
    identity = value.get("id")
    return LLAVA.conversation(
        Record(value, "data/a.json", number, None if identity is None else str(identity))
    )


def test_a_record_of_mix665k_becomes_a_conversation() -> None:
    record = {
        "id": "000000033471",
        "image": "coco/train2017/000000033471.jpg",
        "conversations": turns("<image>\nWhat colour is the bus?", "Red.", "And the sky?", "Blue."),
    }

    found = read(record)

    assert found == Conversation(
        "000000033471",
        (
            user(Image(0), "What colour is the bus?"),
            assistant("Red."),
            user("And the sky?"),
            assistant("Blue."),
        ),
        (Media("image", "coco/train2017/000000033471.jpg"),),
        "llava",
    )


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("<image>\nWhat?", (Image(0), Text("What?"))),
        ("What?\n<image>", (Text("What?"), Image(0))),
        ("<image>What?", (Image(0), Text("What?"))),
        ("Look at <image> and say.", (Text("Look at "), Image(0), Text(" and say."))),
        ("Above:\n<image>\nbelow", (Text("Above:\n"), Image(0), Text("\nbelow"))),
        ("<image>\nWhat?  ", (Image(0), Text("What?  "))),
        ("  What?\r\n<image>", (Text("  What?"), Image(0))),
        ("<image>", (Image(0),)),
        ("\n<image>\n", (Image(0),)),
        ("<image>\nfirst <image>\nsecond", (Image(0), Text("first \nsecond"))),
        ("<image>\nfirst\n<image>", (Image(0), Text("first"))),
        ("No placeholder.", (Image(0), Text("No placeholder."))),
    ],
)
def test_the_place_of_the_image_is_kept_and_only_separating_space_is_dropped(
    text: str, content: tuple[Any]
) -> None:
    assert (
        read({"image": "a.jpg", "conversations": turns(text, "Yes.")}).messages[0].content
        == content
    )


def test_several_images_stand_where_their_placeholders_do() -> None:
    record = {
        "image": ["a.jpg", "b.jpg"],
        "conversations": turns("<image>\n<image>\nWhat changed?", "The cup."),
    }

    found = read(record)

    assert found.messages[0].content == (Image(0), Image(1), Text("What changed?"))
    assert [medium.path for medium in found.media] == ["a.jpg", "b.jpg"]


def test_an_image_in_a_later_turn_and_in_an_answer_stays_there() -> None:
    later = {"image": "a.jpg", "conversations": turns("Hello.", "Hi.", "<image>\nWhat?", "A lamp.")}
    answer = {"image": "a.jpg", "conversations": turns("Draw it.", "Here:\n<image>")}

    assert read(later).messages[2].content == (Image(0), Text("What?"))
    assert read(answer).messages[1].content == (Text("Here:"), Image(0))


def test_images_without_any_placeholder_stand_before_the_first_question() -> None:
    record = {
        "image": ["a.jpg", "b.jpg"],
        "conversations": [{"from": "system", "value": "S"}, *turns("Q", "A")],
    }

    assert read(record).messages == (system("S"), user(Image(0), Image(1), "Q"), assistant("A"))


def test_an_image_placeholder_of_a_video_record_is_a_video() -> None:
    found = read({"video": "a.mp4", "conversations": turns("<image>\nWhat happens?", "Rain.")})

    assert found.messages[0].content == (Video(0), Text("What happens?"))
    assert found.media == (Media("video", "a.mp4"),)


def test_images_and_videos_of_one_record_go_to_their_own_placeholders() -> None:
    record = {
        "image": "a.jpg",
        "video": "a.mp4",
        "conversations": turns("<video> and <image>", "Yes."),
    }

    assert read(record).messages[0].content == (Video(1), Text("and"), Image(0))


def test_a_text_record_keeps_every_byte_and_every_field() -> None:
    said = turns("  Hi <video> \n", " Hello. ")
    record = {
        "id": "x",
        "model": "",
        "conversations": [said[0], said[1] | {"text": "raw", "markdown": None}],
    }

    found = read(record)

    assert found.messages == (user("  Hi <video> \n"), assistant(" Hello. "))
    assert found.media == ()
    assert found.extra == {"model": "", "turns": {"1": {"text": "raw", "markdown": None}}}


def test_an_integer_id_is_kept_as_text_and_as_it_was() -> None:
    found = read({"id": 2354786, "conversations": turns("Q", "A")})

    assert (found.id, found.extra) == ("2354786", {"id": 2354786})


def test_a_record_without_id_is_named_after_its_file_and_number() -> None:
    assert read({"conversations": turns("Q", "A")}, number=7).id == "a:7"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "no_conversation"),
        ({"conversations": []}, "no_conversation"),
        ({"conversations": None}, "no_conversation"),
        ({"conversations": "hello"}, "malformed"),
        ({"conversations": ["hello"]}, "malformed"),
        ({"conversations": [{"from": "human"}]}, "malformed"),
        ({"conversations": [{"value": "Q"}]}, "malformed"),
        ({"conversations": [{"from": "human", "value": 3}]}, "malformed"),
        ({"conversations": [{"from": "human", "value": None}]}, "malformed"),
        ({"conversations": [{"from": "human", "value": ["Q"]}]}, "malformed"),
        ({"conversations": [{"from": ["human"], "value": "Q"}]}, "malformed"),
        ({"conversations": turns("Q")}, "no_conversation"),
        ({"conversations": turns("Q", "")}, "empty_turn"),
        ({"conversations": turns(" \n", "A")}, "empty_turn"),
        ({"conversations": [{"from": "narrator", "value": "Q"}]}, "unknown_role"),
        ({"conversations": turns("Q", "A")[::-1]}, "role_order"),
        ({"conversations": turns("<image>\nQ", "A")}, "media_mismatch"),
        (
            {"image": ["a.jpg", "b.jpg"], "conversations": turns("<image>\nQ", "A")},
            "media_mismatch",
        ),
        (
            {"image": ["a.jpg", "b.jpg"], "conversations": turns("<image><image><image>", "A")},
            "media_mismatch",
        ),
        (
            {"image": "a.jpg", "conversations": turns("<image>\nShow it", "It is:\n<image>")},
            "media_mismatch",
        ),
        ({"image": 7, "conversations": turns("Q", "A")}, "malformed"),
        ({"image": [7], "conversations": turns("Q", "A")}, "malformed"),
        ({"image": {"a": 1}, "conversations": turns("Q", "A")}, "malformed"),
        ({"image": ["a.jpg", ""], "conversations": turns("<image><image>Q", "A")}, "missing_media"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(record: dict[str, Any], reason: str) -> None:
    with pytest.raises((RecordError, SchemaError)) as caught:
        read(record)

    assert isinstance(caught.value, RecordError | SchemaError)
    assert caught.value.reason == reason


@pytest.mark.parametrize("value", [None, 3, "text", [1], True])
def test_a_record_that_is_no_object_is_malformed(value: Any) -> None:
    with pytest.raises(RecordError, match="must be a JSON object"):
        LLAVA.conversation(Record(value, "a.json", 0))


def test_an_image_is_looked_for_beside_its_file_in_the_root_and_in_other_editions_of_coco() -> None:
    record = Origin("data/llava/a.json", folders=("llava", ""))

    places = tuple(LLAVA.candidates("coco/train2017/000000000009.jpg", record))

    assert places[:2] == (
        "llava/coco/train2017/000000000009.jpg",
        "coco/train2017/000000000009.jpg",
    )
    assert "coco/train2014/COCO_train2014_000000000009.jpg" in places
    assert all(place.endswith("000000000009.jpg") for place in places)
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("path", ["renders/000000000009.jpg", "coco/train2017/9.jpg", "a.jpg"])
def test_what_is_no_image_of_cocos_has_one_place(path: str) -> None:
    assert tuple(LLAVA.candidates(path, Origin("a.json"))) == (path,)


def test_an_image_with_another_suffix_is_taken_only_where_the_user_says_so() -> None:
    lenient = make("llava", {"other_suffixes": True})

    assert "ocr_vqa/1.png" not in LLAVA.candidates("ocr_vqa/1.jpg", Origin("a.json"))
    assert "ocr_vqa/1.png" in lenient.candidates("ocr_vqa/1.jpg", Origin("a.json"))


def test_an_image_without_folder_is_found_in_coco_2014() -> None:
    record = Origin("detail_23k.json")

    assert "train2014/COCO_train2014_000000000009.jpg" in LLAVA.candidates(
        "000000000009.jpg", record
    )
    assert "train2017/000000000009.jpg" in LLAVA.candidates(
        "COCO_train2014_000000000009.jpg", record
    )


def test_without_fallbacks_only_the_spelt_name_is_looked_for() -> None:
    strict = make("llava", {"fallbacks": False})

    assert tuple(strict.candidates("x/1.jpg", Origin("a.json"))) == ("x/1.jpg",)


def test_an_absolute_path_stands_alone() -> None:
    assert tuple(LLAVA.candidates("/data/1.jpg", Origin("b/a.json"))) == ("/data/1.jpg",)


def test_files_of_a_folder_are_read_in_order_with_numbers_of_their_own(tmp_path: Path) -> None:
    for name in ("b.json", "a.json"):
        (tmp_path / name).write_text(
            json.dumps([{"id": f"{name}{i}", "conversations": turns("Q", "A")} for i in (1, 2)])
        )

    found = list(LLAVA.records([tmp_path]))

    assert [(item.id, item.number) for item in found if not isinstance(item, Reject)] == [
        ("a.json1", 0), ("a.json2", 1), ("b.json1", 0), ("b.json2", 1),
    ]  # fmt: skip
    assert LLAVA.media_root([tmp_path]) == tmp_path


def test_messages_of_assistants_are_the_training_targets() -> None:
    messages: tuple[Message, ...] = read({"conversations": turns("Q", "A")}).messages

    assert [message.train for message in messages] == [False, True]


def test_a_file_that_is_named_twice_is_read_once(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("[]")

    assert LLAVA.files([tmp_path / "b.json", tmp_path, tmp_path / "b.json"]) == [
        tmp_path / "b.json",
        tmp_path / "a.json",
    ]


def test_each_field_of_a_turn_besides_what_it_says_is_kept_by_the_turns_number() -> None:
    said = turns("What?", "A cup.", "Why?", "For tea.")
    said[1]["score"] = "1"
    said[2] |= {"a": "b", "c": "d"}

    assert read({"id": "1", "conversations": said}).extra == {
        "turns": {"1": {"score": "1"}, "2": {"a": "b", "c": "d"}}
    }
    said[2] = turns("Why?")[0]
    assert read({"id": "1", "conversations": said}).extra == {"turns": {"1": {"score": "1"}}}
