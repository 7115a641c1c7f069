"""Phrases and boxes in the words of a conversation become regions.

Four spellings say by themselves what they are, and are read unless ``boxes="none"``::

    <ref>a cup</ref><box>(100,100),(500,500)</box>
    <ref>a cup</ref><box>[[100, 100, 500, 500]]</box>
    <|object_ref_start|>a cup<|object_ref_end|><|box_start|>(100,100),(500,500)<|box_end|>
    <points x1="10.5" y1="20" x2="30.0" y2="20" alt="a cup">a cup</points>

They are Qwen-VL's, InternVL's, Qwen2-VL's and Molmo's. Their numbers are thousandths of the
picture, Molmo's hundredths. A phrase with the boxes right after it is one region; boxes without a
phrase before them are a region without words; a single corner is a point, which becomes a box
without area, and so are Molmo's.

Two more are read if they are asked for, for they are words elsewhere: Qwen's JSON (``"qwen2_5"``:
pixels, ``"qwen3"``: thousandths) and LLaVA's fractions (``"llava"``). Instructions, of the system
or of a tool, are not read: they show what an answer looks like.

A region speaks of the picture that was shown last; before any is shown, of the first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, Literal, TypeAlias

import msgspec
from msgspec import Struct

from mmdata.errors import RecordError, SchemaError
from mmdata.formats._boxes import Size, parse_corners, scale_pixels
from mmdata.formats._objects import Objects
from mmdata.schema import Box, Image, Media, Message, Part, Region, Text, Video, replace
from mmdata.sources._literal import parse_json

__all__ = ["BoxStyle", "find_box", "ground", "may_have_boxes"]

BoxStyle: TypeAlias = Literal["auto", "none", "qwen2_5", "qwen3", "llava"]
"""Which boxes are read in texts: those that say by themselves what they are, none, or Qwen2.5-VL's,
Qwen3-VL's or LLaVA's besides.
"""

_GRID: Final = 1000

# A phrase ends at the next mark, whichever it is: what does not fit is then found alone, and an
# expression never looks at the same words twice.
_MARK: Final = r"</?(?:ref|box|quad)>|<\|(?:object_ref|box|quad)_(?:start|end)\|>"
_PHRASE: Final = rf"((?:(?!{_MARK}).)*)"
_BOX: Final = r"<box>[^<]*</box>"
_QWEN2_BOX: Final = r"<\|box_start\|>[^<]*<\|box_end\|>"
_REGION: Final = re.compile(
    rf"<ref>{_PHRASE}</ref>((?:{_BOX})*)|((?:{_BOX})+)"
    rf"|<\|object_ref_start\|>{_PHRASE}<\|object_ref_end\|>((?:{_QWEN2_BOX})*)"
    rf"|((?:{_QWEN2_BOX})+)",
    re.DOTALL,
)
_IN_BOX: Final = re.compile(r"(?:<box>|<\|box_start\|>)([^<]*)")
# Places in a picture by the tokens of a family (Kosmos-2, Florence-2 and PaliGemma, MiniGPT-v2),
# and marks of regions and masks that stand elsewhere (GPT4RoI, Osprey, Shikra, LISA), are no words;
# they are refused, as their grids are the families' own.
_STRAY: Final = re.compile(
    # Without the first characters all are tried at each character, at many times the cost.
    rf"(?=<[A-Za-z|/]|\[SEG|\{{<)(?:{_MARK}|<patch_index_[0-9]{{1,6}}>|<loc_?[0-9]{{1,4}}>"
    r"|\{(?:<[0-9]{1,3}>){4}\}|<(?:region|obj|mask|roi)_?[0-9]{1,3}>"
    r"|<(?:mask|boxes|objs|points)>|<points?\s+[xy][0-9]?\s*=|\[SEG\]|<SEG>)"
)
_MOLMO: Final = re.compile(
    r"<(points?)((?:\s+[xy][0-9]{0,3}=\"\s*[0-9]{1,3}(?:\.[0-9]{1,6})?\s*\"){2,})"
    r"(?:\s+alt=\"([^\"<>]*)\")?\s*>([^<>]*)</\1>"
)
_SIDE: Final = re.compile(r"([xy])([0-9]*)=\"([^\"]*)\"")
_NESTED: Final = re.compile(r"\s*\[\s*\[")
_POINT: Final = re.compile(r"\s*\(\s*([0-9]{1,6})\s*,\s*([0-9]{1,6})\s*\)\s*")

_OBJECT: Final = re.compile(r"<ref-object>(?:<bbox>)*|(?:<bbox>)+")
_REF_OBJECT: Final = "<ref-object>"
_BBOX: Final = "<bbox>"

_FENCE: Final = re.compile(r"```(?:json)?(.*?)```", re.DOTALL)
_JSON_BOX: Final = re.compile(r'"(?:bbox_2d|point_2d)"\s*:\s*\[\s*[-.0-9]')
_NUMBER: Final = r"\s*[0-9]+(?:\.[0-9]+)?\s*"
_FRACTIONS: Final = re.compile(rf"\[({_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER})\]")

_RAW: Final = 'boxes="none" leaves marks in texts as words'


def may_have_boxes(texts: Iterable[str], boxes: BoxStyle = "auto") -> bool:
    """Return whether a text may hold what :func:`ground` reads, by a look that costs little: where
    it is False, ``ground`` returns messages of these texts as they are.

    >>> may_have_boxes(["1 < 2"]), may_have_boxes(["<box>[[1, 2, 3, 4]]</box>"])
    (False, True)
    """
    if boxes == "none":
        return False
    text = "\n".join(texts)
    return find_box(text) is not None or (boxes != "auto" and "[" in text)


def find_box(text: str) -> str | None:
    """Return the first of what may be a phrase, a box or a mark of one in a text, None where there
    is nothing.

    >>> find_box("a <ref>cup</ref>"), find_box("1 < 2")
    ('<ref>', None)
    """
    # To look for one letter takes a hundredth of looking for a word.
    if "<" not in text and not ("[" in text and "[SEG]" in text):
        return None
    if found := _STRAY.search(text):
        return found[0]
    return next((mark for mark in (_REF_OBJECT, _BBOX) if mark in text), None)


def ground(
    messages: Sequence[Message],
    media: Sequence[Media],
    *,
    objects: Objects | None = None,
    boxes: BoxStyle = "auto",
    sizes: Sequence[Size | None] = (),
) -> tuple[Message, ...]:
    """Return messages with their phrases and boxes as regions.

    ``objects`` stand for the marks ``<ref-object>`` and ``<bbox>``, whatever ``boxes`` says of the
    other spellings. ``sizes`` are those that the record says its images have, in their order; those
    of ``objects`` go before them. Boxes in pixels of a picture whose size nobody says become
    regions in pixels, which :func:`mmdata.conversion.boxes.scale_boxes` scales later.

    >>> from mmdata.schema import assistant, user
    >>> said = assistant("<ref>a cup</ref><box>[[0, 0, 500, 500]]</box>")
    >>> ground([user(Image(0), "Find it."), said], [Media("image", "a.jpg")])[1].content
    (Region(text='a cup', boxes=((0.0, 0.0, 0.5, 0.5),), media=0, train=None, unit='fraction'),)

    Raises:
        RecordError: a mark stands alone, a box is malformed or leaves the picture, marks and
            ``objects`` do not correspond, or there is no picture that a box could be of.
    """
    if objects is not None:
        _check_numbers(messages, objects)
    elif media and boxes != "none":
        _refuse_marks_of_objects(messages)
    if objects is None and not may_have_boxes(_texts(messages), boxes):
        return tuple(messages)

    reader = _Reader(media, objects, boxes, sizes)
    reader.shown = _first_shown(messages)
    return tuple(map(reader.message, messages))


def _texts(messages: Iterable[Message]) -> Iterator[str]:
    return (part.text for one in messages for part in one.content if type(part) is Text)


def _first_shown(messages: Iterable[Message]) -> int:
    parts = (part for message in messages for part in message.content)
    return next((part.media for part in parts if isinstance(part, (Image, Video))), 0)


def _check_numbers(messages: Sequence[Message], objects: Objects) -> None:
    """Refuse objects that do not fit their marks: each kind takes all of its own, in order."""
    text = "\n".join(_texts(messages))
    has_marks = _OBJECT.search(text) is not None
    kinds = ((_REF_OBJECT, "ref", len(objects.refs)), (_BBOX, "bbox", len(objects.boxes)))
    for mark, name, known in kinds:
        asked = text.count(mark)
        is_unused = objects.are_pairs and has_marks and not asked
        if asked != known and not is_unused:
            raise RecordError(
                f"{asked} {mark} in the texts for {known} {name!r} in 'objects'",
                reason="media_mismatch",
            )


def _refuse_marks_of_objects(messages: Sequence[Message]) -> None:
    for text in _texts(messages):
        # <bbox>…</bbox> is not ms-swift's, whose marks stand alone.
        if "<" in text and "</bbox>" not in text and (found := _OBJECT.search(text)):
            raise RecordError(
                f"{_mark_of(found[0])} stands for one of 'objects', and the record has none: "
                f"{_excerpt(text, found.start())}; {_RAW}",
                reason="media_mismatch",
            )


class _Reader:
    """What reads the messages of one conversation, in order: the objects that are left, and the
    medium that was shown last, of which words speak.
    """

    def __init__(
        self,
        media: Sequence[Media],
        objects: Objects | None,
        boxes: BoxStyle,
        sizes: Sequence[Size | None],
    ) -> None:
        self.shown = 0
        self._media = media
        self._boxes = boxes
        self._objects = objects
        self._refs = iter(objects.refs if objects else ())
        self._object_boxes = iter(objects.boxes if objects else ())
        self._images = [number for number, one in enumerate(media) if one.type == "image"]
        said = (objects.sizes if objects else ()) or sizes
        self._sizes = dict(zip(self._images, said))  # noqa: B905 - of some images, or none

    def message(self, message: Message) -> Message:
        """Return a message with its regions."""
        # Instructions show what an answer looks like, and are not one; ms-swift's objects stand in
        # any text.
        is_read = message.role in ("user", "assistant")
        content: list[Part] = []
        for part in message.content:
            if isinstance(part, (Image, Video)):
                self.shown = part.media
            if type(part) is not Text:
                content.append(part)
                continue
            for piece in self._fill(part):
                content += self._read(piece) if is_read and type(piece) is Text else (piece,)
        return replace(message, content=tuple(content))

    def _fill(self, part: Text) -> Iterable[Part]:
        """Return the parts of a text with the objects in the place of their marks."""
        if self._objects is None or "<" not in part.text:
            return (part,)
        if not self._media:
            return (Text(_OBJECT.sub(self._phrase_alone, part.text), part.train),)
        return self._fill_regions(part)

    def _phrase_alone(self, marks: re.Match[str]) -> str:
        """Return the phrase for a mark where there is no picture: it is words like others."""
        if marks[0] != _REF_OBJECT:
            raise _no_picture(_BBOX)
        return next(self._refs)

    def _fill_regions(self, part: Text) -> Iterator[Part]:
        done = 0
        for found in _OBJECT.finditer(part.text):
            yield from _words(part.text[done : found.start()], part)
            yield from self._object_regions(found[0], part)
            done = found.end()
        yield from _words(part.text[done:], part)

    def _object_regions(self, marks: str, part: Text) -> Iterator[Region]:
        """Yield the regions of a phrase and the boxes after it: one for each picture in a row."""
        phrase = next(self._refs) if marks.startswith(_REF_OBJECT) else ""
        boxes = [box for _ in range(marks.count(_BBOX)) for box in next(self._object_boxes)]
        if not boxes:
            yield Region(phrase, (), self.shown, part.train)
        for (image, _), run in groupby(boxes, lambda box: (box.image, box.scale is None)):
            if not 0 <= image < len(self._images):
                raise RecordError(
                    f"a box of 'objects' is of image {image}, and the record has "
                    f"{len(self._images)}",
                    reason="media_mismatch" if self._images else "unsupported_media",
                )
            found = [(box.corners, box.scale) for box in run]
            yield self._region(phrase, found, self._images[image], part, str(found[0][0]))
            phrase = ""

    def _read(self, part: Text) -> Iterator[Part]:
        """Yield the parts of a text with the boxes that are written in it."""
        if self._boxes == "none":
            yield part
            return
        for piece in self._read_points(part):
            yield from self._read_boxes(piece) if type(piece) is Text else (piece,)

    def _read_points(self, part: Text) -> Iterator[Part]:
        """Yield the parts of a text with the points that Molmo writes in it."""
        text, done = part.text, 0
        if not self._media or "<point" not in text:  # <point> alone may be of a drawing's code
            yield part
            return

        for found in _MOLMO.finditer(text):
            sides = _SIDE.findall(found[2])
            numbers = [number for side, number, _ in sides if side == "x"]
            expected = [(side, number) for number in numbers for side in "xy"]
            if [side[:2] for side in sides] != expected or (found[3] or found[4]) != found[4]:
                continue  # and what is left is refused
            percents = [float(value) for _, _, value in sides]
            points = zip(percents[::2], percents[1::2], strict=True)
            boxes: list[tuple[Box, float | None]] = [((x, y, x, y), 100) for x, y in points]
            yield from _words(text[done : found.start()], part)
            yield self._region(found[4], boxes, self.shown, part, found[0])
            done = found.end()
        yield from _words(text[done:], part)

    def _read_boxes(self, part: Text) -> Iterator[Part]:
        """Yield the parts of a text with the boxes in it, in the spellings that are asked for."""
        if self._boxes == "qwen2_5" or self._boxes == "qwen3":
            for piece in self._read_json(part):
                yield from self._read_marks(piece) if type(piece) is Text else (piece,)
        elif self._boxes == "llava":
            for piece in self._read_fractions(part):
                yield from self._read_marks(piece) if type(piece) is Text else (piece,)
        else:
            yield from self._read_marks(part)

    def _read_marks(self, part: Text) -> Iterator[Part]:
        """Yield the parts of a text with phrases and boxes between marks."""
        text, done = part.text, 0
        if not self._media:
            if lost := re.search(f"{_BOX}|{_QWEN2_BOX}", text):
                raise _no_picture(lost[0])
            yield part  # <ref> alone is as likely a wiki's
            return

        for found in _REGION.finditer(text):
            yield from self._words_without_marks(text[done : found.start()], part)
            phrase = found[1] or found[4] or ""
            inner = found[2] or found[3] or found[5] or found[6] or ""
            try:
                boxes = [(box, _GRID) for one in _IN_BOX.findall(inner) for box in _parse_box(one)]
            except RecordError as error:
                raise RecordError(
                    f"{error}, in {_excerpt(found[0])}; {_RAW}", reason="bad_box"
                ) from error
            yield self._region(phrase, boxes, self.shown, part, found[0])
            done = found.end()

        yield from self._words_without_marks(text[done:], part)

    def _words_without_marks(self, text: str, part: Text) -> Iterator[Text]:
        if ("<" in text or "[SEG]" in text) and (stray := _STRAY.search(text)):
            raise RecordError(
                f"{stray[0]} stands alone or is not supported: "
                f"{_excerpt(text, stray.start())}; {_RAW}",
                reason="malformed" if "ref" in stray[0] else "bad_box",
            )
        yield from _words(text, part)

    def _read_json(self, part: Text) -> Iterator[Part]:
        """Yield the parts of a text with the regions of Qwen's JSON, in a fence or alone."""
        text, done = part.text, 0
        if not _JSON_BOX.search(text):
            yield part
            return
        whole = text.strip()
        if "```" not in text and whole[0] in "[{" and whole[-1] in "]}":
            yield from self._json_regions(text, part)
            return
        for found in _FENCE.finditer(text):
            if _JSON_BOX.search(found[1]):
                yield from self._words_without_json(text[done : found.start()], part)
                yield from self._json_regions(found[1], part)
                done = found.end()
        yield from self._words_without_json(text[done:], part)

    def _words_without_json(self, text: str, part: Text) -> Iterator[Text]:
        if found := _JSON_BOX.search(text):
            raise RecordError(
                "a box in JSON stands alone in a text or between ```json and ```, found "
                f"{_excerpt(text, found.start())}; {_RAW}",
                reason="bad_box",
            )
        yield from _words(text, part)

    def _json_regions(self, text: str, part: Text) -> Iterator[Region]:
        try:
            entries = msgspec.convert(parse_json(text, "boxes in JSON"), _Entry | list[_Entry])
        except (msgspec.ValidationError, ValueError) as error:
            raise RecordError(
                f"boxes in JSON are objects of 'bbox_2d' and 'label': {error}, in "
                f"{_excerpt(text)}; {_RAW}",
                reason="bad_box",
            ) from error

        if not self._media:
            raise _no_picture(text)

        scale = None if self._boxes == "qwen2_5" else _GRID
        for entry in entries if isinstance(entries, list) else [entries]:
            boxes: list[tuple[Box, float | None]] = []
            if entry.bbox_2d is not None:
                boxes.append((entry.bbox_2d, scale))
            if entry.point_2d is not None:
                x, y = entry.point_2d
                boxes.append(((x, y, x, y), scale))
            yield self._region(entry.label, boxes, self.shown, part, text)

    def _read_fractions(self, part: Text) -> Iterator[Part]:
        """Yield the parts of a text with boxes as LLaVA writes them, fractions between brackets."""
        text, done = part.text, 0
        for found in _FRACTIONS.finditer(text):
            if "." not in found[1]:
                continue  # whole numbers are as likely a list
            if not self._media:
                raise _no_picture(found[0])
            x1, y1, x2, y2 = map(float, found[1].split(","))
            yield from _words(text[done : found.start()], part)
            yield self._region("", [((x1, y1, x2, y2), 1.0)], self.shown, part, found[0])
            done = found.end()
        yield from _words(text[done:], part)

    def _region(
        self,
        phrase: str,
        boxes: Sequence[tuple[Box, float | None]],
        medium: int,
        part: Text,
        found: str,
    ) -> Region:
        """Return a region of corners, each with what they are divided by; ``found`` is what the
        text says.
        """
        if boxes and self._media[medium].type != "image":
            raise RecordError(
                f"a box is of a picture, and what was shown last is a {self._media[medium].type}; "
                f"boxes in frames of a video are not kept yet: {_excerpt(found)}; {_RAW}",
                reason="unsupported_media",
            )

        size = self._sizes.get(medium)
        waits = any(scale is None for _, scale in boxes) and size is None
        try:
            return Region(
                phrase,
                tuple(
                    corners if waits else _to_fractions(corners, scale, size)
                    for corners, scale in boxes
                ),
                medium,
                part.train,
                "pixel" if waits else "fraction",
            )
        except (SchemaError, RecordError) as error:
            raise RecordError(f"{error}, in {_excerpt(found)}", reason="bad_box") from error


