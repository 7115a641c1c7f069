"""Captions as BLIP and LAVIS list them: an image or a video, and a caption or several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats.toolkit import (
    ROLE_CODES,
    FlatRows,
    Record,
    RecordSource,
    Sample,
    Turn,
    TurnColumns,
    add_fields,
    conversation_id,
    converse,
    flatten_with,
    has_video_suffix,
    is_said,
    json_type,
    mapping,
    read_chat,
    register,
    require,
    split_rows,
    unmapped_fields,
)
from mmdata.rejects import Reject
from mmdata.schema import Conversation, MediaType, replace
from mmdata.sources._run import Way, read_strictly

__all__ = ["Lavis"]

_CAPTIONS: Final = ("caption", "captions")
_WORDS: Final = (*_CAPTIONS, "text", "sentences")
"""The names that others give to captions; LAVIS's go before them."""
_PATHS: Final = ("image_path", "video_path", "file_name")
"""Where others have the path of an image or a video."""
_MAPPED_FIELDS: Final = frozenset({"id", "image", "video"})
_OF_OTHERS: Final = ("conversations", "messages", "QA", "annotations", "question", "query")
_BESIDE_TEXT: Final = ("answer", "response", "output", "prompt", "instruction", "chosen", "label")
"""What says of a ``text`` that it is more than a caption."""


@register("lavis")
@dataclass(frozen=True)
class Lavis(RecordSource):
    """Lists of captions. ``dataset_name`` is what rows have in the column ``source``.

    ``prompt`` asks for a caption of the ``{medium}``. A row with several captions, as evaluation
    files have them, gives a record for each; all carry the row's number as ``group`` in ``extra``.
    """

    summary: ClassVar[str] = "captions of images or videos as BLIP and LAVIS list them"
    shape: ClassVar[str] = '[{"image": "val2014/1.jpg", "caption": "A cup.", "image_id": "coco_1"}]'
    examples: ClassVar[Mapping[str, str]] = {
        "several captions of an image": (
            '[{"image": "val2014/1.jpg", "caption": ["A cup.", "A red cup."]}]'
        ),
        "a video": '[{"video": "1.mp4", "caption": "A cup falls."}]',
        "a path by another name": '[{"image_path": "1.jpg", "caption": "A cup."}]',
        "a caption by another name": '[{"image": "1.jpg", "text": "A cup."}]',
        "a clip of a video": (
            '[{"video": "1.mp4", "caption": "A cup falls.", "start time": 2.5, "end time": 4}]'
        ),
        "the metadata of an ImageFolder": '[{"file_name": "1.jpg", "text": "A cup."}]',
    }

    dataset_name: str = "lavis"
    prompt: str = "Describe the {medium} in one sentence."

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have a medium and a caption, and nothing that is said."""
        captioned = all(
            any(key in record for key in _CAPTIONS) and ("image" in record or "video" in record)
            for record in map(_rename_fields, map(dict, sample.records))
        )
        is_caption = sample.some(*_CAPTIONS) or not sample.some(*_BESIDE_TEXT)
        return bool(sample.records) and captioned and is_caption and not sample.some(*_OF_OTHERS)

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = (read_strictly,)
    ) -> Iterator[list[Record | Reject]]:
        """Yield a record for each caption of each row, numbered through, in lists of what was read
        together.
        """
        return split_rows(super().runs(sources, ways), _captions)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        return flatten_with(self._read, records, self.dataset_name)

    def _read(self, values: Sequence[dict[str, Any]], records: Sequence[Record]) -> TurnColumns:
        texts: list[str] = []
        extras: list[dict[str, Any]] = []
        values = [_rename_fields(value) for value in values]
        for value, record in zip(values, records, strict=True):
            field = _caption_field(value) or ""  # which no record has: what lacks one is not plain
            kind = "video" if value.get("video") else "image"
            require(type(value[field]) is str and type(value[kind]) is str)
            require(value[kind] != "")
            require("images" not in value and "videos" not in value and "system" not in value)
            require(value.get("image" if kind == "video" else "video") in (None, "", []))
            texts += (self.prompt.replace("{medium}", kind), value[field])
            extras.append(unmapped_fields(value, record, _MAPPED_FIELDS | {field}))

        return TurnColumns(
            ids=[conversation_id(record) for record in records],
            num_turns=[2] * len(values),
            roles=bytes([ROLE_CODES["user"], ROLE_CODES["assistant"]]) * len(values),
            texts=texts,
            images=[(value["image"],) if value.get("image") else () for value in values],
            videos=[(value["video"],) if value.get("video") else () for value in values],
            extras=extras,
        )

    def conversation(self, record: Record) -> Conversation:
        """Return the question for a caption, and the caption."""
        value = _rename_fields(mapping(record))
        kind: MediaType = "video" if is_said(value.get("video")) else "image"
        field = _caption_field(value)
        if field is None:
            said = ", ".join(name for name, found in value.items() if is_said(found))
            raise RecordError(
                f"'caption' is absent or empty: there is nothing to learn from in {said[:200]}",
                reason="no_conversation",
            )
        question = self.prompt.replace("{medium}", kind)
        turns = [Turn("user", question), Turn("assistant", _caption(value[field]))]
        chat = read_chat(value, record, turns, frozenset({field}))
        if len(chat.images) + len(chat.videos) != 1:
            raise RecordError(
                "a caption is of one image or one video, found none or several",
                reason="media_mismatch",
            )
        return converse(chat, record, self.dataset_name)


def _rename_fields(value: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the fields of others by LAVIS's names: an image by ``image_path``, what
    the metadata of an ImageFolder (or a VideoFolder) says of a file, and a caption by ``text``.
    """
    found = value
    path = next((name for name in _PATHS if is_said(value.get(name))), None)
    if path is not None and not any(is_said(value.get(kind)) for kind in ("image", "video")):
        file = value[path]
        if not isinstance(file, str):
            return value
        kind = "video" if has_video_suffix(file) else "image"
        found = {**{name: said for name, said in value.items() if name != path}, kind: file}

    caption = next((name for name in _WORDS if is_said(value.get(name))), None)
    if caption is None:
        return value
    if caption in _CAPTIONS:
        return found
    return {"caption": value[caption], **{n: said for n, said in found.items() if n != caption}}


def _caption_field(value: dict[str, Any]) -> str | None:
    """Return the field that the captions of a record are in; None where it has none."""
    return next((key for key in _CAPTIONS if value.get(key)), None)


def _caption(found: object) -> str:
    """Return a caption: text, or a list of one text."""
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, str):
        raise RecordError(f"a caption must be a string, found {json_type(found)}")
    return found


def _captions(row: Record | Reject) -> list[Record | Reject] | None:
    """Return a row for each of its captions where it has several."""
    value: Any = row.value if isinstance(row, Record) else None
    if isinstance(value, dict):
        value = _rename_fields(value)
    field = _caption_field(value) if isinstance(value, dict) else None
    captions = None if field is None else value[field]
    if isinstance(row, Reject) or not isinstance(captions, list) or len(captions) < 2:
        return None
    others = {key: found for key, found in value.items() if key != field}
    added = add_fields(others, group=row.number)
    return [replace(row, raw={field: caption, **added}) for caption in captions]
