"""A row says all that its record said: fields that mean something by what stands beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.formats import make
from mmdata.formats._batches import ReadOptions, read_batches
from mmdata.formats._meaning import spell
from mmdata.formats._seconds import read_seconds
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Media,
    Reasoning,
    Text,
    assistant,
    user,
)

Outcome = Conversation | str
Read = Callable[..., Outcome]

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5Erk"
    "Jggg=="
)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Return what gives the row of a record, or the reason against it; read among plain records and
    alone, which must be the same.
    """
    file = tmp_path_factory.mktemp("heard") / "1.jsonl"

    def outcomes(name: str, records: Sequence[object], allowed: Sequence[str]) -> list[Outcome]:
        file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        found: dict[int, Outcome] = {}
        options = ReadOptions(allowed_fields=frozenset(map(spell, allowed)))
        for batch in read_batches(make(name), [file], options):
            numbers = batch.origins.numbers
            found |= dict(zip(numbers, batch.conversations(), strict=True))
            found |= {reject.record: reject.reason.value for _, reject in batch.rejects}
        return [found[number] for number in sorted(found)]

    def read_one(record: object, name: str = "messages", *allowed: str) -> Outcome:
        (alone,) = outcomes(name, [record], allowed)
        _, among, _ = outcomes(name, [chat(id="before"), record, chat(id="after")], allowed)
        if isinstance(alone, str):
            assert among == alone
        else:
            assert isinstance(among, Conversation)
            assert (among.messages, among.media) == (alone.messages, alone.media)
        return alone

    return read_one


def chat(question: Any = "Which?", answer: Any = "B", **beside: Any) -> dict[str, Any]:
    """Return a record of a question and its answer."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **beside}


def asked(question: Any = "Which?", answer: Any = "B", **beside: Any) -> dict[str, Any]:
    """Return a record of ms-swift's."""
    return {"query": question, "response": answer, **beside}


CHOICES: dict[str, dict[str, Any]] = {
    "options": {"options": ["a cup", "a hat"]},
    "choices": {"choices": ["a cup", "a hat"]},
    "candidates": {"candidates": ["a cup", "a hat"]},
    "letters": {"A": "a cup", "B": "a hat"},
    "letters beyond D": {"E": "a cup", "F": "a hat"},
    "letters of choices": {"choice_a": "a cup", "Choice B": "a hat"},
    "numbers": {"a0": "a cup", "a1": "a hat"},
    "labelled": {"options": ["A. a cup", "(b) a hat"]},
    "by letter": {"options": {"A": "a cup", "B": "a hat"}},
}


@pytest.mark.parametrize("choices", CHOICES.values(), ids=CHOICES)
@pytest.mark.parametrize(("record", "name"), [(chat, "messages"), (asked, "swift")])
def test_choices_are_refused_unless_the_question_spells_them_out(
    read: Read, choices: dict[str, Any], record: Callable[..., dict[str, Any]], name: str
) -> None:
    spelt = "Which?\nA.  A cup\nB: a hat"

    assert read(record(**choices), name) == "unsupported_field"
    found = read(record(spelt, **choices), name)
    assert isinstance(found, Conversation)
    assert found.messages == (user(spelt), assistant("B"))
    assert dict(found.extra) == choices


@pytest.mark.parametrize("name", ["hint", "context", "prompt", "instruction", "problem"])
def test_words_of_a_question_beside_the_turns_are_refused_unless_the_turns_have_them(
    read: Read, name: str
) -> None:
    assert read(chat(**{name: "Be brief."})) == "unsupported_field"
    assert isinstance(read(chat("Be  brief.\nWhich?", **{name: "Be brief."})), Conversation)
    assert isinstance(read(chat(**{name: "Be brief."}), "messages", name), Conversation)
    assert read(chat("Which?", "Be brief.", **{name: "Be brief."})) == "unsupported_field"


