"""Boxes as COCO writes them: x, y, width and height in pixels, to fractions of the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeGuard

from mmdata.errors import RecordError
from mmdata.formats._flat import require
from mmdata.schema import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["are_boxes", "box_fault", "fractions_of_all", "image_size", "to_fractions"]

_TOLERANCE: Final = 1.0
"""Pixels by which a box may overrun the image and is clipped; COCO's own boxes overrun by rounding
alone.
"""
_LARGEST: Final = 1e9  # pixels; nothing beyond it is a coordinate, NaN and the infinities included


def box_fault(annotation: dict[str, Any]) -> str:
    """Return why an annotation's box cannot be one, as text; empty where it can."""
    bbox = annotation.get("bbox")
    if annotation.get("iscrowd"):
        return "the annotation marks a crowd"
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        return f"'bbox' must be four numbers x, y, width, height, found {str(bbox)[:60]}"
    if bbox[2] <= 0 or bbox[3] <= 0:
        return f"the box {bbox} has no area"
    return ""


def are_boxes(boxes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return of each box, (boxes, 4), whether :func:`box_fault` finds no fault in its numbers."""
    import numpy as np

    fit = np.all(np.abs(boxes) < _LARGEST, axis=1)
    found: NDArray[np.bool_] = fit & np.all(boxes[:, 2:] > 0, axis=1)
    return found


def image_size(image: dict[str, Any]) -> tuple[float, float]:
    """Return the width and the height of an image in pixels.

    Raises:
        RecordError: the image does not say them.
    """
    width, height = image.get("width"), image.get("height")
    if _is_number(width) and _is_number(height) and width > 0 and height > 0:
        return width, height
    raise RecordError(f"boxes need the image's size in pixels, found {width!r} x {height!r}")


def to_fractions(bbox: list[float], width: float, height: float) -> Box:
    """Return a box as (x1, y1, x2, y2) in 0..1 of the image, clipped by :data:`_TOLERANCE` at most.

    Raises:
        RecordError: it leaves the image.
    """
    x, y, w, h = bbox
    overrun = max(-x, -y, x + w - width, y + h - height)
    if overrun > _TOLERANCE:
        raise RecordError(
            f"the box {bbox} leaves the image of {width} x {height} pixels", reason="bad_box"
        )
    return (
        max(x, 0) / width,
        max(y, 0) / height,
        min((x + w) / width, 1.0),
        min((y + h) / height, 1.0),
    )


def fractions_of_all(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what :func:`to_fractions` does of each box, (boxes, 4); ``sizes`` are the width and
    the height of the image of each, (boxes, 2).

    Raises:
        NotPlainError: a box leaves its image, or a size is none.
    """
    import numpy as np

    require(bool(np.all((sizes > 0) & (sizes < _LARGEST))))
    first, last = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    require(bool(np.all((-first <= _TOLERANCE) & (last - sizes <= _TOLERANCE))))

    # np.where and not np.clip, which would make 0.0 of -0.0, where Python's max leaves it be.
    first = np.where(first < 0, 0, first) / sizes
    last = last / sizes
    found = np.hstack([first, np.where(last > 1, 1, last)]).astype(np.float32)
    require(bool(np.all((found >= 0) & (found <= 1)) and np.all(found[:, :2] <= found[:, 2:])))
    return found


def _is_number(value: object) -> TypeGuard[float]:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and -_LARGEST < value < _LARGEST
    )
