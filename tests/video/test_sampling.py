"""The rules of sampling: pure functions of presentation times."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mmdata.errors import UsageError, VideoError
from mmdata.video.clock import Clock
from mmdata.video.sampling import RULES, Strategy, mf_predict_positions
from tests.reference import cases


def clock(count: int, fps: float = 30.0, keyframes: tuple[int, ...] = (0,)) -> Clock:
    return Clock(np.arange(count) / fps, fps, np.array(keyframes, np.int64))


def numbers(text: str, of: Clock, pad: Any = "none") -> list[int]:
    return list(map(int, Strategy.parse(text).numbers(of, pad=pad)))


def test_uniform_takes_the_first_and_the_last_frame() -> None:
    assert numbers("uniform:4", clock(10)) == [0, 3, 6, 9]


def test_middle_takes_the_centres_of_equal_segments() -> None:
    assert numbers("middle:3", clock(9)) == [1, 4, 7]


def test_fps_takes_the_frame_nearest_each_tick() -> None:
    assert numbers("fps:2", clock(10, fps=4)) == [0, 2, 4, 6, 8]


# A clip that begins at frame 7 of a file has times that are differences of floats; 2.4 and 12.5
# make products of floats that fall a hair below whole numbers, and so does a clip's own rate.
@pytest.mark.slow
@pytest.mark.parametrize(("rate", "first"), [("3", 7), ("2.4", 0), ("12.5", 0), ("own", 0)])
@pytest.mark.parametrize("fps", ["24", "25", "29.97", "30"])
def test_fps_takes_a_frame_for_every_tick_up_to_the_last_frame(
    fps: str, rate: str, first: int
) -> None:
    rate = fps if rate == "own" else rate
    strategy = Strategy.parse(f"fps:{rate}")
    of = clock(2000 + first, float(fps))
    times = of.times[first:] - of.times[first]

    taken = [
        len(strategy.numbers(Clock(times[:count], of.fps, of.keyframes)))
        for count in range(1, 2001)
    ]

    assert taken == [math.floor(last / Fraction(fps) * Fraction(rate)) + 1 for last in range(2000)]


def test_fps_of_a_clip_whose_rate_is_a_hair_above_has_no_tick_for_the_last_frame() -> None:
    assert numbers("fps:29.97", clock(2, 30000 / 1001)) == [0]


def test_fps_above_the_clips_own_takes_every_frame_once() -> None:
    assert numbers("fps:100", clock(5)) == [0, 1, 2, 3, 4]


def test_fps_beyond_its_maximum_spreads_what_it_may_take() -> None:
    assert numbers("fps:4:3", clock(9, fps=4)) == [0, 4, 8]


def test_seconds_takes_the_frame_nearest_each_whole_second_and_keeps_the_first_ones() -> None:
    assert numbers("seconds", clock(150)) == [0, 30, 60, 90, 120, 149]
    assert numbers("seconds:3", clock(150)) == [0, 30, 60]


def test_every_takes_each_kth_frame() -> None:
    assert numbers("every:4", clock(10)) == [0, 4, 8]
    assert numbers("every:2:3", clock(10)) == [0, 4, 8]


def test_keyframes_takes_those_and_no_others() -> None:
    assert numbers("keyframes", clock(10, keyframes=(0, 5, 7))) == [0, 5, 7]
    assert numbers("keyframes:2", clock(10, keyframes=(0, 5, 7))) == [0, 7]


def test_times_takes_the_nearest_frames_in_the_order_asked_for() -> None:
    assert numbers("times:0.2,0.1,0.26", clock(10, fps=10)) == [2, 1, 3]


def test_a_time_after_the_clip_is_told_with_the_clips_end() -> None:
    with pytest.raises(VideoError, match=r"at 12 s, but the last one is at 0.900 s"):
        numbers("times:0.1,12", clock(10, fps=10))


def test_frames_takes_the_frames_of_the_numbers_in_the_order_asked_for() -> None:
    assert numbers("frames:3,0,9,3", clock(10)) == [3, 0, 9, 3]


def test_a_frame_after_the_last_is_told_with_the_last_ones_number() -> None:
    with pytest.raises(VideoError, match="frame 10, but the last one is 9"):
        numbers("frames:0,10", clock(10))


def test_a_short_clip_repeats_frames_only_if_asked_to() -> None:
    assert numbers("uniform:6", clock(3)) == [0, 1, 2]
    assert numbers("uniform:6", clock(3), "repeat") == [0, 0, 0, 1, 1, 2]
    assert numbers("seconds:4", clock(30), "repeat") == [0, 29, 29, 29]


@pytest.mark.parametrize(
    "text",
    [
        "unifrom:24",
        "uniform",
        "uniform:x",
        "uniform:1:2",
        "fps:-1",
        "times:",
        "frames:1.5",
        "fps:nan",
    ],
)
def test_what_is_no_strategy_is_refused_with_the_way_it_is_written(text: str) -> None:
    with pytest.raises(UsageError, match=r"Did you mean|it is written"):
        Strategy.parse(text)


def test_zero_frames_are_refused() -> None:
    with pytest.raises(UsageError, match="above 0"):
        numbers("uniform:0", clock(10))


@pytest.mark.parametrize("name", sorted(RULES))
def test_an_empty_clip_has_nothing_to_sample(name: str) -> None:
    with pytest.raises(VideoError, match="empty"):
        Strategy(name, (1.0,)).numbers(clock(0))


@pytest.mark.parametrize(
    "text",
    [
        "uniform:24",
        "fps:2:64",
        "fps:0.5",
        "times:1,2.5",
        "frames:3,1",
        "keyframes",
        "llava_next:1:32:true",
        "hf_base:24:0:60",
    ],
)
def test_a_strategy_writes_itself_as_it_is_read(text: str) -> None:
    assert str(Strategy.parse(text)) == text
    assert Strategy.parse(str(Strategy.parse(text))) == Strategy.parse(text)


times = st.lists(st.integers(0, 600_000), min_size=1, max_size=200, unique=True).map(
    lambda milliseconds: (np.sort(milliseconds) - min(milliseconds)) / 1000
)
house = st.one_of(
    st.builds("uniform:{}".format, st.integers(1, 99)),
    st.builds("middle:{}".format, st.integers(1, 99)),
    st.builds("every:{}:{}".format, st.integers(1, 99), st.integers(1, 30)),
    st.builds("fps:{}:{}".format, st.floats(0.01, 60), st.integers(1, 30)),
    st.builds("seconds:{}".format, st.integers(1, 30)),
    st.just("keyframes:3"),
)


@given(times, house, st.sampled_from(["none", "repeat"]))
def test_every_rule_takes_frames_that_exist_in_ascending_order(
    values: NDArray[Any], text: str, pad: str
) -> None:
    of = Clock(values, 30.0, np.arange(0, len(values), 10))

    taken = np.array(numbers(text, of, pad))

    assert len(taken)
    assert taken.min() >= 0
    assert taken.max() < len(values)
    assert (np.diff(taken) >= 0).all()


@given(times, st.integers(1, 99))
def test_uniform_without_padding_never_repeats_and_with_it_always_fills(
    values: NDArray[Any], count: int
) -> None:
    of = Clock(values, 30.0, np.array([0]))

    without, padded = numbers(f"uniform:{count}", of), numbers(f"uniform:{count}", of, "repeat")

    assert len(set(without)) == len(without) == min(count, len(values))
    assert len(padded) == count
    assert sorted(set(padded)) == without


@given(times)
def test_seconds_takes_the_frame_that_a_search_of_all_frames_finds(values: NDArray[Any]) -> None:
    expected = [int(np.abs(values - second).argmin()) for second in range(round(values[-1]) + 1)]

    assert numbers("seconds", Clock(values, 30.0, np.array([0]))) == expected


# --- the rules of other programs, in their own words
# -----------------------------------------------------------------

clips = st.builds(
    clock,
    st.integers(1, 400),
    st.sampled_from([8.0, 10.0, 12.5, 24000 / 1001, 25.0, 30000 / 1001, 30.0]),
)


def _or_refused(text: str, of: Clock) -> list[int] | None:
    try:
        return numbers(text, of)
    except VideoError:
        return None


@given(clips, st.integers(1, 40), st.integers(0, 9), st.integers(1, 20))
def test_hf_base_is_a_floored_line_between_cut_frames(
    of: Clock, count: int, start: int, length: int
) -> None:
    begin, end = start + 0.7, start + 0.7 + length
    first, stop = int(begin * of.fps), min(len(of), int(end * of.fps))
    expected = [int(x) for x in np.linspace(first, stop - 1, count)] if stop > first else None

    assert _or_refused(f"hf_base:{count}:{begin}:{end}", of) == expected


@given(clips, st.integers(1, 40))
def test_uniform_rules_are_floored_lines_over_the_clip(of: Clock, count: int) -> None:
    line = [int(x) for x in np.linspace(0, len(of) - 1, count)]

    assert numbers(f"mf_train_average:{count}", of) == line
    assert numbers(f"uniform:{count}", of) == sorted(set(line))
    assert numbers(f"middle:{count}", of) == sorted(
        {int(len(of) * Fraction(2 * k + 1, 2 * count)) for k in range(count)}
    )


@given(clips, st.integers(1, 3), st.integers(1, 30))
def test_mf_predict_leaves_out_the_last_second_and_cuts_positions(
    of: Clock, per_second: int, maximum: int
) -> None:
    seconds = [number / of.fps for number in range(len(of))]
    anchors = [
        min(range(len(of)), key=lambda number: abs(seconds[number] - second))
        for second in range(round(seconds[-1]) + 1)
    ]
    positions = [
        one + (other - one) * (step / per_second)
        for one, other in pairwise(anchors)
        for step in range(per_second)
    ]

    expected = [int(position) for position in positions[:maximum]]
    assert _or_refused(f"mf_predict:{per_second}:{maximum}", of) == (expected or None)


@given(clips, st.floats(0.3, 15), st.integers(1, 40), st.booleans())
def test_llava_next_steps_by_the_rounded_rate_and_is_even_beyond_its_bound(
    of: Clock, rate: float, bound: int, force: bool
) -> None:
    rate = round(rate, 2)
    step = round(of.fps / rate)
    stepped = list(range(0, len(of), step)) if step else None
    if stepped is not None and (force or len(stepped) > bound):
        stepped = [int(x) for x in np.linspace(0, len(of) - 1, bound)]

    assert _or_refused(f"llava_next:{rate}:{bound}:{str(force).lower()}", of) == stepped


@pytest.mark.parametrize("rule", ["llava_next", "llava_next_pyav"])
def test_as_many_frames_as_the_bound_are_not_beyond_it(rule: str) -> None:
    assert numbers(f"{rule}:1:10", clock(100, 10.0)) == list(range(0, 100, 10))
    assert numbers(f"{rule}:1:9", clock(100, 10.0)) == [int(x) for x in np.linspace(0, 99, 9)]


@given(clips.filter(lambda of: len(of) > 1), st.floats(0.3, 15), st.integers(0, 40))
def test_llava_next_pyav_takes_the_rate_from_the_last_frame(
    of: Clock, rate: float, bound: int
) -> None:
    rate = round(rate, 2)
    step = round(len(of) / float(of.times[-1]) / rate)
    stepped = list(range(0, len(of), step)) if step else None
    if stepped is not None and 0 < bound < len(stepped):
        stepped = [int(x) for x in np.linspace(0, len(of) - 1, bound)]

    assert _or_refused(f"llava_next_pyav:{rate}:{bound}", of) == stepped


@given(clips, st.integers(1, 40), st.floats(0.1, 9))
def test_transformers_takes_the_starts_of_equal_segments(
    of: Clock, count: int, rate: float
) -> None:
    rate = round(rate, 2)
    wanted = max(1, int(len(of) / of.fps * rate))

    assert _or_refused(f"hf_num_frames:{count}", of) == _starts(len(of), count)
    assert _or_refused(f"hf_fps:{rate}", of) == _starts(len(of), wanted)
    assert numbers(f"hf_doc:{count}", of) == [
        int(x) for x in np.arange(0, len(of), len(of) / count)
    ]


def _starts(frames: int, count: int) -> list[int] | None:
    return [int(Fraction(k * frames, count)) for k in range(count)] if count <= frames else None


@given(clips, st.integers(1, 30))
def test_mindie_takes_every_frame_of_the_rounded_rate(of: Clock, maximum: int) -> None:
    step = round(of.fps)

    assert numbers(f"mindie:{maximum}", of) == list(range(0, min(maximum * step, len(of)), step))


@given(st.lists(st.integers(1, 40_000), min_size=1, max_size=60), st.integers(1, 30))
def test_hf_chat_compares_seconds_in_float32(gaps: list[int], maximum: int) -> None:
    times = np.cumsum([0, *gaps]) / 30_000
    of = Clock(times, 30.0, np.array([0]))
    single = times.astype(np.float32)

    expected = [
        int(np.abs(single - np.float32(second)).argmin())
        for second in range(round(float(single[-1])) + 1)
    ]

    assert numbers(f"hf_chat:{maximum}", of) == expected[:maximum]


def test_a_tie_of_seconds_is_one_in_float32() -> None:
    """Frames as far before a second as after it;
    in float32 another one of them may be nearer than in float64.
    """
    told_apart = 0
    for number in range(1, 2000):
        for second in (1, 7, 40):
            times = np.array([0.0, second - number / 5000, second + number / 5000])
            single = times.astype(np.float32)
            told_apart += int(np.abs(times - second).argmin()) != int(
                np.abs(single - np.float32(second)).argmin()
            )
            expected = int(np.abs(single - np.float32(second)).argmin())
            assert (
                numbers(f"hf_chat:{second + 1}", Clock(times, 3 / second, np.array([0])))[second]
                == expected
            )
    assert told_apart > 10


# --- against the original programs
# -----------------------------------------------------------------------------------


def _clock_of(case: dict[str, Any]) -> Clock:
    fps = case["fps_num"] / case["fps_den"]
    stamps = case.get("timestamps")
    values = (
        np.arange(case["total_frames"]) * case["fps_den"] / case["fps_num"]
        if stamps is None
        else stamps
    )
    return Clock(np.array(values, np.float32).astype(np.float64), fps, np.array([0]))


def _strategy_of(case: dict[str, Any]) -> Strategy:
    count, name = case["num_frames"], case["strategy"]
    if name == "hf_base":
        return Strategy(
            name, (count, float(case["clip_start_sec"] or 0), float(case["clip_end_sec"] or 1e9))
        )
    if name.startswith("mf_predict"):
        per_second = int(name.removeprefix("mf_predict_k")) if "_k" in name else 1
        return Strategy("mf_predict", (per_second, count))
    return Strategy(name, (count,))


def test_cogvlm2_video_strategies_take_the_frames_of_the_reference(golden: Path) -> None:
    for case in cases(golden / "cogvlm2_video", "frame_indices.json"):
        of, strategy = _clock_of(case), _strategy_of(case)
        if not case["indices"]:
            with pytest.raises(VideoError):
                strategy.numbers(of)
        elif strategy.name == "mf_predict":
            np.testing.assert_allclose(
                mf_predict_positions(of, *strategy.arguments), case["indices"]
            )
            assert strategy.numbers(of).tolist() == [int(position) for position in case["indices"]]
        else:
            assert strategy.numbers(of).tolist() == case["indices"], case["id"]


def test_cogvlm2_video_strategies_report_the_seconds_of_the_reference(golden: Path) -> None:
    for case in cases(golden / "cogvlm2_video", "frame_indices.json"):
        if case["indices"] and "seconds" in case:
            of = _clock_of(case)
            np.testing.assert_allclose(
                of.times[_strategy_of(case).numbers(of)], case["seconds"], atol=1e-5
            )


def test_llava_next_strategies_take_the_frames_of_the_programs(golden: Path) -> None:
    for case in cases(golden / "llava_next_video", "frame_sampling.json", "video_file"):
        of, rate, bound = (
            clock(case["total_frames"], case["fps"]),
            float(case["video_fps"]),
            case["frames_upbound"],
        )
        programs = {
            "llava_next_decord": Strategy("llava_next", (rate, bound, case["force_sample"])),
            "llava_next_pyav": Strategy("llava_next_pyav", (rate, bound)),
            "mindformers_cv2": Strategy("mf_train_average", (bound,)),
        }
        for program, strategy in programs.items():
            if case.get(program) is not None:
                _same_or_refused(case[program], strategy, of)


def _same_or_refused(expected: dict[str, Any], strategy: Strategy, of: Clock) -> None:
    if "error" in expected:
        with pytest.raises(VideoError):
            strategy.numbers(of)
    else:
        assert strategy.numbers(of).tolist() == expected["frame_idx"], (strategy, of.fps, len(of))


def test_transformers_strategies_take_the_frames_of_the_program(golden: Path) -> None:
    for case in cases(golden / "llava_next_video", "frame_sampling.json", "hf_processor_uniform"):
        of = clock(case["total_frames"], case["fps"])
        if case["num_frames"] is None and case["target_fps"] is None:
            continue
        by_count = case["num_frames"] is not None
        strategy = (
            Strategy("hf_num_frames", (case["num_frames"],))
            if by_count
            else Strategy("hf_fps", (case["target_fps"],))
        )
        expected = case["indices"]
        _same_or_refused(
            expected if isinstance(expected, dict) else {"frame_idx": expected}, strategy, of
        )


def test_the_example_of_transformers_takes_the_frames_that_it_says(golden: Path) -> None:
    for case in cases(golden / "llava_next_video", "frame_sampling.json", "hf_doc_example_arange"):
        assert (
            numbers(f"hf_doc:{case['num_frames']}", clock(case["total_frames"])) == case["indices"]
        )


def test_frame_folders_are_sampled_as_llava_next_does(golden: Path) -> None:
    for case in cases(golden / "llava_next_video", "frame_sampling.json", "frame_directory"):
        of = clock(case["total_files"], fps=2.0)
        count = case["frames_upbound"] if case["force_sample"] else 10
        assert numbers(f"mf_train_average:{count}", of) == case["indices"]


def test_qwen_takes_even_numbers_of_frames_with_both_ends() -> None:
    for count in (2, 3, 7, 30, 301):
        taken = numbers("qwen:2", clock(count, 25.0))

        assert len(taken) % 2 == 0
        assert (taken[0], taken[-1]) == (0, count - 1)


def test_qwen_takes_moments_of_a_clip_whose_rate_varies() -> None:
    # 100 frames in the first 5 s, then one a second until 60; the rate stated is that of the first.
    uneven = Clock(np.array([*np.arange(100) / 20, *np.arange(5, 60)]), 20.0, None, 60.0)

    taken = np.array(numbers("qwen:0.5", uneven))

    times = uneven.times[taken]
    assert len(taken) == 30  # half a frame for each of the 60 s
    assert np.abs(times - np.linspace(0, times[-1], 30)).max() <= 0.5


@pytest.mark.parametrize(("start", "end"), [(5.0, 20.0), (4.99, 20.4), (0.0, 3.0)])
def test_qwen_keeps_to_its_bounds_whatever_the_rate(start: float, end: float) -> None:
    uneven = Clock(np.array([*np.arange(100) / 20, *np.arange(5, 60)]), 155 / 60, None, 60.0)

    times = uneven.times[numbers(f"qwen:2:4:768:{start}:{end}", uneven)]

    assert start <= times.min() <= times.max() <= end


def test_qwen_refuses_what_has_no_two_frames() -> None:
    for rule in ("qwen:2", "qwen_frames:4"):
        with pytest.raises(VideoError, match="the rule takes 2 at least"):
            numbers(rule, clock(1))
    with pytest.raises(VideoError, match="no two frames from 3 to 3"):
        numbers("qwen:2:4:768:3:3", clock(100, 10.0))
    with pytest.raises(VideoError, match="in pairs of a clip of 1"):
        numbers("hf_pairs:2", clock(1))


def test_numbers_of_frames_are_rounded_to_pairs_half_to_even() -> None:
    assert len(numbers("qwen_frames:5", clock(40))) == 4
    assert len(numbers("qwen_frames:7", clock(40))) == 8
    assert len(numbers("hf_pairs_frames:7", clock(40))) == 8
    assert len(numbers("hf_ends_frames:7", clock(40))) == 7
