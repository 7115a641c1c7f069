"""LLaVA instruction data: ``conversations`` of ``from`` and ``value``, with ``image`` or ``video``
beside them.

llava_v1_5_mix665k.json, LLaVA-Instruct-150K, detail_23k.json, pretraining chat files, M4-Instruct.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from mmdata._tools.options import checked
from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat import Thoughts, converse
from mmdata.formats._chat_record import read_chat
from mmdata.formats._format import Origin, Sample
from mmdata.formats._grounding import BoxStyle
from mmdata.formats._llava_flat import WAYS, flatten_llava
from mmdata.formats._sources import RecordSource, below_folders, json_type, mapping
from mmdata.formats._turn_reader import read_any_turns
from mmdata.rejects import Reject
from mmdata.schema import Conversation
from mmdata.sources._run import Way
from mmdata.sources.record import Record
from mmdata.store.encode import FlatRows

__all__ = ["Llava", "converse_llava", "fallback_paths", "has_human_and_gpt"]

_MAPPED_FIELDS: Final = frozenset({"conversations"})
_SUFFIXES: Final = (".jpg", ".png", ".jpeg", ".gif", ".JPG", ".webp")
_COCO: Final = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{12}\.jpg)")
_COCO_FOLDER: Final = re.compile(r"(?:train|val)20\d\d")
_COCO_HOMES: Final = frozenset({"", ".", "coco", "mscoco", "images"})
_COCO_FORMS: Final = (
    "train2017/",
    "train2014/COCO_train2014_",
    "val2017/",
    "val2014/COCO_val2014_",
)


@registry.register("llava")
@dataclass(frozen=True)
class Llava(RecordSource):
    """LLaVA instruction data.

    ``dataset_name`` is what rows have in the column ``source``. With ``fallbacks``, a COCO image
    that is not where its record says is looked for under the folders and names of COCO 2014 and
    2017, whose numbers are the same pictures. With ``other_suffixes``, an image that is not there
    may be the one of the same name with another suffix, as in copies of OCR-VQA; nothing tells
    whether it is the same picture.

    ``boxes`` says which boxes in texts become regions ([phrases and boxes](../tasks/boxes.md)),
    ``thoughts`` whether ``<think>…</think>`` before an answer stays text or becomes a ``reasoning``
    part.
    """

    summary: ClassVar[str] = (
        "LLaVA instruction data: mix665k, Instruct-150K, detail_23k, M4-Instruct"
    )
    shape: ClassVar[str] = (
        '[{"id": "1", "image": "coco/train2017/000000000009.jpg", "conversations": '
        '[{"from": "human", "value": "<image>\\nWhat is it?"}, '
        '{"from": "gpt", "value": "A cup."}]}]'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "the system's words beside the turns": (
            '{"image": "1.jpg", "system": "Be brief.", "conversations": [{"from": "human", '
            '"value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A cup."}]}'
        ),
        "the system's words as a turn": (
            '{"image": "1.jpg", "conversations": [{"from": "system", "value": "Be brief."}, '
            '{"from": "human", "value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A '
            'cup."}]}'
        ),
        "answers that are not trained on": (
            '{"image": "1.jpg", "conversations": [{"from": "human", "value": "<image>\\nWhat is '
            'it?"}, {"from": "gpt", "value": "A cup.", "loss": false}, {"from": "human", "value": '
            '"Of which colour?"}, {"from": "gpt", "value": "Red."}]}'
        ),
        "one flag for each turn": (
            '{"image": "1.jpg", "loss_mask": [0, 0, 0, 1], "conversations": [{"from": "human", '
            '"value": "<image>\\nWhat is it?"}, {"from": "gpt", "value": "A cup."}, {"from": '
            '"human", "value": "Of which colour?"}, {"from": "gpt", "value": "Red."}]}'
        ),
        "several images": (
            '{"image": ["1.jpg", "2.jpg"], "conversations": [{"from": "human", "value": '
            '"<image>\\n<image>\\nWhat differs?"}, {"from": "gpt", "value": "The cup is gone."}]}'
        ),
        "images by their numbers": (
            '{"image": ["1.jpg", "2.jpg"], "conversations": [{"from": "human", "value": "What '
            'does <image 2> show that <image 1> does not?"}, {"from": "gpt", "value": "A '
            'spoon."}]}'
        ),
        "the mark of another tool": (
            '{"image": "1.jpg", "conversations": [{"from": "human", "value": "<ImageHere>What is '
            'it?"}, {"from": "gpt", "value": "A cup."}]}'
        ),
        "images and videos": (
            '{"image": "1.jpg", "video": "1.mp4", "conversations": [{"from": "human", "value": '
            '"<image>\\nIs this in <video>\\n?"}, {"from": "gpt", "value": "Yes."}]}'
        ),
        "a clip of a video": (
            '{"video": "1.mp4", "start": 2.5, "end": 4, "conversations": [{"from": "human", '
            '"value": "<video>\\nWhat happens?"}, {"from": "gpt", "value": "It falls."}]}'
        ),
        "a video given as pictures": (
            '{"video": ["1/0001.jpg", "1/0002.jpg", "1/0003.jpg"], "conversations": [{"from": '
            '"human", "value": "<video>\\nWhat happens?"}, {"from": "gpt", "value": "It falls."}]}'
        ),
        "phrases and boxes, in thousandths": (
            '{"image": "1.jpg", "conversations": [{"from": "human", "value": "<image>\\nFind the '
            'cup."}, {"from": "gpt", "value": "<ref>the cup</ref><box>[[100, 200, 500, '
            '800]]</box>"}]}'
        ),
        "records inside an object": (
            '{"data": [{"image": "1.jpg", "conversations": [{"from": "human", "value": '
            '"<image>\\nWhat is it?"}, {"from": "gpt", "value": "A cup."}]}]}'
        ),
    }

    dataset_name: str = "llava"
    boxes: BoxStyle = "auto"
    thoughts: Thoughts = "text"
    fallbacks: bool = True
    other_suffixes: bool = False

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``conversations`` of human and gpt, and some an
        ``image``, whatever media others have, or a ``model`` and no media.
        """
        if not has_human_and_gpt(sample):
            return False
        without_media = not sample.some_said("images", "video", "videos")
        return sample.some("image") or (sample.some("model") and without_media)

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record; one without ``image`` and ``video`` is text
        alone.
        """
        return converse_llava(record, self.dataset_name, thoughts=self.thoughts, boxes=self.boxes)

    reads_parts = True

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = WAYS
    ) -> Iterator[list[Record | Reject]]:
        """Yield the records in order, in lists of what was read together."""
        return super().runs(sources, ways)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        if self.thoughts != "text":
            return None
        return flatten_llava(records, self.dataset_name, self.boxes)

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path below each folder that it may start from, and where COCO keeps the same
        picture.
        """
        # Nearly always the first place alone is asked for, once a record: nothing comes before it.
        if path.startswith("/"):
            yield path
            return
        for folder in origin.folders:
            yield f"{folder}/{path}" if folder else path

        if self.fallbacks:
            for other in fallback_paths(path):
                yield from below_folders(other, origin)
        if self.other_suffixes:
            stem, suffix = posixpath.splitext(path)
            for another in _SUFFIXES:
                if another != suffix:
                    yield from below_folders(stem + another, origin)


