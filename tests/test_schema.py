from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from mmdata.errors import SchemaError
from mmdata.formats._turns import require_turns
from mmdata.schema import (
    Audio,
    CompactTimes,
    Conversation,
    Image,
    Media,
    Message,
    Reasoning,
    Region,
    Text,
    Time,
    ToolCall,
    Video,
    assistant,
    replace,
    system,
    tool,
    user,
)

IMAGE = Media("image", "a.jpg")
VIDEO = Media("video", "a.mp4")


def test_a_conversation_may_open_with_the_system_and_end_with_either_speaker() -> None:
    Conversation("a", (system("Be brief."), user("Hi"), assistant("Hello"), user("Bye")))

    assert Conversation("b", (user("Hi"),)).messages[0].text == "Hi"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((), "no_conversation"),
        ((user("a"), Message("judge", (Text("b"),), False)), "unknown_role"),  # type: ignore[arg-type]
        ((user("a"), assistant(Audio(0))), "media_mismatch"),
        ((user("a"), assistant()), "empty_turn"),
        ((user(Image(0)), assistant("b")), "media_mismatch"),
    ],
)
def test_a_conversation_that_breaks_a_rule_says_which(
    messages: tuple[Message, ...], reason: str
) -> None:
    with pytest.raises(SchemaError, match="'c1'") as caught:
        Conversation("c1", messages)

    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "messages",
    [
        (assistant("Hello"),),
        (user("a"), user("b")),
        (user("a"), system("late")),
        (system("a"), system("b")),
        (user("a"), assistant("b"), assistant("c")),
        (
            user("a"),
            assistant(Reasoning("hm"), ToolCall("look")),
            tool("b"),
            tool("c"),
            assistant("d"),
        ),
    ],
)
def test_roles_come_in_any_order(messages: tuple[Message, ...]) -> None:
    require_turns(messages, "c1")

    assert Conversation("c1", messages).messages == messages


def test_formats_of_turns_refuse_an_answer_before_the_first_question() -> None:
    with pytest.raises(SchemaError, match="'c1': message 1") as caught:
        require_turns((system("s"), assistant("a"), user("q")), "c1")

    assert caught.value.reason == "role_order"


@pytest.mark.parametrize("text", ["", "{", "{'a': 1}", "NaN", '{"a": 1} 2', "\udcff", "[" * 10_000])
def test_tools_and_arguments_are_json(text: str) -> None:
    with pytest.raises(SchemaError, match="the arguments of 'look': must be JSON"):
        ToolCall("look", text)
    with pytest.raises(SchemaError, match="'c1': tools: must be JSON"):
        Conversation("c1", (user("a"),), tools=text)


def test_a_tool_call_says_which_tool_and_its_id_where_it_has_one() -> None:
    with pytest.raises(SchemaError, match="name of the tool"):
        ToolCall("")
    with pytest.raises(SchemaError, match="empty id"):
        ToolCall("look", call_id="")
    assert ToolCall("look").call_id is None


def test_a_rejected_ending_is_checked_as_messages_are() -> None:
    with pytest.raises(SchemaError, match="rejected has no messages"):
        Conversation("c1", (user("a"), assistant("b")), rejected=())
    with pytest.raises(SchemaError, match="rejected message 0 speaks of medium 1 of 1"):
        Conversation("c1", (user("a"),), (IMAGE,), rejected=(assistant(Image(1)),))


@pytest.mark.parametrize(
    "answer",
    [
        assistant("b"),
        assistant(Text("b", train=True), train=False),
        assistant("b", Image(0, train=True)),
    ],
)
def test_an_answer_judged_bad_is_no_training_target(answer: Message) -> None:
    with pytest.raises(SchemaError, match="'c1': message 1 is to be learned"):
        Conversation("c1", (user("a"), answer), (IMAGE,), desirable=False)

    assert (
        Conversation("c1", (user("a"), assistant("b", train=False)), desirable=False).desirable
        is False
    )
    assert Conversation("c1", (user("a"), answer), (IMAGE,), desirable=True).desirable is True


def test_the_times_of_frames_are_a_step_or_deltas() -> None:
    assert CompactTimes(0.5, step=0.04).step == 0.04
    assert CompactTimes(step=1 / 30, unit=0.001).unit == 0.001
    assert CompactTimes(deltas=(), unit=0.001).deltas == ()
    wrongs: list[Callable[[], CompactTimes]] = [
        CompactTimes,
        lambda: CompactTimes(step=0.0),
        lambda: CompactTimes(step=math.nan),
        lambda: CompactTimes(math.inf, step=1.0),
        lambda: CompactTimes(step=1.0, unit=0.0),
        lambda: CompactTimes(step=1.0, deltas=(1,), unit=1.0),
        lambda: CompactTimes(deltas=(1,)),
        lambda: CompactTimes(deltas=(1,), unit=-1.0),
        lambda: CompactTimes(deltas=(1, -1), unit=1.0),
        lambda: CompactTimes(deltas=(2**31,), unit=1.0),
    ]
    for wrong in wrongs:
        with pytest.raises(SchemaError, match="the times of frames"):
            wrong()


def test_pictures_and_clocks_are_of_videos() -> None:
    assert Media("video", frame_paths=("1.jpg", "2.jpg"), clock=CompactTimes(step=0.5)).path is None
    for paths in [(), ("1.jpg", "")]:
        with pytest.raises(SchemaError, match="frame_paths must be paths"):
            Media("video", frame_paths=paths)
    with pytest.raises(SchemaError, match="of videos, found them of image"):
        Media("image", frame_paths=("1.jpg",))
    with pytest.raises(SchemaError, match="of videos, found them of audio"):
        Media("audio", "a.wav", clock=CompactTimes(step=0.5))


