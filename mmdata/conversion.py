"""From a source to a store, with an account of every record.

Three steps, one generator each: the format reads records as conversations; their media are found, and checked as far as
was asked; ids are made unique and the rows written. What fails on the way is a reject in its record's place.
"""

from __future__ import annotations

import gc
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice, repeat
from operator import is_not
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from mmdata.dialogue import Dialogue, Row
from mmdata.errors import DataError, MediaError, RecordError, UsageError, nearest
from mmdata.formats import Format, Record, detect, make
from mmdata.ids import Ids, Seen
from mmdata.locate import find, is_file, is_url
from mmdata.manifest import SourceFile, hash_file
from mmdata.rejects import Reason, Reject
from mmdata.schema import Conversation, Media, MediaType, Split, replace
from mmdata.writer import Origin, StoreWriter, check_vacant

if TYPE_CHECKING:
    from mmdata.checks import File, Prober

__all__ = ["Check", "ConvertReport", "DuplicateIds", "convert"]

Check: TypeAlias = Literal["none", "exists", "probe", "decode"]
DuplicateIds: TypeAlias = Literal["number", "reject"]
Item: TypeAlias = tuple[Record, Row] | Reject
Opened: TypeAlias = tuple[Record, Conversation] | Reject
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


@dataclass(frozen=True, slots=True)
class _Place:
    """Where media are, and whether they are looked for."""

    root: str
    look: bool
    allow_outside: bool


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
    workers: int | None = None,
    limit: int | None = None,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    allow_outside: bool = False,
    parquet: bool = False,
    duplicate_ids: DuplicateIds = "number",
    progress: Progress = lambda rows, rejects: None,
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
        progress: called with the numbers of rows and rejects so far.

    Raises:
        UsageError: the sources are not there or hold no record, an option is not one, or there is a store already.
        RecordError: ``strict`` is on and a record was not kept.
        StoreError: another process is writing to the same place.
    """
    started = time.monotonic()
    paths = _source_paths(sources)
    if format == "auto":
        format = detect(paths)  # noqa: A001
    reader = make(format, options or {}) if isinstance(format, str) else format
    _check_choices(check, duplicate_ids)
    check_vacant(Path(store), overwrite)  # before hours of hashing
    root = Path(media_root) if media_root is not None else reader.media_root(paths)
    place = _Place(posixpath.abspath(root.as_posix()), check != "none", allow_outside)
    origin = Origin(
        format=format if isinstance(format, str) else type(format).__name__,
        options=dict(options or {}),
        media_root=place.root,
        files=tuple(SourceFile(str(file), file.stat().st_size, hash_file(file)) for file in reader.files(paths)),
        notes={"check": check},
    )
    writer = StoreWriter(
        Path(store),
        sources=[reader.source],
        origin=origin,
        overwrite=overwrite,
        parquet=parquet,
        journal=_JOURNAL,
        resume=resume,
    )
    ids = Ids()
    with writer, _collector_paused(), ExitStack() as stack:
        items: Iterator[Item] = _read(reader, paths, limit, split)
        items = map(_find_media, items, repeat(reader), repeat(place))
        if check in ("probe", "decode"):
            from mmdata.checks import Prober

            prober = Prober(check, journal=writer.folder / _JOURNAL, workers=workers)
            items = _probe_media(map(_opened, items), place, stack.enter_context(prober))
        if embed:
            items = _embed_media(map(_opened, items), place)
        items = map(_settle_id, items, repeat(ids), repeat(duplicate_ids))
        _write(items, writer, progress, strict=strict, sized=not embed)
        if limit != 0 and not writer.records_in:
            raise UsageError(f"{_names(paths)}: no record was found. `mmdata formats` shows the shapes of sources.")
        writer.describe(renamed_ids=ids.renamed)
    return ConvertReport(
        store=Path(store),
        records_in=writer.records_in,
        rows=writer.rows,
        rejects=dict(sorted(writer.rejects.items())),
        renamed_ids=ids.renamed,
        seconds=time.monotonic() - started,
    )


def _write(items: Iterable[Item], writer: StoreWriter, progress: Progress, *, strict: bool, sized: bool) -> None:
    """Write each item as a row or a reject; ``sized`` rows are as large as their records' text."""
    for number, item in enumerate(items):
        if isinstance(item, Reject):
            _refuse(item, writer, strict)
        else:
            writer.write(item[1], size=item[0].size if sized else None)
        if number % _PAUSE == 0:
            gc.collect(0)
            progress(number, sum(writer.rejects.values()))


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:3])) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def _source_paths(sources: str | Path | Sequence[str | Path]) -> list[Path]:
    paths = [Path(source) for source in ([sources] if isinstance(sources, (str, Path)) else sources)]
    if not paths:
        raise UsageError("no source was given: name a file or a folder")
    if absent := [str(path) for path in paths if not path.exists()]:
        raise UsageError(f"there is no {', '.join(absent)}")
    return paths


def _check_choices(check: str, duplicate_ids: str) -> None:
    for option, value, known in (("check", check, Check), ("duplicate_ids", duplicate_ids, DuplicateIds)):
        if value not in get_args(known):
            raise UsageError(
                f"{option}={value!r}: it is one of {', '.join(get_args(known))}.{nearest(value, get_args(known))}"
            )


