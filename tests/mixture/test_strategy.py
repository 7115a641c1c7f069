from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.errors import ConfigError
from mmdata.mixture import Strategy
from mmdata.mixture.config import expand_braces
from tests.reference import cases, lacking

amounts = st.integers(1, 200) | st.floats(0.01, 100).map(lambda share: f"{share:.3f}%")


@given(
    st.sampled_from(["first", "end", "random"]), amounts, st.integers(0, 300), st.integers(0, 99)
)
def test_a_strategy_takes_distinct_rows_in_order(
    which: str, amount: object, rows: int, seed: int
) -> None:
    taken = list(Strategy.parse(f"{which}:{amount}").select(rows, seed))

    assert taken == sorted(set(taken))
    assert all(0 <= row < rows for row in taken)


@given(st.floats(0.01, 100), st.integers(1, 10**6))
def test_a_share_is_rounded_up_as_llava_next_does(share: float, rows: int) -> None:
    strategy = (
        Strategy.parse(f"first:{share!r}%")
        if "e" not in repr(share)
        else Strategy("first", share, True)
    )

    assert strategy.count(rows) == min(rows, math.ceil(float(share) * rows / 100))


def test_every_whole_share_of_every_small_data_set_is_that_of_the_upstream_expression() -> None:
    """Any other order of the operations gives a row more or less somewhere:
    55 % of 100 is 55, not 56.
    """
    for percent in range(1, 101):
        strategy = Strategy.parse(f"end:{percent}%")
        for rows in range(1, 301):
            count = math.ceil(float(percent) * rows / 100)
            assert strategy.count(rows) == count, (percent, rows)
            assert strategy.select(rows) == range(rows - count, rows)


@given(st.sampled_from(["first", "end", "random"]), st.integers(1, 10**9) | st.floats(1e-3, 100))
def test_a_strategy_is_spelled_as_it_was_meant(which: str, amount: float) -> None:
    """Not rounded: a plan shows it, and a mixture's fingerprint tells two apart by it."""
    strategy = Strategy(which, amount, isinstance(amount, float))  # type: ignore[arg-type]

    assert Strategy.parse(str(strategy)) == strategy


@pytest.mark.parametrize(
    ("text", "rows"),
    [("all", [0, 1, 2, 3, 4]), ("first:2", [0, 1]), ("end:2", [3, 4]), ("first: 3", [0, 1, 2])],
)
def test_the_front_and_the_end_are_what_they_say(text: str, rows: list[int]) -> None:
    assert list(Strategy.parse(text).select(5)) == rows


def test_random_rows_are_a_function_of_the_seed() -> None:
    strategy = Strategy.parse("random:50")

    assert list(strategy.select(1000, seed=1)) == list(strategy.select(1000, seed=1))
    assert list(strategy.select(1000, seed=1)) != list(strategy.select(1000, seed=2))


@pytest.mark.parametrize(
    "text",
    [
        "first",
        "end:0",
        "end:0%",
        "First:3",
        "first:-2",
        "middle:3",
        "first:1.5",
        "random:",
        "",
        "all:3",
        "first:3:4",
    ],
)
def test_what_elsewhere_silently_means_all_is_an_error_here(text: str) -> None:
    with pytest.raises(ConfigError, match="sampling_strategy"):
        Strategy.parse(text)


def test_braces_expand_in_order() -> None:
    assert expand_braces("x/{b,a}.json") == ["x/b.json", "x/a.json"]
    assert expand_braces("x/a.json") == ["x/a.json"]


def test_rows_taken_equal_the_originals(golden: Path) -> None:
    """Where both originals keep rows by rule, we keep the same;
    what they draw at random we draw by seed.
    """
    compared = 0
    for case in cases(golden / "llava_next_video", "sampling_strategies.json", "single_dataset"):
        kept = {
            json.dumps(case[program].get("indices")) for program in ("llava_next", "mindformers")
        }
        try:
            strategy = Strategy.parse(case["strategy"])
        except ConfigError:
            continue
        expected = json.loads(kept.pop()) if len(kept) == 1 else case["mindformers"]["indices"]
        taken = [int(row) for row in strategy.select(case["n"])]
        assert len(taken) == len(expected), case["strategy"]
        if strategy.which != "random":
            assert taken == expected, case["strategy"]
            compared += 1
    if not compared:
        lacking("strategy that is no random one", golden)
