from __future__ import annotations

import math

import pytest

from mmdata.errors import SchemaError
from mmdata.schema import Conversation, Image, Media, Message, Region, Text, Time, Video, assistant, system, user

IMAGE = Media("image", "a.jpg")
VIDEO = Media("video", "a.mp4")


def test_a_conversation_may_open_with_the_system_and_end_with_either_speaker() -> None:
    Conversation("a", (system("Be brief."), user("Hi"), assistant("Hello"), user("Bye")))

    assert Conversation("b", (user("Hi"),)).messages[0].text == "Hi"


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ((), "no_conversation"),
        ((assistant("Hello"),), "role_order"),
        ((user("a"), user("b")), "role_order"),
        ((user("a"), system("late")), "role_order"),
        ((system("a"), system("b")), "role_order"),
        ((user("a"), assistant("b"), assistant("c")), "role_order"),
        ((user("a"), Message("tool", (Text("b"),), False)), "unknown_role"),  # type: ignore[arg-type]
        ((user("a"), assistant()), "empty_turn"),
        ((user(Image(0)), assistant("b")), "media_mismatch"),
    ],
)
def test_a_conversation_that_breaks_a_rule_says_which(messages: tuple[Message, ...], reason: str) -> None:
    with pytest.raises(SchemaError, match="'c1'") as caught:
        Conversation("c1", messages)

    assert caught.value.reason == reason


@pytest.mark.parametrize("part", [Image(0), Image(2), Image(-1), Video(1), Time(0.0, None, 1), Region("x", (), 2)])
def test_a_part_names_a_medium_that_is_there_and_of_its_kind(part: Image | Video | Time | Region) -> None:
    with pytest.raises(SchemaError, match="medium") as caught:
        Conversation("c1", (user(part),), media=(VIDEO, IMAGE))

    assert caught.value.reason == "media_mismatch"


@pytest.mark.parametrize(
    "box", [(0.5, 0, 0.4, 1), (0, 0.5, 1, 0.4), (-0.1, 0, 1, 1), (0, 0, 1.1, 1), (math.nan, 0, 1, 1)]
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
    with pytest.raises(SchemaError, match="'audio'"):
        Media("audio", "a.wav")  # type: ignore[arg-type]


def test_cached_frames_and_their_times_correspond() -> None:
    with pytest.raises(SchemaError, match="1 cached frames but 2"):
        Media("video", frames=(b"",), frame_times=(0.0, 1.0))
    with pytest.raises(SchemaError, match="decrease"):
        Media("video", "a.mp4", frame_times=(1.0, 0.5))


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("count", range(1, 5))
def test_frame_times_that_hold_what_is_no_time_are_refused(odd: float, place: int, count: int) -> None:
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