@pytest.mark.parametrize(
    "part", [Image(0), Image(2), Image(-1), Video(1), Time(0.0, None, 1), Region("x", (), 2)]
)
def test_a_part_names_a_medium_that_is_there_and_of_its_kind(
    part: Image | Video | Time | Region,
) -> None:
    with pytest.raises(SchemaError, match="medium") as caught:
        Conversation("c1", (user(part),), media=(VIDEO, IMAGE))

    assert caught.value.reason == "media_mismatch"


@pytest.mark.parametrize(
    "box",
    [(0.5, 0, 0.4, 1), (0, 0.5, 1, 0.4), (-0.1, 0, 1, 1), (0, 0, 1.1, 1), (math.nan, 0, 1, 1)],
)
def test_a_box_is_ordered_and_within_the_image(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(SchemaError, match="box") as caught:
        Region("cup", (box,))

    assert caught.value.reason == "bad_box"


def test_a_box_is_rounded_once_when_it_is_made() -> None:
    region = Region("cup", ((0.1, 0.2, 0.3, 0.4),))

    assert Region("cup", region.boxes) == region
    assert region.boxes[0][0] == pytest.approx(0.1, abs=1e-8)


@pytest.mark.parametrize(
    ("start", "end"), [(2.0, 1.0), (-1.0, 1.0), (0.0, math.inf), (math.nan, None), (math.inf, None)]
)
def test_times_are_ordered_and_finite(start: float, end: float | None) -> None:
    with pytest.raises(SchemaError, match="0 <= start <= end"):
        Time(start, end)


def test_a_medium_is_somewhere() -> None:
    with pytest.raises(SchemaError, match="needs a path, bytes or frames"):
        Media("image")
    with pytest.raises(SchemaError, match="'sound'"):
        Media("sound", "a.wav")  # type: ignore[arg-type]


def test_cached_frames_and_their_times_correspond() -> None:
    with pytest.raises(SchemaError, match="1 cached frames but 2"):
        Media("video", frames=(b"",), frame_times=(0.0, 1.0))
    with pytest.raises(SchemaError, match="decrease"):
        Media("video", "a.mp4", frame_times=(1.0, 0.5))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("count", range(1, 5))
def test_frame_times_that_hold_what_is_no_time_are_refused(
    odd: float, place: int, count: int
) -> None:
    times = [float(n) for n in range(count)]
    times[min(place, count - 1)] = odd

    with pytest.raises(SchemaError, match="finite"):
        Media("video", "a.mp4", frame_times=tuple(times))
    with pytest.raises(SchemaError, match="finite"):
        Media("video", frames=(b"",) * count, frame_times=tuple(times))


def test_ids_and_splits_are_checked() -> None:
    with pytest.raises(SchemaError, match="needs an id"):
        Conversation("", (user("Hi"),))
    with pytest.raises(SchemaError, match="'dev'"):
        Conversation("a", (user("Hi"),), split="dev")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("thing", "changes"),
    [
        (Media("video", "a.mp4", start=1.0), {"end": 0.5}),
        (Region("cup", ((0.1, 0.1, 0.2, 0.2),)), {"boxes": ((0.3, 0.1, 0.2, 0.2),)}),
        (ToolCall("look"), {"arguments": "{"}),
        (Conversation("c1", (user("a"), assistant("b"))), {"messages": ()}),
    ],
)
def test_a_changed_copy_is_checked_as_a_new_one_is(thing: Any, changes: dict[str, Any]) -> None:
    with pytest.raises(SchemaError):
        replace(thing, **changes)


@pytest.mark.parametrize("name", ["fps", "duration"])
@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, "25", 10**400])
def test_rates_and_durations_are_finite_numbers(name: str, odd: Any) -> None:
    with pytest.raises(SchemaError, match=rf"^{name} of video a.mp4 must be a finite number"):
        replace(VIDEO, **{name: odd})


@pytest.mark.parametrize(
    ("name", "odd"),
    [
        *((name, odd) for name in ("width", "height") for odd in (1.5, math.nan, "3", 1 << 31)),
        *((name, odd) for name in ("num_frames", "size") for odd in (1.5, math.nan, "3", 1 << 63)),
    ],
)
def test_counts_are_whole_numbers_that_a_store_has_room_for(name: str, odd: Any) -> None:
    assert replace(VIDEO, **{name: 640.0}) == replace(VIDEO, **{name: 640})
    with pytest.raises(SchemaError, match=rf"^{name} of video a.mp4 must be a whole number"):
        replace(VIDEO, **{name: odd})


@pytest.mark.parametrize(
    ("extra", "fault"),
    [
        ([1], r"extra must be a mapping .*found \[1\]"),
        ("{}", "extra must be a mapping"),
        (None, "extra must be a mapping .*found None"),
        ({"a": 1, b"k": 2}, "extra has the key b'k'; keys of JSON are strings"),
        ({1: 2}, "extra has the key 1"),
    ],
)
def test_extra_is_a_mapping_whose_keys_are_strings(extra: Any, fault: str) -> None:
    with pytest.raises(SchemaError, match=rf"^conversation 'c1': {fault}"):
        Conversation("c1", (user("a"),), extra=extra)
