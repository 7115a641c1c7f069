"""LLaVA-Video-178K: captions, open-ended and multiple-choice questions about videos, in buckets by length and source.

The records are LLaVA's; the placeholder of a video is ``<image>``, its path is relative to the bucket's folder, and in
the ``llava_hound`` part it names a folder of frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mmdata.formats import registry
from mmdata.formats._dialogues import WAYS, dialogues
from mmdata.formats._format import Record, Sample, Spoken
from mmdata.formats._sources import JsonSource, below_folder
from mmdata.formats.llava import converse, of_human_and_gpt
from mmdata.rejects import Reject
from mmdata.schema import Conversation

__all__ = ["Video178k"]


@registry.register("video178k")
@dataclass(frozen=True)
class Video178k(JsonSource):
    """LLaVA-Video-178K, several files and folders at once. ``source`` is the data set name that rows get."""

    summary: ClassVar[str] = "LLaVA-Video-178K: captions, open-ended and multiple-choice questions about videos"
    shape: ClassVar[str] = (
        "0_30_s_academic_v0_1/0_30_s_academic_v0_1_cap_processed.json: "
        '[{"id": "RW587", "data_source": "0_30_s_academic_v0_1", "video": "academic_source/Charades/RW587.mp4", '
        '"conversations": [{"from": "human", "value": "<image>\\nWhat happens?"}, {"from": "gpt", "value": "Rain."}]}]'
    )

    source: str = "llava_video_178k"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``conversations`` of human and gpt and a ``video``."""
        return of_human_and_gpt(sample) and sample.every("video")

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record; ``data_source`` is kept in ``extra``."""
        return converse(record, self.source)

    def dialogues(self, sources: Sequence[Path]) -> Iterator[Spoken | Record | Reject]:
        """Yield the records in order, those that are so plain with their dialogues."""
        return dialogues(self.runs(sources, WAYS), self.source)

    def candidates(self, path: str, record: Record) -> Iterator[str]:
        """Yield the path below the bucket's folder, below the root, and below the folder ``data_source`` names."""
        yield from below_folder(path, record)
        yield path
        bucket = record.value.get("data_source")
        if isinstance(bucket, str) and not path.startswith("/"):
            yield f"{bucket}/{path}"