def test_one_letter_alone_is_no_choice(read: Read) -> None:
    assert isinstance(read(chat(b="words")), Conversation)
    assert read(chat(a="some", b="words")) == "unsupported_field"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("image_id", 7), ("imageId", "n7"), ("video_id", 7), ("YoutubeID", "x"), ("imgname", "7"),
        ("gif_name", "x"), ("Figure_path", "7.jpg"), ("file", "7.jpg"), ("photo", "7.JPG"),
        ("source", "https://example.org/7.png?size=2"), ("picture", {"path": "7.jpg"}),
        ("views", ["7.jpg", "8.mp4"]), ("image_base64", PIXEL),
    ],
)  # fmt: skip
def test_a_field_that_names_a_medium_is_refused_where_the_row_shows_none(
    read: Read, name: str, value: object
) -> None:
    assert read(chat(**{name: value})) == "unsupported_field"
    assert read(asked(**{name: value}), "swift") == "unsupported_field"
    assert isinstance(read(chat(**{name: value}), "messages", name), Conversation)


@pytest.mark.parametrize(
    ("name", "value"),
    [("image_id", 7), ("coco_url", "https://example.org/7.png"), ("image_size", [3, 4]),
     ("image_url", "https://example.org/7.png"), ("image_path", "/data/1.jpg"),
     ("file_name", "1.jpg"), ("image_source", "web")],
)  # fmt: skip
def test_what_but_says_again_which_medium_a_row_shows_is_kept(
    read: Read, name: str, value: object
) -> None:
    found = read(chat("<image>Which?", images=["images/1.jpg"], **{name: value}))

    assert isinstance(found, Conversation)
    assert found.media == (Media("image", "images/1.jpg"),)
    assert found.extra[name] == value


@pytest.mark.parametrize(
    ("name", "value"),
    [("image2", "2.jpg"), ("image_2", {"bytes": PIXEL}), ("target_image", "2.jpg"),
     ("image_path", "2.jpg"), ("second_video", "2.mp4"), ("decoded_image", ["2.png"])],
)  # fmt: skip
def test_a_second_medium_under_another_name_is_refused(
    read: Read, name: str, value: object
) -> None:
    record = chat("<image>Which?", images=["1.jpg"], **{name: value})

    assert read(record) == "unsupported_field"
    assert isinstance(read(record, "messages", name), Conversation)


def test_the_name_of_a_picture_that_is_in_the_record_is_but_a_name(read: Read) -> None:
    pair = {"question": "Which?", "chosen": "A", "rejected": "B", "image_path": "./old/7.jpg"}

    found = read({"image": {"bytes": PIXEL, "path": "7.jpg"}, **pair})

    assert isinstance(found, Conversation)
    assert found.extra["image_path"] == "./old/7.jpg"


@pytest.mark.parametrize("name", ["image_path", "imagePath", "img_path", "img", "image_url"])
def test_an_image_may_be_listed_under_other_names(read: Read, name: str) -> None:
    for record, format in (  # noqa: A001
        (chat("<image>Which?", **{name: "1.jpg"}), "messages"),
        (asked("<image>Which?", **{name: "1.jpg"}), "swift"),
    ):
        found = read(record, format)
        assert isinstance(found, Conversation)
        assert found.media == (Media("image", "1.jpg"),)
        assert not found.extra


def test_a_video_may_be_listed_under_another_name_with_its_bounds(read: Read) -> None:
    found = read(asked(video_path="1.mp4", start="00:00:01.5", end="00:00:02"), "swift")

    assert isinstance(found, Conversation)
    assert found.media == (Media("video", "1.mp4", start=1.5, end=2),)


def test_other_names_are_not_looked_at_where_parts_bring_the_media(read: Read) -> None:
    part = [{"type": "image", "image": "1.jpg"}, {"type": "text", "text": "Which?"}]

    assert read(chat(part, image_path="2.jpg")) == "unsupported_field"
    found = read(chat(part, image_path="/data/1.jpg"))
    assert isinstance(found, Conversation)
    assert found.media == (Media("image", "1.jpg"),)


def test_an_image_that_is_listed_under_both_names_is_shown_once(read: Read) -> None:
    found = read(chat("<image>Which?", image="1.jpg", images=["1.jpg"]))

    assert isinstance(found, Conversation)
    assert found.media == (Media("image", "1.jpg"),)


