"""What a limit is called where it is met, and how a deadline grows with what it is for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from mmdata._tools.limits import Limits, count_bytes, how_to_raise
from mmdata.conversion.prober import Facts, File, MediaLevel, Prober
from mmdata.errors import MediaError

MIB = 1 << 20
SIZES = st.integers(0, 1 << 40)
SECONDS = st.floats(0, 1e6)


@given(SIZES, SECONDS, st.floats(0.1, 1e4))
def test_a_deadline_is_that_of_a_short_file_as_often_as_the_file_is_long(
    size: int, duration: float, deadline: float
) -> None:
    found = Limits(deadline=deadline).deadline_of(size, duration)

    assert found >= deadline
    if size <= 8 * MIB and duration <= 60:
        assert found == deadline
    assert found == deadline * max(1.0, size / (8 * MIB), duration / 60)
    # Twice the deadline is always twice the time, so that raising it always helps.
    assert Limits(deadline=2 * deadline).deadline_of(size, duration) == 2 * found


@given(SIZES, SIZES, SECONDS, SECONDS)
def test_a_longer_file_never_has_less_time(
    size: int, more: int, duration: float, longer: float
) -> None:
    limits = Limits()

    assert limits.deadline_of(size + more, duration + longer) >= limits.deadline_of(size, duration)


def test_bytes_are_those_of_a_file_or_of_a_folder(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}").write_bytes(bytes(100 * number))

    assert count_bytes(str(tmp_path / "2")) == 200
    assert count_bytes(str(tmp_path)) == 300
    assert count_bytes(str(tmp_path / "3")) == 0
    assert count_bytes("no\0name") == 0


def test_each_limit_says_how_it_is_raised() -> None:
    assert "--memory" in how_to_raise("memory")
    assert "--max-pixels" in how_to_raise("pixels")
    assert "Limits(frames=...)" in how_to_raise("frames")


def look_slowly(files: Sequence[File], level: MediaLevel, limits: Limits) -> list[Facts]:
    time.sleep(0.6)
    return [{} for _ in files]


def test_looking_into_a_large_file_or_a_long_one_may_take_longer(tmp_path: Path) -> None:
    for name, size in (("small", 0), ("large", 160 * MIB)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)  # it takes no room on the disk
    small, large = (File(str(tmp_path / name), "video") for name in ("small", "large"))
    items = {"small": [small], "large": [large], "long": [small._replace(duration=3600.0)]}

    limits = Limits(deadline=0.3)
    with Prober("probe", workers=1, limits=limits, job=look_slowly) as prober:
        found = dict(prober.answers(items, lambda name: items[name]))

    error = found["small"]
    assert isinstance(error, MediaError)
    assert str(error).startswith(f"{tmp_path / 'small'}: no result within 0.3 seconds")
    assert error.path == str(tmp_path / "small")
    assert found["large"] == found["long"] == [{}]
