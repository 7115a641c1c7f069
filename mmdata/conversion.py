"""From a source to a store, with an account of every record.

Three steps, one generator each: the format reads records as conversations; their media are found, and checked as far as
was asked; ids are made unique and the rows written. What fails on the way is a reject in its record's place.
"""

from __future__ import annotations

import gc
import posixpath
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from mmdata.columns import encode_extra
from mmdata.dialogues import Dialogues
from mmdata.empty import why_empty
from mmdata.errors import DataError, RecordError, UsageError
from mmdata.formats import Format, Record, Spoken, detect, make
from mmdata.ids import Ids, Seen, content_of, with_own_id
from mmdata.locate import SizeOf, local_path, size_of
from mmdata.manifest import SourceFile, hash_file
from mmdata.media import Item, Place, embed_media, find_media, opened, probe_media
from mmdata.options import NonNegativeInt, PositiveInt, checked
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Split, replace
from mmdata.writer import Origin, StoreWriter, check_vacant

__all__ = ["Check", "ConvertReport", "DuplicateIds", "convert"]

Check: TypeAlias = Literal["none", "exists", "probe", "decode"]
DuplicateIds: TypeAlias = Literal["number", "reject"]
Progress: TypeAlias = Callable[[int, int], object]

_JOURNAL: Final = "checks.jsonl"
_PAUSE: Final = 1 << 14
_WAYS: Final = {"dialogues", "conversation"}


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What a conversion did: ``records_in == rows + sum(rejects.values())``."""

    store: Path
    records_in: int
    rows: int
    rejects: Mapping[str, int]
    renamed_ids: int
    seconds: float

    @property
    def why_empty(self) -> str | None:
        """Why no row was kept and what to do about it, where none was: the most frequent reason with an example."""
        return None if self.rows else why_empty(self.store)


@checked
def convert(
    format: str | Format,  # noqa: A002
    sources: str | Path | Sequence[str | Path],
    store: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    media_root: str | Path | None = None,
    split: Split | None = None,
    check: Check = "exists",
    embed: bool = False,
    workers: PositiveInt | None = None,
    limit: NonNegativeInt | None = None,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    allow_outside: bool = False,
    parquet: bool = False,
    duplicate_ids: DuplicateIds = "number",
    progress: Progress = lambda rows, rejects: None,
    size_of: SizeOf = size_of,
) -> ConvertReport:
    """Convert ``sources`` (files or folders) of a format into a new store at ``store``, and return the account.

    Args:
        format: the name of a format (``mmdata formats`` lists them), ``auto`` for the one that recognises the sources,
            or one that has been made.
        sources: a file or folder, or several.
        store: where the store shall appear.
        options: options of the format, by name.
        media_root: the folder that media paths are relative to; the format knows the usual one.
        split: the split of every row; without it the format's own.
        check: how hard to look at media: not at all, whether they are there, what they are, whether they decode whole.
            The last two keep the size and a hash of each file, which ``mmdata check --media`` compares. URLs cannot be
            looked at yet: a record that has one is a reject but under ``none``.
        embed: put the media's bytes into the store.
        workers: processes that check media; as many as there are cores by default.
        limit: read only so many records.
        strict: stop at the first reject.
        resume: use what an earlier attempt, which was stopped, found out about media.
        overwrite: replace the store that is there.
        allow_outside: admit media outside the media root.
        parquet: write Parquet instead of Arrow files.
        duplicate_ids: what becomes of a record whose id is taken by one with other content: a number after its id, or a
            reject. A record that repeats both id and content is always a reject.
        progress: called with how many records have been dealt with, and how many of them are rejects.
        size_of: how large the medium at a path is, or None; whoever keeps the answers can tell when they change.

    A store of which every record is a reject is written like any other, so that its account can be read.

    Raises:
        UsageError: the sources are not there, an option is not one, or there is a store already.
        DataError: the sources hold no record; nothing is written.
        RecordError: ``strict`` is on and a record was not kept.
        StoreError: another process is writing to the same place.
    """
    started = time.monotonic()
    target = local_path(store, "store")
    paths = _source_paths(sources)
    if format == "auto":
        format = detect(paths)  # noqa: A001
    reader = make(format, options or {}) if isinstance(format, str) else format
    check_vacant(target, overwrite)  # before hours of hashing
    root = local_path(media_root, "media root") if media_root is not None else reader.media_root(paths)
    place = Place(posixpath.abspath(root.as_posix()), check != "none", allow_outside, embed, size_of)
    origin = Origin(
        format=format if isinstance(format, str) else type(format).__name__,
        options=dict(options or {}),
        media_root=place.root,
        files=tuple(SourceFile(str(file), file.stat().st_size, hash_file(file)) for file in reader.files(paths)),
        notes={"check": check},
    )
    writer = StoreWriter(
        target,
        sources=[reader.source],
        origin=origin,
        overwrite=overwrite,
        parquet=parquet,
        journal=_JOURNAL,
        resume=resume,
    )
    ids = Ids()
    with writer, _collector_paused(), ExitStack() as stack:
        items = find_media(_read(reader, paths, limit, split), reader, place)
        if check in ("probe", "decode"):
            from mmdata.checks import Prober

            prober = Prober(check, journal=writer.folder / _JOURNAL, workers=workers)
            items = probe_media(opened(items), place, stack.enter_context(prober))
        if embed:
            items = embed_media(opened(items), place)
        _write(_settle_ids(items, ids, duplicate_ids), writer, progress, strict=strict, sized=not embed)
        if limit != 0 and not writer.records_in:
            raise DataError(f"{_names(paths)}: no record was found. `mmdata formats` shows the shapes of sources.")
        writer.describe(renamed_ids=ids.renamed)
    return ConvertReport(
        store=target,
        records_in=writer.records_in,
        rows=writer.rows,
        rejects=dict(sorted(writer.rejects.items())),
        renamed_ids=ids.renamed,
        seconds=time.monotonic() - started,
    )


def _write(items: Iterable[Item], writer: StoreWriter, progress: Progress, *, strict: bool, sized: bool) -> None:
    """Write each item as rows or a reject; ``sized`` rows are as large as their records' text."""
    due = 0
    for item in items:
        if isinstance(item, Reject):
            _refuse(item, writer, strict)
        elif isinstance(item, Spoken):
            for reject in item.rejects:
                _refuse(reject, writer, strict)
            if item.records:
                writer.write(item.dialogues, size=item.records[0].size)
        else:
            writer.write(item[1], size=item[0].size if sized else None)
        if writer.records_in > due:
            due += _PAUSE
            gc.collect(0)
            progress(writer.records_in, writer.records_in - writer.rows)


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _source_paths(sources: str | Path | Sequence[str | Path]) -> list[Path]:
    paths = [local_path(source, "source") for source in ([sources] if isinstance(sources, (str, Path)) else sources)]
    if not paths:
        raise UsageError("no source was given: name a file or a folder")
    if absent := [str(path) for path in paths if not path.exists()]:
        raise UsageError(f"there is no {', '.join(absent)}")
    return paths