@pytest.mark.parametrize("path", ["1.mp4", "clips/1.MOV", "1.webm"])
def test_a_video_listed_as_an_image_is_refused(read: Read, path: str) -> None:
    part = [{"type": "image", "image": path}, {"type": "text", "text": "Which?"}]
    turns = [{"from": "human", "value": "<image>Which?"}, {"from": "gpt", "value": "B"}]

    assert read(chat("<image>Which?", images=[path])) == "media_mismatch"
    assert read(chat(part)) == "media_mismatch"
    assert read({"conversations": turns, "image": path}, "llava") == "media_mismatch"


@pytest.mark.parametrize(
    "bounds",
    [
        {"start": "00:00:01", "end": "0:02.5"}, {"start time": 1, "end time": 2.5},
        {"starttime": 1, "endtime": 2.5}, {"startTimestamp": "1", "endTimestamp": "2.5s"},
        {"video_start_sec": 1, "video_end_sec": 2.5}, {"clip": {"start": 1, "end": 2.5}},
    ],
    ids=str,
)  # fmt: skip
def test_bounds_of_a_clip_are_heard_in_every_spelling(
    read: Read, bounds: dict[str, object]
) -> None:
    part = [{"type": "video", "video": "1.mp4", **bounds}, {"type": "text", "text": "Which?"}]

    for record in (chat("<video>Which?", video="1.mp4", **bounds), chat(part)):
        found = read(record)
        assert isinstance(found, Conversation)
        assert found.media == (Media("video", "1.mp4", start=1, end=2.5),)


@pytest.mark.parametrize("name", ["timestamp", "span", "time", "window", "segments", "clips"])
@pytest.mark.parametrize("value", [["00:00:01", "00:00:02.5"], [1, 2.5], [[0, 1], [2, 3.5]]])
def test_times_in_a_list_are_refused_whatever_their_spelling(
    read: Read, name: str, value: object
) -> None:
    record = chat("<video>Which?", videos=["1.mp4"], **{name: value})

    assert read(record) == "unsupported_field"
    assert isinstance(read(record, "messages", name), Conversation)


def test_a_beginning_beside_a_duration_does_not_say_where_a_clip_ends(read: Read) -> None:
    video = {"video": "1.mp4", "duration": 2}

    assert read(chat("<video>Which?", **video, start=1)) == "unsupported_field"
    assert isinstance(read(chat("<video>Which?", **video, start=1, end=2)), Conversation)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_the_figures_of_a_clock_are_its_seconds(
    hours: int, minutes: int, seconds: int, millis: int
) -> None:
    total = hours * 3600 + minutes * 60 + seconds + millis / 1000

    assert read_seconds(f"{hours:02}:{minutes:02}:{seconds:02}.{millis:03}") == pytest.approx(total)
    assert read_seconds(f"{hours}:{minutes}:{seconds},{millis:03}") == pytest.approx(total)
    assert read_seconds(str(total)) == read_seconds(f"{total}s") == total


@pytest.mark.parametrize(
    "value", [True, None, "", "noon", "1:2:3:4", "inf", "nan", "1_0", float("nan"), 10**400, {}]
)
def test_what_is_no_time_is_none(value: object) -> None:
    assert read_seconds(value) is None


def test_lists_of_pictures_in_a_part_are_refused_among_plain_records(read: Read) -> None:
    part = [{"type": "image", "image": ["1.jpg", "2.jpg"]}, {"type": "text", "text": "Which?"}]

    assert read(chat(part)) == "unsupported_media"


@pytest.mark.parametrize(
    "broken", [f"{PIXEL[:40]}\n{PIXEL[40:]}", f"{PIXEL[:40]}\r\n {PIXEL[40:]}"]
)
def test_base64_may_be_broken_into_lines(read: Read, broken: str) -> None:
    url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{broken}"}}
    whole = read(chat("<image>Which?", images=[PIXEL]))
    assert isinstance(whole, Conversation)

    for record in (chat("<image>Which?", images=[broken]), chat([url, {"text": "Which?"}])):
        found = read(record)
        assert isinstance(found, Conversation)
        assert found.media == whole.media


