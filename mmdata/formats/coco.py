"""COCO's own annotation files: captions become descriptions of images, boxes become phrases
grounded in them.

A record is one caption, or all boxes of one category in one image; an annotation that marks a
crowd, whose box has no area, or that cannot be joined with its image is a record of its own, which
ends as a reject. A record's number is the place of its first annotation among the file's
``annotations``. Annotations and images are joined through a temporary file about as large as the
source; memory holds some 150 bytes an annotation.
"""

from __future__ import annotations

import heapq
import posixpath
import re
from array import array
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, TypeGuard

from mmdata.errors import RecordError, SchemaError
from mmdata.formats import registry
from mmdata.formats._flat import NotPlainError, require
from mmdata.formats._format import Origin, Sample
from mmdata.formats._sources import JsonSource, conversation_id, json_type, mapping
from mmdata.formats.llava import fallback_paths
from mmdata.rejects import Reason, Reject
from mmdata.schema import Box, Conversation, Image, Media, Message, Region, Split, assistant, user
from mmdata.sources._json import members
from mmdata.sources._run import Way
from mmdata.sources._spill import Spill
from mmdata.sources.record import Record
from mmdata.store.encode import PART_CODES, ROLE_CODES, FlatRows

__all__ = ["Coco"]

_EDITION: Final = re.compile(r"(?:^|[_.-])((train|val|test)(?:20\d\d)?)(?=[_.-]|$)")
_HEAD: Final = re.compile(r'\s*\{\s*"(?:info|images|annotations|categories|licenses)"\s*:')
_TOLERANCE: Final = 1.0
"""Pixels by which a box may overrun the image and is clipped; COCO's own boxes overrun by rounding
alone.
"""

_TOGETHER: Final = 512
"""How many records are read at once."""
_CAPTION_PARTS: Final = bytes(PART_CODES[part] for part in ("image", "text", "text"))
_BOX_PARTS: Final = bytes(PART_CODES[part] for part in ("image", "text", "region"))

_LARGEST: Final = 1e9  # pixels; nothing beyond it is a coordinate, NaN and the infinities included


