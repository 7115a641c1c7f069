from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.schema import Text, Time
from mmdata.templates.toolkit import text_and_times, time_text

hundredths = st.integers(0, 10**6).map(lambda number: number / 100)


@given(start=hundredths, length=st.none() | hundredths)
def test_a_time_is_read_back_as_it_was_written(start: float, length: float | None) -> None:
    time = Time(start, None if length is None else round(start + length, 2), media=2)

    assert text_and_times(f"at {time_text(time)}.", media=2) == (Text("at "), time, Text("."))


@pytest.mark.parametrize(
    ("text", "time"),
    [("3s", Time(3.0)), ("1s to 2.5s", Time(1.0, 2.5)), ("1.00s-2.00s", Time(1.0, 2.0))],
)
def test_what_reads_as_a_time_is_one(text: str, time: Time) -> None:
    assert text_and_times(text) == (time,)


@pytest.mark.parametrize(
    "text", ["", "5 seconds", "x3s", "3sec", "1.2.3s", "3.00s-1.00s", "NaNs", "s"]
)
def test_what_does_not_stays_text(text: str) -> None:
    assert "".join(part.text for part in text_and_times(text) if isinstance(part, Text)) == text


@given(text=st.text("0123456789.s-to ", max_size=30))
def test_no_character_is_lost(text: str) -> None:
    parts = text_and_times(text)

    assert all(part.text in text for part in parts if isinstance(part, Text))
    assert all(isinstance(part, (Text, Time)) for part in parts)
