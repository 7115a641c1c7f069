"""VisualGLM's few-shot data: ``dataset.json``, one image, one question and one answer a record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._chat_flat import flatten_with
from mmdata.formats._flat import TurnColumns, require
from mmdata.formats._format import Origin, Sample
from mmdata.formats._meaning import is_said
from mmdata.formats._sources import (
    RecordSource,
    below_folders,
    conversation_id,
    json_type,
    mapping,
)
from mmdata.formats._turn_reader import list_turns, read_pairs
from mmdata.schema import Conversation, Image, Media, assistant, user
from mmdata.sources.record import Record
from mmdata.store.encode import ROLE_CODES, FlatRows

__all__ = ["Fewshot"]

_MAPPED_FIELDS: Final = frozenset({"img", "prompt", "label"})


@registry.register("fewshot")
@dataclass(frozen=True)
class Fewshot(RecordSource):
    """VisualGLM's few-shot data. ``dataset_name`` is what rows have in the column ``source``.

    Paths in such a file start with the name of the folder it lies in, so they are relative to the
    folder above.
    """

    summary: ClassVar[str] = "VisualGLM's few-shot data: image, question, answer"
    shape: ClassVar[str] = (
        '[{"img": "fewshot-data/1.jpg", "prompt": "What is it?", "label": "A cup."}]'
    )
    examples: ClassVar[Mapping[str, str]] = {
        "questions and answers before": (
            '{"img": "fewshot-data/1.jpg", "prompt": "And the colour?", "label": "Red.", '
            '"history": [["What is it?", "A cup."]]}'
        ),
        "a record with an id and fields of its own": (
            '{"id": "cup", "img": "fewshot-data/1.jpg", "prompt": "What is it?", "label": "A '
            'cup.", "licence": "CC0"}'
        ),
    }

    dataset_name: str = "fewshot"

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the folder above the one that holds the files."""
        return super().media_root(sources).parent

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have the three fields."""
        return sample.every("img", "prompt", "label")

    def conversation(self, record: Record) -> Conversation:
        """Return one question about one image, and its answer, byte for byte, after those of the
        ``history``.
        """
        value = mapping(record)
        path, prompt, label = (_text(value, key) for key in ("img", "prompt", "label"))
        first, *later = [*_history(value.get("history")), (prompt, label)]
        messages = [user(Image(0), first[0]), assistant(first[1])]
        for question, answer in later:
            messages += [user(question), assistant(answer)]
        return Conversation(
            conversation_id(record),
            tuple(messages),
            (Media("image", path),),
            self.dataset_name,
            extra=_extra(value, record),
        )

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        return flatten_with(_read, records, self.dataset_name, marks=(), refused=())

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path below the media root and below its file's folder; then, for a folder that
        has got another name since, in it without the name that the path starts with.
        """
        yield path
        yield from below_folders(path, origin)
        named, _, within = path.partition("/")
        if named and within:
            yield from below_folders(within, origin)


def _read(values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
    texts = [value[key] for value in values for key in ("prompt", "label")]
    paths = [value["img"] for value in values]
    require(not any(is_said(value.get("history")) for value in values))
    require(set(map(type, chain(texts, paths))) == {str} and all(path.strip() for path in paths))
    return TurnColumns(
        ids=[record.id or conversation_id(record) for record in records],
        num_turns=[2] * len(values),
        roles=bytes([ROLE_CODES["user"], ROLE_CODES["assistant"]]) * len(values),
        texts=texts,
        images=[(path,) for path in paths],
        videos=[()] * len(values),
        extras=list(map(_extra, values, records)),
    )


def _extra(value: dict[str, Any], record: Record) -> dict[str, Any]:
    """Return the fields of a record that have no column of their own."""
    return {
        key: field
        for key, field in value.items()
        if key not in _MAPPED_FIELDS
        and not (key == "id" and field == record.id)
        and not (key == "history" and is_said(field))
    }


def _history(found: object) -> list[tuple[str, str]]:
    """Return the questions and answers before, a list of pairs, as XrayGLM has it."""
    if not is_said(found):
        return []
    turns = read_pairs(list_turns(found), 0, 1)
    texts = [turn.content for turn in turns]
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise RecordError("'history' must be pairs of a question and an answer, both with words")
    return list(zip(texts[::2], texts[1::2], strict=True))


def _text(value: dict[str, Any], key: str) -> str:
    """Return a field that must be a string with words in it."""
    if key not in value:
        raise RecordError(f"{key!r} is missing; the record has {', '.join(value) or 'no fields'}")
    found = value[key]
    if not isinstance(found, str):
        raise RecordError(f"{key!r} must be a string, found {json_type(found)}")
    if not found or found.isspace():
        raise RecordError(
            f"{key!r} is empty", reason="missing_media" if key == "img" else "empty_turn"
        )
    return found
