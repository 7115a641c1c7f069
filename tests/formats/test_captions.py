"""Lists of captions and pairs about media: LAVIS, ShareGPT4Video, VideoChat2-IT; and files that mix
images and videos.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import UsageError
from mmdata.formats import Origin, detect, make
from mmdata.schema import Conversation, Image, Media, Text, Video, assistant, system, user
from mmdata.sources.record import Record
from mmdata.testing import check_format

PROMPT = "Describe the image in one sentence."


def read(name: str, value: Any, **options: Any) -> Conversation:
    return make(name, options).conversation(Record(value, "a.json", 0))


def write(folder: Path, *records: Any) -> Path:
    file = folder / "source.json"
    file.write_text(json.dumps(records))
    return file


def all_of(name: str, file: Path) -> list[Conversation]:
    reader = make(name)
    records = [item for item in reader.records([file]) if isinstance(item, Record)]
    return list(map(reader.conversation, records))


# --- LAVIS
# -----------------------------------------------------------------------------------------------


def test_a_caption_of_an_image_answers_the_prompt() -> None:
    value = {"image": "a.jpg", "caption": "A red square.", "image_id": "coco_1"}

    assert read("lavis", value) == Conversation(
        "a:0",
        (user(Image(0), PROMPT), assistant("A red square.")),
        (Media("image", "a.jpg"),),
        "lavis",
        extra={"image_id": "coco_1"},
    )


def test_a_caption_of_a_video_is_asked_for_as_such() -> None:
    found = read("lavis", {"video": "a.mp4", "caption": "Rain."})

    assert found.messages[0] == user(Video(0), "Describe the video in one sentence.")
    assert read("lavis", {"video": "a.mp4", "caption": "Rain."}, prompt="A").messages[0].text == "A"


def test_several_captions_become_conversations_of_one_group(tmp_path: Path) -> None:
    single = {"image": "a.jpg", "caption": "One."}
    several = {"image": "b.jpg", "caption": ["Two.", "Three."], "captions": ["Four."]}
    file = write(tmp_path, single, several, single, {"image": "c.jpg", "captions": ["Five."]})

    found = all_of("lavis", file)

    assert [(one.id, one.messages[1].text) for one in found] == [
        ("source:0", "One."),
        ("source:1", "Two."),
        ("source:2", "Three."),
        ("source:3", "One."),
        ("source:4", "Five."),
    ]
    assert [one.extra for one in found[1:3]] == [{"captions": ["Four."], "group": 1}] * 2
    check_format(make("lavis"), [file])


def test_odd_records_are_read_alone_as_they_are_among_others(tmp_path: Path) -> None:
    plain = {"id": 7, "image": "a.jpg", "caption": "A cup.", "license": None}
    odd: list[dict[str, Any]] = [
        {"caption": "A <image> in words."},
        {"caption": "<image>"},
        {"caption": "  Blank at its ends. "},
        {"caption": ""},
        {"caption": ["One."]},
        {"caption": [["One."]]},
        {"caption": "", "captions": "Two."},
        {"caption": {"text": "A cup."}},
        {"image": ""},
        {"image": " "},
        {"image": ["a.jpg"]},
        {"image": ["a.jpg", "b.jpg"]},
        {"image": None, "video": "a.mp4"},
        {"video": "a.mp4"},
        {"video": 3},
    ]

    file = write(tmp_path, plain, *({**plain, **change} for change in odd), plain)

    check_format(make("lavis"), [file])


def test_captions_are_recognised_but_not_beside_turns(tmp_path: Path) -> None:
    image = {"image": "a.jpg", "caption": "A."}
    video = {"video": "b.mp4", "captions": ["B."]}
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "A."}]

    assert detect([write(tmp_path, image, video)]) == "lavis"
    assert detect([write(tmp_path, {**image, "conversations": turns})]) == "llava"


# --- ShareGPT4Video
# --------------------------------------------------------------------------------------


def test_the_caption_of_the_whole_video_is_the_answer_and_the_others_are_kept() -> None:
    others = [{"idx": "1", "content": "A cloud."}, {"idx": "2", "content": "It grows."}]
    value = {
        "video_id": 7,
        "video_path": "panda/7.mp4",
        "captions": [others[0], {"idx": "-1", "content": "Rain begins.", "by": "v2"}, others[1]],
        "keyframe": [0, 48],
    }

    found = read("sharegpt4video", value)

    assert found.messages == (
        user(Video(0), "Describe the video in detail."),
        assistant("Rain begins."),
    )
    assert found.media == (Media("video", "panda/7.mp4"),)
    assert found.extra == {
        "keyframe": [0, 48],
        "captions": others,
        "video_id": 7,
        "turns": {"1": {"by": "v2"}},
    }


def test_a_video_is_looked_for_where_the_archives_unpack() -> None:
    places = list(make("sharegpt4video").candidates("panda/7.mp4", Origin("a.json")))

    assert places == ["panda/7.mp4", "zip_folder/panda/7.mp4"]


# --- VideoChat2-IT
# ---------------------------------------------------------------------------------------


def pair(question: str, answer: str, **others: Any) -> dict[str, Any]:
    return {"q": question, "a": answer, **others}


def test_pairs_with_an_instruction_are_a_conversation_between_the_bounds_of_a_clip() -> None:
    value = {
        "video": "v.mp4",
        "QA": [pair("What happens?", "It fades.", i="Be brief."), pair("Then?", "It ends.")],
        "start": 0.5,
        "end": 1.5,
    }

    assert read("videochat2", value) == Conversation(
        "a:0",
        (
            system("Be brief."),
            user(Video(0), "What happens?"),
            assistant("It fades."),
            user("Then?"),
            assistant("It ends."),
        ),
        (Media("video", "v.mp4", start=0.5, end=1.5),),
        "videochat2",
    )


def test_an_instruction_that_stays_the_same_is_said_once() -> None:
    pairs = [pair("A?", "A.", i="Be brief."), pair("B?", "B.", i="Be brief.", by="me")]

    found = read("videochat2", {"image": "a.jpg", "QA": pairs})

    assert [message.role for message in found.messages] == [
        "system", "user", "assistant", "user", "assistant"
    ]  # fmt: skip
    assert found.extra == {"turns": {"4": {"by": "me"}}}


def test_a_pair_without_question_is_an_answer_to_the_medium_alone() -> None:
    found = read("videochat2", {"image": "a.jpg", "QA": [pair("", "A cup.", i="Describe.")]})

    assert found.messages == (system("Describe."), user(Image(0)), assistant("A cup."))


def test_pairs_about_nothing_that_is_shown_are_text() -> None:
    found = read("videochat2", {"QA": [pair("Who?", "I.", i="")]})

    assert (found.messages, found.media) == ((user("Who?"), assistant("I.")), ())


@pytest.mark.parametrize("bounds", [{"start": 2}, {"end": 2.5}])
def test_one_bound_is_enough(bounds: dict[str, float]) -> None:
    found = read("videochat2", {"video": "v.mp4", "QA": [pair("A?", "A.")], **bounds})

    assert found.media[0] == Media("video", "v.mp4", **bounds)  # type: ignore[arg-type]


# --- LLaVA's records with images and videos
# ---------------------------------------------------------------


def test_a_file_of_images_and_videos_is_read_as_what_each_record_is(tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "{}\nWhat?"}, {"from": "gpt", "value": "That."}]

    def asks(mark: str) -> list[dict[str, str]]:
        return [{**turns[0], "value": turns[0]["value"].replace("{}", mark)}, turns[1]]

    file = write(
        tmp_path,
        {"image": ["a.jpg"], "conversations": asks("<image>")},
        {"video": ["v.mp4"], "conversations": asks("<video>")},
    )

    assert detect([file]) == "llava"
    assert [one.messages[0].content for one in all_of("llava", file)] == [
        (Image(0), Text("What?")),
        (Video(0), Text("What?")),
    ]


# --- names of others
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "record",
    [
        {"file_name": "1.jpg", "text": "A cup."},
        {"file_name": "1.jpg", "caption": "A cup."},
        {"image_path": "1.jpg", "caption": "A cup."},
        {"image_path": "1.jpg", "image": None, "caption": "A cup."},
        {"image": "1.jpg", "text": "A cup."},
        {"image": "1.jpg", "sentences": ["A cup."]},
    ],
)
def test_an_image_and_its_caption_by_the_names_of_others_are_read(
    tmp_path: Path, record: dict[str, Any]
) -> None:
    file = write(tmp_path, record)

    [row] = all_of("lavis", file)

    assert detect([file]) == "lavis"
    assert row.media == (Media("image", "1.jpg"),)
    assert row.messages == (user(Image(0), PROMPT), assistant("A cup."))
    assert row.extra.get("image") is None
    check_format(make("lavis"), [file])


def test_a_video_that_a_folder_of_videos_names_is_a_video() -> None:
    row = read("lavis", {"file_name": "1.MP4", "text": "A cup falls.", "size": 3})

    assert (row.media, row.extra) == ((Media("video", "1.MP4"),), {"size": 3})


def test_a_text_beside_a_question_or_an_answer_is_no_caption(tmp_path: Path) -> None:
    text = {"image": "1.jpg", "text": "A cup."}

    for name in ("answer", "label"):
        with pytest.raises(UsageError, match="Name the format"):
            detect([write(tmp_path, {**text, name: "Red."})])
    for name in ("prompt", "instruction"):
        assert detect([write(tmp_path, {**text, name: "What is it?"})]) == "swift"


def test_a_caption_may_be_of_a_clip() -> None:
    bounds = {"start time": 0.5, "end time": "00:00:01.5"}

    row = read("lavis", {"video": "1.mp4", "caption": "A cup falls.", **bounds})

    assert row.media == (Media("video", "1.mp4", start=0.5, end=1.5),)
    assert not row.extra


def test_several_captions_by_the_names_of_others_are_a_record_each(tmp_path: Path) -> None:
    rows = all_of("lavis", write(tmp_path, {"file_name": "1.jpg", "text": ["A cup.", "A mug."]}))

    assert [row.messages[1] for row in rows] == [assistant("A cup."), assistant("A mug.")]


def test_a_file_name_beside_a_named_image_goes_to_extra() -> None:
    row = read("lavis", {"image": "2.jpg", "file_name": "1.jpg", "caption": "A cup."})

    assert (row.media[0].path, row.extra) == ("2.jpg", {"file_name": "1.jpg"})
