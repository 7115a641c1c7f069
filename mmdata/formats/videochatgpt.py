"""VideoChatGPT's benchmark questions: ``video_name``, a question or two paraphrases of one, and an
answer; and its training data, VideoInstruct100K: ``video_id``, ``q`` and ``a``.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Final, NamedTuple, TypeGuard

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat_flat import flatten_with
from mmdata.formats._flat import TurnColumns, require
from mmdata.formats._format import Origin, Sample
from mmdata.formats._nested import split_rows
from mmdata.formats._sources import RecordSource, add_fields, conversation_id, json_type, mapping
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Media, Split, Video, assistant, replace, user
from mmdata.sources._run import Way, read_strictly
from mmdata.sources.record import Record
from mmdata.store.encode import ROLE_CODES, FlatRows

__all__ = ["VideoChatGpt"]


class _Dialect(NamedTuple):
    """The fields of a record that hold the video, its questions and the answer; and the split."""

    video: str
    questions: tuple[str, ...]
    answer: str
    split: Split

    @property
    def fields(self) -> set[str]:
        return {self.video, self.answer, *self.questions}


_BENCHMARK: Final = _Dialect(
    "video_name", ("question", "question_1", "question_2"), "answer", "test"
)
_INSTRUCT: Final = _Dialect("video_id", ("q",), "a", "train")
_ABSENT: Final = (None, "", "None")
_SUFFIXES: Final = (".mp4", ".MP4", ".mkv", ".avi", ".mov", ".webm")
"""Those that the archive of the benchmark has, likeliest first; its names of videos have none."""
_ENDINGS: Final = (".mp4", ".mkv", ".avi", ".mov", ".webm")


@registry.register("videochatgpt")
@dataclass(frozen=True)
class VideoChatGpt(RecordSource):
    """VideoChatGPT's Generic, Temporal and Consistency questions, and VideoInstruct100K.

    ``dataset_name`` is what rows have in the column ``source``. ``folder`` is where the videos lie
    below the media root. A Consistency row gives a record for each paraphrase; both carry the row's
    number as ``group`` in ``extra``. Records of VideoInstruct100K
    (``{"video_id": "v_abc", "q": "What happens?", "a": "Rain."}``) are of the split ``train``, the
    benchmark's of ``test``. A name without the suffix of a video is looked for under those that the
    archive has.
    """

    summary: ClassVar[str] = (
        "VideoChatGPT: its benchmark's questions about videos, paraphrases apart; VideoInstruct100K"
    )
    shape: ClassVar[str] = (
        '[{"video_name": "v_abc", "question": "What happens?", "answer": "Rain."}]'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "two paraphrases of a question": (
            '[{"video_name": "v_abc", "question_1": "What happens?", "question_2": "What is going '
            'on?", "answer": "Rain."}]'
        ),
        "training data (VideoInstruct100K)": (
            '[{"video_id": "v_abc", "q": "What happens?", "a": "Rain."}]'
        ),
        "a name with its suffix": (
            '[{"video_name": "v_abc.mkv", "question": "What happens?", "answer": "Rain."}]'
        ),
    }

    dataset_name: str = "videochatgpt"
    folder: str = "Test_Videos"

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have a ``video_name`` and an ``answer``, or a ``video_id``,
        ``q`` and ``a``.
        """
        return sample.every("video_name", "answer") or sample.every("video_id", "q", "a")

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = (read_strictly,)
    ) -> Iterator[list[Record | Reject]]:
        """Yield a record for each question of each row, numbered through, in lists of what was read
        together.
        """
        return split_rows(super().runs(sources, ways), _questions)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain and of
        one dialect.
        """
        dialect = _dialect_of(records[0].raw)
        read = partial(self._read, dialect)
        return flatten_with(
            read, records, self.dataset_name, marks=(), refused=(), split=dialect.split
        )

    def conversation(self, record: Record) -> Conversation:
        """Return one question about a video and its answer."""
        value = mapping(record)
        dialect = _dialect_of(value)
        question = next(
            (value[key] for key in dialect.questions if value.get(key) not in _ABSENT), None
        )
        answer: Any = value.get(dialect.answer)
        if question is None or answer in _ABSENT:
            raise RecordError("the question or the answer is missing", reason="no_conversation")

        for text in (question, answer):
            if not isinstance(text, str):
                raise RecordError(f"questions and answers must be strings, found {json_type(text)}")
            if text.isspace():
                raise RecordError("the question or the answer is blank", reason="empty_turn")

        media = (Media("video", self._path(value.get(dialect.video), dialect.video)),)
        extra = _extra(value, dialect)
        messages = (user(Video(0), question), assistant(answer))
        return Conversation(
            conversation_id(record), messages, media, self.dataset_name, dialect.split, extra
        )

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path below the folder of videos, then without it; a name that has no suffix of
        its own, under each that the archive has.
        """
        places = (path, path.removeprefix(f"{self.folder}/"))
        names = (origin.extra.get(field) for field in (_BENCHMARK.video, _INSTRUCT.video))
        if any(_has_suffix(name) and path.endswith(name) for name in names):
            yield from places
            return
        for place in places:
            yield from (place.removesuffix(".mp4") + suffix for suffix in _SUFFIXES)

    def _read(
        self, dialect: _Dialect, values: Sequence[dict[str, Any]], records: Sequence[Record]
    ) -> TurnColumns:
        texts: list[str] = []
        for value in values:
            require(_dialect_of(value) is dialect)
            questions = [value[key] for key in dialect.questions if value.get(key) not in _ABSENT]
            require(len(questions) == 1 and value[dialect.answer] not in _ABSENT)
            texts += (questions[0], value[dialect.answer])

        names = [value[dialect.video] for value in values]
        require(set(map(type, chain(texts, names))) == {str} and all(names))
        return TurnColumns(
            ids=[record.id or conversation_id(record) for record in records],
            num_turns=[2] * len(values),
            roles=bytes([ROLE_CODES["user"], ROLE_CODES["assistant"]]) * len(values),
            texts=texts,
            images=[()] * len(values),
            videos=[(self._path(name, dialect.video),) for name in names],
            extras=[_extra(value, dialect) for value in values],
        )

    def _path(self, name: object, field: str) -> str:
        if not isinstance(name, str):
            raise RecordError(f"{field!r} must be a string, found {json_type(name)}")
        if not name:
            raise RecordError(f"{field!r} is empty", reason="missing_media")
        return posixpath.join(self.folder, name if _has_suffix(name) else f"{name}.mp4")