def _read(reader: Format, paths: Sequence[Path], limit: int | None, split: Split | None) -> Iterator[Item]:
    """Read the records, many together as dialogues where the format can, else each as a conversation."""
    plain = _reads_dialogues(reader)
    for item in _first(limit, reader.dialogues(paths) if plain else reader.records(paths)):  # type: ignore[attr-defined]
        read = _converse(item, reader, plain=plain) if isinstance(item, Record) else item
        yield read if split is None else _with_split(read, split)


def _reads_dialogues(reader: Format) -> bool:
    """Return whether the format has dialogues, and no class between has since changed what its conversations are."""
    nearest = next(kind for kind in type(reader).__mro__ if kind is object or _WAYS & vars(kind).keys())
    return "dialogues" in vars(nearest)


def _first(limit: int | None, items: Iterable[Spoken | Record | Reject]) -> Iterator[Spoken | Record | Reject]:
    """Yield the first items, as many as have ``limit`` records."""
    left, items = sys.maxsize if limit is None else limit, iter(items)
    while left > 0 and (item := next(items, None)) is not None:
        if isinstance(item, Spoken) and len(item.records) > left:
            item = item.take(range(left))
        yield item
        left -= _count(item)


def _converse(record: Record, reader: Format, *, plain: bool) -> Item:
    """Return a record with its conversation, or dialogue, where it is one and others are: alike shall look alike."""
    try:
        conversation = reader.conversation(record)
        if conversation.extra:
            encode_extra(conversation.extra).encode()  # here what cannot be written costs its record alone
        dialogue = Dialogues.of(conversation) if plain else None
    except Exception as error:  # one record's border: whatever a format stumbles over costs that record alone
        return record.rejected(error)
    return (record, conversation) if dialogue is None else Spoken([record], dialogue)


