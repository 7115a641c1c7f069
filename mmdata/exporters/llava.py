"""LLaVA's instruction data: ``conversations`` of human and gpt, with ``image`` or ``video`` beside
them, as LLaVA, LLaVA-NeXT and all that follow them train on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature, UnsayableError
from mmdata.exporters._json_columns import (
    concat,
    escape,
    extras_of,
    lists_by_count,
    turn_texts,
    turns_of,
)
from mmdata.exporters._media import MediaMode
from mmdata.exporters._plain import ASSISTANT, SYSTEM, USER, PlainRows
from mmdata.exporters._turns import (
    MARKS,
    SPEAKERS,
    add_extra,
    require_turns,
    split_media,
    text_of,
)
from mmdata.exporters._writers import ARRAY_END
from mmdata.schema import MediaType

__all__ = ["Llava", "llava_record", "llava_records"]


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

    def records(self, rows: PlainRows) -> Any:
        """Return the records of plain rows as JSON, or None where a row has a system's turn, or
        media that LLaVA does not take.
        """
        columns = rows.columns
        are_videos = columns.media_are_videos
        if are_videos.any():
            import numpy as np

            # A row that has a video has nothing else.
            row_of_video = columns.row_of_medium[are_videos]
            if (np.take(columns.num_media, row_of_video) > 1).any():
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

    record: dict[str, Any] = {"id": conversation.id}
    for name, media in (("image", images), ("video", videos)):
        references = [medium.reference for medium in media]
        if references:
            record[name] = references if len(references) > 1 else references[0]
    record["conversations"] = [
        {"from": SPEAKERS[message.role], "value": text_of(message, separator="\n")}
        for message in conversation.messages
    ]
    return add_extra(record, conversation, fields)


def llava_records(rows: PlainRows, fields: frozenset[str]) -> Any:
    """Return plain rows as :func:`llava_record` does, as JSON, or None where it would refuse
    one.
    """
    extras = extras_of(rows, fields, ("id", "image", "video", "conversations"))
    if extras is None or (rows.columns.roles == SYSTEM).any():
        return None
    before = {USER: '{"from":"human","value":"', ASSISTANT: '{"from":"gpt","value":"'}
    turns = turns_of(rows, turn_texts(rows, "\n", MARKS), before, '"}')
    media = [
        lists_by_count(rows, kind, (("", ""), (f',"{kind}":', ""), (f',"{kind}":[', "]")))
        for kind in _KINDS
    ]
    head = ('{"id":"', escape(rows.id_array), '"')
    return concat(*head, *media, ',"conversations":[', turns, "]", extras, "}" + ARRAY_END)


_KINDS: Final[tuple[MediaType, ...]] = ("image", "video")
