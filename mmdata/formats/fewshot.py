"""VisualGLM's few-shot data: ``dataset.json``, one image, one question and one answer a record."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._format import Origin, Sample
from mmdata.formats._sources import JsonSource, conversation_id, kind, mapping
from mmdata.schema import Conversation, Image, Media, assistant, user
from mmdata.sources.record import Record

__all__ = ["Fewshot"]


@registry.register("fewshot")
@dataclass(frozen=True)
class Fewshot(JsonSource):
    """VisualGLM's few-shot data. ``source`` is the data set name that rows get.

    Paths in such a file start with the name of the folder it lies in, so they are relative to the folder above.
    """

    summary: ClassVar[str] = "VisualGLM's few-shot data: image, question, answer"
    shape: ClassVar[str] = '[{"img": "fewshot-data/1.jpg", "prompt": "What is it?", "label": "A cup."}]'

    source: str = "fewshot"

    def media_root(self, sources: Sequence[Path]) -> Path:
        """Return the folder above the one that holds the files."""
        return super().media_root(sources).parent

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have the three fields."""
        return sample.every("img", "prompt", "label")

    def conversation(self, record: Record) -> Conversation:
        """Return one question about one image, and its answer, both byte for byte."""
        value = mapping(record)
        path, prompt, label = (_text(value, key) for key in ("img", "prompt", "label"))
        extra = {key: field for key, field in value.items() if key not in {"img", "prompt", "label"}}
        if extra.get("id") == record.id:
            extra.pop("id", None)
        media = (Media("image", path),)
        return Conversation(
            conversation_id(record), (user(Image(0), prompt), assistant(label)), media, self.source, extra=extra
        )

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path as it is spelt, below its file's folder, and its last name in that folder."""
        yield from JsonSource.candidates(self, path, origin)
        yield from JsonSource.candidates(self, posixpath.basename(path), origin)


def _text(value: dict[str, Any], key: str) -> str:
    """Return a field that must be a string with words in it."""
    if key not in value:
        raise RecordError(f"{key!r} is missing; the record has {', '.join(value) or 'no fields'}")
    found = value[key]
    if not isinstance(found, str):
        raise RecordError(f"{key!r} must be a string, found {kind(found)}")
    if not found or found.isspace():
        raise RecordError(f"{key!r} is empty", reason="missing_media" if key == "img" else "empty_turn")
    return found
