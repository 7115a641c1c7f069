"""Boxes as sources write them, in a grid or in pixels, and as fractions of their picture."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

from mmdata.errors import RecordError
from mmdata.schema import Box

__all__ = ["PIXEL_TOLERANCE", "Size", "parse_corners", "read_sizes", "scale_pixels"]

Size: TypeAlias = tuple[float, float]
"""Width and height of a picture in pixels."""

PIXEL_TOLERANCE: Final = 1.0
"""How many pixels a box may leave its picture by, and is clipped: rounding and inclusive corners do
so, other mistakes by far more. COCO's boxes have the same tolerance.
"""

_CORNERS: Final = re.compile(
    r" *\( *([0-9]{1,6}) *, *([0-9]{1,6}) *\) *, *\( *([0-9]{1,6}) *, *([0-9]{1,6}) *\) *"
)


def parse_corners(numbers: str, grid: int) -> Box:
    """Return the box that Qwen-VL writes as ``(x1,y1),(x2,y2)``, in whole steps of a grid.

    >>> parse_corners("(100,200),(300,400)", 1000)
    (0.1, 0.2, 0.3, 0.4)

    Raises:
        RecordError: it is written otherwise.
    """
    corners = _CORNERS.fullmatch(numbers)
    if corners is None:
        raise RecordError(
            f"a box is written (x1,y1),(x2,y2), found {numbers[:60]!r}", reason="bad_box"
        )
    x1, y1, x2, y2 = (int(number) / grid for number in corners.groups())
    return x1, y1, x2, y2


def scale_pixels(box: Box, size: Size) -> Box:
    """Return a box in pixels as fractions of a picture of this size, clipped by
    :data:`PIXEL_TOLERANCE` at most.

    >>> scale_pixels((0, 12, 32, 48.5), (64, 48))
    (0.0, 0.25, 0.5, 1.0)

    Raises:
        RecordError: it leaves the picture by more.
    """
    width, height = size
    x1, y1, x2, y2 = box
    if not (
        -PIXEL_TOLERANCE <= x1 <= x2 <= width + PIXEL_TOLERANCE
        and -PIXEL_TOLERANCE <= y1 <= y2 <= height + PIXEL_TOLERANCE
    ):
        numbers = ", ".join(f"{side:g}" for side in box)
        raise RecordError(
            f"the box [{numbers}] leaves the picture of {width:g} x {height:g} pixels",
            reason="bad_box",
        )
    # Both corners are clipped on both sides: a box may lie within the tolerance altogether.
    left, right = (min(max(side, 0.0), width) / width for side in (x1, x2))
    top, bottom = (min(max(side, 0.0), height) / height for side in (y1, y2))
    return left, top, right, bottom


def read_sizes(value: Mapping[str, Any]) -> tuple[Size | None, ...]:
    """Return the sizes that an object says its pictures have, in their order; None for one that it
    does not say.

    ``width`` and ``height`` are numbers, or lists of one for each picture; InternVL calls these
    ``width_list`` and ``height_list``.

    >>> read_sizes({"width": 64, "height": 48})
    ((64, 48),)
    >>> read_sizes({"width_list": [64, 80], "height_list": [48, None]})
    ((64, 48), None)
    """
    widths, heights = (_numbers(value, name) for name in ("width", "height"))
    if len(widths) != len(heights):
        return ()
    return tuple(
        (width, height) if _is_length(width) and _is_length(height) else None
        for width, height in zip(widths, heights, strict=True)
    )


def _numbers(value: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = value.get(name)
    if found is None:
        found = value.get(f"{name}_list")
    if isinstance(found, list):
        return found
    return () if found is None else (found,)


def _is_length(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value < math.inf  # type: ignore[operator]