def _read(reader: Format, paths: Sequence[Path], limit: int | None, split: Split | None) -> Iterator[Item]:
    """Read the records, as dialogues where the format can, else as conversations."""
    plain = _reads_dialogues(reader)
    for item in islice(reader.dialogues(paths) if plain else reader.records(paths), limit):  # type: ignore[attr-defined]
        if isinstance(item, Reject):
            yield item
            continue
        record, dialogue = item if plain else (item, None)
        try:
            row = dialogue or _row(reader.conversation(record), plain=plain)
        except Exception as error:  # one record's border: whatever a format stumbles over costs that record alone
            yield _rejected(record, error)
        else:
            yield record, (row if split is None else replace(row, split=split))


def _reads_dialogues(reader: Format) -> bool:
    """Return whether the format has dialogues, and no class between has since changed what its conversations are."""
    nearest = next(kind for kind in type(reader).__mro__ if kind is object or _WAYS & vars(kind).keys())
    return "dialogues" in vars(nearest)


def _row(conversation: Conversation, *, plain: bool) -> Row:
    """Return a conversation as a dialogue where it is one and others are ``plain``: what is alike shall look alike."""
    return (Dialogue.of(conversation) or conversation) if plain else conversation


def _rejected(record: Record, error: Exception) -> Reject:
    reason = Reason.of(getattr(error, "reason", Reason.MALFORMED.value))
    expected = isinstance(error, DataError)
    detail = str(error) if expected else f"{type(error).__name__}: {error}"
    return Reject(record.number, record.file, record.id, reason, detail)


def _find_media(item: Item, reader: Format, place: _Place) -> Item:
    """Give each medium its path under the media root, or refuse the record if one of its media is not there."""
    if isinstance(item, Reject):
        return item
    record, row = item
    try:
        found = _found(row, record, reader, place)
    except RecordError as error:
        return _rejected(record, error)
    return item if found is row else (record, found)


def _found(row: Row, record: Record, reader: Format, place: _Place) -> Row:
    if isinstance(row, Dialogue):
        path = row.path and _path(row.path, row.type, record, reader, place)
        return row if path == row.path else replace(row, path=path)
    media = tuple([_placed(medium, record, reader, place) for medium in row.media])
    return replace(row, media=media) if any(map(is_not, media, row.media)) else row


def _placed(medium: Media, record: Record, reader: Format, place: _Place) -> Media:
    path = medium.path and _path(medium.path, medium.type, record, reader, place)
    return medium if path == medium.path else replace(medium, path=path)


def _path(path: str, kind: MediaType, record: Record, reader: Format, place: _Place) -> str:
    if is_url(path):
        return path
    candidates = reader.candidates(path, record)
    return find(place.root, candidates, kind, look=place.look, allow_outside=place.allow_outside)


def _opened(item: Item) -> Opened:
    """Return an item whose row is a conversation."""
    if isinstance(item, Reject):
        return item
    record, row = item
    return record, row.conversation() if isinstance(row, Dialogue) else row


def _probe_media(items: Iterable[Opened], place: _Place, prober: Prober) -> Iterator[Item]:
    """Look inside each medium, some records ahead on other processes, and keep the order."""

    def files_of(item: Opened) -> list[File]:
        media = () if isinstance(item, Reject) else item[1].media
        return [(_file(medium, place), medium.type) for medium in media if is_file(medium)]

    for item, found in prober.answers(items, files_of):
        if isinstance(item, Reject) or not found:
            yield item
        elif isinstance(found, MediaError):
            yield _rejected(item[0], found)
        else:
            facts = iter(found)
            media = tuple(replace(m, **next(facts)) if is_file(m) else m for m in item[1].media)
            yield item[0], replace(item[1], media=media)


def _embed_media(items: Iterable[Opened], place: _Place) -> Iterator[Item]:
    """Put the bytes of each medium's file beside its path."""
    for item in items:
        if isinstance(item, Reject):
            yield item
            continue
        record, conversation = item
        try:
            media = tuple(
                replace(m, bytes=Path(_file(m, place)).read_bytes()) if is_file(m) else m for m in conversation.media
            )
        except OSError as error:
            yield _rejected(record, MediaError(f"cannot read {error.filename}: {error.strerror}"))
        else:
            yield record, replace(conversation, media=media)


def _file(medium: Media, place: _Place) -> str:
    return posixpath.join(place.root, medium.path or "")


def _settle_id(item: Item, ids: Ids, policy: DuplicateIds) -> Item:
    """Return the item, renumbered or rejected if its id is taken."""
    if isinstance(item, Reject) or (seen := ids.meet(item[1])) is Seen.NEW:
        return item
    record, conversation = item
    if seen is Seen.TAKEN and policy == "number":
        return record, ids.numbered(conversation)
    what = "id and content" if seen is Seen.REPEATED else "id"
    return _rejected(
        record, RecordError(f"an earlier record has the {what} of {conversation.id!r}", reason="duplicate_id")
    )


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
