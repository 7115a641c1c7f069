"""Fields that nobody has named alike, and which change what a record means all the same: told by
the words of their names and by what they hold.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.formats import make
from mmdata.formats._batches import ReadOptions, read_batches
from mmdata.formats._field_kinds import FIELD_KINDS, SPLIT_BOXES, FieldKind, is_span, kinds_of
from mmdata.formats._meaning import MEANING_FIELDS, may_change_meaning, spell, unheard_fields
from mmdata.schema import CompactTimes, Conversation, Media, assistant, user

Outcome = Conversation | str
Read = Callable[..., Outcome]

VALUES: Final[tuple[Any, ...]] = (
    True, False, 0, 1, 0.5, 12, "bad", "So it must be.", [1, 2.5], [[1, 2], [3, 4]], "1-2",
    {"start": 1, "end": 2}, ["1.jpg"], [0, 1], [10, 20, 30, 40], {"x": 1, "y": 2}, [{"name": "f"}],
)  # fmt: skip
"""One at least that each kind takes, and some that it does not."""


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """Return what gives the row of a record, or the reason against it; read alone and among plain
    records, which must be the same.
    """
    file = tmp_path_factory.mktemp("kinds") / "1.jsonl"

    def outcomes(name: str, records: Sequence[object], allowed: Sequence[str]) -> list[Outcome]:
        file.write_text("".join(f"{json.dumps(record)}\n" for record in records))
        found: dict[int, Outcome] = {}
        options = ReadOptions(allowed_fields=frozenset(map(spell, allowed)))
        for batch in read_batches(make(name), [file], options):
            found |= dict(zip(batch.origins.numbers, batch.conversations(), strict=True))
            found |= {reject.record: reject.reason.value for _, reject in batch.rejects}
        return [found[number] for number in sorted(found)]

    def read_one(record: object, name: str = "messages", *allowed: str) -> Outcome:
        (alone,) = outcomes(name, [record], allowed)
        plain = chat() if name == "messages" else record
        _, among, _ = outcomes(name, [plain, record, plain], allowed)
        if isinstance(alone, str):
            assert among == alone
        else:
            assert isinstance(among, Conversation)
            assert (among.messages, among.media) == (alone.messages, alone.media)
            assert among.extra == alone.extra
        return alone

    return read_one


def chat(question: Any = "Which?", answer: Any = "B", **beside: Any) -> dict[str, Any]:
    """Return a record of a question and its answer."""
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns, **beside}


REFUSED: Final[tuple[tuple[str, Any], ...]] = (
    ("startTimeMs", 1500), ("clip_start_time_sec", 1), ("end_frame_idx", 50), ("t_start", 1),
    ("scene_end", 2), ("startTimeOffset", "1s"), ("from_time", 1),
    ("timestamp", "00:01-00:02"), ("timestamp", "['0:00:01.5', '0:00:02']"), ("ts", "76.0-84.2"),
    ("segment", {"start": 1, "end": 2}), ("gt_timestamps", [1, 2]), ("temporal_window", [1, 2]),
    ("meta", {"split": [4.1, 44.5], "duration": 60}), ("clip_info", {"start": 1, "end": 2}),
    ("offset", 3), ("sampled_frames", [0, 16, 32]), ("frame_times", [0.0, 0.5, 1.0]),
    ("tgt", [2.5, 4.0]), ("mask_history", True), ("assistant_masks", [0, 1]), ("add_eos", False),
    ("turn_weight", 0.5), ("is_bad", True), ("human_feedback", "bad"),
    ("Complex_CoT", "So."), ("thinking_trajectories", ["So."]), ("meta_instruction", "Be brief."),
    ("system_msg", "Be brief."), ("available_tools", [{"name": "f"}]), ("box_2d", [1, 2, 3, 4]),
    ("answer_bbox", "[1, 2, 3, 4]"), ("regions", [{"corners": [1, 2, 3, 4]}]),
    ("click_point", [10, 20]), ("rejected_tools", '[{"name": "f"}]'),
)  # fmt: skip
KEPT: Final[tuple[tuple[str, Any], ...]] = (
    ("timestamp", "2023-05-30 12:00:00"), ("timestamp", "2023-05-30"), ("time", "10:31"),
    ("segment", "intro"), ("metadata", {"split": "train", "fps": 30}), ("num_frames", 16),
    ("eval_loss", 0.31), ("train_split", "a"), ("reasoning_type", "counting"),
    ("reasoning_tokens", 120), ("operating_system", "iOS"), ("num_boxes", 3),
    ("region", "Asia"), ("location", [59.9, 10.7]), ("correct", "B"), ("feedback", "Well put, but"),
    ("tool_count", 2), ("frame_id", 7), ("src", "web"), ("length", 3),
)  # fmt: skip


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_a_field_of_a_kind_that_changes_the_meaning_is_refused_by_name(
    read: Read, name: str, value: object
) -> None:
    record = chat(**{name: value})

    assert read(record) == "unsupported_field"
    found = read(record, "messages", name)
    assert isinstance(found, Conversation)
    assert found.extra[name] == value


@pytest.mark.parametrize(("name", "value"), KEPT)
def test_a_field_of_like_name_that_says_no_such_thing_is_kept(
    read: Read, name: str, value: object
) -> None:
    found = read(chat(**{name: value}))

    assert isinstance(found, Conversation)
    assert found.extra == {name: value}


@pytest.mark.parametrize("kind", FIELD_KINDS, ids=lambda kind: kind.example)
def test_each_kind_takes_its_example_with_some_values_and_not_with_others(
    read: Read, kind: FieldKind
) -> None:
    changing = [value for value in VALUES if kind.changes(value)]
    others = [value for value in VALUES if not kind.changes(value)]

    assert kind in kinds_of(spell(kind.example))
    assert changing
    assert others
    # A flag of a turn stands at the turn as well, and so do thoughts.
    turns = [
        {"role": "user", "content": "Which?"},
        {"role": "assistant", "content": "B", kind.example: changing[0]},
    ]
    assert read({"messages": turns}) == "unsupported_field"


_NAMES = st.sampled_from([*(kind.example for kind in FIELD_KINDS), "license", "x1", "y1", "x2"])


@pytest.mark.slow
@given(st.lists(st.dictionaries(_NAMES | st.just("y2"), st.sampled_from(VALUES)), max_size=3))
def test_many_rows_are_looked_at_as_each_is(extras: list[dict[str, Any]]) -> None:
    each = any(any(unheard_fields(extra)) for extra in extras)

    assert may_change_meaning(extras) == each


@pytest.mark.parametrize("sides", SPLIT_BOXES, ids=sorted)
def test_four_fields_that_are_the_sides_of_a_box_are_refused(
    read: Read, sides: frozenset[str]
) -> None:
    numbers = dict.fromkeys(sorted(sides), 3)

    assert read(chat(**numbers)) == "unsupported_field"
    numbers.pop(min(sides))
    assert isinstance(read(chat(**numbers)), Conversation)


def test_the_kinds_stand_beside_the_table_of_names() -> None:
    assert not {kind.example for kind in FIELD_KINDS} & MEANING_FIELDS


@given(st.integers(0, 3599), st.integers(1, 3600))
def test_two_times_are_two_times_however_they_are_written(start: int, length: int) -> None:
    end = start + length
    clock = [f"{time // 60:02}:{time % 60:02}" for time in (start, end)]

    for times in ([start, end], clock):
        first, second = times
        written = [f"{first}-{second}", f"{first} to {second}", f"[{first}, {second}]"]
        assert all(map(is_span, [times, {"begin": first, "end": second}, *written]))
    assert not is_span(f"{end}-{start}")
    assert not is_span(clock[0])


@pytest.mark.parametrize("duration", ["duration", "clip_duration", "segment_duration"])
def test_a_beginning_and_how_long_it_lasts_are_no_end(read: Read, duration: str) -> None:
    record = chat("<video>Which?", videos=["1.mp4"], start=1, **{duration: 2})

    assert read(record) == "unsupported_field"


@pytest.mark.parametrize("name", ["choice_list", "answer_choices", "mc_options", "answer_options"])
def test_choices_by_other_names_are_refused_unless_the_question_has_them(
    read: Read, name: str
) -> None:
    choices = {name: ["a cup", "a hat"]}

    assert read(chat(**choices)) == "unsupported_field"
    assert isinstance(read(chat("Which, a cup or a hat?", **choices)), Conversation)


@pytest.mark.parametrize("rate", [2, "2", "2.0"])
@pytest.mark.parametrize("name", ["fps", "sample_fps"])
def test_a_rate_of_pictures_may_be_text(read: Read, name: str, rate: object) -> None:
    pictures = ["1.jpg", "2.jpg"]
    video = {"type": "video", "video": pictures, name: rate}

    for record in (
        chat([video, {"type": "text", "text": "Which?"}]),
        chat("<video>Which?", videos=[pictures], **{name: rate}),
    ):
        found = read(record)
        assert isinstance(found, Conversation)
        assert found.media[0].clock == CompactTimes(step=0.5)
        assert not found.extra


@pytest.mark.parametrize("name", ["system", "tools", "functions", "audios"])
@pytest.mark.parametrize("empty", [None, "", []])
def test_an_empty_field_is_nothing_in_many_rows_as_in_one(
    read: Read, name: str, empty: object
) -> None:
    cauldron = {"texts": [{"user": "Which?", "assistant": "B"}], "images": ["1.jpg"]}

    for record, format in ((chat(), "messages"), (cauldron, "cauldron")):  # noqa: A001
        found = read({**record, name: empty}, format)
        assert isinstance(found, Conversation)
        assert not found.extra


def test_an_answer_beside_the_better_one_of_a_pair_is_not_said_as_well(read: Read) -> None:
    pair = {"query": "Which?", "chosen": "B", "rejected": "A"}

    assert read({**pair, "response": "C"}, "swift") == "unsupported_field"
    found = read({**pair, "response": "B"}, "swift")
    assert isinstance(found, Conversation)
    assert found.messages == (user("Which?"), assistant("B"))


def test_an_answer_that_messages_does_not_read_is_not_lost(read: Read) -> None:
    record = {"instruction": "And?", "output": "So.", "history": [["Which?", "B"]]}

    assert read(record) == "no_conversation"
    assert isinstance(read(record, "swift"), Conversation)


def test_metadata_that_bound_a_clip_of_several_videos_are_refused(read: Read) -> None:
    metadata = {"startOffset": "1s", "endOffset": "2s", "fps": 1}

    videos = ["1.mp4", "2.mp4"]
    record = chat("<video><video>Which?", videos=videos, videoMetadata=metadata)
    assert read(record) == "unsupported_field"
    found = read(chat("<video>Which?", videos=videos[:1], videoMetadata=metadata))
    assert isinstance(found, Conversation)
    assert found.media == (Media("video", "1.mp4", start=1, end=2),)


@pytest.mark.parametrize("uri", ["data:image/svg+xml,<svg/>", "DATA:image/png,abc"])
def test_a_picture_in_the_record_that_is_not_base64_is_no_path(read: Read, uri: str) -> None:
    part = {"type": "image_url", "image_url": {"url": uri}}

    assert read(chat("<image>Which?", images=[uri])) == "unreadable_media"
    assert read(chat([part, {"type": "text", "text": "Which?"}])) == "unreadable_media"


@pytest.mark.parametrize(
    "mark",
    [
        "<image\u200b>", "\\<image\\>", "\ufe64image\ufe65", "\u3010\u56fe\u7247\u3011",
        "[\u56fe\u7247]", "<\u89c6\u9891>", "<\uff49\uff4d\uff41\uff47\uff45>", "&#60;image&#62;",
        "&amp;lt;image&amp;gt;", "<input_image>", "<mm:image>", "<image: 1.jpg>", "<frames>",
        '<image path="1.jpg">', "[image: 1.jpg]", "<unused99>", "<ImageContent>",
    ],
)  # fmt: skip
def test_what_looks_like_a_mark_in_any_script_is_not_left_beside_a_medium(
    read: Read, mark: str
) -> None:
    assert read(chat(f"{mark}Which?", images=["1.jpg"])) == "media_mismatch"
    assert isinstance(read(chat(f"{mark}Which?")), Conversation)
