"""The JSON of ``qwen-vl-finetune``, with which Qwen trains Qwen2-VL, Qwen2.5-VL and Qwen3-VL:
LLaVA's, with images and videos in one record.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from mmdata.exporters import registry
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import Feature, UnsayableError
from mmdata.exporters._plain import PlainRows
from mmdata.exporters.llava import llava_record, llava_records

__all__ = ["QwenVLFinetune"]


@registry.register("qwen_vl_finetune")
@dataclass(frozen=True)
class QwenVLFinetune(Exporter):
    """The records that ``qwen-vl-finetune`` reads; it takes any number of images and videos."""

    summary: ClassVar[str] = "qwen-vl-finetune's JSON: Qwen2-VL, Qwen2.5-VL and Qwen3-VL"
    shape: ClassVar[str] = (
        '[{"id": "1", "video": "1.mp4", "conversations": [{"from": "human", "value": '
        '"<video>\\nWhat happens?"}, {"from": "gpt", "value": "It falls."}]}]'
    )
    says: ClassVar[frozenset[Feature]] = frozenset({"extra"})
    fields: ClassVar[frozenset[str]] = frozenset({"conversations", "data_path"})
    read_by: ClassVar[str | None] = "llava"

    def record(self, row: Row) -> dict[str, Any]:
        """Return one row as a record.

        Raises:
            UnsayableError: its turns are not human and gpt by turns, or a video is given as
                pictures, each of which would be read as a video.
        """
        if any(medium.frame_paths is not None for medium in row.media):
            raise UnsayableError("qwen-vl-finetune takes videos as files", what="media")
        return llava_record(row, self.fields)

    def records(self, rows: PlainRows) -> Any:
        """Return the records of plain rows, or None where a row has a system's turn."""
        return llava_records(rows, self.fields)
