"""VideoChat2-IT: pairs of question and answer about a video or an image, with an instruction before
them; the shape that TimeChat's data has, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats.toolkit import (
    Chat,
    Record,
    RecordSource,
    Sample,
    Turn,
    converse,
    json_type,
    mapping,
    media_of,
    read_pairs,
    register,
    unmapped_fields,
)
from mmdata.schema import Conversation, Media, replace

__all__ = ["VideoChat2"]

_MAPPED_FIELDS: Final = frozenset({"id", "video", "image", "QA", "start", "end"})


@register("videochat2")
@dataclass(frozen=True)
class VideoChat2(RecordSource):
    """VideoChat2-IT. ``dataset_name`` is what rows have in the column ``source``.

    The instruction ``i`` is the system's turn, as VideoChat2's trainer has it; a later pair's is
    one more where it differs. A pair without a question, as captions have it, is an answer to the
    medium alone. ``start`` and ``end`` are the bounds of a clip in its video, in seconds.
    """

    summary: ClassVar[str] = "VideoChat2-IT and TimeChat: question and answer pairs about a medium"
    shape: ClassVar[str] = (
        '[{"video": "1.mp4", "QA": [{"i": "Answer briefly.", "q": "What happens?", "a": "Rain."}], '
        '"start": 0.5, "end": 1.5}]'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "an image": (
            '[{"image": "1.jpg", "QA": [{"i": "Answer briefly.", "q": "What is it?", "a": "A '
            'cup."}]}]'
        ),
        "a caption, without a question": (
            '[{"video": "1.mp4", "QA": [{"i": "Describe the video.", "q": "", "a": "It rains."}]}]'
        ),
        "several pairs": (
            '[{"video": "1.mp4", "QA": [{"q": "What happens?", "a": "Rain."}, {"q": "Where?", '
            '"a": "In Oslo."}]}]'
        ),
    }

    dataset_name: str = "videochat2"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``QA``."""
        return sample.every("QA")

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record."""
        value = mapping(record)
        if not value.get("QA"):
            raise RecordError("'QA' is absent or empty", reason="no_conversation")

        chat = Chat(
            _turns(value["QA"]),
            images=media_of(value.get("image"), "image"),
            videos=_clips(value),
            extra=unmapped_fields(value, record, _MAPPED_FIELDS),
        )
        return converse(chat, record, self.dataset_name)


def _turns(value: object) -> list[Turn]:
    """Return the turns of the pairs, each instruction before the first question that it is for."""
    pairs = read_pairs(value, "q", "a")
    turns: list[Turn] = []
    instruction = ""
    for question, answer in zip(pairs[::2], pairs[1::2], strict=True):
        extra = dict(answer.extra)
        wanted = extra.pop("i", None) or ""
        if not isinstance(wanted, str):
            raise RecordError(f"a pair's 'i' must be a string, found {json_type(wanted)}")

        if wanted and wanted != instruction:
            instruction = wanted
            turns.append(Turn("system", instruction))
        if question.content != "" or question is pairs[0]:
            turns.append(question)
        turns.append(Turn("assistant", answer.content, answer.train, extra))
    return turns


def _clips(value: dict[str, Any]) -> Sequence[Media]:
    """Return the videos of a record, between the bounds that it gives."""
    start, end = (_seconds(value, key) for key in ("start", "end"))
    videos = media_of(value.get("video"), "video")
    if start is None and end is None:
        return videos
    if len(videos) != 1:
        raise RecordError(
            f"'start' and 'end' are the bounds of one video, found {len(videos)} of them",
            reason="media_mismatch",
        )
    return [replace(videos[0], start=start, end=end)]


def _seconds(value: dict[str, Any], key: str) -> float | None:
    found = value.get(key)
    if found is None or (isinstance(found, (int, float)) and not isinstance(found, bool)):
        return found
    raise RecordError(f"{key!r} must be a number of seconds, found {json_type(found)}")
