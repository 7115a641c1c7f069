"""Shapes that other tools write, near those that the other tests of formats show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import DataError, RecordError
from mmdata.formats import Record, detect, make
from mmdata.formats._nested import open_wrappers
from mmdata.schema import Conversation, Image, Media, Text, Video, assistant, user
from mmdata.store.decode import BatchView
from mmdata.store.encode import encode


def read(name: str, value: dict[str, Any]) -> Conversation:
    """Return the conversation of a record; that which a format reads of many at once is the same,
    or is left to be read by itself.
    """
    record = Record(value, "a.json", 0)
    reader: Any = make(name)
    flat = reader.flatten([record])
    found: Conversation | None = None
    if flat is not None:
        found = BatchView(encode([flat]))[0]
    try:
        alone: Conversation = reader.conversation(record)
    except DataError:
        assert flat is None
        raise
    assert found is None or found == alone
    return alone


def llava(question: str, **fields: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": question}, {"from": "gpt", "value": "So."}]
    return {"conversations": turns, **fields}


def messages(question: object, **fields: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": "So."}]
    return {"messages": turns, **fields}


def found_format(folder: Path, value: object) -> str:
    (folder / "a.json").write_text(json.dumps(value))
    return detect([folder / "a.json"])


@pytest.mark.parametrize(
    "mark",
    [
        "[IMG]",
        "<image 01>",
        "(<image>./</image>)",
        "<im_start><image><im_end>",
        "<|begin_of_image|><|endoftext|><|end_of_image|>",
        "<Img><ImageHere></Img>",
        "<image>a.jpg</image>",
        "<image>./a.jpg</image>",
    ],
)
def test_the_mark_of_a_listed_image_is_its_place_in_every_spelling(mark: str) -> None:
    found = read("llava", llava(f"See {mark} now.", image="a.jpg"))

    assert found.messages[0] == user("See ", Image(0), " now.")
    assert found.media == (Media("image", "a.jpg"),)


@pytest.mark.parametrize("mark", ["[VIDEO]", "<Video><ImageHere></Video>", "<video>v.mp4</video>"])
def test_the_mark_of_a_listed_video_is_its_place_in_every_spelling(mark: str) -> None:
    found = read("llava", llava(f"See {mark} now.", video="v.mp4"))

    assert found.messages[0] == user("See ", Video(0), " now.")
    assert len(found.media) == 1


@pytest.mark.parametrize(
    "mark",
    [
        "<|IMAGE_PLACEHOLDER|>",
        "<image_token>",
        "<image: 1>",
        "<image_id_1>",
        "&lt;image&gt;",
        "\uff1cimage\uff1e",
        "<EOI>",
        "<|mm_start|>",
        "[<IMG_PLH>]",
        "![](b.jpg)",
        "![a cup](b.jpg 'cup')",
        "<img src='b.jpg'/>",
        '<img alt="cup" src = "b.jpg">',
        "[photo]",
    ],
)
@pytest.mark.parametrize("name", ["llava", "messages"])
def test_what_looks_like_a_mark_beside_an_image_that_has_no_other_is_refused(
    name: str, mark: str
) -> None:
    question = f"See {mark} now."
    value = {
        "llava": llava(question, image="a.jpg"),
        "messages": messages(question, images=["a.jpg"]),
    }[name]

    with pytest.raises(RecordError, match="looks like the mark") as error:
        read(name, value)

    assert error.value.reason == "media_mismatch"


@pytest.mark.parametrize(
    "question",
    ["<image>img</image>", "<image><|vision_end|>", "<row_1_col_1><image>", "<image>[IMG_END]",
     "<im_patch><image>"],
)  # fmt: skip
def test_a_part_of_a_mark_beside_one_that_is_known_is_refused(question: str) -> None:
    with pytest.raises(RecordError, match="a part of one") as error:
        read("llava", llava(f"{question}What?", image="a.jpg"))

    assert error.value.reason == "media_mismatch"


@pytest.mark.parametrize(
    "mark",
    ["![](a.jpg)", "![a cup](./a.jpg)", '![a cup](a.jpg "cup")', "<img src='a.jpg'/>",
     '<img width=3 src="a.jpg">', "<img src=a.jpg >"],
)  # fmt: skip
def test_a_listed_picture_that_the_question_shows_stands_there(mark: str) -> None:
    found = read("messages", messages(f"See {mark} now.", images=["b.jpg", "a.jpg"]))

    assert found.messages[0] == user(Image(0), "See ", Image(1), " now.")


@pytest.mark.parametrize("shown", ["![](b.jpg)", "<img src='b.jpg'>", "{image}", "[Image]"])
def test_what_shows_a_picture_is_words_in_an_answer_and_in_records_without_media(
    shown: str,
) -> None:
    alone, answered = messages(f"See {shown}"), messages("What?", images=["a.jpg"])
    answered["messages"][1]["content"] = f"Write {shown}."

    assert read("messages", alone).messages[0] == user(f"See {shown}")
    found = read("messages", answered)
    assert found.messages == (user(Image(0), "What?"), assistant(f"Write {shown}."))


def test_what_looks_like_a_mark_beside_one_that_is_known_is_a_word() -> None:
    found = read("llava", llava("<image>\nWhat does <image/> do?", image="a.jpg"))

    assert found.messages[0] == user(Image(0), "What does <image/> do?")


def test_numbers_with_a_zero_in_front_count_from_one_unless_there_is_a_zero() -> None:
    found = read("llava", llava("<image_02> or <image_01>?", image=["a.jpg", "b.jpg"]))

    assert found.messages[0] == user(Image(1), "or ", Image(0), "?")


@pytest.mark.parametrize("path", ["./a.jpg", "file://a.jpg", "x/../a.jpg"])
def test_an_image_that_is_listed_and_brought_is_one_however_its_path_is_spelt(path: str) -> None:
    parts = [{"type": "image", "image": path}, {"type": "text", "text": "Which?"}]

    assert len(read("messages", messages(parts, images=["a.jpg"])).media) == 1


def test_a_mark_of_a_video_does_not_take_one_of_several_images() -> None:
    with pytest.raises(RecordError, match="1 marks of media for 2 media"):
        read("messages", messages("<video>Which?", images=["a.jpg", "b.jpg"]))


@pytest.mark.parametrize("text", ['["a.jpg", "b.jpg"]', "['a.jpg', 'b.jpg']"])
def test_a_list_of_images_may_be_text_as_tables_hold_it(text: str) -> None:
    found = read("messages", messages("<image><image>Which?", images=text))

    assert [medium.path for medium in found.media] == ["a.jpg", "b.jpg"]


def test_a_rate_beside_pictures_gives_their_times() -> None:
    value = llava("<video>\nWhat?", video=["1.jpg", "2.jpg"], fps=4)

    clock = read("llava", value).media[0].clock

    assert clock is not None
    assert clock.step == 0.25


def test_the_pictures_of_a_video_may_be_objects_that_hold_their_paths() -> None:
    value = messages("<video>What?", videos=[[{"path": "1.jpg"}, {"path": "2.jpg"}]])

    assert read("messages", value).media[0].frame_paths == ("1.jpg", "2.jpg")


def test_a_clip_of_geminis_is_between_its_offsets() -> None:
    video = {
        "fileData": {"mimeType": "video/mp4", "fileUri": "v.mp4"},
        "videoMetadata": {"startOffset": "0.5s", "endOffset": "1.5s"},
    }
    turns = [
        {"role": "user", "parts": [video, {"text": "What?"}]},
        {"role": "model", "parts": [{"text": "So."}]},
    ]

    (medium,) = read("messages", {"contents": turns}).media

    assert (medium.start, medium.end) == (0.5, 1.5)


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({"question": "Which?"}, "Which?"),
        ({"instruction": "Choose.", "input": "Red, blue."}, "Choose.\nRed, blue."),
        ({"query": "Which?"}, "Which?"),
    ],
)
def test_a_preference_pair_is_about_the_question_beside_it(
    fields: dict[str, str], asked: str
) -> None:
    found = read("messages", {**fields, "image": "a.jpg", "chosen": "Red.", "rejected": "Blue."})

    assert found.messages == (user(Image(0), asked), assistant("Red."))
    assert found.rejected == (assistant("Blue."),)
    assert found.extra == {}


def test_a_caption_may_be_of_an_image_in_the_record() -> None:
    value = {"image": {"bytes": b"\xff\xd8", "path": "a.jpg"}, "caption": "A cup."}

    found = read("lavis", value)

    assert found.media[0].bytes == b"\xff\xd8"
    assert found.messages[1].content == (Text("A cup."),)


@pytest.mark.parametrize("field", ["data", "items", "dataset", "instances"])
def test_the_format_of_records_inside_an_object_is_found(tmp_path: Path, field: str) -> None:
    assert found_format(tmp_path, {"version": 1, field: [llava("<image>", image="a")]}) == "llava"


def test_the_format_of_packed_records_is_found(tmp_path: Path) -> None:
    assert found_format(tmp_path, [[messages("Which?")], [messages("What?")]]) == "messages"


@pytest.mark.parametrize("spell", [json.dumps, str])
def test_the_format_of_turns_that_are_text_is_found(tmp_path: Path, spell: Any) -> None:
    value = llava("<image>\nWhich?", image="a.jpg")

    value["conversations"] = spell(value["conversations"])

    assert found_format(tmp_path, [value]) == "llava"


def test_a_record_that_has_a_list_of_items_is_not_taken_for_a_cover_of_records() -> None:
    value = {"question": "Which?", "answer": "Red.", "items": [{"name": "cup"}]}

    assert list(open_wrappers([value])) == [value]


def test_turns_of_a_user_and_an_assistant_beside_an_image_are_a_chat(tmp_path: Path) -> None:
    turns = [{"from": "user", "value": "<ImageHere> Q"}, {"from": "assistant", "value": "A"}]

    assert found_format(tmp_path, [{"image": ["a.jpg"], "conversations": turns}]) == "sharegpt"


def test_tokens_of_internvl_do_not_make_a_record_one_of_qwen_vl(tmp_path: Path) -> None:
    value = llava("<img><IMG_CONTEXT></img>Which?", image="a.jpg")

    assert found_format(tmp_path, [value]) == "llava"


def test_a_listed_video_whose_bounds_its_part_says_is_that_clip_once() -> None:
    part = {"type": "video", "video": "./v.mp4", "video_start": 0.5, "video_end": 1.5}
    value = messages([part, {"type": "text", "text": "What?"}], videos=["v.mp4"])

    (medium,) = read("messages", value).media

    assert (medium.start, medium.end) == (0.5, 1.5)


@pytest.mark.parametrize("field", ["images", "videos", "audios", "system"])
@pytest.mark.parametrize("nothing", [None, []])
def test_an_empty_column_changes_nothing_of_a_record_with_a_video(
    tmp_path: Path, field: str, nothing: object
) -> None:
    value = llava("<video>\nWhat?", video="v.mp4")

    assert read("video178k", {**value, field: nothing}) == read("video178k", value)
    assert found_format(tmp_path, [{**value, field: nothing}]) == "video178k"