@registry.register("coco")
@dataclass(frozen=True)
class Coco(JsonSource):
    """COCO captions and instances files. ``dataset_name`` is what rows have in the column
    ``source``.

    ``caption_prompt`` asks for a caption, ``box_prompt`` for the boxes of ``{category}``. The split
    is read from the file's name, as in ``captions_val2017.json``.
    """

    summary: ClassVar[str] = (
        "COCO annotations: captions to descriptions, instances to grounded phrases"
    )
    shape: ClassVar[str] = (
        '{"images": [{"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480}], '
        '"annotations": [{"id": 1, "image_id": 9, "caption": "A cup."}, '
        '{"id": 2, "image_id": 9, "category_id": 47, "bbox": [10, 20, 30, 40]}], '
        '"categories": [{"id": 47, "name": "cup"}]}'
    )

    dataset_name: str = "coco"
    caption_prompt: str = "Describe the image in one sentence."
    box_prompt: str = "Find every {category} in the image."

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the file is one object of COCO's parts."""
        return sample.every("images", "annotations") or (
            not sample.records and _HEAD.match(sample.head) is not None
        )

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the folder of the files, or the one above if it is called annotations, as COCO's
        is.
        """
        root = super().media_root(sources)
        return root.parent if root.name == "annotations" else root

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        """Yield the records of the files, by their first annotation."""
        for file in self.files(sources):
            with Spill() as spill:
                yield from _records(file.as_posix(), _Index(spill), file)

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = ()
    ) -> Iterator[list[Record | Reject]]:
        """Yield the records of the files in lists."""
        left = self.records(sources)
        while run := list(islice(left, _TOGETHER)):
            yield run

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the captions, or the boxes, of records column by column, where all are sound and
        of one file.
        """
        values = [record.raw for record in records]
        try:
            require(
                all(type(value) is dict for value in values)
                and len({record.file for record in records}) == 1
            )
            images = [_image(value) for value in values]
            if all("caption" in value["annotations"][0] for value in values):
                return self._flatten_captions(values, images, records)
            return self._flatten_boxes(values, images, records)
        except (NotPlainError, RecordError, SchemaError):
            return None

    def _flatten_captions(
        self,
        values: Sequence[dict[str, Any]],
        images: Sequence[dict[str, Any]],
        records: Sequence[Record],
    ) -> FlatRows:
        require(not any("category" in value for value in values))
        captions = [_caption(value) for value in values]
        return FlatRows(
            texts=[text for caption in captions for text in (self.caption_prompt, caption)],
            part_codes=_CAPTION_PARTS * len(values),
            part_media=[0] * len(values),
            **self._common_columns(values, images, records),
        )

    def _flatten_boxes(
        self,
        values: Sequence[dict[str, Any]],
        images: Sequence[dict[str, Any]],
        records: Sequence[Record],
    ) -> FlatRows:
        require(not any("caption" in value["annotations"][0] for value in values))
        regions = [_boxes(value, image) for value, image in zip(values, images, strict=True)]
        prompts = [self.box_prompt.replace("{category}", region.text) for region in regions]
        return FlatRows(
            texts=[
                text
                for prompt, region in zip(prompts, regions, strict=True)
                for text in (prompt, region.text)
            ],
            part_codes=_BOX_PARTS * len(values),
            part_media=[0, 0] * len(values),
            boxes=[region.boxes for region in regions],
            **self._common_columns(values, images, records),
        )

    def _common_columns(
        self,
        values: Sequence[dict[str, Any]],
        images: Sequence[dict[str, Any]],
        records: Sequence[Record],
    ) -> dict[str, Any]:
        """Return the columns that captions and boxes share: an image and a question, and an answer
        of one part.
        """
        count = len(values)
        return {
            "ids": [record.id or conversation_id(record) for record in records],
            "sources": [self.dataset_name] * count,
            "splits": [_split(records[0].file)] * count,
            "extras": list(map(_extra, values, images)),
            "num_messages": [2] * count,
            "num_media": [1] * count,
            "roles": bytes([ROLE_CODES["user"], ROLE_CODES["assistant"]]) * count,
            "train": b"\0\1" * count,
            "num_parts": [2, 1] * count,
            "media_types": ["image"] * count,
            "media": {"path": (b"\1" * count, [image["file_name"] for image in images])},
        }

    def conversation(self, record: Record) -> Conversation:
        """Return the caption of an image, or the boxes of a category in one."""
        value = mapping(record)
        image = _image(value)
        content = _caption(value) if "caption" in value["annotations"][0] else _boxes(value, image)
        category = value.get("category")
        name = str(category.get("name")) if isinstance(category, dict) else ""
        prompt = (
            self.caption_prompt
            if isinstance(content, str)
            else self.box_prompt.replace("{category}", name)
        )
        messages: tuple[Message, ...] = (user(Image(0), prompt), assistant(content))
        media = (Media("image", image["file_name"]),)
        return Conversation(
            conversation_id(record),
            messages,
            media,
            self.dataset_name,
            _split(record.file),
            _extra(value, image),
        )

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path in the folder of its edition, as it is spelt, and where such an image is
        often kept.
        """
        if edition := _EDITION.search(_stem(origin.file)):
            yield f"{edition[1]}/{path}"
            yield f"images/{edition[1]}/{path}"
        yield from JsonSource.candidates(self, path, origin)
        if not path.startswith("/"):
            yield from fallback_paths(path)


class _Index:
    """What of a file is kept in memory: where its parts are in the spill, and which belong
    together.
    """

    def __init__(self, spill: Spill) -> None:
        self.spill = spill
        self.images: dict[int, int] = {}  # number of an image's id -> place in the spill
        self.categories: dict[int, Any] = {}  # number of a category's id -> category
        self.met = 0  # annotations, broken ones too
        self.numbers = array("q")  # of the annotations in the file
        self.places = array("q")  # of the annotations in the spill
        # The number of each annotation's image id; -1: it is a record of its own.
        self.image_of = array("q")
        self.category_of = array("q")  # the number of its category id
        self._numbers: dict[Hashable, int] = {}

    def add(self, key: str, value: Any) -> RecordError | None:
        """Take one item of ``images``, ``categories`` or ``annotations``; return why it cannot be
        taken, if so.
        """
        if key != "annotations" and isinstance(value, dict) and "image_id" in value:
            return RecordError(
                "an annotation outside of 'annotations', after something broken", reason="bad_json"
            )
        try:
            place = self.spill.append(value) if key in {"images", "annotations"} else -1
        except RecursionError:
            return RecordError("nested deeper than can be written", reason="too_deep")
        if key == "annotations":
            alone = not isinstance(value, dict) or "caption" in value or _fault(value)
            self.places.append(place)
            self.numbers.append(self.met)
            self.image_of.append(-1 if alone else self._number("image", value.get("image_id")))
            self.category_of.append(
                -1 if alone else self._number("category", value.get("category_id"))
            )
            self.met += 1
        elif isinstance(value, dict) and key == "images":
            self.images.setdefault(self._number("image", value.get("id")), place)
        elif isinstance(value, dict) and key == "categories":
            self.categories.setdefault(self._number("category", value.get("id")), value)
        return None

    def groups(self) -> Iterator[list[int]]:
        """Yield the annotations that make a record, as their numbers, by the first of them."""
        import numpy as np

        image, category = np.array(self.image_of, np.int64), np.array(self.category_of, np.int64)
        alone = -1 - np.arange(len(image))  # a key that no other annotation has
        keys = np.where(image < 0, alone, image * (category.max(initial=0) + 1) + category)
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=np.iinfo(np.int64).min))
        ends = np.append(starts[1:], len(order))
        for group in np.argsort(order[starts], kind="stable"):
            yield order[starts[group] : ends[group]].tolist()

    def value(self, group: list[int]) -> Any:
        """Return the value of the record that a group of annotations makes."""
        annotations = [self.spill[self.places[number]] for number in group]
        first = annotations[0]
        if not isinstance(first, dict):
            return first
        image = self.images.get(self._number("image", first.get("image_id")))
        value = {"image": None if image is None else self.spill[image], "annotations": annotations}
        if "caption" not in first:
            value["category"] = self.categories.get(
                self._number("category", first.get("category_id"))
            )
        return value

    def _number(self, what: str, identity: object) -> int:
        """Return a number for an id; what is no id of JSON's has one of its own."""
        key = (what, identity if isinstance(identity, (int, str)) else repr(identity))
        return self._numbers.setdefault(key, len(self._numbers))