@checked
def converse_llava(
    record: Record,
    dataset_name: str,
    *,
    thoughts: Thoughts = "text",
    boxes: BoxStyle = "auto",
) -> Conversation:
    """Return the conversation of a LLaVA record; its column ``source`` is ``dataset_name``.

    As many marks as media are wanted. Media without any mark stand before the first question; a
    single medium whose mark is repeated in questions stands where it comes first, as LLaVA's own
    trainer has it.

    Raises:
        RecordError: the record is not of the shape, or its marks do not fit its media.
    """
    value = mapping(record)
    turns = value.get("conversations")
    if not turns:
        raise RecordError("'conversations' is absent or empty", reason="no_conversation")
    found = read_any_turns(turns)
    if odd := [turn for turn in found if not isinstance(turn.content, str) and not turn.after]:
        raise RecordError(f"a turn's 'value' must be a string, found {json_type(odd[0].content)}")
    chat = read_chat(value, record, found, _MAPPED_FIELDS)
    return converse(chat, record, dataset_name, missing="refuse", thoughts=thoughts, boxes=boxes)


def has_human_and_gpt(sample: Sample) -> bool:
    """Return whether all records have ``conversations``, and all the speakers of them are
    LLaVA's, in any case.
    """
    turns = [turn for record in sample.records for turn in record.get("conversations") or ()]
    names = {turn.get("from") for turn in turns if isinstance(turn, dict)}
    speakers = {name.strip().lower() if isinstance(name, str) else "" for name in names}
    return (
        sample.every("conversations")
        and "human" in speakers
        and speakers <= {"human", "gpt", "bot", "system"}
    )


def fallback_paths(path: str) -> list[str]:
    """Return where other editions of COCO keep the picture of a COCO image; nothing for others.

    COCO 2017 is COCO 2014, divided anew: a number stands for the same picture in both. A picture is
    known for COCO's by its number of twelve digits in a folder of COCO's, or in none, as
    LLaVA-Instruct-150K has it.

    >>> fallback_paths("coco/val2014/COCO_val2014_000000000042.jpg")[0]
    'coco/train2017/000000000042.jpg'
    >>> fallback_paths("renders/000000000042.jpg")
    []
    """
    folder, name = posixpath.split(path)
    coco = _COCO.fullmatch(name)
    if coco is None:
        return []
    above, last = posixpath.split(folder)
    if _COCO_FOLDER.fullmatch(last):
        folder = above
    elif not name.startswith("COCO_") and last.lower() not in _COCO_HOMES:
        return []
    places = [posixpath.join(folder, form + coco[1]) for form in _COCO_FORMS]
    return [place for place in places if place != path]
