"""What the annotations of a COCO file say: each a caption, or phrases and the boxes they speak of.

Each becomes one exchange or several: a prompt, and the answer to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from mmdata.errors import RecordError
from mmdata.formats._coco_boxes import box_fault, image_size, to_fractions
from mmdata.formats._meaning import is_said
from mmdata.formats._sources import json_type
from mmdata.schema import Region

__all__ = ["HEARD_FIELDS", "Exchange", "Prompts", "exchanges", "is_about_region", "is_whole_record"]

Exchange: TypeAlias = tuple[str, str | Region]
"""A prompt, and the answer to it."""

HEARD_FIELDS: Final = frozenset({"bbox"})
"""The fields of an annotation that would change what it means, and are obeyed."""
_PHRASES: Final = ("sentences", "expressions", "expression", "phrases", "phrase")
"""The fields of an annotation that say in words which object its box is."""
_WHOLE: Final = frozenset({"segments_info", *_PHRASES})
"""The fields of annotations that are records of their own."""
_SENTENCE: Final = ("sent", "sentence", "raw", "text")
"""The fields of such a phrase where it is an object; the first that is there counts."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """What asks for a caption, for the boxes of a ``{category}``, and for those of a
    ``{phrase}``.
    """

    caption: str
    box: str
    phrase: str


def is_about_region(annotation: dict[str, Any]) -> bool:
    """Return whether the caption of an annotation is about a part of the image."""
    return is_said(annotation.get("bbox")) or is_said(annotation.get("segmentation"))


def is_whole_record(annotation: dict[str, Any]) -> bool:
    """Return whether an annotation without a caption is a record of its own, whatever its image and
    its category are.
    """
    return not _WHOLE.isdisjoint(annotation)


def exchanges(value: dict[str, Any], image: dict[str, Any], prompts: Prompts) -> list[Exchange]:
    """Return what is asked and answered about an image.

    Raises:
        RecordError: the annotations do not say what they should.
    """
    annotations = value["annotations"]
    first = annotations[0]
    says = [field for field in ("segments_info", "caption", *_PHRASES) if field in first]
    if len(says) > 1:
        raise RecordError(f"an annotation has {says[0]!r} and {says[1]!r}: which one is meant?")

    if says == ["segments_info"]:
        return _segments(first, value["categories"], image, prompts)
    if says == ["caption"]:
        caption = _words(first["caption"], "a caption")
        if not is_about_region(first):
            return [(prompts.caption, caption)]
        return list(_grounded([(caption, first)], image, prompts.phrase, "phrase"))
    if says:
        phrases = _phrases(first[says[0]], says[0])
        return list(_grounded([(one, first) for one in phrases], image, prompts.phrase, "phrase"))
    if any("tokens_positive" in annotation for annotation in annotations):
        spoken = zip(_spans(annotations, image), annotations, strict=True)
        return list(_grounded(spoken, image, prompts.phrase, "phrase"))

    if fault := box_fault(first):
        raise RecordError(fault, reason="bad_box")
    name = _name(value["category"], first.get("category_id"))
    _require_all(first, image, name)
    named = [(name, annotation) for annotation in annotations]
    return list(_grounded(named, image, prompts.box, "category"))


def _grounded(
    named: Iterable[tuple[str, dict[str, Any]]], image: dict[str, Any], prompt: str, what: str
) -> Iterator[Exchange]:
    """Yield an exchange for each name: it is asked for by ``{what}`` in the prompt, and the answer
    is all boxes of that name.
    """
    boxes: dict[str, list[dict[str, Any]]] = {}
    for name, annotation in named:
        if fault := box_fault(annotation):
            raise RecordError(fault, reason="bad_box")
        boxes.setdefault(name, []).append(annotation)

    width, height = image_size(image)
    for name, found in boxes.items():
        fractions = tuple(to_fractions(one["bbox"], width, height) for one in found)
        yield prompt.replace(f"{{{what}}}", name), Region(name, fractions)


def _segments(
    annotation: dict[str, Any], categories: Sequence[Any], image: dict[str, Any], prompts: Prompts
) -> list[Exchange]:
    """Return the segments of a panoptic annotation as boxes, an exchange for each category."""
    segments = annotation["segments_info"]
    if not isinstance(segments, list) or not all(isinstance(one, dict) for one in segments):
        raise RecordError(f"'segments_info' must be a list of objects, found {str(segments)[:60]}")
    if not segments:
        raise RecordError("'segments_info' is empty", reason="no_conversation")
    named = []
    for segment, category in zip(segments, categories, strict=True):
        name = _name(category, segment.get("category_id"))
        if fault := box_fault(segment):
            what = f"segment {segment.get('id')!r}, {name!r}: {fault}"
            raise RecordError(what, reason="bad_box")
        named.append((name, segment))
    return list(_grounded(named, image, prompts.box, "category"))


def _phrases(found: Any, field: str) -> list[str]:
    """Return the phrases that a field holds, each once: a string, or a list of strings or of
    objects.
    """
    phrases = found if isinstance(found, list) else [found]
    if not phrases:
        raise RecordError(f"{field!r} is empty", reason="empty_turn")
    said = []
    for phrase in phrases:
        if isinstance(phrase, dict):
            spelled = [phrase[key] for key in _SENTENCE if key in phrase]
            phrase = spelled[0] if spelled else None
        said.append(_words(phrase, f"a phrase in {field!r}"))
    return list(dict.fromkeys(said))


def _spans(annotations: Sequence[dict[str, Any]], image: dict[str, Any]) -> Iterator[str]:
    """Yield for each annotation the words of its image's caption that it is the box of.

    MDETR's files mark them by characters. Where all annotations have the same, the caption is a
    referring expression, and its marks are no more than the head of it.
    """
    caption = _words(
        image.get("caption"), "the 'caption' of an image whose boxes have tokens_positive"
    )
    marked = [annotation.get("tokens_positive") for annotation in annotations]
    if all(marks == marked[0] for marks in marked):
        yield from [caption] * len(annotations)
        return
    for marks in marked:
        if not isinstance(marks, list) or not marks or not all(map(_is_span, marks)):
            raise RecordError(
                f"'tokens_positive' must be pairs of places in the caption, found {str(marks)[:60]}"
            )
        yield _words(" ".join(caption[start:end] for start, end in marks), "a marked phrase")


def _is_span(span: object) -> bool:
    if not isinstance(span, list) or list(map(type, span)) != [int, int]:
        return False
    return bool(0 <= span[0] < span[1])


def _words(found: Any, what: str) -> str:
    if not isinstance(found, str):
        raise RecordError(f"{what} must be a string, found {json_type(found)}")
    if not found.strip():
        raise RecordError(
            f"{what.replace('a caption', 'the caption')} is empty", reason="empty_turn"
        )
    return found


def _name(category: Any, identity: object) -> str:
    name = category.get("name") if isinstance(category, dict) else None
    if isinstance(name, str) and name:
        return name
    if isinstance(category, list):
        names = ", ".join(repr(one.get("name")) for one in category)
        raise RecordError(f"the file has several categories with the id {identity!r}: {names}")
    raise RecordError(
        f"the category with the id {identity!r} is not among the file's categories, or has no name"
    )


def _require_all(annotation: dict[str, Any], image: dict[str, Any], name: str) -> None:
    """Refuse boxes of a category of which the image may have more, as LVIS says of some."""
    partial = image.get("not_exhaustive_category_ids")
    if isinstance(partial, list) and annotation.get("category_id") in partial:
        raise RecordError(
            f"the file does not have every {name!r} of this image (not_exhaustive_category_ids): "
            "a prompt for every one would have a wrong answer"
        )
