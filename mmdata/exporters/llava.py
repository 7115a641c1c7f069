"""LLaVA's instruction data: ``conversations`` of human and gpt, with ``image`` or ``video`` beside
them, as LLaVA, LLaVA-NeXT and all that follow them train on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, ClassVar, Final

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature, UnsayableError
from mmdata.exporters._media import MediaMode
from mmdata.exporters._plain import SYSTEM, USER, PlainRows
from mmdata.exporters._turns import (
    add_extra,
    add_extras,
    join_texts,
    require_turns,
    split_media,
    text_of,
)

__all__ = ["Llava", "llava_record", "llava_records"]

_SPEAKERS: Final = {"user": "human", "assistant": "gpt"}


@registry.register("llava")
@dataclass(frozen=True)
class Llava(Exporter):
    """LLaVA's JSON. Its trainers take turns of human and gpt, the human's first, and one video or
    some images; what else a row says is a reject.
    """

    summary: ClassVar[str] = "LLaVA's JSON, which LLaVA, LLaVA-NeXT and LLaVA-OneVision train on"
    shape: ClassVar[str] = (
        '[{"id": "1", "image": "1.jpg", "conversations": [{"from": "human", "value": '
        '"<image>\\nWhat is it?"}, {"from": "gpt", "value": "A cup."}]}]'
    )
    says: ClassVar[frozenset[Feature]] = frozenset({"extra"})
    media_modes: ClassVar[tuple[MediaMode, ...]] = ("reference", "copy")
    fields: ClassVar[frozenset[str]] = frozenset({"conversations"})
    read_by: ClassVar[str | None] = "llava"

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: its turns are not human and gpt by turns, or it has images and a video,
                several videos, or one that is given as pictures.
        """
        record = llava_record(row, self.fields)
        if "video" in record and ("image" in record or type(record["video"]) is list):
            raise UnsayableError("LLaVA takes some images or one video, as a file", what="media")
        return record

    def records(self, rows: PlainRows) -> list[dict[str, Any]] | None:
        """Return the records of plain rows, or None where a row has a system's turn, or media that
        LLaVA does not take.
        """
        if any(videos and (images or len(videos) > 1) for images, videos in _media_of(rows)):
            return None
        return llava_records(rows, self.fields)


def llava_record(row: Row, fields: frozenset[str]) -> dict[str, Any]:
    """Return one row as a record of ``conversations`` with ``image`` and ``video``, each a path or
    a list of them.

    Raises:
        UnsayableError: its turns are not human and gpt by turns.
    """
    conversation = row.conversation
    require_turns(conversation, may_have_system=False)
    images, videos = split_media(conversation, row.media)
    if any(video.clock is not None and video.frame_paths is not None for video in videos):
        raise UnsayableError("the times of a video's pictures cannot be said", what="times")

    record: dict[str, Any] = {"id": conversation.id}
    for name, media in (("image", images), ("video", videos)):
        references = [medium.reference for medium in media]
        if references:
            record[name] = references if len(references) > 1 else references[0]
    record["conversations"] = [
        {"from": _SPEAKERS[message.role], "value": text_of(message, separator="\n")}
        for message in conversation.messages
    ]
    return add_extra(record, conversation, fields)


def llava_records(rows: PlainRows, fields: frozenset[str]) -> list[dict[str, Any]] | None:
    """Return plain rows as :func:`llava_record` does, or None where it would refuse one."""
    if SYSTEM in rows.roles:
        return None
    texts = join_texts(rows, "\n")
    turns = [
        {"from": "human" if role == USER else "gpt", "value": text}
        for role, text in zip(rows.roles, texts, strict=True)
    ]
    bounds = pairwise(accumulate(rows.num_turns, initial=0))
    records: list[dict[str, Any]] = []
    for name, (images, videos), (start, end) in zip(rows.ids, _media_of(rows), bounds, strict=True):
        record: dict[str, Any] = {"id": name}
        if images:
            record["image"] = images if len(images) > 1 else images[0]
        if videos:
            record["video"] = videos if len(videos) > 1 else videos[0]
        record["conversations"] = turns[start:end]
        records.append(record)
    return records if add_extras(records, rows, fields) else None


def _media_of(rows: PlainRows) -> Iterator[tuple[Sequence[str], Sequence[str]]]:
    return zip(rows.images, rows.videos, strict=True)
