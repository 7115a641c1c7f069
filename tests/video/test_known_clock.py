"""A sample of a file whose clock is known reads a part of it, and is the same sample."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replace_fields

import mmdata
from mmdata import video
from mmdata._tools.limits import Limits
from mmdata.errors import VideoError
from mmdata.video.clock import Clock, stored_clock
from mmdata.video.reader import reading, seeking, segments
from tests.video.clips import clip
from tests.video.test_exact import COUNT, KINDS, moving
from tests.video.test_one_clock import CLIPS, CONSTANT, VARIABLE, joined
from tests.video.told import STRATEGIES

# An AVI stores no presentation times; a stream of MPEG has no table to seek by.
SOUGHT = [
    name for name, (_, container, _) in KINDS.items() if container in ("mp4", "matroska", "webm")
]


def equal(one: video.Frames, other: video.Frames) -> bool:
    return (
        np.array_equal(one.pixels, other.pixels)
        and one.times.tolist() == other.times.tolist()
        and one.numbers.tolist() == other.numbers.tolist()
        and (one.times_source, one.damage) == (other.times_source, other.damage)
    )


def packets_read(data: bytes, clock: Clock, *wanted: int) -> int | None:
    with seeking(data, None, Limits(), clock, np.array(wanted)) as reader:
        return None if reader is None else len(reader.index.packets)


# --- the same sample
# --------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("held", [32 << 20, 0], ids=["held", "reread"])
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8)
@given(wanted=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=6))
def test_frames_are_the_same_with_and_without_a_clock(
    kind: str, held: int, wanted: list[int]
) -> None:
    data, strategy = moving(kind), f"frames:{','.join(map(str, wanted))}"
    whole = video.sample(data, strategy)

    part = video.sample(data, strategy, clock=whole.clock, limits=Limits(packet_bytes=held))

    assert equal(part, whole)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", [*STRATEGIES, "keyframes", "every:1"])
@pytest.mark.parametrize("name", CLIPS)
def test_every_strategy_takes_the_same_with_and_without_a_clock(name: str, strategy: str) -> None:
    data = CLIPS[name]()[1]
    clock = video.index(data).clock

    assert equal(video.sample(data, strategy, clock=clock), video.sample(data, strategy))


@pytest.mark.parametrize("name", CLIPS)
def test_a_clip_of_a_file_is_the_same_with_and_without_its_clock(name: str) -> None:
    data = CLIPS[name]()[1]
    clock = video.index(data).clock
    begin, end = clock.times[len(clock) // 4], clock.times[len(clock) // 2]

    for options in ({"start": begin, "end": end}, {"snap": "keyframe"}):
        whole, part = (
            video.sample(data, "uniform:3", clock=known, **options) for known in (None, clock)
        )
        assert equal(whole, part)


# --- less reading
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOUGHT)
def test_a_late_frame_costs_the_packets_of_its_own_group_alone(kind: str) -> None:
    with reading(moving(kind), None, Limits()) as reader:
        clock, [group] = reader.index.clock, segments(reader.index, [COUNT - 1])

    assert packets_read(moving(kind), clock, COUNT - 1) == group.stop - group.start + 1


LONG = [tick + tick // 3 for tick in range(250)]
CONTAINERS = {
    "mp4": ("mp4", {}),
    "fragments": ("mp4", {"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "matroska": ("matroska", {}),
    "transport stream": ("mpegts", {}),
    "flv": ("flv", {}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("held", [32 << 20, 0], ids=["held", "reread"])
def test_a_long_file_is_sought_in_whatever_its_container(name: str, held: int) -> None:
    container, muxer = CONTAINERS[name]
    data = clip("h264", container, LONG, gop=12, b_frames=2, audio=5.0, muxer=muxer)
    whole = video.sample(data, "frames:3,100,101,155,249")
    assert whole.clock is not None

    part = video.sample(
        data, "frames:3,100,101,155,249", clock=whole.clock, limits=Limits(packet_bytes=held)
    )

    assert equal(part, whole)
    assert (packets_read(data, whole.clock, 3, 100, 101, 155, 249) or 250) < 60


@pytest.mark.slow
@pytest.mark.parametrize("level", ["probe", "decode"])
def test_what_a_store_keeps_of_a_clock_leads_to_the_frames(level: Any, tmp_path: Path) -> None:
    names = [name for name in CLIPS if not name.endswith("dropped frames")]
    records = []
    for number, name in enumerate(names):
        suffix, data = CLIPS[name]()
        (tmp_path / f"{number}.{suffix}").write_bytes(data)
        messages = [
            {"role": "user", "content": "<video>What?"},
            {"role": "assistant", "content": "That."},
        ]
        records.append({"messages": messages, "videos": [f"{number}.{suffix}"]})
    (tmp_path / "all.json").write_text(json.dumps(records))
    mmdata.convert("swift", tmp_path / "all.json", tmp_path / "store", check=level)

    store = mmdata.open(tmp_path / "store")

    assert len(store) == len(names)
    for row, name in enumerate(names):
        clock = stored_clock(store[row].media[0])
        data = CLIPS[name]()[1]
        assert clock is not None
        assert clock.keyframes is not None
        assert clock.keyframes.tolist() == video.index(data).keyframes.tolist()
        assert packets_read(data, clock, len(clock) // 2) is not None


# --- where a clock does not lead to frames
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ticks", [VARIABLE, CONSTANT[:20], [2 * tick for tick in CONSTANT]])
def test_a_file_that_is_not_that_of_the_clock_is_refused(ticks: list[int]) -> None:
    clock = video.index(clip("h264", "mp4", CONSTANT)).clock

    with pytest.raises(VideoError) as caught:
        video.sample(clip("h264", "mp4", ticks), "every:7", clock=clock)

    assert caught.value.reason == "clock_mismatch"


@pytest.mark.parametrize("container", ["mp4", "matroska"])
def test_a_file_with_frames_between_those_of_the_clock_is_refused(container: str) -> None:
    clock = video.index(clip("h264", container, CONSTANT[::2])).clock

    with pytest.raises(VideoError) as caught:
        video.sample(clip("h264", container, CONSTANT), "frames:0,5", clock=clock)

    assert caught.value.reason == "clock_mismatch"


@pytest.mark.parametrize(
    ("container", "wanted"), [("mp4", "frames:0,30"), ("matroska", "frames:0,50")]
)
def test_a_file_that_lacks_a_frame_of_the_clock_is_refused(container: str, wanted: str) -> None:
    clock = video.index(clip("h264", container, CONSTANT, gop=99)).clock
    other = clip("h264", container, [tick for tick in CONSTANT if tick != 20], gop=99)

    with pytest.raises(VideoError) as caught:
        video.sample(other, wanted, clock=clock)

    assert caught.value.reason == "clock_mismatch"


def test_damage_that_packets_show_is_found_with_the_clock_too() -> None:
    early, late = range(0, 60, 2), range(29, 89, 2)
    data = joined(*(clip("h264", "mpegts", ticks, rate=50) for ticks in (early, late)))
    clock = video.index(data).clock

    for known in (None, clock):
        with pytest.raises(VideoError, match="the times go back"):
            video.sample(data, "frames:0", clock=known)


@pytest.mark.slow
def test_damage_in_what_is_read_is_found() -> None:
    data = moving("h264 open gop, pyramid")
    clock = video.index(data).clock
    place = len(data) // 2  # amid the pictures
    hurt = bytes(byte ^ 255 for byte in data[place : place + 40])
    broken = data[:place] + hurt + data[place + 40 :]

    found = {}
    for number in range(COUNT):
        for known in (None, clock):
            try:
                video.sample(broken, f"frames:{number}", clock=known)
                found[number, known is clock] = ""
            except VideoError as error:
                found[number, known is clock] = error.reason
    reasons = [found[number, True] for number in range(COUNT)]

    assert reasons == [found[number, False] for number in range(COUNT)]
    assert set(reasons) == {"", "damaged_media"}


def test_a_clock_without_keyframes_leaves_them_to_the_file() -> None:
    data = clip("h264", "mp4", CONSTANT, gop=12)
    found = video.index(data)
    assert found.stored is not None
    bare = Clock(found.times, found.fps, None, found.duration, "stream", found.stored)
    older = replace_fields(found.stored, first_tick=None, keyframes=None)

    assert equal(video.sample(data, "keyframes", clock=bare), video.sample(data, "keyframes"))
    unsought = Clock(found.times, found.fps, found.keyframes, found.duration, "stream", older)
    assert packets_read(data, unsought, 5) is None
    assert equal(video.sample(data, "every:9", clock=unsought), video.sample(data, "every:9"))
