"""The records of one COCO file: its annotations, joined with their images and categories.

The parts of a file come in any order, and an annotation may come long before its image. So
everything is written to a temporary file first, as the JSON text that a store keeps of it, and read
back record by record. Memory holds where things are: some 150 bytes an annotation.
"""

from __future__ import annotations

import heapq
import json
from array import array
from collections.abc import Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Struct, UnsetType

from mmdata.errors import RecordError
from mmdata.formats._coco_answers import HEARD_FIELDS, is_about_region, is_whole_record
from mmdata.formats._coco_boxes import are_boxes, box_fault
from mmdata.formats._coco_verbatim import Instance, Instances, read_instances
from mmdata.formats._meaning import may_change_meaning
from mmdata.rejects import Reason, Reject
from mmdata.sources._json import members
from mmdata.sources._run import Spelled, read_strictly
from mmdata.sources._spill import Spill
from mmdata.sources.meter import Tell, tell_nobody
from mmdata.sources.record import Record, Unread
from mmdata.store.encode import encode_json_lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Joined", "join_file"]

_RUN: Final = 512
"""How many records are handed out at once."""
_BOX, _MARKED, _CAPTION, _WORDS, _FAULTY, _NO_OBJECT = range(6)
"""The kinds of annotations: boxes, of which those of an image and a category are one record, and so
are those that mark words of their image's caption or have a field that may change what they mean;
and those that are records of their own: captions of whole images, what else says something in
words, boxes with a fault, and what is no object.
"""

_decode: Final = msgspec.json.Decoder().decode


class Joined(Unread, frozen=True, gc=False):
    """A record that is still JSON text: an image, its annotations, and the category of its boxes.

    The text of an image is without its ``file_name``, that of an annotation without its
    ``caption``; these are texts of their own, each in an array, which is empty where there is none.
    """

    image: bytes
    file_name: bytes
    annotations: tuple[bytes, ...]
    caption: bytes
    category: bytes | None = None
    category_name: str = ""
    is_plain: bool = True
    boxes: bytes = b""
    """Of annotations that have boxes: x, y, width and height of each, as float64."""

    def read(self) -> Any:
        """Return the record as JSON has it.

        Raises:
            RecordError: it is nested deeper than can be read.
        """
        try:
            first, *others = map(_read, self.annotations)
            annotations = [_put(first, "caption", self.caption), *others]
            value = {
                "image": _put(_read(self.image), "file_name", self.file_name),
                "annotations": annotations,
            }
            if self.category is not None:
                value["category"] = _read(self.category)
        except RecursionError as error:
            what = "nested deeper than a reader can follow"
            raise RecordError(what, reason="too_deep") from error
        return value

    def extra(self) -> bytes:
        """Return as one line of JSON text what of the record has no column of its own."""
        category = b"" if self.category is None else b',"category":%b' % self.category
        parts = self.image, category, b",".join(self.annotations)
        return b'{"image":%b%b,"annotations":[%b]}' % parts


class _Category(NamedTuple):
    text: bytes
    name: str


class _Own(Struct, frozen=True, gc=False):
    """What of an annotation is asked for by itself; the decoder steps over all other fields."""

    id: Any = None
    ref_id: Any = None


_NO_IMAGE: Final = (0,)  # the places of an image that is not there
_NO_BOX: Final = (0.0, 0.0, 0.0, 0.0)
_BOX_BYTES: Final = 32  # four float64
_NO_CATEGORY: Final = _Category(b"null", "")


class _Plain(Struct, frozen=True, gc=False, kw_only=True):
    """An annotation that has none of the fields which take a look at it alone; the decoder steps
    over all others.
    """

    image_id: int
    segments_info: UnsetType = UNSET
    sentences: UnsetType = UNSET
    expressions: UnsetType = UNSET
    expression: UnsetType = UNSET
    phrases: UnsetType = UNSET
    phrase: UnsetType = UNSET
    tokens_positive: UnsetType = UNSET


class _Boxed(_Plain, frozen=True, gc=False, kw_only=True):
    """An annotation of one box that says nothing in words."""

    category_id: int
    bbox: tuple[float, float, float, float]
    iscrowd: int = 0
    caption: UnsetType = UNSET


class _Captioned(_Plain, frozen=True, gc=False, kw_only=True):
    """A caption of a whole image."""

    caption: str
    bbox: UnsetType = UNSET
    segmentation: UnsetType = UNSET
    split: UnsetType = UNSET
    category_id: UnsetType = UNSET


