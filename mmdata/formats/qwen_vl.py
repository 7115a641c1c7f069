r"""Qwen-VL's own conversations: images, phrases and boxes are marked inside the text.

``Picture 1: <img>a.jpg</img>\n`` is an image; the label and the newline after it are the mark's. A
phrase and its boxes, ``<ref>dog</ref><box>(1,2),(3,4)</box>``, are a region of the image last
shown; a phrase without box is a region without boxes, a box without phrase one without words.
Four-cornered ``<quad>`` areas have no place in the schema and are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._boxes import parse_corners
from mmdata.formats._chat_flat import flatten_with
from mmdata.formats._flat import NotPlainError, TurnColumns, require
from mmdata.formats._format import Sample
from mmdata.formats._placeholders import fill
from mmdata.formats._sources import (
    RecordSource,
    conversation_id,
    json_type,
    mapping,
    unmapped_fields,
)
from mmdata.formats._turns import (
    ROLES,
    add_turn_fields,
    leftover_fields,
    require_answer,
    require_turns,
    role_of,
)
from mmdata.schema import Conversation, Image, Media, Message, Part, Region, Text
from mmdata.sources.record import Record
from mmdata.store.encode import PART_CODES, ROLE_CODES, FlatRows

__all__ = ["QwenVl"]

# What a pair of marks holds ends at the next mark of its kind, closing or not: what does not fit is
# then found alone, and no expression looks at the same words twice, however many marks are open.
_PATH: Final = r"(?:(?!</?img>).)*"
_PHRASE: Final = r"(?:(?!</?(?:ref|box|quad)>).)*"
_NUMBERS: Final = r"(?:(?!</?box>).)*"
_IMAGE: Final = re.compile(rf"((?:Picture [0-9]{{1,6}}: ?)?<img>{_PATH}</img>\n?)", re.DOTALL)
_REFERENCE: Final = re.compile(r"(?:Picture ([0-9]{1,6}): ?)?<img>(.*?)</img>\n?", re.DOTALL)
_REGION: Final = re.compile(
    rf"<ref>({_PHRASE})</ref>((?:<box>{_NUMBERS}</box>)*)|((?:<box>{_NUMBERS}</box>)+)", re.DOTALL
)
_BOX: Final = re.compile(r"<box>(.*?)</box>", re.DOTALL)
_STRAY: Final = re.compile(r"</?(?:img|ref|box|quad)>")
_WITH_PATH: Final = re.compile(r"<img>[^<>]+</img>")
_OTHER_MARKS: Final = re.compile(r"</?(?:ref|box|quad)>|<image>")
_MAPPED_FIELDS: Final = frozenset({"id", "conversations"})


@registry.register("qwen_vl")
@dataclass(frozen=True)
class QwenVl(RecordSource):
    """Qwen-VL's conversations. ``dataset_name`` is what rows have in the column ``source``.

    ``grid`` is what the numbers in boxes are divided by: 1000 as Qwen-VL's documentation says, or
    999 as ms-swift 2 and Qwen-VL's evaluation scripts have it.
    """

    summary: ClassVar[str] = (
        "Qwen-VL conversations with images, phrases and boxes marked in the text"
    )
    shape: ClassVar[str] = (
        '[{"id": "1", "conversations": '
        '[{"from": "user", "value": "Picture 1: <img>1.jpg</img>\\nFind the dog."}, '
        '{"from": "assistant", "value": "<ref>dog</ref><box>(12,30),(480,999)</box>"}]}]'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "several images by their numbers": (
            '{"id": "1", "conversations": [{"from": "user", "value": "Picture 1: '
            '<img>1.jpg</img>\\nPicture 2: <img>2.jpg</img>\\nWhat differs?"}, {"from": '
            '"assistant", "value": "The cup is gone."}]}'
        ),
        "several boxes of one phrase": (
            '{"id": "1", "conversations": [{"from": "user", "value": "<img>1.jpg</img>Find the '
            'cups."}, {"from": "assistant", "value": '
            '"<ref>cups</ref><box>(10,20),(30,40)</box><box>(50,20),(70,40)</box>"}]}'
        ),
        "a box without phrase": (
            '{"id": "1", "conversations": [{"from": "user", "value": "<img>1.jpg</img>What is in '
            '<box>(10,20),(30,40)</box>?"}, {"from": "assistant", "value": "A cup."}]}'
        ),
    }

    dataset_name: str = "qwen_vl"
    grid: Literal["1000", "999"] = "1000"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``conversations`` with Qwen-VL's marks in them."""
        text = str(sample.records)
        has_boxes = "<box>" in text and not sample.some("image", "images")
        is_marked = has_boxes or _WITH_PATH.search(text) is not None
        return sample.every("conversations") and is_marked

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        turns = value.get("conversations")
        if not turns:
            raise RecordError("'conversations' is absent or empty", reason="no_conversation")
        if not isinstance(turns, list):
            raise RecordError(f"'conversations' must be an array, found {json_type(turns)}")

        pictures = _Pictures(int(self.grid))
        messages = [_message(turn, pictures) for turn in turns]
        require_answer(messages)
        extra = add_turn_fields(
            unmapped_fields(value, record, _MAPPED_FIELDS), leftover_fields(turns)
        )
        name = conversation_id(record)
        require_turns(messages, name)
        return Conversation(
            name, tuple(messages), tuple(pictures.media), self.dataset_name, extra=extra
        )

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain and
        speak of no boxes.
        """
        return flatten_with(
            _read, records, self.dataset_name, marks=(), refused=("<image>", "<img>", "</img>")
        )


def _read(values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
    turns = [turn for value in values for turn in value["conversations"]]
    require(set(map(len, turns)) == {2})
    texts = [turn["value"] for turn in turns]
    require(set(map(type, texts)) == {str})
    num_turns = [len(value["conversations"]) for value in values]
    placed: list[tuple[int, Sequence[tuple[int, Any]]]] = []
    images: list[Sequence[str]] = []
    start = 0

    for count in num_turns:
        pictures = _Pictures(1)
        for turn in range(start, start + count):
            if "<" in texts[turn]:
                require(not _OTHER_MARKS.search(texts[turn]))
                if "<img>" in texts[turn]:
                    placed.append((turn, _encode_parts(texts[turn], pictures)))
        images.append([medium.path or "" for medium in pictures.media])
        start += count

    return TurnColumns(
        ids=[record.id or conversation_id(record) for record in records],
        num_turns=num_turns,
        roles=bytes([ROLE_CODES[ROLES[turn["from"]]] for turn in turns]),
        texts=texts,
        images=images,
        videos=[()] * len(values),
        extras=[
            unmapped_fields(value, record, _MAPPED_FIELDS)
            for value, record in zip(values, records, strict=True)
        ],
        placed=placed,
    )


def _encode_parts(text: str, pictures: _Pictures) -> list[tuple[int, Any]]:
    try:
        parts = fill(text, _IMAGE, pictures.take)
    except RecordError:
        raise NotPlainError from None
    require(
        not any(isinstance(part, Text) and "<img" in part.text for part in parts)
        and "</img>" in text
    )
    found: list[tuple[int, Any]] = []
    for part in parts:
        assert isinstance(part, (Text, Image)), "regions are read one by one"
        found.append(
            (0, part.text) if isinstance(part, Text) else (PART_CODES["image"], part.media)
        )
    return found


class _Pictures:
    """The images of one conversation as its turns show them, and the grid of its boxes."""

    def __init__(self, grid: int) -> None:
        self.media: list[Media] = []
        self.grid = grid
        self.shown = 0  # the image that was last met in the text: regions speak of it

    def take(self, mark: str) -> Part:
        """Return the part for an image's mark; a number met before with the same file is the same
        image.
        """
        found = _REFERENCE.fullmatch(mark)
        assert found
        path, new = found[2], len(self.media) + 1
        number = int(found[1] or new)
        if not path:
            raise RecordError(f"{mark!r} has no file name", reason="missing_media")
        if number == new:
            self.media.append(Media("image", path))
        elif not 0 < number < new or self.media[number - 1].path != path:
            raise RecordError(
                f"{mark!r} is picture {new} of the conversation", reason="media_mismatch"
            )
        return Image(number - 1)


def _message(turn: Any, pictures: _Pictures) -> Message:
    if not isinstance(turn, dict) or not isinstance(turn.get("value"), str):
        raise RecordError("a turn must be an object with 'from' and a string as 'value'")
    role = role_of(turn.get("from"))
    content: list[Part] = []
    for part in fill(turn["value"], _IMAGE, pictures.take):
        if isinstance(part, Image):
            pictures.shown = part.media
        content += _regions(part.text, pictures) if isinstance(part, Text) else (part,)
    return Message(role, tuple(content), role == "assistant")


def _regions(text: str, pictures: _Pictures) -> Iterator[Part]:
    """Yield the parts of a text: its phrases with boxes as regions, its other words as they are."""
    done = 0
    for found in _REGION.finditer(text):
        yield from _words(text[done : found.start()])
        boxes = tuple(
            parse_corners(numbers, pictures.grid)
            for numbers in _BOX.findall(found[2] or found[3] or "")
        )
        yield Region(found[1] or "", boxes, pictures.shown)
        done = found.end()
    yield from _words(text[done:])


def _words(text: str) -> Iterator[Text]:
    if stray := _STRAY.search(text):
        reason = "malformed" if "img" in stray[0] or "ref" in stray[0] else "bad_box"
        raise RecordError(
            f"{stray[0]} stands alone or is not supported: {text[stray.start() :][:60]!r}",
            reason=reason,
        )
    if "<image>" in text:
        raise RecordError(
            "an <image> placeholder was left unconverted in the text", reason="media_mismatch"
        )
    if text:
        yield Text(text)
