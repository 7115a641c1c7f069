"""Messages, ShareGPT and ms-swift records: three doors to one room."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import RecordError, SchemaError
from mmdata.formats import registry
from mmdata.formats._format import Record
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Image, Media, Text, Video, assistant, system, user

PIXEL = base64.b64encode(b"not really an image").decode()


def read(name: str, value: Any) -> Conversation:
    reader = registry.get(name)()
    return reader.conversation(Record(value, "a.json", 0))


def said(*texts: str, speaker: str = "role", text: str = "content") -> list[dict[str, Any]]:
    return [{speaker: ("user", "assistant")[index % 2], text: words} for index, words in enumerate(texts)]


def test_messages_with_placeholders_take_the_media_beside_them() -> None:
    value = {"messages": said("<image>Who?", "Kane.", "Where?<image>", "There."), "images": ["1.jpg", "1.jpg"]}

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
        "messages": [{"role": "user", "content": [part, {"type": "text", "text": " Who?\n"}]}, *said("", "He.")[1:]]
    }

    found = read("messages", value)

    assert found.messages[0].content == (Image(0), Text(" Who?\n"))
    assert found.media == (Media("image", "1.jpg"),)


def test_a_part_without_a_reference_takes_the_next_medium_beside_the_turns() -> None:
    content = [{"type": "video"}, {"type": "text", "text": "What?"}]
    value = {"messages": [{"role": "user", "content": content}, *said("", "It.")[1:]], "videos": ["1.mp4"]}

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
    value = {"messages": [{"role": "user", "content": content, "name": "Ann"}, *said("", "He.")[1:]]}

    found = read("messages", value)

    parts = {"0": {"cache_control": {"type": "ephemeral"}}, "1": {"image_url": {"detail": "high"}}, "2": {"width": 3}}
    assert found.extra == {"turns": {"0": {"name": "Ann", "content": parts}}}


def test_fields_of_listed_media_without_a_home_go_to_extra_by_their_numbers() -> None:
    images = ["1.jpg", {"path": "2.jpg", "bytes": None, "caption": "a cup"}]
    value = {"messages": said("<image><image>?", "Yes."), "images": images, "video": None}

    assert read("messages", value).extra == {"images": {"1": {"caption": "a cup"}}}


def test_a_records_own_field_turns_is_not_overwritten() -> None:
    value = {"messages": said("Q", "A"), "turns": 1}
    value["messages"][0]["name"] = "Ann"

    assert read("messages", value).extra == {"turns": 1, "turns#2": {"0": {"name": "Ann"}}}


def test_fewer_placeholders_than_media_put_the_first_media_first() -> None:
    value = {
        "messages": [{"role": "system", "content": "S"}, *said("Compare <image>", "No.")],
        "images": ["1", "2", "3"],
    }

    found = read("swift", value)

    assert found.messages[1].content == (Image(0), Image(1), Text("Compare"), Image(2))


def test_media_of_both_kinds_without_placeholder_stand_first_images_before_videos() -> None:
    found = read("swift", {"query": "<video>q", "response": "r", "images": ["1.jpg"], "videos": ["1.mp4", "2.mp4"]})

    assert found.messages[0].content == (Image(0), Video(1), Video(2), Text("q"))


def test_an_image_placeholder_may_mean_a_video() -> None:
    found = read("sharegpt", {"conversations": said("<image>\nq", "r", speaker="from", text="value"), "video": "1.mp4"})

    assert found.messages[0].content == (Video(0), Text("q"))


def test_a_pair_of_speakers_is_two_turns() -> None:
    found = read("sharegpt", {"system": "S", "conversation": [{"human": "Q", "assistant": "A", "n": 1}]})

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


def test_alpacas_instruction_and_input_are_one_question() -> None:
    assert read("swift", {"instruction": "Add", "input": "1 2", "output": "3"}).messages[0] == user("Add\n1 2")
    assert read("swift", {"instruction": "Hi", "input": "", "output": "Ho"}).messages[0] == user("Hi")


def test_images_inside_a_query_stand_where_they_are() -> None:
    found = read("swift", {"query": "<img>http://x/a.jpg</img>5 or\n<img>b.jpg</img>", "response": "6"})

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
        ("messages", {"messages": [{"role": "tool", "content": "x"}]}, "unknown_role"),
        ("messages", {"messages": said("q")}, "no_conversation"),
        ("messages", {"messages": said("q", "")}, "empty_turn"),
        ("messages", {"messages": [{"role": "user", "content": None}, *said("", "r")[1:]]}, "empty_turn"),
        ("messages", {"messages": said("q", "r")[::-1]}, "role_order"),
        ("messages", {"messages": said("<image>q", "r")}, "media_mismatch"),
        ("messages", {"messages": said("<audio>q", "r")}, "unsupported_media"),
        ("messages", MESSAGES | {"audios": ["a.mp3"]}, "unsupported_media"),
        ("messages", MESSAGES | {"images": 3}, "malformed"),
        ("messages", MESSAGES | {"images": [""]}, "missing_media"),
        ("messages", MESSAGES | {"videos": [["1.jpg", "2.jpg"]]}, "unsupported_media"),
        ("messages", MESSAGES | {"images": ["data:image/png;base64,@@"]}, "unreadable_media"),
        ("messages", {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "unsupported_media"),
        ("sharegpt", {"conversation": [["q"]]}, "malformed"),
        ("sharegpt", {"conversation": [{"human": "q"}]}, "malformed"),
        ("sharegpt", {"conversation": ["ab"]}, "malformed"),
        ("sharegpt", {"system": 3, "conversation": [{"human": "q", "assistant": "r"}]}, "malformed"),
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
def test_a_record_that_cannot_be_read_says_why(name: str, value: dict[str, Any], reason: str) -> None:
    with pytest.raises((RecordError, SchemaError)) as caught:
        read(name, value)

    assert caught.value.reason == reason


def test_ms_swifts_own_rows_read_as_ms_swift_reads_them(golden: Path) -> None:
    for file in sorted(golden.rglob("swift_records.json")):
        for case in json.loads(file.read_text()):
            name = "videochatgpt" if "video_name" in case["input"] else "swift"
            if name not in registry.names() or "error" in case:
                continue
            found = _first(name, case["input"])
            turns = [[message.role, _plain(message.content)] for message in found.messages if message.role != "system"]
            lead = "".join(f"<{tag}>" * count for tag, count in case["default_tags_prepended_to_first_message"].items())
            expected = [list(turn) for turn in case["turns"]]
            expected[0][1] = lead + expected[0][1]

            assert turns == expected
            assert [medium.path for medium in found.media if medium.type == "video"] == case["videos"]
            assert [medium.path for medium in found.media if medium.type == "image"] == case["images"]
            assert (case["system"] is None) == (found.messages[0].role != "system")


def test_a_row_that_ms_swift_refuses_is_refused(golden: Path) -> None:
    for file in sorted(golden.rglob("swift_records.json")):
        for case in json.loads(file.read_text()):
            if "error" in case:
                with pytest.raises((RecordError, SchemaError)):
                    read("swift", case["input"])


def _first(name: str, value: dict[str, Any]) -> Conversation:
    reader = registry.get(name)()
    return reader.conversation(Record(value, "a.json", 0))


def _plain(content: tuple[Any, ...]) -> str:
    return "".join(part.text if isinstance(part, Text) else f"<{type(part).__name__.lower()}>" for part in content)


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
    for file in sorted((fixtures / "annotations").glob(pattern)):
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
    record = {"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "A cup."}]}

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

    assert caught.value.reason == reason


def test_an_embedded_image_without_bytes_is_refused() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    with pytest.raises(RecordError) as caught:
        read("messages", {"messages": [{"role": "user", "content": [part]}, {"role": "assistant", "content": "!"}]})

    assert caught.value.reason == "empty_media"