def test_the_offsets_of_gemini_may_be_seconds_and_nanos(read: Read) -> None:
    offsets = {"startOffset": {"seconds": 1}, "endOffset": {"seconds": 2, "nanos": 500_000_000}}
    shown = {"mimeType": "video/mp4", "fileUri": "1.mp4"}
    asks = [{"fileData": shown, "videoMetadata": {**offsets, "fps": 2}}, {"text": "Which?"}]
    turns = [{"role": "user", "parts": asks}, {"role": "model", "parts": [{"text": "B"}]}]

    found = read({"contents": turns})

    assert isinstance(found, Conversation)
    assert found.media == (Media("video", "1.mp4", start=1, end=2.5),)


def test_thoughts_of_gemini_are_parts(read: Read) -> None:
    said = [{"text": "It has a handle.", "thought": True}, {"text": "B"}]
    turns = [{"role": "user", "parts": [{"text": "Which?"}]}, {"role": "model", "parts": said}]

    found = read({"contents": turns})

    assert isinstance(found, Conversation)
    assert found.messages[1].content == (Reasoning("It has a handle."), Text("B"))
    assert not found.extra


def test_a_preference_pair_with_the_better_conversation_twice_is_one(read: Read) -> None:
    better, worse = chat(answer="A")["messages"], chat(answer="B")["messages"]

    found = read({"prompt": "Which?", "messages": better, "chosen": better, "rejected": worse})

    assert isinstance(found, Conversation)
    assert found.messages == (user("Which?"), assistant("A"))
    assert found.rejected == (assistant("B"),)


def test_a_dialogue_in_one_text_is_its_turns(read: Read) -> None:
    start = "\n\nHuman: Which?\n\nAssistant: This.\n\nHuman: Sure?\n\nAssistant: "

    found = read({"chosen": f"{start}Yes.", "rejected": f"{start}No."})

    assert isinstance(found, Conversation)
    assert found.messages == (
        user("Which?"), assistant("This."), user("Sure?"), assistant("Yes."),
    )  # fmt: skip
    assert found.rejected == (assistant("No."),)


def test_the_turns_before_a_pair_may_be_inside_its_input(read: Read) -> None:
    tools = [{"type": "function", "function": {"name": "look"}}]
    turns = chat()["messages"][:1]
    better, worse = ([{"role": "assistant", "content": words}] for words in ("A", "B"))

    found = read(
        {
            "input": {"messages": turns, "tools": tools},
            "preferred_output": better,
            "non_preferred_output": worse,
        }
    )

    assert isinstance(found, Conversation)
    assert found.messages == (user("Which?"), assistant("A"))
    assert found.rejected == (assistant("B"),)
    assert json.loads(found.tools or "") == tools


def test_an_answer_that_is_said_to_be_wrong_is_not_trained_on(read: Read) -> None:
    found = read(chat(is_correct=False))

    assert isinstance(found, Conversation)
    assert (found.desirable, found.messages[1].train) == (False, False)


def test_a_rate_of_pictures_is_their_clock(read: Read) -> None:
    found = read(chat("<video>Which?", videos=[["1.jpg", "2.jpg"]], fps=2))

    assert isinstance(found, Conversation)
    assert found.media[0].clock == CompactTimes(step=0.5)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("meta", {"duration": 20, "token": {"<s0>": 1.5, "<e0>": 9}}),  # VTimeLLM
        ("token", {"<s0>": 1.5}),
        ("data_path", "videos/train"),  # Qwen2.5-VL
    ],
)
def test_what_says_what_words_or_paths_mean_is_refused_by_name(
    read: Read, name: str, value: object
) -> None:
    record = chat("When? From <s0> to <e0>?")

    assert read({**record, name: value}) == "unsupported_field"
    assert isinstance(read({**record, "meta": {"duration": 20, "tokens": 3}}), Conversation)


def test_a_clip_that_metadata_bound_is_bounded_in_many_rows_as_in_one(read: Read) -> None:
    metadata = {"startOffset": "0.5s", "endOffset": "1.5s"}

    found = read(chat("<video>Which?", videos=["1.mp4"], videoMetadata=metadata))

    assert isinstance(found, Conversation)
    assert found.media == (Media("video", "1.mp4", start=0.5, end=1.5),)
