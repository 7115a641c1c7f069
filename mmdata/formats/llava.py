"""LLaVA instruction data: ``conversations`` of ``from`` and ``value``, with ``image`` or ``video``
beside them.

llava_v1_5_mix665k.json, LLaVA-Instruct-150K, detail_23k.json, pretraining chat files, M4-Instruct.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from mmdata.errors import RecordError
from mmdata.formats import registry
from mmdata.formats._format import Origin, Sample
from mmdata.formats._llava_flat import WAYS, flatten_llava
from mmdata.formats._placeholders import fill
from mmdata.formats._sources import (
    JsonSource,
    below_folder,
    conversation_id,
    json_type,
    mapping,
    unmapped_fields,
)
from mmdata.formats._turns import (
    MAPPED_FIELDS,
    ROLES,
    MediaCursor,
    add_turn_fields,
    insert_before_question,
    leftover_fields,
    media_paths,
    require_answer,
    require_turns,
    role_of,
)
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Media, Message, Role
from mmdata.sources._run import Way
from mmdata.sources.record import Record
from mmdata.store.encode import FlatRows

__all__ = ["Llava", "converse", "fallback_paths", "has_human_and_gpt"]

_IMAGE: Final = re.compile(r"(<image>)")
_IMAGE_OR_VIDEO: Final = re.compile(r"(<image>|<video>)")
_SUFFIXES: Final = (".jpg", ".png", ".jpeg", ".gif", ".JPG", ".webp")
_COCO: Final = re.compile(r"(?:COCO_(?:train|val)2014_)?(\d{12}\.jpg)")
_COCO_FOLDER: Final = re.compile(r"(?:train|val)20\d\d")
_COCO_FORMS: Final = (
    "train2017/",
    "train2014/COCO_train2014_",
    "val2017/",
    "val2014/COCO_val2014_",
)


@registry.register("llava")
@dataclass(frozen=True)
class Llava(JsonSource):
    """LLaVA instruction data.

    ``dataset_name`` is what rows have in the column ``source``. With ``fallbacks``, an image that
    is not where its record says is looked for under other suffixes, and a COCO image under the
    folders and names of COCO 2014 and 2017.
    """

    summary: ClassVar[str] = (
        "LLaVA instruction data: mix665k, Instruct-150K, detail_23k, M4-Instruct"
    )
    shape: ClassVar[str] = (
        '[{"id": "1", "image": "coco/train2017/000000000009.jpg", "conversations": '
        '[{"from": "human", "value": "<image>\\nWhat is it?"}, '
        '{"from": "gpt", "value": "A cup."}]}]'
    )

    dataset_name: str = "llava"
    fallbacks: bool = True

    @staticmethod
    def recognises(sample: Sample) -> bool:
        """Return whether the records have ``conversations`` of human and gpt, and some an ``image``
        or a ``model``.
        """
        return (
            has_human_and_gpt(sample)
            and sample.some("image", "model")
            and not sample.some("images", "video")
        )

    def conversation(self, record: Record) -> Conversation:
        """Return the conversation of one record; one without ``image`` and ``video`` is text
        alone.
        """
        return converse(record, self.dataset_name)

    def runs(
        self, sources: Sequence[Path], ways: Sequence[Way] = WAYS
    ) -> Iterator[list[Record | Reject]]:
        """Yield the records in order, in lists of what was read together."""
        return super().runs(sources, ways)

    def flatten(self, records: Sequence[Record]) -> FlatRows | None:
        """Return the conversations of records column by column, where all of them are plain."""
        return flatten_llava(records, self.dataset_name)

    def candidates(self, path: str, origin: Origin) -> Iterator[str]:
        """Yield the path as it is spelt, below the folder of its file, and where else such an image
        is often kept.
        """
        yield path
        yield from below_folder(path, origin)
        if self.fallbacks and not path.startswith("/"):
            yield from fallback_paths(path)


def converse(record: Record, dataset_name: str) -> Conversation:
    """Return the conversation of a LLaVA record; its column ``source`` is ``dataset_name``.

    As many placeholders as media are wanted. Media without any placeholder stand before the first
    question; a single medium whose placeholder is repeated in questions stands where it comes
    first, as LLaVA's own trainer has it.

    Raises:
        RecordError: the record is not of the shape, or its placeholders do not fit its media.
    """
    value = mapping(record)
    turns = value.get("conversations")
    if not turns:
        raise RecordError("'conversations' is absent or empty", reason="no_conversation")
    if not isinstance(turns, list):
        raise RecordError(f"'conversations' must be an array, found {json_type(turns)}")
    images, videos = media_paths(value, "image"), media_paths(value, "video")
    messages = _messages(turns, len(images), len(videos))
    media = (*[Media("image", path) for path in images], *[Media("video", path) for path in videos])
    extra = add_turn_fields(unmapped_fields(value, record, MAPPED_FIELDS), leftover_fields(turns))
    name = conversation_id(record)
    require_turns(messages, name)
    return Conversation(name, messages, media, dataset_name, "train", extra)


def _messages(turns: list[Any], images: int, videos: int) -> tuple[Message, ...]:
    cursor, media = MediaCursor(images, videos), images + videos
    tags, take = _IMAGE_OR_VIDEO if videos else _IMAGE, cursor.take
    messages: list[Message] = []
    surplus = 0
    for turn in turns:
        try:
            role, text = ROLES[turn["from"]], turn["value"]
        except (KeyError, TypeError):
            role, text = _odd_turn(turn)
        if not isinstance(text, str):
            raise RecordError(f"a turn's 'value' must be a string, found {json_type(text)}")
        messages.append(Message(role, fill(text, tags, take), role == "assistant"))
        if cursor.surplus > surplus:
            surplus = cursor.surplus
            if role == "assistant" or media != 1:
                raise RecordError(
                    f"more placeholders than the record's {media} media", reason="media_mismatch"
                )
    require_answer(messages)
    if left := cursor.left():
        if len(left) < media:
            raise RecordError(
                f"{media - len(left)} placeholders for {media} media", reason="media_mismatch"
            )
        insert_before_question(messages, left)
    return tuple(messages)


def _odd_turn(turn: Any) -> tuple[Role, str]:
    """Return the role and the text of a turn whose speaker has not one of the usual names."""
    if not isinstance(turn, dict):
        raise RecordError(f"a turn must be an object, found {json_type(turn)}")
    if "from" not in turn or "value" not in turn:
        raise RecordError(f"a turn needs 'from' and 'value', found {', '.join(turn) or 'neither'}")
    return role_of(turn["from"]), turn["value"]


def has_human_and_gpt(sample: Sample) -> bool:
    """Return whether all records have ``conversations``, and all the speakers of them are
    LLaVA's.
    """
    turns = [turn for record in sample.records for turn in record.get("conversations") or ()]
    speakers = {turn.get("from") for turn in turns if isinstance(turn, dict)}
    return (
        sample.every("conversations")
        and "human" in speakers
        and speakers <= {"human", "gpt", "system"}
    )


def fallback_paths(path: str) -> list[str]:
    """Return where an image that is missing may be: under another suffix, or in another edition of
    COCO.
    """
    stem, suffix = posixpath.splitext(path)
    places = [stem + other for other in _SUFFIXES if other != suffix]
    folder, name = posixpath.split(path)
    if coco := _COCO.fullmatch(name):
        above, last = posixpath.split(folder)
        base = above if _COCO_FOLDER.fullmatch(last) else folder
        places += [posixpath.join(base, form + coco[1]) for form in _COCO_FORMS]
    return [place for place in places if place != path]