def _records(name: str, index: _Index, file: Path) -> Iterator[Record | Reject]:
    """Read a file into the index, then yield the records it makes; a broken annotation as a reject
    in its place.

    What is broken outside the annotations comes after them, numbered on.
    """
    broken, broken_outside = [], []
    for key, value in members(file):
        fault = value if isinstance(value, RecordError) else index.add(key, value)
        if fault and key == "annotations":
            broken.append((index.met, fault))
            index.met += 1
        elif fault:
            broken_outside.append(
                fault if not key else RecordError(f"in {key!r}: {fault}", reason=fault.reason)
            )
    rejects = (
        Reject(number, name, None, Reason.of(fault.reason), str(fault)) for number, fault in broken
    )
    yield from heapq.merge(_join(name, index), rejects, key=_number)
    for number, fault in enumerate(broken_outside, index.met):
        yield Reject(number, name, None, Reason.of(fault.reason), str(fault))


def _join(name: str, index: _Index) -> Iterator[Record | Reject]:
    for group in index.groups():
        number = index.numbers[group[0]]
        try:
            value = index.value(group)
        except RecursionError:
            yield Reject(
                number, name, None, Reason.TOO_DEEP, "nested deeper than a reader can follow"
            )
        else:
            yield Record(value, name, number, _id(value))


