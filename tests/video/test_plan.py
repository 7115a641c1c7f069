"""A clip in a longer file is read as the file of these frames alone:
none lost or gained at its bounds.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmdata import video
from mmdata.errors import VideoError
from mmdata.video import Index
from mmdata.video.sampling import RULES
from tests.video.clips import clip, cut, numbers_in

STRATEGIES = (
    *(
        "uniform:5",
        "uniform:24",
        "middle:4",
        "fps:3",
        "fps:7:4",
        "seconds",
        "every:3",
        "keyframes",
        "keyframes:2",
    ),
    *(
        "times:0.4,0.1",
        "frames:3,0",
        "hf_chat",
        "hf_base:4",
        "hf_base:4:0.2:0.9",
        "mf_train_average:9",
        "mf_predict:3",
    ),
    *(
        "mindie",
        "llava_next:5",
        "llava_next:3:4:true",
        "llava_next_pyav:4",
        "hf_num_frames:6",
        "hf_fps:4",
        "hf_doc:5",
    ),
    *(
        "qwen:3",
        "qwen:2:4:6",
        "qwen_frames:4",
        "hf_pairs:3",
        "hf_pairs_frames:4",
        "hf_ends:3",
        "hf_ends_frames:5",
    ),
)


def test_every_rule_is_among_the_strategies() -> None:
    assert {strategy.split(":")[0] for strategy in STRATEGIES} == set(RULES)


def index_of(
    times: NDArray[np.float64],
    keyframes: NDArray[np.int64],
    *,
    fps: float = 0.0,
    last: float = 0.04,
) -> Index:
    """An index of frames at ``times``, the last of which is presented for ``last`` seconds."""
    duration = float(times[-1]) + last
    return Index(
        times, keyframes, 64, 48, fps or len(times) / duration, duration, "h264", "stream", 0
    )


# --- bounds
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decimals", [4, 5, 6, 15])
@pytest.mark.parametrize("clock", ["exact", "in milliseconds"])
@pytest.mark.parametrize("fps", [24, 25, Fraction(30000, 1001), 30, 60, 240], ids=str)
def test_bounds_at_frames_take_these_and_no_others(
    fps: Fraction, clock: str, decimals: int
) -> None:
    moments = [number / Fraction(fps) for number in range(400)]
    times = np.array(
        [float(moment) if clock == "exact" else round(float(moment), 3) for moment in moments]
    )
    index = index_of(times, np.arange(1), fps=float(fps))

    for first in range(0, 390, 7):
        for stop in (first + 1, first + 2, 397):
            start, end = (round(float(moments[number]), decimals) for number in (first, stop))
            planned = video.plan(index, "every:1", start=start, end=end)
            assert planned.numbers.tolist() == list(range(first, stop)), (start, end)


@pytest.mark.parametrize("fps", [1000, 5000])
def test_frames_that_are_less_than_a_millisecond_apart_are_told_from_each_other(fps: int) -> None:
    index = index_of(np.arange(100) / fps, np.arange(1), fps=fps)

    for first in range(90):
        planned = video.plan(
            index, "every:1", start=round(first / fps, 4), end=round((first + 2) / fps, 4)
        )
        assert planned.numbers.tolist() == [first, first + 1]


@pytest.mark.slow
@pytest.mark.parametrize("container", ["mp4", "matroska", "mpegts", "avi"])
@pytest.mark.parametrize("rate", [24, Fraction(30000, 1001), 30], ids=str)
def test_bounds_at_frames_of_a_file_take_these_and_no_others(
    container: str, rate: Fraction
) -> None:
    index = video.index(clip("h264", container, range(60), rate=rate, b_frames=2))

    for first in range(0, 58):
        bounds: dict[str, Any] = {
            "start": round(float(first / Fraction(rate)), 4),
            "end": round(float((first + 2) / Fraction(rate)), 4),
        }
        assert video.plan(index, "every:1", **bounds).numbers.tolist() == [first, first + 1], bounds


def test_bounds_between_frames_take_what_is_between_them() -> None:
    index = index_of(np.arange(100) / 25, np.arange(1), fps=25)

    assert video.plan(index, "every:1", start=0.41, end=0.79).numbers.tolist() == list(
        range(11, 20)
    )
    assert video.plan(index, "every:1", start=0.401, end=0.801).numbers.tolist() == list(
        range(11, 21)
    )


# --- a clip in a longer file
# -----------------------------------------------------------------------------------------


@st.composite
def clips(draw: st.DrawFn) -> tuple[Index, int, int]:
    """An index of variable rate with several keyframes,
    and the first and the last + 1 of some of its frames.
    """
    gaps = draw(st.lists(st.sampled_from([0.02, 0.033, 0.04, 0.21, 1.3]), min_size=3, max_size=60))
    times = np.cumsum([0.0, *gaps])
    keyframes = draw(st.lists(st.integers(0, len(gaps)), unique=True, max_size=9))
    first = draw(st.integers(0, len(gaps) - 1))
    stop = draw(st.integers(first + 1, len(times)))
    return index_of(times, np.array(sorted(keyframes), np.int64), last=0.3), first, stop


@pytest.mark.slow
@given(
    clips(),
    st.sampled_from(STRATEGIES),
    st.sampled_from(["exact", "keyframe"]),
    st.sampled_from(["none", "repeat"]),
)
def test_every_strategy_takes_of_a_clip_what_it_takes_of_the_file_cut_there(
    made: tuple[Index, int, int], strategy: str, snap: str, pad: str
) -> None:
    index, first, stop = made
    ends = [*index.times.tolist(), index.duration]
    inside = index.keyframes[(index.keyframes >= first) & (index.keyframes < stop)]
    alone = index_of(
        index.times[first:stop] - ends[first], inside - first, last=ends[stop] - ends[stop - 1]
    )
    options: dict[str, Any] = {"strategy": strategy, "snap": snap, "pad": pad}

    try:
        expected = video.plan(alone, **options)
    except VideoError:
        with pytest.raises(VideoError):
            video.plan(index, start=ends[first], end=ends[stop], **options)
        return
    planned = video.plan(index, start=ends[first], end=ends[stop], **options)

    assert planned.numbers.tolist() == (expected.numbers + first).tolist()
    np.testing.assert_allclose(planned.times - ends[first], expected.times, atol=1e-9)
    assert first <= planned.numbers.min() <= planned.numbers.max() < stop


def test_a_clip_of_constant_rate_has_the_rate_of_its_file_exactly() -> None:
    times = np.round(np.arange(3000) * 1001 / 30000, 3)  # as Matroska keeps them
    index = index_of(times, np.arange(1), fps=30000 / 1001)

    for first in range(0, 900, 11):
        planned = video.plan(
            index, "hf_base:2:0:60", start=float(times[first]), end=float(times[first + 2000])
        )
        assert planned.numbers.tolist() == [first, first + 1797]  # int(60 * 30000 / 1001) - 1


def test_a_clip_without_a_keyframe_is_not_snapped_to_one_outside() -> None:
    index = index_of(np.arange(100) / 25, np.array([0, 50]), fps=25)

    with pytest.raises(VideoError, match="snap='exact'"):
        video.plan(index, "uniform:3", snap="keyframe", start=0.4, end=1.2)
    assert video.plan(index, "uniform:3", snap="keyframe", start=0.4, end=2.4).numbers.tolist() == [
        50,
        50,
        50,
    ]


GAPS = [1, 2, 1, 4, 3, 1, 1, 5]  # ticks of 1/25 s
VARIABLE = np.cumsum([0, *GAPS * 7]).tolist()[:48]
CONSTANT = list(range(48))
GOP = 6


def _ticks(ticks: list[int], frame: int) -> int:
    return ticks[frame] if frame < len(ticks) else ticks[-1] + 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "container", "ticks", "b_frames"),
    [
        ("h264", "matroska", VARIABLE, 2),
        ("mpeg4", "matroska", VARIABLE, 0),
        ("h264", "mp4", VARIABLE, 0),
        ("h264", "mp4", CONSTANT, 3),
        ("mpeg4", "mov", CONSTANT, 0),
        ("vp9", "webm", CONSTANT, 0),
    ],
)
@pytest.mark.parametrize(("first", "stop"), [(6, 30), (18, 36), (12, 48)])
def test_a_clip_is_sampled_as_the_file_cut_there(
    codec: str, container: str, ticks: list[int], b_frames: int, first: int, stop: int
) -> None:
    whole = clip(
        codec, container, ticks, gop=GOP, b_frames=b_frames, lasting=4 if ticks is VARIABLE else 1
    )
    alone = cut(
        whole, container, keyframe=first // GOP, start=ticks[first], stop=_ticks(ticks, stop)
    )
    bounds: dict[str, Any] = {"start": ticks[first] / 25, "end": _ticks(ticks, stop) / 25}
    said = video.index(alone).duration
    if container == "matroska" and said != pytest.approx(bounds["end"] - bounds["start"]):
        pytest.skip(
            "this FFmpeg does not write how long the last frame of a cut lasts: "
            "it is not the same clip"
        )

    _same_of_both(whole, alone, first, bounds)


@pytest.mark.parametrize("container", ["mp4", "mov"])
@pytest.mark.parametrize("first", [7, 15, 22])
def test_a_clip_that_begins_between_keyframes_is_sampled_as_the_file_that_an_edit_list_cuts(
    container: str, first: int
) -> None:
    whole = clip("h264", container, CONSTANT, gop=GOP, b_frames=2)
    alone = cut(whole, container, keyframe=first // GOP, start=first, stop=42)

    _same_of_both(whole, alone, first, {"start": first / 25, "end": 42 / 25})


def _same_of_both(whole: bytes, alone: bytes, first: int, bounds: dict[str, Any]) -> None:
    of_whole, of_alone = video.index(whole), video.index(alone)

    for strategy in STRATEGIES:
        for snap in ("exact", "keyframe"):
            try:
                expected = video.plan(of_alone, strategy, snap=snap)
            except VideoError:
                with pytest.raises(VideoError):
                    video.plan(of_whole, strategy, snap=snap, **bounds)
                continue
            planned = video.plan(of_whole, strategy, snap=snap, **bounds)
            assert planned.numbers.tolist() == (expected.numbers + first).tolist(), (strategy, snap)
            np.testing.assert_allclose(planned.times - bounds["start"], expected.times, atol=1e-3)
    taken, same = video.sample(whole, "every:2", **bounds), video.sample(alone, "every:2")
    assert numbers_in(taken.pixels) == taken.numbers.tolist()
    np.testing.assert_array_equal(taken.pixels, same.pixels)


def test_the_rate_that_a_rule_sees_is_that_of_the_clip() -> None:
    """Half a file at 10 frames a second, half at 30: a step of a second is 10 frames, then 30."""
    times = np.cumsum([0.0, *[1 / 10] * 50, *[1 / 30] * 149])
    index = replace(index_of(times, np.arange(1)), duration=float(times[-1]) + 1 / 30)

    slow = video.plan(index, "mindie", start=0.0, end=5.0)
    fast = video.plan(index, "mindie", start=5.0)

    assert slow.numbers.tolist() == list(range(0, 50, 10))
    assert fast.numbers.tolist() == list(range(50, 200, 30))