_decode_captions: Final = msgspec.json.Decoder(_Captioned).decode_lines
_decode_boxes: Final = msgspec.json.Decoder(_Boxed).decode_lines
_decode_own: Final = msgspec.json.Decoder(_Own).decode


def join_file(file: Path, tell: Tell = tell_nobody) -> Iterator[list[Record | Reject]]:
    """Yield the records of a file in lists, by their first annotation; what is broken as a reject
    in its place.

    What says something in words is a record of its own, and so is an annotation whose box has a
    fault; all other boxes of one image and one category are one record. What is broken outside the
    annotations comes after them, numbered on. ``tell`` is called before each list with which share
    of the annotations ends with it: all of the file has been read by then.
    """
    name = file.as_posix()
    with Spill() as spill:
        index = _Index(spill)
        for key, values in members(file, ways=(read_instances, read_strictly)):
            index.add(key, values)

        broken = [_reject(number, name, fault) for number, fault in index.broken]
        runs: Iterator[list[Record | Reject]] = index.runs(name, tell)
        if broken:
            one_by_one = (item for run in runs for item in run)
            runs = ([item] for item in heapq.merge(one_by_one, broken, key=_number))
        yield from runs
        for number, fault in enumerate(index.broken_outside, index.num_met):
            yield [_reject(number, name, fault)]