def _number(item: Record | Reject) -> int:
    return item.number if isinstance(item, Record) else item.record


def _id(value: Any) -> str | None:
    """Return the id of a record: its annotation's, or for boxes its image's and its category's."""
    if not isinstance(value, dict):
        return None
    first = value["annotations"][0]
    if "caption" in first or _fault(first):
        return None if first.get("id") is None else str(first["id"])
    return f"{first.get('image_id')}:{first.get('category_id')}"


def _image(value: dict[str, Any]) -> dict[str, Any]:
    image, wanted = value.get("image"), value["annotations"][0].get("image_id")
    if not isinstance(image, dict):
        raise RecordError(f"the image with the id {wanted!r} is not among the file's images")
    if not isinstance(image.get("file_name"), str):
        raise RecordError(
            f"the 'file_name' of image {wanted!r} must be a string, "
            f"found {json_type(image.get('file_name'))}"
        )
    if not image["file_name"]:
        raise RecordError(f"the 'file_name' of image {wanted!r} is empty", reason="missing_media")
    return image


def _extra(value: dict[str, Any], image: dict[str, Any]) -> dict[str, Any]:
    """Return what of a record has no column of its own."""
    category = value.get("category")
    return {
        "image": {key: found for key, found in image.items() if key != "file_name"},
        **({"category": category} if category is not None else {}),
        "annotations": [
            {key: found for key, found in annotation.items() if key != "caption"}
            for annotation in value["annotations"]
        ],
    }


def _caption(value: dict[str, Any]) -> str:
    caption = value["annotations"][0]["caption"]
    if not isinstance(caption, str):
        raise RecordError(f"a caption must be a string, found {json_type(caption)}")
    if not caption.strip():
        raise RecordError("the caption is empty", reason="empty_turn")
    return caption


def _boxes(value: dict[str, Any], image: dict[str, Any]) -> Region:
    if fault := _fault(value["annotations"][0]):
        raise RecordError(fault, reason="bad_box")
    category = value["category"]
    if (
        not isinstance(category, dict)
        or not isinstance(category.get("name"), str)
        or not category["name"]
    ):
        wanted = value["annotations"][0].get("category_id")
        raise RecordError(
            f"the category with the id {wanted!r} is not among the file's categories, "
            "or has no name"
        )
    width, height = image.get("width"), image.get("height")
    if not (_is_number(width) and _is_number(height) and width > 0 and height > 0):
        raise RecordError(f"boxes need the image's size in pixels, found {width!r} x {height!r}")
    return Region(
        category["name"], tuple(_box(one["bbox"], width, height) for one in value["annotations"])
    )


def _box(bbox: list[float], width: float, height: float) -> Box:
    """Return the fractions of a box of x, y, width and height in pixels, clipped by
    :data:`_TOLERANCE` at most.
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


def _fault(annotation: dict[str, Any]) -> str:
    """Return why an annotation's box cannot be one, as text; empty where it can."""
    bbox = annotation.get("bbox")
    if annotation.get("iscrowd"):
        return "the annotation marks a crowd"
    if not isinstance(bbox, list) or len(bbox) != 4 or not all(map(_is_number, bbox)):
        return f"'bbox' must be four numbers x, y, width, height, found {str(bbox)[:60]}"
    if bbox[2] <= 0 or bbox[3] <= 0:
        return f"the box {bbox} has no area"
    return ""


def _is_number(value: object) -> TypeGuard[float]:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and -_LARGEST < value < _LARGEST
    )


def _stem(file: str) -> str:
    return posixpath.basename(file).split(".json")[0]


def _split(file: str) -> Split:
    found = _EDITION.search(_stem(file))
    return found[2] if found else "train"  # type: ignore[return-value]
