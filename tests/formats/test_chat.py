"""Messages, ShareGPT and ms-swift records: three doors to one room."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import RecordError, SchemaError
from mmdata.formats import registry
from mmdata.rejects import Reject
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Region,
    Text,
    Video,
    assistant,
    system,
    user,
)
from mmdata.sources.record import Record
from tests.reference import files, some

PIXEL = base64.b64encode(b"not really an image").decode()


def read(name: str, value: Any) -> Conversation:
    reader = registry.get(name)()
    return reader.conversation(Record(value, "a.json", 0))


def said(*texts: str, speaker: str = "role", text: str = "content") -> list[dict[str, Any]]:
    return [
        {speaker: ("user", "assistant")[index % 2], text: words}
        for index, words in enumerate(texts)
    ]


def test_messages_with_placeholders_take_the_media_beside_them() -> None:
    value = {
        "messages": said("<image>Who?", "Kane.", "Where?<image>", "There."),
        "images": ["1.jpg", "1.jpg"],
    }

    found = read("messages", value)

    assert found == Conversation(
        "a:0",
        (user(Image(0), "Who?"), assistant("Kane."), user("Where?", Image(1)), assistant("There.")),
        (Media("image", "1.jpg"), Media("image", "1.jpg")),
        "messages",
    )


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "1.jpg"}},
        {"type": "image_url", "image_url": "1.jpg"},
        {"type": "image_url", "value": "1.jpg"},
        {"type": "image", "image": "1.jpg"},
        {"type": "image", "path": "1.jpg"},
        {"type": "image", "url": "1.jpg"},
        {"type": "image", "image": None, "text": None, "path": "1.jpg"},
    ],
)
def test_parts_bring_their_own_media(part: dict[str, Any]) -> None:
    value = {
        "messages": [
            {"role": "user", "content": [part, {"type": "text", "text": " Who?\n"}]},
            *said("", "He.")[1:],
        ]
    }

    found = read("messages", value)

    assert found.messages[0].content == (Image(0), Text(" Who?\n"))
    assert found.media == (Media("image", "1.jpg"),)


def test_a_part_without_a_reference_takes_the_next_medium_beside_the_turns() -> None:
    content = [{"type": "video"}, {"type": "text", "text": "What?"}]
    value = {
        "messages": [{"role": "user", "content": content}, *said("", "It.")[1:]],
        "videos": ["1.mp4"],
    }

    assert read("messages", value).messages[0].content == (Video(0), Text("What?"))


def test_a_data_uri_becomes_bytes_and_a_url_stays_a_path() -> None:
    uri = f"data:image/png;base64,{PIXEL}"
    value = {"messages": said("<image><image>?", "Yes."), "images": [uri, "https://x.org/a.jpg"]}

    assert read("messages", value).media == (
        Media("image", bytes=b"not really an image"),
        Media("image", "https://x.org/a.jpg"),
    )


def test_the_loss_of_a_message_says_whether_it_is_trained_on() -> None:
    value = {"messages": said("Q", "A", "R", "B")}
    value["messages"][1]["loss"] = False
    value["messages"][3] |= {"loss": 1.0, "loss_scale": 2}

    found = read("messages", value)

    assert [message.train for message in found.messages] == [False, False, False, True]
    assert found.extra == {"turns": {"3": {"loss_scale": 2}}}


def test_a_weight_of_the_loss_is_kept_besides_the_flag() -> None:
    value = {"messages": said("Q", "A")}
    value["messages"][1]["loss"] = 0.5

    found = read("messages", value)

    assert (found.messages[1].train, found.extra) == (True, {"turns": {"1": {"loss": 0.5}}})


def test_fields_of_parts_without_a_home_go_to_extra_by_turn_and_part() -> None:
    content = [
        {"type": "text", "text": "Who?", "cache_control": {"type": "ephemeral"}, "image_url": None},
        {"type": "image_url", "image_url": {"url": "1.jpg", "detail": "high"}},
        {"type": "image", "path": "2.jpg", "bytes": None, "width": 3},
    ]
    value = {
        "messages": [{"role": "user", "content": content, "name": "Ann"}, *said("", "He.")[1:]]
    }

    found = read("messages", value)

    parts = {
        "0": {"cache_control": {"type": "ephemeral"}},
        "1": {"image_url": {"detail": "high"}},
        "2": {"width": 3},
    }
    assert found.extra == {"turns": {"0": {"name": "Ann", "content": parts}}}


def test_fields_of_listed_media_without_a_home_go_to_extra_by_their_numbers() -> None:
    images = ["1.jpg", {"path": "2.jpg", "bytes": None, "caption": "a cup"}]
    value = {"messages": said("<image><image>?", "Yes."), "images": images, "video": None}

    assert read("messages", value).extra == {"images": {"1": {"caption": "a cup"}}}


def test_a_records_own_field_turns_is_not_overwritten() -> None:
    question, answer = said("Q", "A")
    value = {"messages": [question | {"name": "Ann"}, answer], "turns": 1}

    assert read("messages", value).extra == {"turns": 1, "turns#2": {"0": {"name": "Ann"}}}
    assert read("messages", value | {"turns#2": 2}).extra["turns#3"] == {"0": {"name": "Ann"}}


@pytest.mark.parametrize(
    ("flag", "train"), [({"weight": 0}, False), ({"weight": 1}, True), ({"loss": 0}, False)]
)
def test_a_flag_of_openai_or_ms_swift_says_whether_an_answer_is_trained_on(
    flag: dict[str, Any], train: bool
) -> None:
    value = {"messages": said("Q", "A")}
    value["messages"][1] |= flag

    found = read("messages", value)

    assert (found.messages[1].train, found.extra) == (train, {})
    value["messages"][0]["weight"] = 1
    assert not read("messages", value).messages[0].train


def test_a_pair_may_say_that_it_is_not_trained_on() -> None:
    pair = {"human": "Q", "assistant": "A", "loss": False}

    assert not read("sharegpt", {"conversation": [pair]}).messages[1].train


def test_a_loss_that_is_text_is_refused() -> None:
    value = {"messages": said("Q", "A")}
    value["messages"][1]["loss"] = "false"

    with pytest.raises(RecordError, match="'loss' must be true, false or a number"):
        read("messages", value)


def parted(*content: Any, **beside: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": list(content)}, *said("", "He.")[1:]],
        **beside,
    }


def test_white_space_between_words_is_kept_and_none_at_their_edges() -> None:
    texts = [{"type": "text", "text": text} for text in ("\n", "A", "\n", "", " ", "B", " ")]

    found = read("messages", parted({"type": "image", "image": "1.jpg"}, *texts))

    assert found.messages[0].content == (Image(0), *map(Text, ("A", "\n", " ", "B")))
    assert read("messages", parted("A", "\n\n", "B")).messages[0].content == tuple(
        map(Text, ("A", "\n\n", "B"))
    )


def test_placeholders_in_the_text_of_parts_stand_for_the_media_beside_the_turns() -> None:
    text = {"type": "text", "text": "<image>\nWho?"}

    assert read("messages", parted(text, images=["1.jpg"])).messages[0].content == (
        Image(0),
        Text("Who?"),
    )
    with pytest.raises(RecordError, match="1 marks of media for 0 media"):
        read("messages", parted(text))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "image", "base64": PIXEL},
        {"type": "image", "image": {"bytes": PIXEL, "path": None}},
        {"type": "image_url", "image_url": {"url": f"DATA:image/png;charset=utf-8;base64,{PIXEL}"}},
    ],
)
def test_a_medium_may_be_in_the_record_itself(part: dict[str, Any]) -> None:
    assert read("messages", parted(part, "Who?")).media == (
        Media("image", bytes=b"not really an image"),
    )


def test_a_part_that_names_its_own_picture_gets_no_other() -> None:
    part = {"type": "image", "image_url": {"url": "http://x/a.jpg"}}

    found = read("messages", parted("<image>", part, "Who?", images=["b.jpg"]))

    assert found.media == (Media("image", "b.jpg"), Media("image", "http://x/a.jpg"))
    assert found.messages[0].content == (Image(0), Image(1), Text("Who?"))


def test_a_video_that_is_a_list_of_pictures_is_one_video() -> None:
    part = {"type": "video", "video": ["1.jpg", "2.jpg"], "sample_fps": 2.0}

    found = read("messages", parted(part, "What?"))

    (video,) = found.media
    assert (video.type, video.frame_paths) == ("video", ("1.jpg", "2.jpg"))
    assert video.clock == CompactTimes(step=0.5)


FRAMES: list[str] = ["1.jpg", "2.jpg"]


@pytest.mark.parametrize(
    "value",
    [
        parted({"type": "video", "video": FRAMES, "sample_fps": 2.0}, "What?"),
        parted({"type": "video", "video": {"path": FRAMES, "fps": 2}}, "What?"),
        {"messages": said("<video>What?", "It."), "videos": [FRAMES], "fps": 2},
        {"messages": said("<video>What?", "It."), "videos": [{"path": FRAMES, "sample_fps": 2}]},
    ],
)
def test_a_rate_that_is_obeyed_is_no_field_without_a_home(value: dict[str, Any]) -> None:
    found = read("messages", value)

    assert found.media == (
        Media("video", frame_paths=("1.jpg", "2.jpg"), clock=CompactTimes(step=0.5)),
    )
    assert found.extra == {}


@pytest.mark.parametrize(
    ("part", "left"),
    [
        ({"video": "1.mp4", "fps": 2}, {"fps": 2}),
        ({"video": ["1.mp4"], "fps": 2}, {"fps": 2}),
        ({"video": FRAMES, "fps": "two"}, {"fps": "two"}),
        ({"video": FRAMES, "sample_fps": 2, "fps": 4}, {"fps": 4}),
    ],
)
def test_a_rate_that_is_not_obeyed_is_kept(part: dict[str, Any], left: dict[str, Any]) -> None:
    found = read("messages", parted({"type": "video", **part}, "What?"))

    assert found.extra == {"turns": {"0": {"content": {"0": left}}}}


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ({"type": "url", "url": "1.jpg"}, {}),
        ({"type": "base64", "media_type": "image/png", "data": PIXEL}, {}),
        ({"type": "file", "url": "1.jpg"}, {"type": "file"}),
        ({"type": "url", "url": "1.jpg", "media_type": "video/mp4"}, {"media_type": "video/mp4"}),
        ({"type": "url", "url": "1.jpg", "title": "cup"}, {"title": "cup"}),
    ],
)
def test_what_a_block_says_of_its_medium_is_kept_where_the_medium_does_not_show_it(
    source: dict[str, Any], left: dict[str, Any]
) -> None:
    found = read("messages", parted({"type": "image", "source": source}, "What?"))

    assert found.extra == ({"turns": {"0": {"content": {"0": {"source": left}}}}} if left else {})


def test_the_type_of_geminis_file_is_what_its_medium_is() -> None:
    shown = {"fileData": {"mimeType": "video/mp4", "fileUri": "1.mp4"}}
    turns = [
        {"role": "user", "parts": [shown, {"text": "What?"}]},
        {"role": "model", "parts": [{"text": "It."}]},
    ]

    found = read("messages", {"contents": turns})

    assert (found.media, found.extra) == ((Media("video", "1.mp4"),), {})


def test_a_system_that_says_nothing_is_none() -> None:
    value = {"messages": [{"role": "system", "content": " ", "name": "S"}, *said("Q", "A")]}

    found = read("messages", value)

    assert (found.messages, found.extra) == (
        (user("Q"), assistant("A")),
        {"turns": {"0": {"name": "S"}}},
    )


@pytest.mark.parametrize("name", ["sharegpt", "swift"])
def test_the_turns_that_are_not_read_are_kept(name: str) -> None:
    others = said("Q2", "A2", speaker="from", text="value")

    found = read(name, {"messages": said("Q", "A"), "conversations": others})

    assert (found.messages, found.extra) == ((user("Q"), assistant("A")), {"conversations": others})


@pytest.mark.parametrize("field", ["messages", "conversations", "conversation"])
def test_turns_are_read_in_either_spelling(field: str) -> None:
    for turns in (said("Q", "A"), said("Q", "A", speaker="from", text="value")):
        assert read("sharegpt", {field: turns}).messages == (user("Q"), assistant("A"))


def test_fewer_placeholders_than_media_put_the_first_media_first() -> None:
    value = {
        "messages": [{"role": "system", "content": "S"}, *said("Compare <image>", "No.")],
        "images": ["1", "2", "3"],
    }

    found = read("swift", value)

    assert found.messages[1].content == (Image(0), Image(1), Text("Compare"), Image(2))


def test_media_of_both_kinds_without_placeholder_stand_first_images_before_videos() -> None:
    found = read(
        "swift",
        {"query": "<video>q", "response": "r", "images": ["1.jpg"], "videos": ["1.mp4", "2.mp4"]},
    )

    assert found.messages[0].content == (Image(0), Video(1), Video(2), Text("q"))


def test_an_image_placeholder_may_mean_a_video() -> None:
    found = read(
        "sharegpt",
        {"conversations": said("<image>\nq", "r", speaker="from", text="value"), "video": "1.mp4"},
    )

    assert found.messages[0].content == (Video(0), Text("q"))


def test_a_pair_of_speakers_is_two_turns() -> None:
    found = read(
        "sharegpt", {"system": "S", "conversation": [{"human": "Q", "assistant": "A", "n": 1}]}
    )

    assert found.messages == (system("S"), user("Q"), assistant("A"))
    assert found.extra == {"turns": {"2": {"n": 1}}}


@pytest.mark.parametrize("history", [None, [], "", "[]"])
def test_a_row_without_history_is_one_turn_each(history: Any) -> None:
    found = read("swift", {"query": "q", "response": "r", "history": history})

    assert found.messages == (user("q"), assistant("r"))


def test_a_list_of_responses_gives_the_first_and_keeps_all() -> None:
    found = read("swift", {"Question": "q", "answer": ["a", "b"], "note": 1})

    assert found.messages == (user("q"), assistant("a"))
    assert found.extra == {"response": ["a", "b"], "note": 1}


def test_two_spellings_of_one_column_are_both_left_alone() -> None:
    found = read("swift", {"query": "q", "prompt": "p", "response": "r"})

    assert (found.messages[0], found.extra) == (user("q"), {"prompt": "p"})


@pytest.mark.parametrize(
    ("value", "column"),
    [
        ({"question": "q", "prompt": "p", "output": "a", "images": ["1.jpg"]}, "query"),
        ({"query": "q", "answer": "a", "solution": "s"}, "response"),
    ],
)
def test_fields_that_could_all_be_one_column_are_named(value: dict[str, Any], column: str) -> None:
    with pytest.raises(RecordError, match=f"could all be the {column}"):
        read("swift", value)


def test_alpaca_beside_a_query_is_kept() -> None:
    found = read("swift", {"instruction": "I", "input": "X", "query": "Q", "response": "R"})

    assert (found.messages[0], found.extra) == (user("Q"), {"instruction": "I", "input": "X"})


def test_alpacas_own_text_is_not_its_answer() -> None:
    found = read("swift", {"instruction": "Add", "input": None, "output": "3", "text": "Add ### 3"})

    assert (found.messages, found.extra) == ((user("Add"), assistant("3")), {"text": "Add ### 3"})


@pytest.mark.parametrize("name", ["swift", "messages"])
def test_objects_take_the_places_of_their_marks(name: str) -> None:
    turns: dict[str, dict[str, Any]] = {
        "swift": {"query": "Find the <ref-object>", "response": "<bbox><bbox>"},
        "messages": {
            "messages": [
                {"role": "user", "content": "Find the <ref-object>"},
                {"role": "assistant", "content": "<bbox><bbox>"},
            ]
        },
    }
    objects = {"ref": ["cup"], "bbox": [[6, 4, 32, 24], [32, 24, 64, 48]]}
    value = {**turns[name], "images": ["1.jpg"], "objects": objects, "width": 64, "height": 48}

    found = read(name, value)

    assert found.messages == (
        user(Image(0), "Find the ", Region("cup", ())),
        assistant(Region("", ((6 / 64, 4 / 48, 0.5, 0.5), (0.5, 0.5, 1, 1)))),
    )
    assert found.extra == {"width": 64, "height": 48}


def test_the_worse_ending_of_a_pair_takes_the_same_objects() -> None:
    box = {"bbox": [[0, 0, 500, 500]], "bbox_type": "norm1000"}
    value = {"query": "Q", "response": "<bbox>", "images": ["1.jpg"], "objects": box}
    region = Region("", ((0, 0, 0.5, 0.5),))

    found = read("swift", {**value, "rejected_response": "near <bbox>"})

    assert found.messages[1] == assistant(region)
    assert found.rejected == (assistant("near ", region),)
    with pytest.raises(RecordError, match="0 <bbox> in the texts for 1 'bbox'"):
        read("swift", {**value, "rejected_response": "nowhere"})


def test_marks_that_no_object_is_for_are_refused() -> None:
    value = {
        "query": "Find <ref-object>.",
        "response": "<bbox>",
        "images": ["1.jpg"],
        "objects": {"bbox": [[1, 2, 3, 4]]},
    }

    with pytest.raises(RecordError, match="1 <ref-object> in the texts for 0 'ref' in 'objects'"):
        read("swift", value)


@pytest.mark.parametrize(
    "found", ["b'x'", "1e999", "{1}", "1j", "{1: 'a', '1': 'b'}", "0x" + "f" * 4000, "('a\\x00b',)"]
)
def test_a_literal_history_holds_what_json_could(found: str) -> None:
    text = f"[['q', [{{'type': 'text', 'text': 'hi', 'k': {found}}}]]]"

    with pytest.raises(RecordError, match="'history'"):
        read("swift", {"query": "q", "response": "r", "history": text})


def test_alpacas_instruction_and_input_are_one_question() -> None:
    assert read("swift", {"instruction": "Add", "input": "1 2", "output": "3"}).messages[0] == user(
        "Add\n1 2"
    )
    assert read("swift", {"instruction": "Hi", "input": "", "output": "Ho"}).messages[0] == user(
        "Hi"
    )


def test_images_inside_a_query_stand_where_they_are() -> None:
    found = read(
        "swift", {"query": "<img>http://x/a.jpg</img>5 or\n<img>b.jpg</img>", "response": "6"}
    )

    assert found.messages[0].content == (Image(0), Text("5 or"), Image(1))
    assert [medium.path for medium in found.media] == ["http://x/a.jpg", "b.jpg"]


MESSAGES = {"messages": said("q", "r")}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("messages", {}, "no_conversation"),
        ("messages", {"messages": []}, "no_conversation"),
        ("messages", {"messages": "hello"}, "malformed"),
        ("messages", {"messages": ["hello"]}, "malformed"),
        ("messages", {"messages": [{"role": "user"}]}, "malformed"),
        ("messages", {"messages": [{"role": "user", "content": 3}]}, "malformed"),
        ("messages", {"messages": [{"role": "user", "content": [3]}]}, "malformed"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "malformed"),
        ("messages", {"messages": [{"role": "narrator", "content": "x"}]}, "unknown_role"),
        ("messages", {"messages": [{"role": "tool", "content": "x"}]}, "no_conversation"),
        ("messages", {"messages": said("q")}, "no_conversation"),
        ("messages", {"messages": said("q", "")}, "empty_turn"),
        (
            "messages",
            {"messages": [{"role": "user", "content": None}, *said("", "r")[1:]]},
            "empty_turn",
        ),
        ("messages", {"messages": said("q", "r")[::-1]}, "role_order"),
        ("messages", {"messages": said("<image>q", "r")}, "media_mismatch"),
        ("messages", {"messages": said("<audio>q", "r")}, "unsupported_media"),
        ("messages", MESSAGES | {"audios": ["a.mp3"]}, "unsupported_media"),
        ("messages", MESSAGES | {"images": 3}, "malformed"),
        ("messages", MESSAGES | {"images": [""]}, "missing_media"),
        ("messages", MESSAGES | {"videos": [["1.jpg", 2]]}, "unsupported_media"),
        ("messages", MESSAGES | {"images": ["data:image/png;base64,@@"]}, "unreadable_media"),
        (
            "messages",
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "unsupported_media",
        ),
        ("sharegpt", {"conversation": [["q"]]}, "malformed"),
        ("sharegpt", {"conversation": [{"human": "q"}]}, "malformed"),
        ("sharegpt", {"conversation": ["ab"]}, "malformed"),
        (
            "sharegpt",
            {"system": 3, "conversation": [{"human": "q", "assistant": "r"}]},
            "malformed",
        ),
        ("swift", {"query": "q"}, "no_conversation"),
        ("swift", {"query": "q", "response": []}, "no_conversation"),
        ("swift", {"query": "q", "response": 3}, "malformed"),
        ("swift", {"response": "r"}, "empty_turn"),
        ("swift", {"query": "q", "response": "r", "history": "open('x')"}, "malformed"),
        ("swift", {"query": "q", "response": "r", "history": "[" * 5000}, "malformed"),
        ("swift", {"query": "q", "response": "r", "history": ["ab"]}, "malformed"),
        ("swift", {"query": "q", "response": "r", "history": [["a", "b", "c"]]}, "malformed"),
        ("swift", {"query": "q", "response": "r", "history": [["a", None]]}, "empty_turn"),
    ],
)
def test_a_record_that_cannot_be_read_says_why(
    name: str, value: dict[str, Any], reason: str
) -> None:
    with pytest.raises((RecordError, SchemaError)) as caught:
        read(name, value)

    assert isinstance(caught.value, RecordError | SchemaError)
    assert caught.value.reason == reason


def test_ms_swifts_own_rows_read_as_ms_swift_reads_them(golden: Path) -> None:
    for file in files(golden, "swift_records.json"):
        for case in json.loads(file.read_text()):
            name = "videochatgpt" if "video_name" in case["input"] else "swift"
            if name not in registry.names() or "error" in case:
                continue
            found = _first(name, case["input"])
            turns = [
                [message.role, _plain(message.content)]
                for message in found.messages
                if message.role != "system"
            ]
            lead = "".join(
                f"<{tag}>" * count
                for tag, count in case["default_tags_prepended_to_first_message"].items()
            )
            expected = [list(turn) for turn in case["turns"]]
            expected[0][1] = lead + expected[0][1]

            assert turns == expected
            assert [medium.path for medium in found.media if medium.type == "video"] == case[
                "videos"
            ]
            assert [medium.path for medium in found.media if medium.type == "image"] == case[
                "images"
            ]
            assert (case["system"] is None) == (found.messages[0].role != "system")


def test_a_row_that_ms_swift_refuses_is_refused(golden: Path) -> None:
    for file in files(golden, "swift_records.json"):
        for case in json.loads(file.read_text()):
            if "error" in case:
                with pytest.raises((RecordError, SchemaError)):
                    read("swift", case["input"])


def _first(name: str, value: dict[str, Any]) -> Conversation:
    reader = registry.get(name)()
    return reader.conversation(Record(value, "a.json", 0))


def _plain(content: tuple[Any, ...]) -> str:
    return "".join(
        part.text if isinstance(part, Text) else f"<{type(part).__name__.lower()}>"
        for part in content
    )


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("llama_factory/mllm*.json", "sharegpt"),
        ("llama_factory/*multimodal*.jsonl", "messages"),
        ("ms_swift/*.json*", "swift"),
        ("data_juicer/*chatml.jsonl", "messages"),
    ],
)
def test_real_files_read_whole_but_for_audio(fixtures: Path, pattern: str, name: str) -> None:
    reader = registry.get(name)()
    annotations = fixtures / "annotations"
    for file in some(sorted(annotations.glob(pattern)), pattern, annotations):
        for item in reader.records([file]):
            assert not isinstance(item, Reject), file
            if item.value.get("audios"):
                with pytest.raises(RecordError, match="audio"):
                    reader.conversation(item)
            else:
                reader.conversation(item)


def test_a_placeholder_part_may_say_more_than_its_type() -> None:
    content = [
        {"type": "image", "text": None, "index": 0},
        {"type": "text", "text": "What?"},
        {"type": "text", "text": " "},
    ]
    record = {
        "messages": [
            {"role": "user", "content": content},
            {"role": "assistant", "content": "A cup."},
        ]
    }

    found = read("messages", {**record, "images": ["a.jpg"]})

    assert found.messages[0].content == (Image(0), Text("What?"))


@pytest.mark.parametrize(
    ("history", "reason"),
    [
        ("[['\\ud800', 'x']]", "bad_encoding"),
        ("[('a\\x00b', 'c')]", "bad_encoding"),
        ("[{0: 'a', 1: {2}}]", "malformed"),
    ],
)
def test_a_history_in_a_literal_is_read_as_strictly_as_json(history: str, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        read("swift", {"query": "q", "response": "r", "history": history})

    assert isinstance(caught.value, RecordError | SchemaError)
    assert caught.value.reason == reason


def test_an_embedded_image_without_bytes_is_refused() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    with pytest.raises(RecordError) as caught:
        read(
            "messages",
            {
                "messages": [
                    {"role": "user", "content": [part]},
                    {"role": "assistant", "content": "!"},
                ]
            },
        )

    assert caught.value.reason == "empty_media"