class _Index:
    """Where the parts of a file are in the spill, and which of them belong together."""

    def __init__(self, spill: Spill) -> None:
        self.num_met = 0  # annotations, broken ones too
        self.broken: list[tuple[int, RecordError]] = []
        self.broken_outside: list[RecordError] = []
        self._spill = spill
        spill.extend([None, []])  # what an image that is not there is read as
        self._images: dict[int, list[int]] = {}  # number of an image's id -> places in the spill
        self._categories: dict[int, _Category] = {}  # number of a category's id -> category
        self._image_ids: dict[Hashable, int] = {}  # id -> its number
        self._category_ids: dict[Hashable, int] = {}

        # Of each annotation: its number in the file, its place in the spill, the numbers of the ids
        # of its image and its category, what kind it is, and its box in pixels, where it has one.
        self._number_of = array("q")
        self._place_of = array("q")
        self._image_of = array("q")
        self._category_of = array("q")
        self._kind_of = bytearray()
        self._box_of = array("d")

    def add(self, key: str, values: Sequence[Any]) -> None:
        """Take items of ``images``, ``categories`` or ``annotations``, or what else is in the
        file; note those that cannot be taken.
        """
        try:
            if key == "annotations" and isinstance(values, Instances):
                self._add_annotations(values)
            elif isinstance(values[0], RecordError):  # errors come alone
                self._add_fault(key, values[0])
            elif key == "annotations":
                self._add_annotations(values)
            elif any(isinstance(value, dict) and "image_id" in value for value in values):
                self._add_beside_annotations(key, values)
            elif key == "images":
                self._add_images(values)
            elif key == "categories":
                self._add_categories(values)
        except RecursionError:
            if len(values) > 1:
                for value in values:
                    self.add(key, [value])
                return
            what = "nested deeper than can be written"
            self._add_fault(key, RecordError(what, reason="too_deep"))

    def runs(self, name: str, tell: Tell) -> Iterator[list[Record | Reject]]:
        """Yield the records in lists; ``name`` is that of the file."""
        import numpy as np

        image, category = (np.array(of, np.int64) for of in (self._image_of, self._category_of))
        is_alone = np.frombuffer(self._kind_of, np.uint8) > _MARKED
        own_keys = -1 - np.arange(len(image))  # that no other annotation has
        keys = np.where(is_alone, own_keys, image * (category.max(initial=0) + 1) + category)

        # Sorted by key, and stably, a group is what has the same key: in the order of the file.
        order = np.argsort(keys, kind="stable")
        starts = np.flatnonzero(np.diff(keys[order], prepend=np.iinfo(np.int64).min))
        ends = np.append(starts[1:], len(order))
        by_first = np.argsort(order[starts], kind="stable")
        ids = list(map(str, self._image_ids)), list(map(str, self._category_ids))
        for begin in range(0, len(by_first), _RUN):
            groups = by_first[begin : begin + _RUN]
            sizes = ends[groups] - starts[groups]
            firsts = np.cumsum(sizes) - sizes

            # Where in ``order`` the members of the groups are, one group after the other.
            places = np.arange(sizes.sum()) + np.repeat(starts[groups] - firsts, sizes)
            tell((begin + len(groups)) / len(by_first))
            yield self._records(name, order[places], firsts, *ids)

    def _records(
        self,
        name: str,
        members: NDArray[np.int64],
        firsts: NDArray[np.int64],
        image_ids: Sequence[str],
        category_ids: Sequence[str],
    ) -> list[Record | Reject]:
        """Return the records that groups of annotations make: ``members`` are all of them, group
        by group, and ``firsts`` says where in these each group begins.
        """
        import numpy as np

        # What all annotations have is taken of all together: a call for each would take longer than
        # the reading.
        first_of = members[firsts]
        spill, place_of = self._spill, np.frombuffer(self._place_of, np.int64)
        texts = spill.texts(place_of[members].tolist())
        boxes = np.frombuffer(self._box_of).reshape(-1, 4)[members].tobytes()
        image_of = np.frombuffer(self._image_of, np.int64)[first_of].tolist()
        images = [self._images.get(image, _NO_IMAGE) for image in image_of]
        image_texts = spill.texts([places[0] for places in images])
        file_names = spill.texts([places[0] + 1 for places in images])
        for row, places in enumerate(images):
            if len(places) > 1:
                image_texts[row], file_names[row] = self._merge_images(places)

        all_kinds = np.frombuffer(self._kind_of, np.uint8)[members]
        kinds = all_kinds[firsts]
        captions = iter(spill.texts((place_of[first_of[kinds == _CAPTION]] + 1).tolist()))
        are_plain = np.maximum.reduceat(all_kinds, firsts) == _BOX

        records: list[Record | Reject] = []
        joined = zip(
            first_of.tolist(),
            firsts.tolist(),
            [*firsts[1:].tolist(), len(members)],
            np.frombuffer(self._number_of, np.int64)[first_of].tolist(),
            np.frombuffer(self._category_of, np.int64)[first_of].tolist(),
            kinds.tolist(),
            are_plain.tolist(),
            image_of,
            image_texts,
            file_names,
            strict=True,
        )
        for (
            first, start, end, number, category, kind, is_plain, image, image_text, file_name
        ) in joined:  # fmt: skip
            annotations = tuple(texts[start:end])
            if kind <= _MARKED:
                text, category_name = self._categories.get(category, _NO_CATEGORY)
                own = boxes[_BOX_BYTES * start : _BOX_BYTES * end]
                raw = Joined(
                    image_text, file_name, annotations, b"[]", text, category_name, is_plain, own
                )
                own_id = f"{image_ids[image]}:{category_ids[category]}"
                records.append(Record(raw, name, number, own_id))
            elif kind == _CAPTION:
                raw = Joined(image_text, file_name, annotations, next(captions))
                records.append(Record(raw, name, number, _own_id(annotations[0])))
            elif kind == _NO_OBJECT:
                records.append(Record(_read(annotations[0]), name, number))
            else:
                raw = self._read_alone(first, image_text, file_name, annotations)
                records.append(Record(raw, name, number, _own_id(annotations[0])))
        return records

    def _merge_images(self, places: Sequence[int]) -> tuple[bytes, bytes]:
        """Return the image that stands in several places, or an array of those that differ and have
        one id.
        """
        texts = zip(
            self._spill.texts(places),
            self._spill.texts([place + 1 for place in places]),
            strict=True,
        )
        different = list(dict.fromkeys(texts))
        if len(different) == 1:
            return different[0]
        whole = [_put(_read(text), "file_name", name) for text, name in different]
        return encode_json_lines([whole]).rstrip(), b"[]"

    def _read_alone(
        self, annotation: int, image: bytes, file_name: bytes, texts: tuple[bytes, ...]
    ) -> Any:
        """Return a record of one annotation that says something of a region, or has a fault."""
        kind, caption = self._kind_of[annotation], b"[]"
        if kind == _WORDS:
            (caption,) = self._spill.texts([self._place_of[annotation] + 1])
        category = self._categories.get(self._category_of[annotation], _NO_CATEGORY)
        joined = Joined(image, file_name, texts, caption, *category, is_plain=False)
        if kind == _FAULTY or b'"segments_info"' not in texts[0]:
            return joined
        return self._with_categories(joined)

    def _with_categories(self, joined: Joined) -> Any:
        """Return a panoptic record with the category of each of its segments."""
        try:
            value = joined.read()
        except RecordError:  # whoever reads it says so
            return joined
        segments = value["annotations"][0].get("segments_info")
        categories = []
        for segment in segments if isinstance(segments, list) else ():
            identity = segment.get("category_id") if isinstance(segment, dict) else None
            number = _number_of(identity, self._category_ids)
            categories.append(_read(self._categories.get(number, _NO_CATEGORY).text))
        del value["category"]
        return {**value, "categories": categories}

    def _add_annotations(self, values: Sequence[Any]) -> None:
        count = len(values)
        if not (self._add_boxes(values) or self._add_captions(values)):
            self._add_one_by_one(values)
        self._number_of.extend(range(self.num_met, self.num_met + count))
        self.num_met += count

    def _add_boxes(self, values: Sequence[Any]) -> bool:
        """Take annotations if all of them have a box, and ids and all as COCO has them; return
        whether they have.
        """
        import numpy as np

        found: Sequence[_Boxed | Instance]
        if isinstance(values, Instances):
            found = values.found
        elif isinstance(values, Spelled):
            try:
                found = _decode_boxes(values.lines)
            except msgspec.DecodeError:
                return False
            if _is_odd(values):
                return False
        else:
            return False
        boxes = np.array([one.bbox for one in found])  # (annotations, 4) float64
        is_crowd = np.array([one.iscrowd or 0 for one in found]) != 0
        is_faulty = is_crowd | ~are_boxes(boxes)

        if isinstance(values, Instances):
            first = self._spill.extend_lines(values.lines)
        else:
            first = self._spill.extend(values)
        numbers = self._category_ids
        self._add_columns(
            range(first, first + len(values)),
            [one.image_id for one in found],
            [numbers.setdefault(one.category_id, len(numbers)) for one in found],
            np.where(is_faulty, _FAULTY, _BOX).astype(np.uint8).tobytes(),
            boxes.tobytes(),
        )
        return True

    def _add_captions(self, values: Sequence[Any]) -> bool:
        """Take annotations if all of them are captions of whole images; return whether they are."""
        if not isinstance(values, Spelled):
            return False
        try:
            found = _decode_captions(values.lines)
        except msgspec.DecodeError:
            return False
        if _is_odd(values):
            return False

        count = len(values)
        first = self._append(values, "caption")
        self._add_columns(
            range(first, first + 2 * count, 2),
            [one.image_id for one in found],
            [_number_of(None, self._category_ids)] * count,
            bytes([_CAPTION]) * count,
            array("d", _NO_BOX).tobytes() * count,
        )
        return True

    def _add_columns(
        self,
        places: Iterable[int],
        image_ids: Iterable[Hashable],
        categories: Iterable[int],
        kinds: bytes,
        boxes: bytes,
    ) -> None:
        """Take annotations: of each its place among the texts, the id of its image, the number of
        its category, what it is, and its box, four float64.
        """
        numbers = self._image_ids
        self._place_of.extend(places)
        self._image_of.extend([numbers.setdefault(one, len(numbers)) for one in image_ids])
        self._category_of.extend(categories)
        self._kind_of += kinds
        self._box_of.frombytes(boxes)

    def _add_one_by_one(self, values: Sequence[Any]) -> None:
        first = self._append(values, "caption")
        self._place_of.extend(range(first, first + 2 * len(values), 2))
        for value in values:
            if not isinstance(value, dict):
                self._kind_of.append(_NO_OBJECT)
                self._image_of.append(-1)
                self._category_of.append(-1)
                self._box_of.extend(_NO_BOX)
                continue
            kind = _kind_of(value)
            self._kind_of.append(kind)
            self._image_of.append(_number_of(value.get("image_id"), self._image_ids))
            self._category_of.append(_number_of(value.get("category_id"), self._category_ids))
            self._box_of.extend(value["bbox"] if kind <= _MARKED else _NO_BOX)

    def _add_images(self, values: Sequence[Any]) -> None:
        first = self._append([_with_file_name(value) for value in values], "file_name")
        for place, value in enumerate(values):
            if isinstance(value, dict):
                number = _number_of(value.get("id"), self._image_ids)
                self._images.setdefault(number, []).append(first + 2 * place)

    def _add_categories(self, values: Sequence[Any]) -> None:
        for value in values:
            if isinstance(value, dict):
                name = value.get("name")
                text = encode_json_lines([value]).rstrip()
                number = _number_of(value.get("id"), self._category_ids)
                named = _Category(text, name if isinstance(name, str) else "")
                self._categories[number] = _merge(self._categories.get(number, named), named)

    def _append(self, values: Sequence[Any], apart: str) -> int:
        """Write each of some items as two values: the item, and the field of it that stands
        ``apart`` in an array; return the place of the first.
        """
        lines: list[Any] = []
        for value in values:
            if isinstance(value, dict) and apart in value:
                rest = {key: field for key, field in value.items() if key != apart}
                lines += rest, [value[apart]]
            else:
                lines += value, []
        return self._spill.extend(lines)

    def _add_beside_annotations(self, key: str, values: Sequence[Any]) -> None:
        """Take items of another part of the file, annotations among them."""
        what = "an annotation outside of 'annotations', after something broken"
        for value in values:
            if isinstance(value, dict) and "image_id" in value:
                self._add_fault(key, RecordError(what, reason="bad_json"))
            else:
                self.add(key, [value])

    def _add_fault(self, key: str, fault: RecordError) -> None:
        if key == "annotations":
            self.broken.append((self.num_met, fault))
            self.num_met += 1
        else:
            where = f"in {key!r}: " if key else ""
            self.broken_outside.append(RecordError(f"{where}{fault}", reason=fault.reason))


