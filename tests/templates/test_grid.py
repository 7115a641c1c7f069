from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.schema import Region
from mmdata.templates.toolkit import GRIDS, GridName

every_grid = pytest.mark.parametrize("name", sorted(GRIDS))


def _stored(fraction: float) -> float:
    return float(struct.unpack("f", struct.pack("f", fraction))[0])


@every_grid
def test_every_number_of_the_grid_survives_a_store(name: GridName) -> None:
    grid = GRIDS[name]

    for number in range(grid.last + 1):
        box = Region("", ((grid.from_grid(number),) * 4,)).boxes[0]
        assert {grid.to_grid(side) for side in box} == {number}


def test_numbers_that_plain_rounding_would_lose_are_kept() -> None:
    lost = [number for number in range(1000) if int(_stored(number / 1000) * 1000) != number]

    assert lost
    assert [GRIDS["floor_1000"].to_grid(_stored(number / 1000)) for number in lost] == lost


@pytest.mark.parametrize("name", ["floor_1000", "floor_999"])
@given(fraction=st.floats(0, 1, width=32))
def test_other_fractions_are_rounded_down(name: GridName, fraction: float) -> None:
    grid = GRIDS[name]
    exact = {_stored(number / grid.scale) for number in range(grid.scale + 1)}

    if fraction not in exact:
        assert grid.to_grid(fraction) == min(int(fraction * grid.scale), grid.last)


@given(fraction=st.floats(0, 1, width=32))
def test_the_nearest_number_is_at_most_half_a_step_off(fraction: float) -> None:
    assert abs(GRIDS["round_1000"].to_grid(fraction) - fraction * 1000) <= 0.5 + 1e-4


@pytest.mark.parametrize(
    ("name", "last"), [("floor_1000", 999), ("floor_999", 999), ("round_1000", 1000)]
)
def test_the_far_corner_is_the_last_number(name: GridName, last: int) -> None:
    assert GRIDS[name].box_text((0.0, 0.0, 1.0, 1.0)) == f"(0,0),({last},{last})"
