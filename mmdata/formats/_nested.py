"""Records inside records: a file that is one object around its records, and packs of several.

``{"version": "1", "data": [record, …]}`` is a file of those records, and an array in an array of
records, as Qwen's tools pack short ones, is its records one after the other. A file that names
other files is no source, and is refused by name.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace as replace_reject
from functools import partial
from typing import Any, Final, TypeAlias

from mmdata.errors import UsageError
from mmdata.rejects import Reject
from mmdata.schema import replace
from mmdata.sources._json import identity
from mmdata.sources.record import Record

__all__ = ["WRAPPERS", "open_wrappers", "split_rows", "unpack"]

Item: TypeAlias = Record | Reject

_log: Final = logging.getLogger("mmdata.formats")
WRAPPERS: Final = (
    "data", "records", "rows", "samples", "examples", "items", "dataset", "instances"
)  # fmt: skip
"""The fields that an object around records has them in."""
_OF_RECORDS: Final = frozenset((
    "image", "images", "video", "videos", "query", "instruction", "prompt", "question", "messages",
    "conversations", "caption",
))  # fmt: skip
"""What an object says that is a record itself, whatever lists it has."""
_SPLITS: Final = frozenset({"train", "val", "valid", "validation", "dev", "test"})
_META: Final = (
    frozenset({"annotation", "root"}),  # InternVL's meta file
    frozenset({"file_name", "formatting"}),  # LLaMA-Factory's dataset_info.json
    frozenset({"file_name", "columns"}),
)
"""What an object says that names a file of records instead of being one."""


def unpack(runs: Iterable[list[Item]], id_key: str) -> Iterator[list[Item]]:
    """Yield the runs with the records that stand inside others in their place, numbered through.

    Raises:
        UsageError: the file names others, or holds several splits.
    """
    return split_rows(runs, partial(_inner_records, id_key=id_key))


def split_rows(
    runs: Iterable[list[Item]], split: Callable[[Item], Sequence[Item] | None]
) -> Iterator[list[Item]]:
    """Yield the runs with each record that is several in pieces, numbered through in each file.

    ``split`` returns the pieces of a record; None, or nothing, where it is one.
    """
    file, shift = "", 0  # how many numbers the pieces have taken up so far
    for run in runs:
        if run and run[0].file != file:
            file, shift = run[0].file, 0
        pieces = [split(item) for item in run]
        if not shift and not any(pieces):
            yield run
            continue

        found: list[Item] = []
        for item, several in zip(run, pieces, strict=True):
            parts = several or [item]
            first = shift + (item.number if isinstance(item, Record) else item.record)
            found += [_renumber(part, first + place) for place, part in enumerate(parts)]
            shift += len(parts) - 1
        yield found


def open_wrappers(values: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield the objects among values, and those inside the values that stand around several.

    >>> list(open_wrappers([{"data": [{"query": "Hi"}]}, [{"query": "Ho"}]]))
    [{'query': 'Hi'}, {'query': 'Ho'}]
    """
    for value in values:
        name = _wrapper(value) if isinstance(value, dict) else None
        inner = value if name is None else value[name]
        if isinstance(inner, dict):
            yield inner
        elif isinstance(inner, list):
            yield from (one for one in inner if isinstance(one, dict))


def _holds_records(item: Record) -> bool:
    """Return whether a record could be several; a cheap look, which most pass."""
    raw = item.raw
    if type(raw) is dict:
        if item.number == 0 and raw and all(type(found) is dict for found in raw.values()):
            _refuse_meta(item)
        if item.number == 0 and _SPLITS.issuperset(raw):
            _refuse_splits(item)
        return _wrapper(raw) is not None
    return type(raw) is list


def _wrapper(raw: dict[str, Any]) -> str | None:
    """Return the field of an object that holds records, where it is but a cover around them."""
    name = next((name for name in WRAPPERS if name in raw), None)
    if name is None or not isinstance(raw[name], list) or not raw[name]:
        return None
    covers = not any(isinstance(found, list) for key, found in raw.items() if key != name)
    covers = covers and _OF_RECORDS.isdisjoint(raw)
    return name if covers and all(isinstance(one, dict) for one in raw[name]) else None


def _inner_records(item: Item, id_key: str) -> list[Item] | None:
    """Return the records inside one, if it has any."""
    if not isinstance(item, Record) or not _holds_records(item):
        return None

    values = item.raw
    if isinstance(values, dict):
        name = _wrapper(values)
        assert name is not None
        if others := [key for key in values if key != name]:
            _log.warning(
                "%s: its records are in %r; %s beside it is left out",
                item.file,
                name,
                ", ".join(others),
            )
        values = values[name]
    elif not all(isinstance(one, dict) for one in values):
        return None  # it has no records, and is told so by its format

    return [replace(item, raw=one, id=identity(one, id_key), size=None) for one in values]


def _renumber(item: Item, number: int) -> Item:
    if isinstance(item, Record):
        return replace(item, number=number)
    return replace_reject(item, record=number)


def _refuse_meta(item: Record) -> None:
    for name, found in item.raw.items():
        if any(found.keys() >= fields for fields in _META):
            place = found.get("annotation") or found.get("file_name")
            raise UsageError(
                f"{item.file} holds no records: {name!r} in it names a file of them, {place!r}. "
                "Convert that file."
            )


def _refuse_splits(item: Record) -> None:
    if item.raw and all(isinstance(found, list) for found in item.raw.values()):
        names = ", ".join(item.raw)
        raise UsageError(
            f"{item.file} holds the splits {names} in one object. Write each to a file of its own."
        )