def _kind_of(annotation: dict[str, Any]) -> int:
    if is_whole_record(annotation):
        return _WORDS
    if "caption" in annotation:
        is_plain = not is_about_region(annotation) and "split" not in annotation
        return _CAPTION if is_plain and not _is_odd([annotation]) else _WORDS
    if box_fault(annotation):
        return _FAULTY
    is_marked = "tokens_positive" in annotation or _is_odd([annotation])
    return _MARKED if is_marked else _BOX


def _is_odd(annotations: Sequence[dict[str, Any]]) -> bool:
    """Return whether one of some annotations may have a field that changes what it means."""
    return may_change_meaning(annotations, HEARD_FIELDS)


def _reject(number: int, file: str, fault: RecordError) -> Reject:
    return Reject(number, file, None, Reason.of(fault.reason), str(fault))


def _number(item: Record | Reject) -> int:
    return item.number if isinstance(item, Record) else item.record


def _with_file_name(image: Any) -> Any:
    """Return an image with the name that its ``coco_url`` gives it, where it has no other: LVIS has
    only the URL, which ends in the folder and the name.
    """
    if not isinstance(image, dict) or image.get("file_name") is not None:
        return image
    url = image.get("coco_url")
    if not isinstance(url, str) or "://" not in url:
        return image
    return {**image, "file_name": "/".join(urlsplit(url).path.lstrip("/").split("/")[-2:])}


