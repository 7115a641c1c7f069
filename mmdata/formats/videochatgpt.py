"""VideoChatGPT's benchmark questions: ``video_name``, a question or two paraphrases of one, and an
answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat_flat import flatten_with
from mmdata.formats._flat import TurnColumns, require
from mmdata.formats._format import Origin, Sample
from mmdata.formats._sources import JsonSource, add_fields, conversation_id, json_type, mapping
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Media, Video, assistant, replace, user
from mmdata.sources._run import Way, read_strictly
from mmdata.sources.record import Record
from mmdata.store.encode import ROLE_CODES, FlatRows

__all__ = ["VideoChatGpt"]

_QUESTIONS: Final = ("question", "question_1", "question_2")
_MAPPED_FIELDS: Final = frozenset({"video_name", "answer", *_QUESTIONS})
_ABSENT: Final = (None, "", "None")
_SUFFIXES: Final = (".mp4", ".MP4", ".mkv", ".avi", ".mov", ".webm")
"""Those that the archive of the benchmark has, likeliest first; its ``video_name`` has none."""
_ENDINGS: Final = (".mp4", ".mkv", ".avi", ".mov", ".webm")


@registry.register("videochatgpt")
@dataclass(frozen=True)
class VideoChatGpt(JsonSource):
    """VideoChatGPT's Generic, Temporal and Consistency questions.

    ``dataset_name`` is what rows have in the column ``source``. ``folder`` is where the videos lie
    below the media root. A Consistency row gives a record for each paraphrase; both carry the row's
    number as ``group`` in ``extra``.
    """

    summary: ClassVar[str] = "VideoChatGPT's benchmark: questions about videos, paraphrases apart"
    shape: ClassVar[str] = (
        '[{"video_name": "v_abc", "question": "What happens?", "answer": "Rain."}]'
    )

    dataset_name: str = "videochatgpt"
    folder: str = "Test_Videos"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have a ``video_name`` and an ``answer``."""
        return sample.every("video_name", "answer")

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = (read_strictly,)
    ) -> Iterator[list[Record | Reject]]:
        """Yield a record for each question of each row, numbered through, in lists of what was read
        together.
        """
        for file in self.files(sources):
            number = 0
            for run in super().runs([file], ways):
                questions = [item for row in run for item in _questions(row)]
                yield [_renumber(item, number + place) for place, item in enumerate(questions)]
                number += len(questions)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        return flatten_with(
            self._read, records, self.dataset_name, marks=(), refused=(), split="test"
        )

    def conversation(self, record: Record) -> Conversation:
        """Return one question about a video and its answer."""
        value = mapping(record)
        question = next((value[key] for key in _QUESTIONS if value.get(key) not in _ABSENT), None)
        if question is None or value.get("answer") in _ABSENT:
            raise RecordError("the question or the answer is missing", reason="no_conversation")
        for text in (question, value["answer"]):
            if not isinstance(text, str):
                raise RecordError(f"questions and answers must be strings, found {json_type(text)}")
            if text.isspace():
                raise RecordError("the question or the answer is blank", reason="empty_turn")
        media = (Media("video", self._path(value.get("video_name"))),)
        extra = _extra(value)
        messages = (user(Video(0), question), assistant(value["answer"]))
        return Conversation(
            conversation_id(record), messages, media, self.dataset_name, "test", extra
        )

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path below the folder of videos, then without it; a name that has no suffix of
        its own, under each that the archive has.
        """
        places = (path, path.removeprefix(f"{self.folder}/"))
        if "video_name" in origin.extra:
            yield from places
            return
        for place in places:
            yield from (place.removesuffix(".mp4") + suffix for suffix in _SUFFIXES)

    def _read(self, values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
        texts: list[str] = []
        for value in values:
            questions = [value[key] for key in _QUESTIONS if value.get(key) not in _ABSENT]
            require(len(questions) == 1 and value["answer"] not in _ABSENT)
            texts += (questions[0], value["answer"])
        names = [value["video_name"] for value in values]
        require(set(map(type, chain(texts, names))) == {str} and all(names))
        return TurnColumns(
            ids=[record.id or conversation_id(record) for record in records],
            num_turns=[2] * len(values),
            roles=bytes([ROLE_CODES["user"], ROLE_CODES["assistant"]]) * len(values),
            texts=texts,
            images=[()] * len(values),
            videos=[(self._path(name),) for name in names],
            extras=list(map(_extra, values)),
        )

    def _path(self, name: object) -> str:
        if not isinstance(name, str):
            raise RecordError(f"'video_name' must be a string, found {json_type(name)}")
        if not name:
            raise RecordError("'video_name' is empty", reason="missing_media")
        return f"{self.folder}/{name}" if _has_suffix(name) else f"{self.folder}/{name}.mp4"


def _has_suffix(name: object) -> bool:
    """Return whether a ``video_name`` is the name of a file, as ActivityNet-QA has it."""
    return isinstance(name, str) and name.lower().endswith(_ENDINGS)


def _extra(value: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a row that have no column of their own.

    A name with its suffix stays among them: its file is no other than that.
    """
    extra = {key: found for key, found in value.items() if key not in _MAPPED_FIELDS}
    if _has_suffix(name := value.get("video_name")):
        extra["video_name"] = name
    return extra


def _questions(row: Record | Reject) -> Iterator[Record | Reject]:
    """Yield a row once, or once for each of its two paraphrases."""
    value: Any = row.value if isinstance(row, Record) else None
    question_fields = (
        [key for key in _QUESTIONS if value.get(key) not in _ABSENT]
        if isinstance(value, dict)
        else []
    )
    if isinstance(row, Reject) or len(question_fields) < 2:
        yield row
        return
    for question_field in question_fields:
        others = {key: found for key, found in value.items() if key not in _QUESTIONS}
        added = add_fields(others, group=row.number, asked_as=question_field)
        yield replace(row, raw={question_field: value[question_field], **added})


def _renumber(item: Record | Reject, number: int) -> Record | Reject:
    return (
        replace(item, number=number)
        if isinstance(item, Record)
        else dataclasses.replace(item, record=number)
    )
