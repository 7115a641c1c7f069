"""LLaVA-Video-178K: captions, open-ended and multiple-choice questions about videos, in buckets by
length and source.

The records are LLaVA's; the placeholder of a video is ``<image>``, its path is relative to the
bucket's folder, and in the ``llava_hound`` part it names a folder of frames.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from mmdata.formats import registry
from mmdata.formats._format import Origin, Sample
from mmdata.formats._llava_flat import WAYS, flatten_llava
from mmdata.formats._sources import RecordSource
from mmdata.formats.llava import converse_llava, has_human_and_gpt
from mmdata.rejects import Reject
from mmdata.schema import Conversation
from mmdata.sources._run import Way
from mmdata.sources.record import Record
from mmdata.store.encode import FlatRows

__all__ = ["Video178k"]


@registry.register("video178k")
@dataclass(frozen=True)
class Video178k(RecordSource):
    """LLaVA-Video-178K, several files and folders at once.

    ``dataset_name`` is what rows have in the column ``source``.
    """

    summary: ClassVar[str] = (
        "LLaVA-Video-178K: captions, open-ended and multiple-choice questions about videos"
    )
    shape: ClassVar[str] = (
        "0_30_s_academic_v0_1/0_30_s_academic_v0_1_cap_processed.json: "
        '[{"id": "RW587", "data_source": "0_30_s_academic_v0_1", '
        '"video": "academic_source/Charades/RW587.mp4", "conversations": '
        '[{"from": "human", "value": "<image>\\nWhat happens?"}, '
        '{"from": "gpt", "value": "Rain."}]}]'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "a clip of a video": (
            '{"video": "1.mp4", "video_start": 2.5, "video_end": 4, "conversations": [{"from": '
            '"human", "value": "<image>\\nWhat happens?"}, {"from": "gpt", "value": "It falls."}]}'
        ),
        "a video given as pictures": (
            '{"video": ["1/0001.jpg", "1/0002.jpg"], "conversations": [{"from": "human", "value": '
            '"<image>\\nWhat happens?"}, {"from": "gpt", "value": "It falls."}]}'
        ),
        "the system's words beside the turns": (
            '{"video": "1.mp4", "system": "Be brief.", "conversations": [{"from": "human", '
            '"value": "<image>\\nWhat happens?"}, {"from": "gpt", "value": "It falls."}]}'
        ),
    }

    dataset_name: str = "llava_video_178k"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``conversations`` of human and gpt, and some a ``video``,
        none an image.
        """
        others = sample.some_said("image", "images", "videos")
        return has_human_and_gpt(sample) and sample.some("video") and not others

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record; ``data_source`` is kept in ``extra``."""
        return converse_llava(record, self.dataset_name)

    reads_parts = True

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = WAYS
    ) -> Iterator[list[Record | Reject]]:
        """Yield the records in order, in lists of what was read together."""
        return super().runs(sources, ways)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        return flatten_llava(records, self.dataset_name)

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path below the bucket's folder, below the root, and below the folder that
        ``data_source`` names.
        """
        if path.startswith("/"):
            yield path
            return
        # Paths are relative to the bucket, whichever folder the user has called the media root.
        for folder in sorted(origin.folders, key=len, reverse=True):
            yield posixpath.join(folder, path)
        bucket = origin.extra.get("data_source")
        if isinstance(bucket, str) and bucket:
            yield f"{bucket}/{path}"
