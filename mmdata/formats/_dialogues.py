"""Dialogues from LLaVA's records, many at a time: what ``converse`` of :mod:`mmdata.formats.llava` says one by one.

Each step goes over all the records at once, which is many times faster, and is right only where all are plain: a medium
at most, and its placeholder at one end of the first question. Where not all are, those of one half may be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, chain, pairwise, repeat
from operator import itemgetter
from typing import Any, Final

from mmdata.dialogue import SPEAKERS, Dialogue
from mmdata.formats._format import Record, Spoken
from mmdata.formats._sources import conversation_id, homeless
from mmdata.formats._turns import HOMED, IMAGE, ROLES, VIDEO
from mmdata.rejects import Reject
from mmdata.schema import MediaType

__all__ = ["dialogues"]

_TAGS: Final[dict[MediaType, tuple[str, ...]]] = {"image": (IMAGE,), "video": (IMAGE, VIDEO)}
_ORDERS: Final = {length: (SPEAKERS * length)[:length] for length in range(2, 65)}
"""Who speaks, in a dialogue of so many turns."""


def dialogues(runs: Iterable[Sequence[Record | Reject]], source: str) -> Iterator[Spoken]:
    """Yield each record with its dialogue, or with None where it is not plain or not well; rejects as they are.

    ``source`` is the name of their data set.
    """
    return chain.from_iterable(_some(records, source) for records in runs)


def _some(records: Sequence[Record | Reject], source: str) -> list[Spoken]:
    try:
        return _all(records, source)
    except (_NotPlainError, AttributeError, KeyError, TypeError):  # the latter where one is of quite another shape
        if len(records) < 2:
            return [(record, None) if isinstance(record, Record) else record for record in records]
    half = len(records) // 2
    return _some(records[:half], source) + _some(records[half:], source)


class _NotPlainError(Exception):
    """One of the records is not plain."""


def _require(condition: bool) -> None:
    if not condition:
        raise _NotPlainError


def _all(records: Sequence[Any], source: str) -> list[Spoken]:
    values: list[dict[str, Any]] = [record.value for record in records]
    kind, paths = _media(values)
    turns = [value["conversations"] for value in values]
    starts = list(accumulate(map(len, turns), initial=0))
    texts = _texts(turns)
    leads = [_take_placeholder(texts, start, kind) if path else True for start, path in zip(starts, paths)]  # noqa: B905
    _require(all(texts) and not any(map(str.isspace, texts)) and not _tagged("".join(texts), kind))
    said = [tuple(texts[start:end]) for start, end in pairwise(starts)]
    ids = [record.id or conversation_id(record) for record in records]
    rest = repeat(source), repeat("train"), map(homeless, values, records, repeat(HOMED))
    found = map(Dialogue, ids, said, repeat(kind), paths, leads, *rest)
    return list(zip(records, found))  # noqa: B905 - of one length, and strictness costs


def _media(values: Sequence[dict[str, Any]]) -> tuple[MediaType, list[str]]:
    """Return the type of the records' media, and each one's path, empty where it has none."""
    images, videos = ([value.get(kind) or "" for value in values] for kind in ("image", "video"))
    kind: MediaType = "video" if any(videos) else "image"
    _require(not (any(images) and any(videos)))
    paths = videos if kind == "video" else images
    _require(set(map(type, paths)) == {str})
    return kind, paths


def _texts(turns: Sequence[list[dict[str, Any]]]) -> list[str]:
    """Return what is said in all the turns; it may not be text yet."""
    every = list(chain.from_iterable(turns))
    roles = map(ROLES.__getitem__, map(itemgetter("from"), every))
    _require(list(roles) == list(chain.from_iterable(map(_ORDERS.__getitem__, map(len, turns)))))
    _require(set(map(len, every)) == {2})
    return list(map(itemgetter("value"), every))


def _take_placeholder(texts: list[str], index: int, kind: MediaType) -> bool:
    """Take the placeholder at one end of a text away, in place, and return whether it is the beginning."""
    text = texts[index]
    if text.startswith(_TAGS[kind]):
        texts[index] = text[text.index(">") + 1 :].lstrip()
        return True
    _require(text.endswith(_TAGS[kind]))
    texts[index] = text[: text.rindex("<")].rstrip()
    return False


def _tagged(text: str, kind: MediaType) -> bool:
    return "<" in text and any(tag in text for tag in _TAGS[kind])
