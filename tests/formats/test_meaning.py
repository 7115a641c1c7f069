"""What is said is heard: no field that changes what a record means is kept without a word."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmdata.formats import make, registry
from mmdata.formats._batches import ReadOptions, read_batches
from mmdata.formats._format import Format
from mmdata.formats._meaning import (
    MEANING_FIELDS,
    is_bound,
    may_change_meaning,
    spell,
    unheard_fields,
)
from mmdata.schema import (
    Conversation,
    Image,
    Media,
    Reasoning,
    Text,
    ToolCall,
    assistant,
    replace,
    system,
    user,
)
from tests.formats.dirt import GOOD, assemble

Place = tuple[str | int, ...]
Outcome = Conversation | str

BOUNDS: Final = (
    "start", "end", "begin", "start_time", "end_sec", "begin_ms", "end_frame", "start_pts",
    "video_start", "clip_end", "clip_start_sec", "segment_stop", "event_begin", "trim_start",
    "stop_time", "frame_start", "starttime",
)  # fmt: skip
NAMES: Final = sorted({*MEANING_FIELDS, *BOUNDS})


def _cauldron(number: int) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "images": [f"media/{number}.jpg"],
        "texts": [{"user": "What is it?", "assistant": f"It is {number}."}],
    }


def _cogvlm_sft(number: int) -> dict[str, Any]:
    turns = [{"role": "user", "content": "What?"}, {"role": "assistant", "content": f"{number}."}]
    return {"id": f"r{number}", "conversations": turns}


def _with_parts(number: int) -> dict[str, Any]:
    question = [
        {"type": "image", "image": f"media/{number}.jpg"},
        {"type": "video", "video": {"path": f"media/{number}.mp4"}},
        {"type": "text", "text": "What?"},
    ]
    answer = [{"type": "text", "text": f"It is {number}."}]
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"id": f"r{number}", "messages": turns}


def _with_listed_objects(number: int) -> dict[str, Any]:
    turns = [
        {"role": "user", "content": "<image><video>What?"},
        {"role": "assistant", "content": f"It is {number}."},
    ]
    return {
        "id": f"r{number}",
        "messages": turns,
        "images": [{"path": f"media/{number}.jpg"}],
        "videos": [{"path": f"media/{number}.mp4"}],
    }


def _gemini(number: int) -> dict[str, Any]:
    shown = {"mimeType": "image/jpeg", "fileUri": f"media/{number}.jpg"}
    return {
        "id": f"r{number}",
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [{"fileData": shown}, {"text": "What?"}]},
            {"role": "model", "parts": [{"text": f"It is {number}."}]},
        ],
    }


def _preference(number: int) -> dict[str, Any]:
    return {
        "id": f"r{number}",
        "prompt": [{"role": "user", "content": "What?"}],
        "chosen": [{"role": "assistant", "content": f"It is {number}."}],
        "rejected": [{"role": "assistant", "content": "Nothing."}],
    }


RECORDS: Final = {
    **{name: (name, make_record) for name, make_record in GOOD.items()},
    "cauldron": ("cauldron", _cauldron),
    "cogvlm_sft": ("cogvlm_sft", _cogvlm_sft),
    "messages, of Gemini": ("messages", _gemini),
    "messages, of a preference": ("messages", _preference),
    "messages, of parts": ("messages", _with_parts),
    "messages, of listed objects": ("messages", _with_listed_objects),
    "swift, of listed objects": ("swift", _with_listed_objects),
}
"""The format of each kind of record, and what makes one by its number."""

VALUES: Final[tuple[Any, ...]] = (
    True, False, 0, 1, 2.5, "some words", "true", "a.jpg", [1, 2], [0.5, 1.5],
    [0, 0, 10, 10], ["a.jpg"], [{"role": "assistant", "content": "No."}], {"a": 1},
)  # fmt: skip
"""The kinds of values that people give to fields."""
NOTHING: Final[tuple[Any, ...]] = (None, "", [], {})
"""What tables hold where a field says nothing."""


def places(value: object, path: Place = ()) -> Iterator[Place]:
    """Yield the way to each object in a record, itself first."""
    if isinstance(value, dict):
        yield path
    inner: Any = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in inner:
        yield from places(item, (*path, key))


def add_field(record: dict[str, Any], place: Place, name: str, value: object) -> dict[str, Any]:
    """Return a record with one more field in the object at a place."""
    whole = copy.deepcopy(record)
    target: Any = whole
    for key in place:
        target = target[key]
    target[name] = value
    return whole


def spellings(name: str) -> list[str]:
    """Return what people may write for a field."""
    first, *others = name.split("_")
    return list(dict.fromkeys([name, first + "".join(map(str.capitalize, others))]))


@dataclass(frozen=True)
class Converter:
    """Reads files of records, many at once or one by one."""

    folder: Path

    def __call__(
        self, reader: Format, name: str, records: Sequence[dict[str, Any]], *allowed: str
    ) -> list[Outcome]:
        """Return what becomes of each record: its conversation, or the reason against it."""
        file = self.folder / "labels" / "1.json"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(assemble(name, [json.dumps(record).encode() for record in records]))
        options = ReadOptions(allowed_fields=frozenset(allowed))
        found: dict[int, Outcome] = {}
        for batch in read_batches(reader, [file], options):
            numbers = batch.origins.numbers
            found |= dict(zip(numbers, batch.conversations(), strict=True))
            found |= {reject.record: reject.reason.value for _, reject in batch.rejects}
        return [found[number] for number in sorted(found)]


@pytest.fixture(scope="module")
def convert(tmp_path_factory: pytest.TempPathFactory) -> Converter:
    return Converter(tmp_path_factory.mktemp("meaning"))


def one_by_one(name: str) -> Format:
    """Return a format that reads every record by itself."""
    kind = registry.get(name)
    return cast(Format, type(kind.__name__, (kind,), {"flatten": None})())


def names_in(value: object) -> set[str]:
    """Return the names of all fields, however deep."""
    if isinstance(value, Mapping):
        return set(value).union(*map(names_in, value.values()))
    if isinstance(value, (list, tuple)):
        return set().union(*map(names_in, value))
    return set()


def at(record: Any, place: Place) -> dict[str, Any]:
    """Return the object at a place of a record."""
    for key in place:
        record = record[key]
    return cast(dict[str, Any], record)


def is_told(place: Place) -> bool:
    """Return whether a place is of the record, a turn, a part or a medium; the captions of
    keyframes are kept, and none of a conversation.
    """
    return place != ("captions", 0)


def harmless(name: str) -> frozenset[str]:
    """Return the fields that a format says are harmless."""
    return registry.get(name).harmless_fields


@st.composite
def fields_added(draw: st.DrawFn, values: Sequence[Any]) -> tuple[str, Place, str, Any]:
    """Draw a kind of record, a place in it, and a field that changes its meaning and is not there
    yet, with its value.
    """
    kind = draw(st.sampled_from(sorted(RECORDS)))
    name, make_record = RECORDS[kind]
    record = make_record(1)
    place = draw(st.sampled_from([place for place in places(record) if is_told(place)]))
    there = set(map(spell, at(record, place))) | harmless(name)
    if "rejected" in record and not place:  # beside which they stay in `extra`
        there |= {"rejected_response", "rejected_images", "rejected_videos"}
    names = [field for field in NAMES if field not in there]
    is_part = any(isinstance(key, int) for key in place) and name != "coco"
    field = draw(st.sampled_from([*names, "index"] if is_part else names))
    return kind, place, draw(st.sampled_from(spellings(field))), draw(st.sampled_from(values))


def is_same_row(one: Outcome, other: Outcome) -> bool:
    """Return whether two outcomes are rows that say the same, whatever is in ``extra``."""
    if isinstance(one, str) or isinstance(other, str):
        return False
    return replace(one, extra={}) == replace(other, extra={})


def goes_without_saying(field: str, value: Any, outcome: Conversation) -> bool:
    """Return whether a field says of a turn what is so without it: answers are trained on, and
    questions are not.
    """
    is_flag = spell(field) in ("train", "loss", "weight") and value in (0, 1)
    return is_flag and field not in names_in(outcome.extra)


@pytest.mark.slow
@given(fields_added(VALUES))
@example(("messages, of parts", ("messages", 0, "content", 0), "video", {"a": 1}))
@example(("messages, of listed objects", ("images", 0), "start", 1))
@example(("messages", (), "system", 0))
@example(("swift", (), "history", False))
@example(("qwen_vl", ("conversations", 0), "image", {"a": 1}))
@example(("coco", (), "bbox", 0))
@example(("lavis", (), "video", 0))
@example(("messages, of Gemini", ("systemInstruction", "parts", 0), "train", "true"))
@example(("messages, of Gemini", ("contents", 0, "parts", 0, "fileData"), "start", 1))
@example(("messages, of Gemini", ("contents", 0, "parts", 0), "clip", [0.5, 1.5]))
@example(("messages, of a preference", ("rejected", 0), "rejected_response", "some words"))
@example(("messages, of a preference", ("rejected", 0), "loss_mask", [1]))
@settings(max_examples=400)
def test_a_field_that_changes_the_meaning_makes_another_row_or_a_reject(
    convert: Converter, case: tuple[str, Place, str, Any]
) -> None:
    kind, place, field, value = case
    name, make_record = RECORDS[kind]
    plain, more = make_record(1), add_field(make_record(1), place, field, value)

    before, found, after = convert(make(name), name, [make_record(0), more, make_record(2)])

    (expected,) = convert(make(name), name, [plain])
    assert not isinstance(before, str) and not isinstance(after, str)
    assert isinstance(expected, Conversation)
    if not isinstance(found, str) and is_same_row(found, expected):
        assert goes_without_saying(field, value, found)
    alone = convert(one_by_one(name), name, [make_record(0), more, make_record(2)])
    assert alone == [before, found, after]


@pytest.mark.parametrize("name", ["stop", "legend", "startup", "video", "time", "ending_note"])
def test_a_field_that_only_looks_like_a_bound_of_a_clip_is_none(name: str) -> None:
    assert all(map(is_bound, BOUNDS))
    assert not is_bound(name)


@pytest.mark.slow
@given(fields_added(NOTHING))
@example(("video178k", (), "videos", None))
@example(("lavis", (), "videos", None))
@example(("cauldron", ("texts", 0), "train", None))
@settings(max_examples=200)
def test_a_field_that_says_nothing_changes_nothing(
    convert: Converter, case: tuple[str, Place, str, Any]
) -> None:
    kind, place, field, value = case
    name, make_record = RECORDS[kind]
    more = add_field(make_record(1), place, field, value)

    (found,) = convert(make(name), name, [more])

    assert is_same_row(found, convert(make(name), name, [make_record(1)])[0])
    assert convert(one_by_one(name), name, [more]) == [found]


@pytest.mark.parametrize("kind", sorted(RECORDS))
def test_a_field_that_is_allowed_by_name_is_kept_and_changes_nothing(
    convert: Converter, kind: str
) -> None:
    name, make_record = RECORDS[kind]
    plain, more = make_record(1), make_record(1) | {"startFrame": 3}

    refused, (kept,) = (convert(make(name), name, [more], *some) for some in ((), ["start_frame"]))

    assert refused == ["unsupported_field"]
    assert is_same_row(kept, convert(make(name), name, [plain])[0])
    assert isinstance(kept, Conversation) and "startFrame" in names_in(kept.extra)


def chat(*said: Any, **beside: Any) -> dict[str, Any]:
    """Return a record of messages: texts by user and assistant in turn, or turns as they are."""
    turns = [
        {"role": ("user", "assistant")[number % 2], "content": words}
        if isinstance(words, (str, list))
        else words
        for number, words in enumerate(said)
    ]
    return {"messages": turns, **beside}


@pytest.fixture
def row(convert: Converter) -> Callable[..., Conversation]:
    """Return what makes the row of a record, which must be one."""

    def read(record: dict[str, Any], name: str = "messages") -> Conversation:
        (found,) = convert(make(name), name, [record])
        assert isinstance(found, Conversation), found
        return found

    return read


@pytest.fixture
def reject(convert: Converter) -> Callable[..., str]:
    """Return what gives the reason that a record is refused for."""

    def read(record: Any, name: str = "messages") -> str:
        (found,) = convert(make(name), name, [record])
        assert isinstance(found, str), found
        return found

    return read


Row = Callable[..., Conversation]
Refusal = Callable[..., str]


@pytest.mark.parametrize(
    "name", ["system", "system_prompt", "systemPrompt", "system_message", "systemInstruction"]
)
def test_what_the_system_says_may_stand_beside_the_turns(row: Row, name: str) -> None:
    found = row(chat("Q", "A", **{name: "Be brief."}))

    assert found.messages == (system("Be brief."), user("Q"), assistant("A"))


def test_two_different_words_of_the_system_are_refused(reject: Refusal) -> None:
    record = chat({"role": "system", "content": "Be long."}, "A", system="Be brief.")
    record["messages"][1:] = chat("Q", "A")["messages"]

    assert reject(record) == "role_order"


CLIPS: Final[tuple[dict[str, Any], ...]] = (
    {"start": 1, "end": 2.5},
    {"video_start": 1, "video_end": 2.5},
    {"clip_start": "1", "clip_end": "2.5"},
    {"start_time": 1, "end_time": 2.5},
    {"start_sec": 1, "end_sec": 2.5},
    {"clip": [1, 2.5]},
)


@pytest.mark.parametrize("bounds", CLIPS, ids="-".join)
def test_bounds_of_a_clip_are_those_of_the_video_they_stand_beside(
    row: Row, bounds: dict[str, Any]
) -> None:
    part = [{"type": "video", "video": "1.mp4", **bounds}, {"type": "text", "text": "Q"}]
    records = [
        chat("<video>Q", "A", video="1.mp4", **bounds),
        chat("<video>Q", "A", videos=[{"path": "1.mp4", **bounds}]),
        chat(part, "A"),
    ]

    for record in records:
        assert row(record).media == (Media("video", "1.mp4", start=1, end=2.5),)


@pytest.mark.parametrize("bounds", CLIPS, ids="-".join)
def test_bounds_of_an_image_or_of_several_videos_are_refused(
    reject: Refusal, bounds: dict[str, Any]
) -> None:
    assert reject(chat("<image>Q", "A", image="1.jpg", **bounds)) == "unsupported_field"
    assert reject(chat("<image>Q", "A", images=[{"path": "1.jpg", **bounds}])) == (
        "unsupported_field"
    )
    two = chat("<video><video>Q", "A", videos=["1.mp4", "2.mp4"], **bounds)
    assert reject(two) == "unsupported_field"


@pytest.mark.parametrize("name", ["train", "loss", "weight"])
@pytest.mark.parametrize(("value", "train"), [(True, True), (0, False), (1.0, True)])
def test_a_flag_of_an_answer_says_whether_it_is_trained_on(
    row: Row, name: str, value: float, *, train: bool
) -> None:
    record = chat("Q", {"role": "assistant", "content": "A", name: value})

    assert [message.train for message in row(record).messages] == [False, train]


@pytest.mark.parametrize("name", ["train", "loss", "weight", "loss_scale"])
def test_a_share_of_the_loss_is_refused(reject: Refusal, name: str) -> None:
    record = chat("Q", {"role": "assistant", "content": "A", name: 0.5})

    assert reject(record) == "unsupported_field"


def test_a_mask_beside_the_turns_says_which_are_trained_on(row: Row, reject: Refusal) -> None:
    turns = chat("Q", "A", "R", "B")

    found = row(turns | {"loss_mask": [0, 0, 0, 1]})

    assert [message.train for message in found.messages] == [False, False, False, True]
    assert reject(turns | {"loss_mask": [0, 1]}) == "unsupported_field"


@pytest.mark.parametrize("mask", ["0,0,0,1", "0 0 0 1", "[0, 0, 0, 1]", "false,false,false,true"])
def test_a_mask_may_be_text_as_tables_hold_it(row: Row, mask: str) -> None:
    found = row(chat("Q", "A", "R", "B", loss_mask=mask))

    assert [message.train for message in found.messages] == [False, False, False, True]


@pytest.mark.parametrize("mask", ["1", "0,1", "0,0,0,0.5", "0,0,0,2", "0001", "all", 1, True])
def test_a_mask_that_is_not_a_flag_for_each_turn_is_refused(reject: Refusal, mask: object) -> None:
    assert reject(chat("Q", "A", "R", "B", loss_mask=mask)) == "unsupported_field"


ARGUMENTS: Final = {"city": "Rome"}
WEATHER: Final = {"type": "function", "function": {"name": "weather", "parameters": {}}}
NAMED: Final = {"name": "weather", "arguments": ARGUMENTS}


def tools_of_openai(first: str = "c1", second: str = "c2") -> dict[str, Any]:
    calls = [
        {"id": name, "type": "function", "function": NAMED | {"arguments": json.dumps(ARGUMENTS)}}
        for name in ("c1", "c2")
    ]
    return chat(
        "Q",
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "content": "Sun", "tool_call_id": first},
        {"role": "tool", "content": "Rain", "tool_call_id": second},
        {"role": "assistant", "content": "A"},
        tools=[WEATHER],
    )


def tools_of_anthropic(first: str = "c1", second: str = "c2") -> dict[str, Any]:
    calls = [
        {"type": "tool_use", "id": name, "name": "weather", "input": ARGUMENTS}
        for name in ("c1", "c2")
    ]
    results = [
        {"type": "tool_result", "tool_use_id": name, "content": words}
        for name, words in ((first, "Sun"), (second, "Rain"))
    ]
    return chat("Q", calls, results, "A", tools=[WEATHER])


def tools_of_swift() -> dict[str, Any]:
    call = {"role": "tool_call", "content": json.dumps(NAMED)}
    answers = [{"role": "tool_response", "content": words} for words in ("Sun", "Rain")]
    last = {"role": "assistant", "content": "A"}
    return chat("Q", call, call, *answers, last, tools=json.dumps([WEATHER]))


def tools_of_llama_factory() -> dict[str, Any]:
    said = [
        ("human", "Q"),
        ("function_call", json.dumps([NAMED, NAMED])),
        ("observation", "Sun"),
        ("observation", "Rain"),
        ("gpt", "A"),
    ]
    turns = [{"from": speaker, "value": words} for speaker, words in said]
    return {"conversations": turns, "tools": json.dumps([WEATHER])}


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("messages", tools_of_openai()),
        ("messages", tools_of_anthropic()),
        ("messages", tools_of_swift()),
        ("swift", tools_of_swift()),
        ("sharegpt", tools_of_llama_factory()),
    ],
)
def test_tools_are_called_in_four_spellings(row: Row, name: str, record: dict[str, Any]) -> None:
    found = row(record, name)

    parts = [part for message in found.messages for part in message.content]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    assert [(call.name, json.loads(call.arguments)) for call in calls] == [
        ("weather", ARGUMENTS)
    ] * 2
    assert [(part.text) for part in parts if isinstance(part, Text)] == ["Q", "Sun", "Rain", "A"]
    assert json.loads(found.tools or "") == [WEATHER]
    trained = [message.role for message in found.messages if message.train]
    assert set(trained) == {"assistant"}
    assert [message.role for message in found.messages if message.role == "tool"] == ["tool"] * 2


@pytest.mark.parametrize("tools", [tools_of_openai, tools_of_anthropic])
def test_results_of_tools_in_another_order_than_their_calls_are_refused(
    reject: Refusal, tools: Callable[..., dict[str, Any]]
) -> None:
    assert reject(tools("c2", "c1")) == "unsupported_field"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "thinking"])
def test_what_an_assistant_thinks_is_a_part_before_its_answer(row: Row, name: str) -> None:
    found = row(chat("Q", {"role": "assistant", "content": "A", name: "Hm."}))

    assert found.messages[1] == assistant(Reasoning("Hm."), "A")


def test_thoughts_between_tags_are_text_or_a_part_by_option(convert: Converter) -> None:
    record = chat("Q", "<think>\nHm.\n</think>\n\nA")

    (text,) = convert(make("messages"), "messages", [record])
    (thought,) = convert(make("messages", {"thoughts": "reasoning"}), "messages", [record])

    assert isinstance(text, Conversation) and isinstance(thought, Conversation)
    assert text.messages[1] == assistant("<think>\nHm.\n</think>\n\nA")
    assert thought.messages[1] == assistant(Reasoning("Hm."), "A")


BAD: Final = {"role": "assistant", "content": "Bad"}
GOOD_ONE: Final = {"role": "assistant", "content": "Good"}


@pytest.mark.parametrize(
    ("name", "record"),
    [
        pytest.param(
            "sharegpt",
            {
                "conversations": [{"from": "human", "value": "Q"}],
                "chosen": {"from": "gpt", "value": "Good"},
                "rejected": {"from": "gpt", "value": "Bad"},
            },
            id="llama_factory",
        ),
        pytest.param("messages", chat("Q", "Good", rejected_response="Bad"), id="swift"),
        pytest.param("messages", chat("Q", "Good", rejected_messages=[BAD]), id="swift-messages"),
        pytest.param("messages", chat("Q", "Good", rejected_response=[BAD]), id="swift-turns"),
        pytest.param("messages", chat("Q", "Good", rejected_response=["Bad"]), id="swift-text"),
        pytest.param(
            "llava",
            {
                "conversations": [
                    {"from": "human", "value": "Q"},
                    {"from": "gpt", "value": "Good"},
                ],
                "rejected_conversations": [
                    {"from": "human", "value": "Q"},
                    {"from": "gpt", "value": "Bad"},
                ],
            },
            id="povid",
        ),
        pytest.param(
            "swift", {"query": "Q", "response": "Good", "rejected_response": "Bad"}, id="swift-2"
        ),
        pytest.param(
            "messages",
            {
                "prompt": [{"role": "user", "content": "Q"}],
                "chosen": [GOOD_ONE],
                "rejected": [BAD],
            },
            id="trl",
        ),
        pytest.param(
            "messages",
            {
                "chosen": [{"role": "user", "content": "Q"}, GOOD_ONE],
                "rejected": [{"role": "user", "content": "Q"}, BAD],
            },
            id="trl-implicit",
        ),
        pytest.param("messages", {"prompt": "Q", "chosen": "Good", "rejected": "Bad"}, id="texts"),
        pytest.param(
            "messages",
            {
                "prompt": "Q",
                "chosen": [{"role": "user", "content": "Q"}, GOOD_ONE],
                "rejected": [{"role": "user", "content": "Q"}, BAD],
            },
            id="ultrafeedback",
        ),
    ],
)
def test_a_preference_is_the_better_ending_and_the_worse_one(
    row: Row, name: str, record: dict[str, Any]
) -> None:
    found = row(record, name)

    assert found.messages == (user("Q"), assistant("Good"))
    assert found.rejected == (assistant("Bad"),)


def test_the_times_of_two_keyframes_are_no_bounds_of_a_clip(row: Row) -> None:
    captions = [{"idx": "-1", "content": "Rain begins."}]
    value = {"video_id": "7", "video_path": "7.mp4", "captions": captions, "timestamp": [0, 2.5]}

    assert row(value, "sharegpt4video").extra["timestamp"] == [0, 2.5]


def test_the_turns_before_a_preference_may_be_pairs_beside_it(row: Row) -> None:
    pair = {"instruction": "Q", "input": "two", "chosen": "Good", "rejected": "Bad"}

    found = row({**pair, "history": [["Before", "So"]]})

    assert found.messages == (
        user("Before"),
        assistant("So"),
        user("Q\ntwo"),
        assistant("Good"),
    )
    assert found.rejected == (assistant("Bad"),)
    assert not found.extra


@pytest.mark.parametrize("name", ["timestamp", "segment", "time_span", "clip_range"])
def test_two_numbers_that_bound_a_clip_are_refused_and_one_time_is_not(
    row: Row, reject: Refusal, name: str
) -> None:
    bounds = {"video": "1.mp4", **chat("Q", "A")}

    assert reject({**bounds, name: [0.5, 2]}) == "unsupported_field"
    assert row({**bounds, name: "2024-01-01"}).extra == {name: "2024-01-01"}


@pytest.mark.parametrize("side", ["chosen", "rejected"])
def test_a_side_of_a_pair_that_asks_something_else_than_the_prompt_is_refused(
    reject: Refusal, side: str
) -> None:
    pair = {
        "prompt": [{"role": "user", "content": "Q"}],
        "chosen": [{"role": "user", "content": "Q"}, GOOD_ONE],
        "rejected": [{"role": "user", "content": "Q"}, BAD],
    }
    pair[side] = [{"role": "user", "content": "Another"}, pair[side][-1]]

    assert reject(pair) == "role_order"


@pytest.mark.parametrize("name", ["label", "kto_tag"])
def test_an_answer_that_is_judged_bad_is_not_trained_on(
    row: Row, reject: Refusal, name: str
) -> None:
    bad, good = (row(chat("Q", "A", **{name: judged})) for judged in (False, True))

    assert (bad.desirable, [message.train for message in bad.messages]) == (False, [False, False])
    assert (good.desirable, [message.train for message in good.messages]) == (True, [False, True])
    assert reject(chat("Q", "A", **{name: "bad"})) == "unsupported_field"


@pytest.mark.parametrize("worse", [["Bad", "Worse"], ["Bad", "Bad"]])
def test_several_worse_answers_are_refused_as_a_row_holds_one(
    reject: Refusal, worse: list[str]
) -> None:
    assert reject(chat("Q", "Good", rejected_response=worse)) == "unsupported_field"


@pytest.mark.parametrize(
    ("judged", "good"), [(0, False), (1, True), ("false", False), ("True", True), ("1", True)]
)
@pytest.mark.parametrize("name", ["label", "kto_tag", "desirable"])
def test_a_judgement_may_be_a_number_or_text(
    row: Row, name: str, judged: object, *, good: bool
) -> None:
    found = row(chat("Q", "A", **{name: judged}))

    assert (found.desirable, found.messages[1].train) == (good, good)
    assert not found.extra


@pytest.mark.parametrize("judged", [2, -1, 0.5, "2", "good"])
def test_a_label_that_is_no_judgement_is_refused(reject: Refusal, judged: object) -> None:
    assert reject(chat("Q", "A", label=judged)) == "unsupported_field"


def test_a_number_that_may_be_a_class_judges_no_answer(row: Row, reject: Refusal) -> None:
    turns = [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]

    assert reject({"conversations": turns, "label": 0}, "llava") == "unsupported_field"
    assert row({"conversations": turns, "kto_tag": 0}, "sharegpt").desirable is False


def test_several_turns_of_one_role_stay_several(row: Row) -> None:
    turns = [("user", "Q"), ("user", "R"), ("assistant", "A"), ("assistant", "B")]

    found = row({"messages": [{"role": role, "content": words} for role, words in turns]})

    assert found.messages == (user("Q"), user("R"), assistant("A"), assistant("B"))


def test_the_system_may_speak_later_on(row: Row) -> None:
    turns = [("user", "Q"), ("assistant", "A"), ("system", "Now in French."), ("user", "R")]
    record = {"messages": [{"role": role, "content": words} for role, words in turns]}
    record["messages"].append({"role": "assistant", "content": "B"})

    assert row(record).messages[2] == system("Now in French.")


def test_a_caption_is_an_answer_to_the_picture_alone(row: Row) -> None:
    record = {"messages": [{"role": "assistant", "content": "A cup."}], "images": ["1.jpg"]}

    assert row(record).messages == (user(Image(0)), assistant("A cup."))


@pytest.mark.parametrize("order", [("<image>", "Q"), ("Q", "<image>")])
def test_a_picture_in_a_turn_of_its_own_belongs_to_the_question_beside_it(
    row: Row, order: tuple[str, str]
) -> None:
    turns = [{"role": "user", "content": words} for words in order]
    record = {"messages": [*turns, {"role": "assistant", "content": "A"}], "images": ["1.jpg"]}

    question = row(record).messages[0]

    parts: dict[str, Any] = {"<image>": Image(0), "Q": Text("Q")}
    assert question.content == tuple(parts[words] for words in order)


GEMINI: Final = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"fileData": {"mimeType": "image/jpeg", "fileUri": "1.jpg"}},
                {"text": "Q"},
            ],
        },
        {"role": "model", "parts": [{"text": "A"}]},
    ],
}
DASHSCOPE: Final = chat([{"image": "1.jpg"}, {"text": "Q"}], [{"text": "A"}], system="Be brief.")
ANTHROPIC: Final = chat(
    [
        {"type": "image", "source": {"type": "url", "url": "1.jpg"}},
        {"type": "text", "text": "Q"},
    ],
    [{"type": "text", "text": "A"}],
    system=[{"type": "text", "text": "Be brief."}],
)
OLLAMA: Final = chat(
    {"role": "user", "content": "Q", "images": ["1.jpg"]},
    {"role": "assistant", "content": "A"},
    system="Be brief.",
)


@pytest.mark.parametrize(
    "record",
    [GEMINI, DASHSCOPE, ANTHROPIC, OLLAMA],
    ids=["gemini", "dashscope", "claude", "ollama"],
)
def test_the_shapes_of_four_services_say_the_same(row: Row, record: dict[str, Any]) -> None:
    found = row(record)

    assert found.messages == (system("Be brief."), user(Image(0), "Q"), assistant("A"))
    assert found.media == (Media("image", "1.jpg"),)


@pytest.mark.parametrize("write", [json.dumps, repr], ids=["json", "python"])
def test_turns_may_be_the_text_of_a_list(row: Row, write: Callable[[object], str]) -> None:
    turns = chat("Q", "A")["messages"]

    assert row({"messages": write(turns)}).messages == (user("Q"), assistant("A"))


def test_records_may_be_wrapped_in_an_object(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps({"version": "1", "data": [GOOD["llava"](1), GOOD["llava"](2)]}))

    (batch,) = read_batches(make("llava"), [file])

    assert [found.id for found in batch.conversations()] == ["r1", "r2"]


def test_the_records_of_packs_are_read_one_after_the_other(tmp_path: Path) -> None:
    file = tmp_path / "data.json"
    file.write_text(json.dumps([[GOOD["llava"](1), GOOD["llava"](2)], [GOOD["llava"](3)]]))

    (batch,) = read_batches(make("llava"), [file])

    assert [found.id for found in batch.conversations()] == ["r1", "r2", "r3"]


def test_a_number_that_is_none_is_no_value(row: Row) -> None:
    nothing = float("nan")

    text = row(chat("Q", "A", image=nothing, start=nothing, system=nothing))
    shown = row(chat("<image>Q", "A", image="1.jpg", score=nothing))

    assert text.messages == (user("Q"), assistant("A"))
    assert shown.messages == (user(Image(0), "Q"), assistant("A"))


_FIELDS = st.sampled_from(["path", "license", "index", "Start", "segment", "source", "bytes"])
_SAID = st.sampled_from([None, "", "1.jpg", 3, [1, 2], {}, {"start": 2}, {"license": "MIT"}])
_LEFT_OVER = st.dictionaries(
    st.sampled_from(["0", "1", "x"]), st.dictionaries(_FIELDS, _SAID, max_size=3) | _SAID
)
_NAMES_OF_MEDIA = st.sampled_from(["images", "image", "video", "license"])


@pytest.mark.slow
@given(st.lists(st.dictionaries(_NAMES_OF_MEDIA, _LEFT_OVER | _SAID), max_size=3))
@example([{"images": {"0": {"path": "1.jpg"}}}, {"images": {"0": {"path": {"start": 2}}}}])
@example([{"images": {"x": {"path": "1.jpg"}}}])
@example([{"images": {"0": {"segment": [1, 2]}}}])
@example([{"images": {"0": {"index": 1}}}])
@example([{"images": {"0": "1.jpg"}}])
def test_what_is_left_over_of_media_in_many_rows_is_heard_as_in_each(
    extras: list[dict[str, Any]],
) -> None:
    each = any(any(unheard_fields(extra)) for extra in extras)

    assert may_change_meaning(extras) == each
