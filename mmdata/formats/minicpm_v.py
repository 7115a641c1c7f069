"""MiniCPM-V's records of several images: an object that says by which mark each image is called in
the turns.

A record of one image, whose ``image`` is a path and whose mark is ``<image>``, is ShareGPT's shape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat import Chat, Turn, converse, read_turns
from mmdata.formats._format import Sample
from mmdata.formats._parts import media_of, medium_of
from mmdata.formats._sources import JsonSource, json_type, mapping, unmapped_fields
from mmdata.formats._turns import IMAGE
from mmdata.schema import Conversation, Media
from mmdata.sources.record import Record

__all__ = ["MiniCpmV"]

_MAPPED_FIELDS: Final = frozenset({"id", "image", "conversations"})
_MARK: Final = re.compile(r"<image_\d+>")


@registry.register("minicpm_v")
@dataclass(frozen=True)
class MiniCpmV(JsonSource):
    """MiniCPM-V's records. ``dataset_name`` is what rows have in the column ``source``.

    Every mark of a turn has an image and every image is called by a mark, else the record is
    refused; an image that is called twice is shown twice.
    """

    refines: ClassVar[frozenset[str]] = frozenset({"sharegpt", "llava"})
    summary: ClassVar[str] = "MiniCPM-V: several images, called by marks such as <image_00>"
    shape: ClassVar[str] = (
        '[{"id": "0", "image": {"<image_00>": "1.jpg", "<image_01>": "2.jpg"}, "conversations": '
        '[{"role": "user", "content": "<image_00><image_01>What differs?"}, '
        '{"role": "assistant", "content": "The cup."}]}]'
    )

    dataset_name: str = "minicpm_v"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``conversations``, and an ``image`` of some is an object
        of marks.
        """
        marked = any(
            isinstance(images := record.get("image"), dict) and any(map(_MARK.fullmatch, images))
            for record in sample.records
        )
        return marked and sample.every("conversations")

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        if not value.get("conversations"):
            raise RecordError("'conversations' is absent or empty", reason="no_conversation")

        turns = read_turns(value["conversations"], "role", "content")
        if isinstance(images := value.get("image"), dict):
            shown = _called_images(turns, images)
            turns = list(map(_with_plain_marks, turns))
        else:
            shown = media_of(images, "image")
        extra = unmapped_fields(value, record, _MAPPED_FIELDS)
        return converse(Chat(turns, images=shown, extra=extra), record, self.dataset_name)


def _called_images(turns: Sequence[Turn], images: Mapping[str, Any]) -> list[Media]:
    """Return the images in the order in which the turns call them.

    Raises:
        RecordError: a mark has no image, or an image no mark.
    """
    marks = [mark for turn in turns for mark in _MARK.findall(_text(turn))]
    if unknown := [mark for mark in marks if mark not in images]:
        raise RecordError(f"no image is called {unknown[0]!r}", reason="media_mismatch")
    if unused := [mark for mark in images if mark not in marks]:
        raise RecordError(f"no turn calls the image {unused[0]!r}", reason="media_mismatch")
    return [medium_of(images[mark], "image") for mark in marks]


def _with_plain_marks(turn: Turn) -> Turn:
    return replace(turn, content=_MARK.sub(IMAGE, _text(turn)))


def _text(turn: Turn) -> str:
    if not isinstance(turn.content, str):
        raise RecordError(f"a turn's content must be a string, found {json_type(turn.content)}")
    return turn.content