def _merge(earlier: _Category, later: _Category) -> _Category:
    """Return the first of two categories with one id, or both where they have other names: such a
    one has no name.
    """
    if earlier.name == later.name and earlier.name:
        return earlier
    if earlier.text == later.text:
        return earlier
    several = earlier.text[1:-1] if earlier.text.startswith(b"[") else earlier.text
    return _Category(b"[%b,%b]" % (several, later.text), "")


def _number_of(identity: object, known: dict[Hashable, int]) -> int:
    """Return the number of an id among those that are known, as one of which it is then."""
    if type(identity) is not int and type(identity) is not str:
        identity = _NoId(identity)
    return known.setdefault(identity, len(known))


class _NoId:
    """What stands for an id and is none of JSON's: known by how it is written."""

    def __init__(self, value: object) -> None:
        self._text = str(value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _NoId) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __str__(self) -> str:
        return self._text


def _own_id(annotation: bytes) -> str | None:
    try:
        found = _decode_own(annotation)
        own = found.ref_id if found.id is None else found.id
    except RecursionError:  # whoever reads the whole of it says so
        return None
    except msgspec.DecodeError:
        own = json.loads(annotation).get("id")
    return None if own is None else str(own)


def _read(text: bytes) -> Any:
    try:
        return _decode(text)
    except msgspec.DecodeError:  # an integer of more than 64 bits
        return json.loads(text)


def _put(item: Any, field: str, value: bytes) -> Any:
    """Return an item with the field that was written apart from it, if it has one."""
    found = _read(value)
    return {**item, field: found[0]} if found else item