def _with_split(item: Item, split: Split) -> Item:
    if isinstance(item, Spoken):
        return item._replace(dialogues=replace(item.dialogues, split=split))
    return item if isinstance(item, Reject) else (item[0], replace(item[1], split=split))


def _count(item: Spoken | Record | Reject) -> int:
    return len(item.records) if isinstance(item, Spoken) else 1


def _settle_ids(items: Iterable[Item], ids: Ids, policy: DuplicateIds) -> Iterator[Item]:
    """Yield the items, a row renumbered or rejected whose id is taken."""
    for item in items:
        if isinstance(item, Spoken):
            yield _settle_together(item, ids, policy)
        else:
            yield item if isinstance(item, Reject) else _settle_one(*item, ids, policy)


def _settle_one(record: Record, row: Conversation, ids: Ids, policy: DuplicateIds) -> Item:
    settled = _settle(row.id, content_of(row), ids, policy)
    if isinstance(settled, RecordError):
        return record.rejected(settled)
    return record, (row if settled == row.id else replace(row, id=settled, extra=with_own_id(row.extra, row.id)))


def _settle_together(spoken: Spoken, ids: Ids, policy: DuplicateIds) -> Spoken:
    rows = spoken.dialogues
    contents = rows.contents()
    if ids.meet_new(rows.ids, contents):
        return spoken
    settled = [_settle(own, content, ids, policy) for own, content in zip(rows.ids, contents, strict=True)]
    left = spoken.without({place: to for place, to in enumerate(settled) if isinstance(to, RecordError)})
    names = [to for to in settled if isinstance(to, str)]
    columns = zip(names, left.dialogues.ids, left.dialogues.extras, strict=True)
    extras = [extra if name == own else with_own_id(extra, own) for name, own, extra in columns]
    return left._replace(dialogues=replace(left.dialogues, ids=names, extras=extras))


def _settle(own: str, content: int, ids: Ids, policy: DuplicateIds) -> str | RecordError:
    """Return the id that a row gets, its own or that with a number, or why it gets none."""
    seen = ids.meet(own, content)
    if seen is Seen.NEW:
        return own
    if seen is Seen.TAKEN and policy == "number":
        return ids.numbered(own)
    what = "id and content" if seen is Seen.REPEATED else "id"
    return RecordError(f"an earlier record has the {what} of {own!r}", reason="duplicate_id")


def _refuse(reject: Reject, writer: StoreWriter, strict: bool) -> None:
    if strict:
        raise RecordError(
            f"{reject.file}, record {reject.record}, id {reject.id!r}: {reject.detail} [{reject.reason.value}]. "
            "Nothing was written; without --strict the record is rejected and the others are kept.",
            reason=reject.reason.value,
        )
    writer.reject(reject)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Keep Python's cycle collector from walking a batch of young rows again and again: rows hold no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
