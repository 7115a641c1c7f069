"""ms-swift's ``objects``: the phrases and boxes that stand beside the turns, for the marks
``<ref-object>`` and ``<bbox>`` in them.

Its documentation and its code (``Template.normalize_bbox`` and ``_pre_tokenize``) say how: the
marks of each kind take the phrases and the boxes in order over the whole conversation, and the two
kinds do not correspond. ``bbox_type`` is ``real`` (pixels) unless it is said, ``image_id`` the
number of a box's picture among the images, 0 unless it is said. A box of two numbers is a point,
which becomes a box without area.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from mmdata.errors import RecordError
from mmdata.formats._boxes import Size, read_sizes
from mmdata.formats._sources import json_type
from mmdata.schema import Box
from mmdata.sources._literal import parse_json

__all__ = ["ObjectBox", "Objects", "read_objects"]

_FIELDS: Final = frozenset({"ref", "bbox", "bbox_type", "image_id", "width", "height"})
_OLD_FIELDS: Final = frozenset({"caption", "bbox", "bbox_type", "image"})
_SCALES: Final[dict[str, float | None]] = {
    "real": None,
    "norm1": 1.0,
    "norm_1": 1.0,
    "norm1000": 1000.0,
    "norm_1000": 1000.0,
}
"""What the numbers of each type of box are divided by; None is the picture's size."""
_LARGEST: Final = 1e9
"""No picture has as many pixels on a side; a number beyond is none of a box."""


@dataclass(frozen=True, slots=True)
class ObjectBox:
    """One box: its corners, what they are divided by (None: the size of the picture), and the
    number of the picture among the images.
    """

    corners: Box
    scale: float | None
    image: int = 0


@dataclass(frozen=True, slots=True)
class Objects:
    """What marks take, each kind in order: phrases for ``<ref-object>``; for each ``<bbox>`` the
    boxes that stand for it, nearly always one.

    ``sizes`` are those that the objects say the images have. ``are_pairs`` is whether each object
    came with a phrase and a box of its own, as ms-swift 2 wrote them: then the marks of one kind
    may be absent.
    """

    refs: Sequence[str] = ()
    boxes: Sequence[Sequence[ObjectBox]] = ()
    sizes: Sequence[Size | None] = ()
    are_pairs: bool = False


def read_objects(value: object) -> Objects | None:
    """Return what the field ``objects`` of a record says; None where it says nothing.

    It is an object of lists, or, as ms-swift 2 wrote it, a list of objects with ``caption``,
    ``bbox``, ``bbox_type`` and ``image``; or either as a string of JSON.

    >>> found = read_objects({"ref": ["cup"], "bbox": [[10, 20, 30, 40]], "bbox_type": "norm1000"})
    >>> found.refs, found.boxes[0][0].corners
    (('cup',), (10.0, 20.0, 30.0, 40.0))

    Raises:
        RecordError: it is something else, or a field of it is not known.
    """
    if isinstance(value, str) and value.strip():
        try:
            value = parse_json(value, "'objects'")
        except ValueError as error:
            raise RecordError(f"'objects' is a string but no JSON: {error}") from error
    if value is None or value in ("", {}, []) or (isinstance(value, str) and value.isspace()):
        return None
    if isinstance(value, dict):
        return _read_lists(value)
    if isinstance(value, list):
        return _read_pairs(value)
    raise RecordError(f"'objects' must be an object or an array, found {json_type(value)}")


def _read_lists(value: dict[str, Any]) -> Objects | None:
    _refuse_unknown(value, _FIELDS)
    refs, boxes, images = (_list(value, name) for name in ("ref", "bbox", "image_id"))
    if not refs and not boxes:
        return None
    if len(images) > len(boxes):
        raise RecordError(
            f"'objects' has {len(images)} 'image_id' for {len(boxes)} 'bbox'",
            reason="media_mismatch",
        )

    # ms-swift fills a list that is too short with zeros.
    images += [0] * (len(boxes) - len(images))
    scale = _scale(value.get("bbox_type"))
    return Objects(
        tuple(map(_phrase, refs)),
        tuple(_boxes(box, scale, image) for box, image in zip(boxes, images, strict=True)),
        read_sizes(value),
    )


def _read_pairs(value: list[Any]) -> Objects:
    for item in value:
        if not isinstance(item, dict):
            raise RecordError(f"'objects' must hold objects, found {json_type(item)}")
        _refuse_unknown(item, _OLD_FIELDS)
    return Objects(
        tuple(_phrase(item["caption"]) for item in value if "caption" in item),
        tuple(
            _boxes(item["bbox"], _scale(item.get("bbox_type")), item.get("image") or 0)
            for item in value
            if "bbox" in item
        ),
        are_pairs=True,
    )


def _refuse_unknown(value: dict[str, Any], known: frozenset[str]) -> None:
    if unknown := [key for key in value if key not in known]:
        raise RecordError(
            f"'objects' has {unknown[0]!r}, which is not read; "
            f"known are {', '.join(sorted(known))}",
            reason="unsupported_field",
        )


def _list(value: dict[str, Any], name: str) -> list[Any]:
    """Return a field that is a list; a falsy one is as if it were absent, as ms-swift has it."""
    found = value.get(name)
    if not found:
        return []
    if not isinstance(found, list):
        raise RecordError(f"{name!r} of 'objects' must be an array, found {json_type(found)}")
    return list(found)


def _phrase(value: object) -> str:
    if not isinstance(value, str):
        raise RecordError(f"a phrase of 'objects' must be a string, found {json_type(value)}")
    return value


def _scale(value: object) -> float | None:
    if not value:
        return None
    if not isinstance(value, str) or value not in _SCALES:
        raise RecordError(
            f"'bbox_type' must be one of {', '.join(_SCALES)}, found {value!r:.60}",
            reason="bad_box",
        )
    return _SCALES[value]


def _boxes(value: object, scale: float | None, image: object) -> tuple[ObjectBox, ...]:
    """Return the boxes of one ``<bbox>``: one, or several in a list."""
    if isinstance(image, bool) or not isinstance(image, int):
        raise RecordError(f"the image of a box must be its number, found {image!r:.60}")
    if isinstance(value, list) and value and all(isinstance(item, list) for item in value):
        return tuple(ObjectBox(_corners(item), scale, image) for item in value)
    return (ObjectBox(_corners(value), scale, image),)


def _corners(value: object) -> Box:
    """Return a box; of two numbers, a point, that of no area."""
    if isinstance(value, list) and len(value) in (2, 4) and all(map(_is_number, value)):
        x1, y1, x2, y2 = map(float, value if len(value) == 4 else value * 2)
        return x1, y1, x2, y2
    raise RecordError(
        f"a box of 'objects' must be four numbers, or the two of a point, found {str(value)[:60]}",
        reason="bad_box",
    )


def _is_number(value: object) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and -_LARGEST < value < _LARGEST  # type: ignore[operator]
