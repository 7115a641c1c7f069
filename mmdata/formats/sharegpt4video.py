"""ShareGPT4Video's captions of videos, ``sharegpt4video_40k.jsonl``: a caption of the whole video,
beside those of its keyframes.

Its file for instruction tuning (``sharegpt4video_mix181k…json``) is LLaVA's shape.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats.toolkit import (
    Chat,
    Origin,
    Record,
    RecordSource,
    Sample,
    Turn,
    add_fields,
    converse,
    json_type,
    mapping,
    register,
    unmapped_fields,
)
from mmdata.schema import Conversation, Media

__all__ = ["ShareGpt4Video"]

_MAPPED_FIELDS: Final = frozenset({"id", "video_id", "video_path", "captions"})
_WHOLE: Final = "-1"
"""What a caption of the whole video has as ``idx``; those of keyframes count from 1."""


@register("sharegpt4video")
@dataclass(frozen=True)
class ShareGpt4Video(RecordSource):
    """ShareGPT4Video's captions. ``dataset_name`` is what rows have in the column ``source``.

    ``prompt`` asks for the caption of the whole video. The captions of keyframes, which say what
    changes from one to the next, stay in ``extra`` with their times.
    """

    harmless_fields: ClassVar[frozenset[str]] = frozenset({"timestamp"})  # of the keyframes
    refines: ClassVar[frozenset[str]] = frozenset({"lavis"})
    id_key: ClassVar[str] = "video_id"
    summary: ClassVar[str] = "ShareGPT4Video: captions of whole videos, those of keyframes in extra"
    shape: ClassVar[str] = (
        '[{"video_id": "a1", "video_path": "panda/a1.mp4", "timestamp": ["00:00:00.000"], '
        '"keyframe": [0], "captions": [{"idx": "1", "content": "A cloud."}, '
        '{"idx": "-1", "content": "Rain begins."}], "zip_folder": "panda/panda_videos_1.zip"}]'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "the whole video alone": (
            '[{"video_id": "a1", "video_path": "panda/a1.mp4", "captions": [{"idx": "-1", '
            '"content": "Rain begins."}]}]'
        ),
    }

    dataset_name: str = "sharegpt4video"
    prompt: str = "Describe the video in detail."

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have a ``video_path`` and ``captions``."""
        return sample.every("video_path", "captions")

    def conversation(self, record: Record) -> Conversation:
        """Return the question for a caption of the whole video, and the caption."""
        value = mapping(record)
        caption, others = _split_captions(value.get("captions"))
        extra = unmapped_fields(value, record, _MAPPED_FIELDS)
        if others:
            extra = add_fields(extra, captions=others)
        if value.get("video_id") not in (None, record.id):
            extra = add_fields(extra, video_id=value["video_id"])

        turns = [Turn("user", self.prompt), caption]
        videos = [Media("video", _path(value))]
        return converse(Chat(turns, videos=videos, extra=extra), record, self.dataset_name)

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path as it is spelt, below the folder of its file, and below ``zip_folder``,
        where the archives unpack.
        """
        yield from RecordSource.candidates(self, path, origin)
        if not path.startswith("/"):
            yield f"zip_folder/{path}"


def _split_captions(captions: object) -> tuple[Turn, Sequence[Any]]:
    """Return the turn of the caption of the whole video, and the other captions as they are."""
    if not captions:
        raise RecordError("'captions' is absent or empty", reason="no_conversation")
    if not isinstance(captions, list) or not all(isinstance(each, dict) for each in captions):
        raise RecordError(f"'captions' must be an array of objects, found {json_type(captions)}")

    whole = [each for each in captions if str(each.get("idx")) == _WHOLE]
    others = [each for each in captions if str(each.get("idx")) != _WHOLE]
    if len(whole) != 1:
        raise RecordError(
            f"{len(whole)} captions of the whole video (idx {_WHOLE}), where one is wanted",
            reason="no_conversation" if not whole else "malformed",
        )
    content = whole[0].get("content")
    if not isinstance(content, str):
        raise RecordError(f"a caption's 'content' must be a string, found {json_type(content)}")
    rest = {key: found for key, found in whole[0].items() if key not in {"idx", "content"}}
    return Turn("assistant", content, extra=rest), others


def _path(value: dict[str, Any]) -> str:
    path = value.get("video_path")
    if not isinstance(path, str):
        raise RecordError(f"'video_path' must be a string, found {json_type(path)}")
    if not path:
        raise RecordError("'video_path' is empty", reason="missing_media")
    return path
