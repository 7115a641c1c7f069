"""Dialogues from LLaVA's records, many at a time: what ``converse`` of :mod:`mmdata.formats.llava` says one by one.

Each step goes over all the records at once, which is many times faster, and is right only where all are plain: a medium
at most, and its placeholder at one end of the first question. Where not all are, those of one half may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain
from operator import attrgetter
from typing import Any, Final

from msgspec import UNSET, ValidationError, convert

from mmdata.arrays import joined
from mmdata.dialogues import Dialogues
from mmdata.formats._format import Record, Spoken
from mmdata.formats._plain import Gpt, Human, Plain, read_plainly
from mmdata.formats._run import Way, read_strictly
from mmdata.formats._sources import conversation_id, homeless
from mmdata.formats._turns import HOMED, IMAGE, VIDEO
from mmdata.rejects import Reject
from mmdata.schema import MediaType

__all__ = ["WAYS", "dialogues"]

WAYS: Final[tuple[Way, ...]] = (read_plainly, read_strictly)
"""How to read what dialogues are made from: the quickest way first."""
_TAGS: Final[dict[MediaType, tuple[str, ...]]] = {"image": (IMAGE,), "video": (IMAGE, VIDEO)}
_ORDERS: Final = {length: ((Human, Gpt) * length)[:length] for length in range(2, 65)}
"""Who speaks, in a dialogue of so many turns."""
_LENGTH: Final = len(IMAGE)  # and of VIDEO
_NEEDED: Final = HOMED - {"id"}


def dialogues(runs: Iterable[Sequence[Record | Reject]], source: str) -> Iterator[Spoken | Record | Reject]:
    """Yield the records in order: with their dialogues where they are plain, else as they are; rejects too.

    ``source`` is the name of their data set.
    """
    return chain.from_iterable(_some(records, source) for records in runs)


def _some(records: Sequence[Any], source: str) -> Sequence[Spoken | Record | Reject]:
    try:
        return [Spoken(records, _spoken(records, source))]
    except (_NotPlainError, ValidationError, AttributeError, KeyError):  # the last three from one of another shape
        if len(records) < 2:
            return records
    half = len(records) // 2
    return [*_some(records[:half], source), *_some(records[half:], source)]


class _NotPlainError(Exception):
    """One of the records is not plain."""


def _require(condition: bool) -> None:
    if not condition:
        raise _NotPlainError


def _spoken(records: Sequence[Record], source: str) -> Dialogues:
    _require(len(records) > 0)
    plain = [_plain(record.raw) for record in records]
    kind, paths = _media(plain)
    conversations = list(map(attrgetter("conversations"), plain))
    sizes = list(map(len, conversations))
    turns = list(chain.from_iterable(conversations))
    _require(list(map(type, turns)) == list(chain.from_iterable(map(_ORDERS.__getitem__, sizes))))
    texts = list(map(attrgetter("text"), turns))
    starts = accumulate(sizes, initial=0)
    leads = [_take_placeholder(texts, start, kind) if path else True for start, path in zip(starts, paths)]  # noqa: B905
    _require(all(texts) and not any(map(str.isspace, texts)))
    data, lengths = joined(texts)
    _require(not _tagged(data, kind))
    ids = [record.id or conversation_id(record) for record in records]
    return Dialogues(ids, data, lengths, sizes, paths, leads, list(map(_extra, records)), kind, source)


def _plain(raw: Any) -> Plain:
    """Return a record, plain or an object with whatever fields, as a plain one without those that it does not need."""
    if type(raw) is Plain:
        return raw
    return convert({key: field for key, field in raw.items() if key in _NEEDED and field}, Plain)


def _extra(record: Record) -> dict[str, Any]:
    """Return what of the record has no home."""
    raw = record.raw
    if type(raw) is not Plain or raw.id == "":
        return homeless(record.value, record, HOMED)
    if raw.data_source is not UNSET:
        return {"data_source": raw.data_source}
    return {} if raw.model is UNSET else {"model": raw.model}


def _media(plain: Sequence[Plain]) -> tuple[MediaType, list[str]]:
    """Return the type of the records' media, and each one's path, empty where it has none."""
    images, videos = ([path or "" for path in map(attrgetter(kind), plain)] for kind in ("image", "video"))
    _require(not (any(images) and any(videos)))
    return ("video", videos) if any(videos) else ("image", images)


def _take_placeholder(texts: list[str], index: int, kind: MediaType) -> bool:
    """Take the placeholder at one end of a text away, in place, and return whether it is the beginning."""
    text = texts[index]
    if text.startswith(_TAGS[kind]):
        texts[index] = text[_LENGTH:].lstrip()
        return True
    _require(text.endswith(_TAGS[kind]))
    texts[index] = text[:-_LENGTH].rstrip()
    return False


def _tagged(data: bytes, kind: MediaType) -> bool:
    return b"<" in data and any(tag.encode() in data for tag in _TAGS[kind])