class _Entry(Struct, frozen=True, forbid_unknown_fields=True):
    """One object of Qwen's JSON."""

    bbox_2d: tuple[float, float, float, float] | None = None
    point_2d: tuple[float, float] | None = None
    label: str = ""


_nested: Final = msgspec.json.Decoder(list[Box])
_flat: Final = msgspec.json.Decoder(Box)


def _to_fractions(corners: Box, scale: float | None, size: Size | None) -> Box:
    if scale is None:
        assert size is not None, "boxes in pixels wait without it"
        return scale_pixels(corners, size)
    x1, y1, x2, y2 = (side / scale for side in corners)
    return x1, y1, x2, y2


def _parse_box(text: str) -> Sequence[Box]:
    """Return the boxes between two marks, in thousandths: Qwen's corners, its point, or InternVL's
    list.
    """
    if text.lstrip().startswith("["):
        try:
            if _NESTED.match(text):
                return _nested.decode(text)
            return [_flat.decode(text)]
        except (msgspec.DecodeError, UnicodeError) as error:
            raise RecordError(
                f"a box is written [[x1, y1, x2, y2]], found {text[:60]!r}", reason="bad_box"
            ) from error
    if point := _POINT.fullmatch(text):
        x, y = int(point[1]), int(point[2])
        return [(x, y, x, y)]
    return [parse_corners(text, 1)]


def _words(text: str, part: Text) -> Iterator[Text]:
    """Yield the words of a part between its regions, if any."""
    if text or not part.text:  # an empty part is no matter of this
        yield Text(text, part.train)


def _no_picture(found: str) -> RecordError:
    return RecordError(
        f"{_excerpt(found)} is of a picture, and the record has none; {_RAW}",
        reason="media_mismatch",
    )


def _mark_of(marks: str) -> str:
    return _REF_OBJECT if marks.startswith(_REF_OBJECT) else _BBOX


def _excerpt(text: str, start: int = 0) -> str:
    return repr(text[start : start + 60])
