"""LLaVA's records column by column: what ``converse`` of :mod:`mmdata.formats.llava` says of
each.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from operator import attrgetter
from typing import Any, Final

from msgspec import UNSET, ValidationError, convert

from mmdata.formats._flat import Medium, NotPlainError, TurnColumns, flatten_turns, require
from mmdata.formats._grounding import BoxStyle
from mmdata.formats._meaning import is_said
from mmdata.formats._parts import leftovers_of_media
from mmdata.formats._plain import Gpt, Human, Plain, read_plainly
from mmdata.formats._sources import conversation_id, unmapped_fields
from mmdata.formats._turns import MAPPED_FIELDS
from mmdata.schema import MediaType
from mmdata.sources._run import Way, read_strictly
from mmdata.sources.record import Record
from mmdata.store.encode import ROLE_CODES, FlatRows

__all__ = ["WAYS", "flatten_llava"]

WAYS: Final[tuple[Way, ...]] = (read_plainly, read_strictly)
"""How to read LLaVA's records: the quickest way first."""
_MEDIA: Final[tuple[MediaType, ...]] = ("image", "video")
_LOOKED_FOR: Final = frozenset(
    {"images", "videos", "audios", "audio", "system", "tools", "functions"}
)
"""What is heard of a record that is read alone; where it says nothing, nothing is kept of it."""
_NEEDED: Final = MAPPED_FIELDS - {"id"}
_ROLE_OF: Final[dict[type, int]] = {Human: ROLE_CODES["user"], Gpt: ROLE_CODES["assistant"]}


def flatten_llava(
    records: Sequence[Record], dataset_name: str, boxes: BoxStyle = "auto"
) -> FlatRows | None:
    """Return the records as rows, or None where not all of them are plain."""
    try:
        return flatten_turns(_columns(records), dataset_name, boxes=boxes)
    except (NotPlainError, ValidationError, AttributeError, KeyError):
        # The last three come from a record of another shape.
        return None


def _columns(records: Sequence[Record]) -> TurnColumns:
    plain = [_plain(record.raw) for record in records]
    conversations = list(map(attrgetter("conversations"), plain))
    turns = list(chain.from_iterable(conversations))
    shown: list[list[Sequence[Medium]]] = [
        [(path,) if path else () for path in map(attrgetter(kind), plain)] for kind in _MEDIA
    ]
    images, videos = shown
    if any(type(record.raw) is not Plain for record in records):
        images = _with_embedded(images, records, "image")
        videos = _with_embedded(videos, records, "video")

    # Images first, and no row of both.
    require(not any(map(bool, images)) or not any(map(bool, videos)))
    return TurnColumns(
        ids=[record.id or conversation_id(record) for record in records],
        num_turns=list(map(len, conversations)),
        roles=bytes(map(_ROLE_OF.__getitem__, map(type, turns))),
        texts=list(map(attrgetter("text"), turns)),
        images=images,
        videos=videos,
        extras=list(map(_extra, records)),
    )


def _plain(raw: Any) -> Plain:
    """Return a record, plain or an object with whatever fields, as a plain one without those that
    it does not need.
    """
    if type(raw) is Plain:
        return raw
    needed = {
        key: field
        for key, field in raw.items()
        if key in _NEEDED
        and field not in (None, "", [])
        and not (type(field) is dict and key in _MEDIA)
    }
    return convert(needed, Plain)


def _with_embedded(
    shown: Sequence[Sequence[Medium]], records: Sequence[Record], kind: str
) -> list[Sequence[Medium]]:
    """Return the media of a kind of each record, with the bytes of those that a table holds."""
    found: list[Sequence[Medium]] = []
    for paths, record in zip(shown, records, strict=True):
        medium = None if type(record.raw) is Plain else record.raw.get(kind)
        if type(medium) is dict:
            data: Any = medium.get("bytes")
            require(isinstance(data, (bytes, memoryview)) and bool(data))
            found.append((data,))
        else:
            found.append(paths)
    return found


def _extra(record: Record) -> dict[str, Any]:
    """Return what of the record has no home."""
    raw = record.raw
    if type(raw) is not Plain or raw.id == "":
        value = raw if isinstance(raw, dict) else record.value
        extra = unmapped_fields(value, record, MAPPED_FIELDS)
        for key in _LOOKED_FOR & extra.keys():
            require(not is_said(extra.pop(key)))
        for key in _MEDIA:
            found = value.get(key)
            # Nearly always a path, or none: nothing of these is left over.
            if isinstance(found, (dict, list)) and (rest := leftovers_of_media(found, key)):
                extra[key] = rest
        return extra
    if raw.data_source is not UNSET:
        return {"data_source": raw.data_source}
    return {} if raw.model is UNSET else {"model": raw.model}
