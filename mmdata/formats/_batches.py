"""The records of a source as batches of conversations: many at once where the format can, else one
by one.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from mmdata.errors import DataError, PluginError, RecordError
from mmdata.formats._format import FlatFormat, Format
from mmdata.formats._heard import check_heard, may_mean_more
from mmdata.formats._meaning import may_change_meaning
from mmdata.formats._plugins import blame_plugin, plugin_of
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Split, replace
from mmdata.sources.files import Sources
from mmdata.sources.record import Record
from mmdata.store.batch import BATCH_BYTES, BATCH_RECORDS, ConversationBatch
from mmdata.store.builder import BatchBuilder
from mmdata.store.encode import FlatRows, encode_extra

__all__ = ["ReadOptions", "attach_files", "read_batches", "read_records", "read_runs"]

_log: Final = logging.getLogger("mmdata.formats")


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How records are read: the ``split`` of every row where it is given, whether what a format of
    another package stumbles over is an error (``strict``), and the fields that change what a record
    means but may go to ``extra``, as :func:`mmdata.formats._meaning.spell` spells them. Of all
    records of the sources those at the places ``only`` are read, where these are given.
    """

    split: Split | None = None
    strict: bool = False
    allowed_fields: frozenset[str] = frozenset()
    only: range | None = None


def read_batches(
    reader: Format,
    sources: Sequence[Path],
    options: ReadOptions = ReadOptions(),
    *,
    records: int = BATCH_RECORDS,
) -> Iterator[ConversationBatch]:
    """Yield the records of the sources in order, in batches that account for as many ``records`` at
    the most.

    A record that cannot be read as a conversation is a reject in its place, and so is one that has
    a field which changes its meaning and which the format does not understand. What a format of
    another package stumbles over is a reject that names it; with ``strict`` it is an error.

    Raises:
        PluginError: a format of another package fails outside any one record, or with ``strict`` at
            all.
    """
    builder = BatchBuilder()
    meter = sources.meter if isinstance(sources, Sources) else None
    for run in read_runs(reader, sources, options.only):
        if meter is not None:
            meter.take(len(run))
        for start in range(0, len(run), records):
            some = run[start : start + records]
            if builder.num_records and (
                builder.num_records + len(some) > records
                or builder.nbytes + _size(some) > BATCH_BYTES
            ):
                yield builder.build()
            read_records(some, reader, builder, options)
            if builder.is_full or builder.num_records >= records:
                yield builder.build()
    if builder.num_records:
        yield builder.build()


def _size(run: Sequence[Record | Reject]) -> int:
    """Return about how many bytes the rows of a run will take."""
    first = run[0] if run else None
    return len(run) * (first.size or 0) if isinstance(first, Record) else 0


def read_records(
    run: Sequence[Record | Reject],
    reader: Format,
    builder: BatchBuilder,
    options: ReadOptions = ReadOptions(),
) -> None:
    """Add records to a builder: all at once if they can be, else each half as well as it can be."""
    if not run:
        return

    flat = None
    harmless = options.allowed_fields | reader.harmless_fields
    if _flattens(type(reader)) and all(type(item) is Record for item in run):
        try:
            with blame_plugin(reader):
                flat = reader.flatten(run)  # type: ignore[attr-defined]
            if flat is not None:
                flat = _attach_to_rows(flat, run)  # type: ignore[arg-type]  # all are records
        except PluginError as error:
            if options.strict:
                raise
            # No need to halve: a fault of the code, unlike an odd record, would most likely be met
            # in each half again.
            _log.warning("%d records are read one by one: flatten() of %s", len(run), error)
            for item in run:
                _add_one(item, reader, builder, options)
            return

    if flat is not None and not _may_be_unheard(flat, harmless, reader.meaning_fields):
        _add_rows(run, flat, builder, options.split)  # type: ignore[arg-type]  # all are records
    elif len(run) > 1:
        half = len(run) // 2
        read_records(run[:half], reader, builder, options)
        read_records(run[half:], reader, builder, options)
    else:
        _add_one(run[0], reader, builder, options)


def _may_be_unheard(rows: FlatRows, harmless: Collection[str], own: Collection[str]) -> bool:
    """Return whether one of some rows has to be looked at by itself for what its record said."""
    return may_change_meaning(rows.extras, harmless, own) or may_mean_more(
        rows.extras, rows.num_media, harmless
    )


