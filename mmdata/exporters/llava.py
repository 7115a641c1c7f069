"""LLaVA's instruction data: ``conversations`` of human and gpt, with ``image`` or ``video`` beside
them, as LLaVA, LLaVA-NeXT and all that follow them train on.
"""

from __future__ import annotations

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

__all__ = ["Llava"]

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
        conversation = row.conversation
        require_turns(conversation, may_have_system=False)
        images, videos = split_media(conversation, row.media)
        if videos and (images or len(videos) > 1):
            raise UnsayableError(
                f"LLaVA takes some images or one video, found {len(images)} images and "
                f"{len(videos)} videos",
                what="media",
            )
        if videos and videos[0].frame_paths is not None:
            raise UnsayableError("LLaVA takes a video as a file, not as pictures", what="media")

        record: dict[str, Any] = {"id": conversation.id}
        if images:
            paths = [image.reference for image in images]
            record["image"] = paths if len(paths) > 1 else paths[0]
        if videos:
            record["video"] = videos[0].reference
        record["conversations"] = [
            {"from": _SPEAKERS[message.role], "value": text_of(message, separator="\n")}
            for message in conversation.messages
        ]
        return add_extra(record, conversation, self.fields)

    def records(self, rows: PlainRows) -> list[dict[str, Any]] | None:
        """Return the records of plain rows, or None where a row has a system's turn, or media that
        LLaVA does not take.
        """
        if SYSTEM in rows.roles:
            return None
        texts = join_texts(rows, "\n")
        turns = [
            {"from": "human" if role == USER else "gpt", "value": text}
            for role, text in zip(rows.roles, texts, strict=True)
        ]
        bounds = pairwise(accumulate(rows.num_turns, initial=0))
        records: list[dict[str, Any]] = []
        for name, images, videos, (start, end) in zip(
            rows.ids, rows.images, rows.videos, bounds, strict=True
        ):
            record: dict[str, Any] = {"id": name}
            if images:
                record["image"] = images if len(images) > 1 else images[0]
            if videos:
                if images or len(videos) > 1:
                    return None
                record["video"] = videos[0]
            record["conversations"] = turns[start:end]
            records.append(record)
        return records if add_extras(records, rows, self.fields) else None