def _has_suffix(name: object) -> TypeGuard[str]:
    """Return whether the name of a video is that of its file, as ActivityNet-QA has it."""
    return isinstance(name, str) and name.lower().endswith(_ENDINGS)


def _extra(value: dict[str, Any], dialect: _Dialect) -> dict[str, Any]:
    """Return the fields of a row that have no column of their own.

    A name with its suffix stays among them: its file is no other than that.
    """
    extra = {key: found for key, found in value.items() if key not in dialect.fields}
    if _has_suffix(name := value.get(dialect.video)):
        extra[dialect.video] = name
    return extra


def _dialect_of(value: object) -> _Dialect:
    return _INSTRUCT if isinstance(value, dict) and "q" in value else _BENCHMARK


def _questions(row: Record | Reject) -> list[Record | Reject] | None:
    """Return a row for each of its paraphrases where it has two."""
    value: Any = row.value if isinstance(row, Record) else None
    question_fields = (
        [key for key in _BENCHMARK.questions if value.get(key) not in _ABSENT]
        if isinstance(value, dict)
        else []
    )
    if isinstance(row, Reject) or len(question_fields) < 2:
        return None

    others = {key: found for key, found in value.items() if key not in _BENCHMARK.questions}
    return [
        replace(
            row,
            raw={
                asked_as: value[asked_as],
                **add_fields(others, group=row.number, asked_as=asked_as),
            },
        )
        for asked_as in question_fields
    ]