def _add_rows(
    records: Sequence[Record], rows: FlatRows, builder: BatchBuilder, split: Split | None
) -> None:
    if split is not None:
        rows = replace(rows, splits=[split] * len(rows))
    elif any(record.split for record in records):
        said = [record.split for record in records]
        own = [one or other for one, other in zip(said, rows.splits, strict=True)]
        rows = replace(rows, splits=own)
    builder.extend(
        rows,
        files=[record.file for record in records],
        records=[record.number for record in records],
        ids=[record.id for record in records],
        nbytes=_size(records),
    )


def _add_one(
    item: Record | Reject, reader: Format, builder: BatchBuilder, options: ReadOptions
) -> None:
    if isinstance(item, Reject):
        builder.reject(item)
        return
    try:
        conversation = _read_one(item, reader, options.strict)
        allowed = options.allowed_fields | reader.harmless_fields
        check_heard(conversation, allowed, reader.meaning_fields)
        if said := options.split or item.split:
            conversation = replace(conversation, split=said)
        builder.append(conversation, file=item.file, record=item.number, id=item.id)
    except Exception as error:  # one record's border: what a format stumbles over costs it alone
        if options.strict and isinstance(error, PluginError):
            raise
        builder.reject(item.rejected(error))


def _read_one(record: Record, reader: Any, strict: bool) -> Conversation:
    """Return the conversation of a record; what a format of another package stumbles over names
    that package.
    """
    try:
        conversation = reader.conversation(record)
        if not isinstance(conversation, Conversation):
            raise TypeError(
                f"conversation() must return a Conversation, found {type(conversation).__name__}"
            )
        if record.files:
            conversation = attach_files(conversation, record.files)
        if conversation.extra:
            # Encoded here, what cannot be written costs its record alone.
            encode_extra(conversation.extra).encode()
        return conversation
    except DataError:
        raise  # what a format is to raise of a record
    except Exception as error:
        if (plugin := plugin_of(reader)) is None:
            raise
        fault = f"{type(error).__name__}: {error}"
        if strict:
            raise PluginError(
                f"{plugin} is at fault: {fault} ({record.file}, record {record.number})"
            ) from error
        raise RecordError(f"{fault} in {plugin}; --strict shows its traceback") from error


def _attach_to_rows(rows: FlatRows, records: Sequence[Record]) -> FlatRows | None:
    """Return rows with the bytes of the media that came with their records; None where those are
    not just the media of each row.
    """
    if not any(record.files for record in records):
        return rows

    named, paths = rows.media.get("path", (b"", ()))
    if len(named) != len(rows.media_types) or not all(named):
        return None

    found: list[bytes | None] = []
    start = 0
    for record, count in zip(records, rows.num_media, strict=True):
        media = [record.files.get(path) for path in paths[start : start + count]]
        if {id(data) for data in record.files.values()} - set(map(id, media)):
            return None
        found += media
        start += count

    there = bytes([data is not None for data in found])
    embedded = [data for data in found if data is not None]
    return replace(rows, media={**rows.media, "bytes": (there, embedded)})


def attach_files(conversation: Conversation, files: Mapping[str, bytes]) -> Conversation:
    """Return a conversation with the bytes of those of its media that came with its record.

    Raises:
        RecordError: a medium came with it that it has no place for.
    """
    media = [
        replace(medium, bytes=files[medium.path])
        if medium.bytes is None and medium.path is not None and medium.path in files
        else medium
        for medium in conversation.media
    ]
    placed = {id(medium.bytes) for medium in media}
    if left := [name for name, data in files.items() if id(data) not in placed]:
        raise RecordError(
            f"{left[0]} came with the record, which has no place for it", reason="media_mismatch"
        )
    return replace(conversation, media=tuple(media))


def read_runs(
    reader: Format, sources: Sequence[Path], only: range | None = None
) -> Iterator[Sequence[Record | Reject]]:
    """Yield the records of the sources in order, in lists of what was read together; ``only`` those
    at some places, where they are given.
    """
    if only is None:
        yield from _runs(reader, sources)
        return

    start = 0
    for run in _runs(reader, sources):
        if start >= only.stop:
            return
        yield run[max(0, only.start - start) : max(0, only.stop - start)]
        start += len(run)


def _runs(reader: Format, sources: Sequence[Path]) -> Iterator[Sequence[Record | Reject]]:
    """Yield the records in order; a fault in the code of a format, which ends the reading, names
    its package.
    """
    with blame_plugin(reader):
        if _flattens(type(reader)):
            yield from reader.runs(sources)  # type: ignore[attr-defined]
        else:
            yield from ([item] for item in reader.records(sources))


@cache  # asked of every run, and a protocol takes its time
def _flattens(kind: type[Format]) -> bool:
    return issubclass(kind, FlatFormat)
