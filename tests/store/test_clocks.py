"""Clocks are kept in few bytes, and come back as they were."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mmdata.errors import StoreError
from mmdata.schema import CompactTimes
from mmdata.store.clocks import clock_of, clock_row
from mmdata.store.encode import arrow_schema
from tests.conversations import clocks

COLUMN = arrow_schema().field("media").type.value_type.field("clock").type


@given(clocks)
@example(CompactTimes(deltas=(2**31 - 1, 0, 2**31 - 1), unit=1.0))
@example(CompactTimes(deltas=(), unit=1.0))
@example(CompactTimes(step=1 / 30, unit=0.001))
@example(CompactTimes(deltas=(33,) * 150 + (2**30,) + (34, 33) * 70, unit=0.001))
@example(CompactTimes(step=1 / 30, first_tick=-1024, keyframes=(0, 97, 130, 2**40)))
@example(CompactTimes(step=1 / 30, keyframes=tuple(range(300))))
def test_a_clock_comes_back_as_it_was(clock: CompactTimes) -> None:
    [row] = pa.array([clock_row(clock)], COLUMN).to_pylist()

    assert clock_of(row) == clock


def test_whole_numbers_of_an_earlier_version_are_read() -> None:
    assert clock_of({"start": 0.0, "step": None, "deltas": [1, 5], "unit": 0.5}) == CompactTimes(
        deltas=(1, 5), unit=0.5
    )


def test_two_hundred_thousand_clocks_take_less_than_sixty_megabytes() -> None:
    keyframes = (0, 97, 130, 250)
    constant = CompactTimes(step=1001 / 30000, unit=1 / 90000, first_tick=0, keyframes=keyframes)
    # Ten seconds as a telephone films them: a third of a millisecond from the rate at most.
    jitter = tuple(3000 + (number * 7919) % 61 - 30 for number in range(299))
    variable = CompactTimes(deltas=jitter, unit=1 / 90000, first_tick=0, keyframes=keyframes)
    # A screen recording: steps of some ticks each, and now and then a pause.
    paused = tuple(512 * (1 + number % 3 + 40 * (number % 50 == 0)) for number in range(299))
    screen = CompactTimes(deltas=paused, unit=1 / 12800, first_tick=0, keyframes=keyframes)

    assert pa.array([clock_row(constant)] * 500, COLUMN).nbytes * 400 < 12e6
    assert pa.array([clock_row(variable)] * 500, COLUMN).nbytes * 400 < 61e6
    assert pa.array([clock_row(screen)] * 500, COLUMN).nbytes * 400 < 40e6
    mixed = [clock_row(constant)] * 300 + [clock_row(variable)] * 100 + [clock_row(screen)] * 100
    assert pa.array(mixed, COLUMN).nbytes * 400 < 60e6


@given(st.lists(st.integers(0, 2**31 - 1), min_size=1), st.integers(1, 4))
@example([1, 2], 4)
def test_bytes_that_are_cut_are_no_other_clock(deltas: list[int], lost: int) -> None:
    row = clock_row(CompactTimes(deltas=tuple(deltas), unit=1.0))
    cut = row["packed"][:-lost]

    try:
        found = clock_of({**row, "packed": cut})
    except StoreError:
        return
    assert found.deltas is not None
    assert found.deltas == tuple(deltas[: len(found.deltas)])
    assert len(found.deltas) < len(deltas)


def test_a_number_that_goes_on_after_the_end_is_refused() -> None:
    with pytest.raises(StoreError, match="is cut"):
        clock_of({"start": 0.0, "step": None, "deltas": None, "unit": 1.0, "packed": b"\x80"})
