"""VideoChatGPT's benchmark questions: ``video_name``, a question or two paraphrases of one, and an answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._format import Origin, Sample
from mmdata.formats._sources import JsonSource, conversation_id, kind, mapping, with_ours
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Media, Video, assistant, replace, user
from mmdata.sources.record import Record

__all__ = ["VideoChatGpt"]

_QUESTIONS: Final = ("question", "question_1", "question_2")
_HOMED: Final = frozenset({"video_name", "answer", *_QUESTIONS})
_ABSENT: Final = (None, "", "None")
_SUFFIXES: Final = (".mp4", ".MP4", ".mkv", ".avi", ".mov", ".webm")


@registry.register("videochatgpt")
@dataclass(frozen=True)
class VideoChatGpt(JsonSource):
    """VideoChatGPT's Generic, Temporal and Consistency questions. ``source`` is the data set name that rows get.

    ``folder`` is where the videos lie below the media root. A Consistency row gives a record for each paraphrase; both
    carry the row's number as ``group`` in ``extra``.
    """

    summary: ClassVar[str] = "VideoChatGPT's benchmark: questions about videos, paraphrases apart"
    shape: ClassVar[str] = '[{"video_name": "v_abc", "question": "What happens?", "answer": "Rain."}]'

    source: str = "videochatgpt"
    folder: str = "Test_Videos"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have a ``video_name`` and an ``answer``."""
        return sample.every("video_name", "answer")

    def records(self, sources: Sequence[Path]) -> Iterator[Record | Reject]:
        """Yield a record for each question of each row, numbered through."""
        for file in self.files(sources):
            number = 0
            for row in super().records([file]):
                for item in _questions(row):
                    yield _renumbered(item, number)
                    number += 1

    def conversation(self, record: Record) -> Conversation:
        """Return one question about a video and its answer."""
        value = mapping(record)
        question = next((value[key] for key in _QUESTIONS if value.get(key) not in _ABSENT), None)
        if question is None or value.get("answer") in _ABSENT:
            raise RecordError("the question or the answer is missing", reason="no_conversation")
        for text in (question, value["answer"]):
            if not isinstance(text, str):
                raise RecordError(f"questions and answers must be strings, found {kind(text)}")
            if text.isspace():
                raise RecordError("the question or the answer is blank", reason="empty_turn")
        media = (Media("video", self._path(value.get("video_name"))),)
        extra = {key: found for key, found in value.items() if key not in _HOMED}
        messages = (user(Video(0), question), assistant(value["answer"]))
        return Conversation(conversation_id(record), messages, media, self.source, "test", extra)

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path under the suffixes that the archive has, then without its folder."""
        stem = path.removesuffix(".mp4")
        yield from (stem + suffix for suffix in _SUFFIXES)
        yield from (stem.removeprefix(f"{self.folder}/") + suffix for suffix in _SUFFIXES)

    def _path(self, name: object) -> str:
        if not isinstance(name, str):
            raise RecordError(f"'video_name' must be a string, found {kind(name)}")
        if not name:
            raise RecordError("'video_name' is empty", reason="missing_media")
        return f"{self.folder}/{name}.mp4"


def _questions(row: Record | Reject) -> Iterator[Record | Reject]:
    """Yield a row once, or once for each of its two paraphrases."""
    value: Any = row.value if isinstance(row, Record) else None
    asked = [key for key in _QUESTIONS if value.get(key) not in _ABSENT] if isinstance(value, dict) else []
    if isinstance(row, Reject) or len(asked) < 2:
        yield row
        return
    for kept in asked:
        others = {key: found for key, found in value.items() if key not in _QUESTIONS}
        yield replace(row, raw={kept: value[kept], **with_ours(others, group=row.number, asked_as=kept)})


def _renumbered(item: Record | Reject, number: int) -> Record | Reject:
    return replace(item, number=number) if isinstance(item, Record) else dataclasses.replace(item, record=number)
