from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import TokenError
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Region,
    Video,
    assistant,
    system,
    user,
)
from mmdata.templates import MediaSlot
from mmdata.templates.cogvlm2_video import CogVLM2Video, frame_positions
from tests.vocabularies import small

_CLIP = Media("video", "a.avi", num_frames=150, fps=30.0, clock=CompactTimes(step=1 / 30.0))


def _template(**options: Any) -> CogVLM2Video:
    return CogVLM2Video(tokenizer=small("llama3"), **options)


def _shown(*content: Any, media: tuple[Media, ...] = (_CLIP,)) -> Conversation:
    return Conversation("c", (user(*content), assistant("1")), media)


def test_a_clip_is_read_at_one_frame_a_second_as_the_demo_does() -> None:
    sample = _template().encode(_shown(Video(0), "Is it so?"))

    assert sample.pixels[0].frames == (0, 30, 60, 90, 120, 149)
    assert [slot.length for slot in sample.slots] == [66] * 6


def test_each_frame_is_followed_by_its_index_in_training_and_in_prompts() -> None:
    template = _template()
    for encoded in (template.encode(_shown(Video(0), "?")), template.prompt(_shown(Video(0), "?"))):
        after = [int(encoded.input_ids[slot.stop]) for slot in encoded.slots]
        assert template.tokenizer.decode(after) == "012345"


def test_the_index_may_be_the_second_of_the_frame() -> None:
    template = _template(index="second", frames="times:0,2,4")

    encoded = template.encode(_shown(Video(0), "?"))

    after = [int(encoded.input_ids[slot.stop]) for slot in encoded.slots]
    assert template.tokenizer.decode(after) == "024"


@pytest.mark.parametrize(
    ("moments", "seconds"),
    [("0.4,1.2,2.6,3.6", "0134"), ("0.8,1.4,2.2,4.8", "1125"), ("0.6,1.6,2.4,3.4", "1223")],
)
def test_the_second_of_a_frame_is_rounded_and_not_cut(moments: str, seconds: str) -> None:
    clip = Media("video", "a.avi", num_frames=50, fps=10.0, clock=CompactTimes(step=1 / 10.0))
    template = _template(index="second", frames=f"times:{moments}")

    encoded = template.encode(_shown(Video(0), "?", media=(clip,)))

    after = [int(encoded.input_ids[slot.stop]) for slot in encoded.slots]
    assert template.tokenizer.decode(after) == seconds


def test_the_seconds_of_a_clip_are_those_since_its_first_frame() -> None:
    clip = Media(
        "video",
        "a.avi",
        num_frames=100,
        fps=10.0,
        clock=CompactTimes(step=1 / 10.0),
        start=1.3,
        end=8.3,
    )
    template = _template(index="second", frames="times:0,2.6,3.4")

    encoded = template.encode(_shown(Video(0), "?", media=(clip,)))

    assert (
        template.tokenizer.decode([int(encoded.input_ids[slot.stop]) for slot in encoded.slots])
        == "033"
    )


@pytest.mark.parametrize("options", [{"dialect": "base"}, {"dialect": "vqa"}, {"index": "none"}])
def test_without_indices_all_frames_touch(options: dict[str, Any]) -> None:
    sample = _template(**options).encode(_shown(Video(0), "?"))

    assert all(
        one.stop == other.start for one, other in zip(sample.slots, sample.slots[1:], strict=False)
    )


@given(
    lengths=st.lists(st.integers(1, 6), max_size=5),
    gaps=st.lists(st.integers(0, 2), min_size=6, max_size=6),
)
def test_positions_follow_the_rule_of_the_original(lengths: list[int], gaps: list[int]) -> None:
    slots, types = [], [0] * gaps[0]
    for length, gap in zip(lengths, gaps[1:], strict=False):
        slots.append(MediaSlot(0, len(types), length, 0))
        types += [1] * length + [0] * gap

    assert frame_positions(len(types), slots).tolist() == _by_the_rule(types)


def _by_the_rule(types: list[int]) -> list[int]:
    """As ``build_position_ids`` of the family's modelling file gives them, token by token."""
    last = len(types) - 1
    edge = [
        kind and (n in (0, last) or not types[n - 1] or not types[n + 1])
        for n, kind in enumerate(types)
    ]
    language = [not kind or at_edge for kind, at_edge in zip(types, edge, strict=True)]
    positions: list[int] = []
    for n, speaks in enumerate(language):
        step = 0 if n == 0 else int(speaks or language[n - 1])
        positions.append((positions[-1] if positions else 0) + step)
    return positions


def test_the_video_comes_first_whichever_turn_speaks_of_it() -> None:
    early = (user(Video(0), "One?"), assistant("1"), user("Two?"), assistant("2"))
    late = (user("One?"), assistant("1"), user("Two?", Video(0)), assistant("2"))

    samples = [_template().encode(Conversation("c", turns, (_CLIP,))) for turns in (early, late)]

    assert np.array_equal(samples[0].input_ids, samples[1].input_ids)


def test_a_video_that_two_turns_speak_of_is_read_once() -> None:
    turns = (user(Video(0), "One?"), assistant("1"), user(Video(0), "Two?"), assistant("2"))

    assert len(_template().encode(Conversation("c", turns, (_CLIP,))).pixels) == 1


@pytest.mark.parametrize(
    "conversation",
    [
        _shown(Video(0), Video(1), "?", media=(_CLIP, Media("video", "b.avi"))),
        _shown(Image(0), "?", media=(Media("image", "a.jpg"),)),
        Conversation("c", (system("Be brief."), user("?"), assistant("1"))),
        Conversation("c", (user("?"), assistant(Region("x", ((0, 0, 1, 1),)))), (_CLIP,)),
    ],
    ids=["two videos", "image", "system", "region"],
)
def test_what_the_family_cannot_read_is_refused(conversation: Conversation) -> None:
    with pytest.raises(TokenError):
        _template().encode(conversation)


def test_padding_is_told_from_frames_by_the_token_types() -> None:
    template = _template()

    sample = template.encode(_shown(Video(0), "?"))

    assert sample.token_types is not None
    assert np.array_equal(sample.input_ids == template.pad_id, sample.token_types == 1)


def test_mindformers_trains_without_indices_on_24_frames() -> None:
    sample = _template(compat="mindformers").encode(_shown(Video(0), "?"))

    assert len(sample.pixels[0].frames) == 24
    assert sample.position_ids.max() < len(sample) - 24 * 66 + 3
