"""Boxes between fractions of an image and a grid of whole numbers,
in the conventions that are in use.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from mmdata.schema import Box

__all__ = ["GRIDS", "Grid", "GridName"]

GridName: TypeAlias = Literal["floor_1000", "round_1000", "floor_999"]

_FLOAT32: Final = struct.Struct("f")


@dataclass(frozen=True, slots=True)
class Grid:
    """A fraction ``f`` is written as ``f * scale``,
    rounded down or to the nearest, ``last`` at most.
    """

    scale: int
    last: int
    nearest: bool = False

    def to_grid(self, fraction: float) -> int:
        """Return the number for a fraction in 0..1.

        A store keeps fractions as float32. One that is the float32 of a grid point gives that point
        again, which plain rounding down would miss for half of them: floor(float32(0.005) * 1000)
        is 4.
        """
        point = round(fraction * self.scale)
        if not self.nearest and _float32(point / self.scale) != _float32(fraction):
            point = math.floor(fraction * self.scale)
        return min(max(point, 0), self.last)

    def from_grid(self, number: int) -> float:
        """Return the fraction that ``number`` stands for, 1 at most."""
        return min(number / self.scale, 1.0)

    def box_text(self, box: Box) -> str:
        """Return ``(x1,y1),(x2,y2)``."""
        x1, y1, x2, y2 = map(self.to_grid, box)
        return f"({x1},{y1}),({x2},{y2})"

    def box(self, numbers: tuple[int, int, int, int]) -> Box:
        """Return the box of four grid numbers."""
        x1, y1, x2, y2 = map(self.from_grid, numbers)
        return x1, y1, x2, y2


def _float32(value: float) -> float:
    rounded: float = _FLOAT32.unpack(_FLOAT32.pack(value))[0]
    return rounded


GRIDS: Final[dict[GridName, Grid]] = {
    "floor_1000": Grid(1000, 999),
    "round_1000": Grid(1000, 1000, nearest=True),
    "floor_999": Grid(999, 999),
}
"""0..999, rounded down; as ms-swift 4 writes them, where 1000 can occur;
as ms-swift 2 and evaluations write them.
"""
