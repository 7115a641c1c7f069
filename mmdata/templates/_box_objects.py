"""Boxes as JSON objects in text: ``{"bbox_2d": [x1, y1, x2, y2], "label": "cat"}``, a list of them
for several.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final, Literal, TypeAlias

from mmdata._tools.strict_json import STRICT_DECODER
from mmdata.errors import SchemaError
from mmdata.schema import Box, Part, Region, Text

__all__ = ["BoxUnit", "box_text", "read_regions", "scale_region"]

BoxUnit: TypeAlias = Literal["pixels", "thousandths"]
"""In what a family counts: pixels of the picture as the model sees it, or 0..1000 of it."""

_KEY: Final = "bbox_2d"


def box_text(region: Region, size: tuple[int, int]) -> str:
    """Return the boxes of a region in whole numbers of a picture of ``size`` (height, width)."""
    height, width = size
    label = {"label": region.text} if region.text else {}
    objects = []
    for x1, y1, x2, y2 in region.boxes:
        numbers = [round(x1 * width), round(y1 * height), round(x2 * width), round(y2 * height)]
        objects.append(json.dumps({_KEY: numbers, **label}, ensure_ascii=False))
    return objects[0] if len(objects) == 1 else f"[{', '.join(objects)}]"


def read_regions(text: str, unit: BoxUnit) -> Iterator[Part]:
    """Yield a text as parts, its boxes as regions; what is malformed stays text.

    Boxes in a list that have one label are one region. Boxes in pixels are of a picture whose size
    the text does not say: their regions are of the unit ``pixel``.
    """
    done = 0
    start = 0
    while _KEY in text[start:]:
        begins = min((at for mark in "[{" if (at := text.find(mark, start)) >= 0), default=-1)
        if begins < 0:
            break
        start = begins + 1
        regions, end = _regions_at(text, begins, unit)
        if regions:
            if begins > done:
                yield Text(text[done:begins])
            yield from regions
            done = start = end
    if done < len(text):
        yield Text(text[done:])


def _regions_at(text: str, start: int, unit: BoxUnit) -> tuple[list[Region], int]:
    try:
        found, end = STRICT_DECODER.raw_decode(text, start)
        objects = found if isinstance(found, list) else [found]
        labelled = [(_label(each), _box(each, unit)) for each in objects]
        groups = groupby(labelled, key=lambda pair: pair[0])
        kind: Literal["fraction", "pixel"] = "pixel" if unit == "pixels" else "fraction"
        return [
            Region(label, tuple(box for _, box in pairs), unit=kind) for label, pairs in groups
        ], end
    except (ValueError, RecursionError, SchemaError):
        return [], start


def _label(found: Any) -> str:
    if not isinstance(found, dict) or not {_KEY} <= found.keys() <= {_KEY, "label"}:
        raise ValueError("no object of a box")
    label = found.get("label", "")
    if not isinstance(label, str):
        raise ValueError("a label that is no text")
    return label


def _box(found: Any, unit: BoxUnit) -> Box:
    numbers = found[_KEY]
    is_box = isinstance(numbers, list) and len(numbers) == 4
    if not is_box or not all(type(number) in (int, float) for number in numbers):
        raise ValueError("no box of four numbers")
    scale = 1 if unit == "pixels" else 1000
    x1, y1, x2, y2 = (number / scale for number in numbers)
    return x1, y1, x2, y2


def scale_region(region: Region, size: tuple[int, int], media: int) -> Region:
    """Return a region in pixels of a picture of ``size`` (height, width) as one in fractions; what
    is beyond the picture is cut off.
    """
    height, width = size

    def within(value: float, side: int) -> float:
        return min(max(value / side, 0.0), 1.0)

    boxes = tuple(
        (within(x1, width), within(y1, height), within(x2, width), within(y2, height))
        for x1, y1, x2, y2 in region.boxes
    )
    return Region(region.text, boxes, media, region.train)
