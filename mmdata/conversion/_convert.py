"""From a source to a store, with an account of every record.

Three steps, one generator each: the format reads records as conversations; their media are found,
and checked as far as was asked; ids are made unique and the rows written. What fails on the way is
a reject in its record's place.
"""

from __future__ import annotations

import gc
import logging
import posixpath
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from mmdata._tools.collector import pause_collector
from mmdata._tools.limits import Limits, OnDamage
from mmdata._tools.options import NonNegativeInt, PositiveInt, checked
from mmdata._tools.paths import real_path
from mmdata._tools.progress import Progress, show_progress
from mmdata._tools.requirements import processors
from mmdata.conversion.account import NOTHING, Account, count_batch
from mmdata.conversion.ids import DuplicateIds, Ids, settle_ids
from mmdata.conversion.locate import SizeOf
from mmdata.conversion.locate import size_of as size_of_file
from mmdata.conversion.media import MediaOptions
from mmdata.conversion.partitions import (
    PARTITIONS,
    can_split,
    convert_partitions,
    goes_by_name,
    plan_partitions,
    read_result,
)
from mmdata.conversion.split import (
    HeldOut,
    HeldOutSplits,
    MediaGroups,
    NamedSplits,
    OwnSplits,
    SplitBy,
    Splits,
    group_media,
    media_keys,
)
from mmdata.conversion.steps import Check, Steps, convert_records, find_all_media
from mmdata.engine.engine import Engine
from mmdata.engine.open import EngineName, check_address, use_engine
from mmdata.errors import DataError, RecordError, UsageError
from mmdata.formats import Format, look_into, make
from mmdata.formats._batches import ReadOptions, read_batches
from mmdata.formats._format import require_declared
from mmdata.formats._meaning import spell
from mmdata.formats._plugins import blame_plugin, plugin_of
from mmdata.formats._sources import RecordSource
from mmdata.rejects import Reject
from mmdata.schema import Split
from mmdata.sources.files import Sources, expand_names
from mmdata.sources.meter import Meter
from mmdata.storage import Access, MediaCache, path_of
from mmdata.storage._bucket import target_of
from mmdata.storage._cache import media_cache as media_cache_of
from mmdata.storage._path import RemotePath
from mmdata.store.batch import ConversationBatch
from mmdata.store.empty import why_empty
from mmdata.store.manifest import SourceFile, hash_file
from mmdata.store.writer import Origin, StoreWriter, check_vacant

if TYPE_CHECKING:
    from mmdata.engine.local import Pool

__all__ = ["Check", "ConvertReport", "DuplicateIds", "convert"]

_JOURNAL: Final = "checks.jsonl"
_MEGABYTE: Final = 10**6
_LARGE: Final = 256 * _MEGABYTE  # what takes longer than a moment to hash
_PARTITION_BYTES: Final = 32 << 20
_PARTITIONS_A_WORKER: Final = 8
"""So that workers end at about the same time, however long the records of one take."""

_log: Final = logging.getLogger("mmdata.conversion")


@dataclass(frozen=True, slots=True)
class ConvertReport:
    """What a conversion did: ``records_in == rows + sum(rejects.values())``.

    ``splits`` has the rows of each split. ``notes`` are those of the manifest: how splits were
    found, in how many rows a field went to ``extra``, which media are not as one would expect.
    """

    store: Path
    records_in: int
    rows: int
    rejects: Mapping[str, int]
    renamed_ids: int
    seconds: float
    splits: Mapping[str, int] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def why_empty(self) -> str | None:
        """Why no row was kept and what to do about it, where none was:
        the most frequent reason with an example.
        """
        return None if self.rows else why_empty(self.store)


@checked
def convert(
    format: str | Format,  # noqa: A002
    sources: str | Path | Sequence[str | Path],
    store: str | Path,
    *,
    options: Mapping[str, Any] | None = None,
    media_root: str | Path | None = None,
    split: Split | Mapping[str, float] | None = None,
    split_by: SplitBy = "media",
    seed: NonNegativeInt = 0,
    check: Check = "exists",
    on_damage: OnDamage = "raise",
    limits: Limits | None = None,
    embed: bool = False,
    workers: PositiveInt | None = None,
    engine: EngineName | Engine = "local",
    address: str | None = None,
    partitions: PositiveInt | None = None,
    limit: NonNegativeInt | None = None,
    strict: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    allow_outside: bool = False,
    allow_remote: bool = False,
    allow_hosts: str | Sequence[str] = (),
    media_cache: str | Path | MediaCache | None = None,
    allow_fields: str | Sequence[str] = (),
    parquet: bool = False,
    duplicate_ids: DuplicateIds = "number",
    progress: Progress = False,
    size_of: SizeOf = size_of_file,
) -> ConvertReport:
    """Convert ``sources`` (files or folders) of a format into
    a new store at ``store``, and return the account.

    Args:
        format: the name of a format (``mmdata formats`` lists them), ``auto`` for the one that
            recognises the sources, or one that has been made.
        sources: a file or folder, or several; of this machine, or a URL.
        store: where the store shall appear: a folder, or a URL of S3.
        options: options of the format, by name.
        media_root: the folder that media paths are relative to; the format knows the usual one.
        split: the split of every row, or the share of each, as in ``{"train": 0.9, "val": 0.1}``:
            rows are then held out by hash. Without it a row is in the split that the format says,
            else in the one that the name of its file or folder says, else in train.
        split_by: what a division into shares keeps together. With ``media``, no image and no clip
            is in two splits, whatever rows hold it; rows without media go by their ids. With
            ``id``, all rows go by their ids. What has no id of its own goes by what it says.
        seed: another seed divides otherwise.
        check: how hard to look at media: not at all, whether they are there, what they are, whether
            they decode whole. The last two keep the size and a hash of each file, which ``mmdata
            check --media`` compares. A record that names a medium by URL is a reject but under
            ``none`` or ``allow_remote``.
        on_damage: what becomes of a record with a video that decodes in part: a reject, or with
            ``keep`` a row that says so in ``oddities``, with the clock of the frames that decode.
        limits: what looking into a file may cost; beyond it its record is a reject.
        embed: put the media's bytes into the store.
        workers: processes that convert and check media; as many as there are cores by default.
        engine: what works on partitions of the source: processes of this machine, ``ray``, or an
            engine that is open (:func:`mmdata.engine.open.open_engine`).
        address: that of a Ray cluster; without it Ray is started on this machine.
        partitions: into how many partitions the source is split; by default a small source is not,
            and a large one into as many as keep all workers at work. What is written is the same.
        limit: read only so many records.
        strict: stop at the first reject.
        resume: use what an earlier attempt, which was stopped, found out about media, and the
            partitions that it finished.
        overwrite: replace the store that is there.
        allow_outside: admit media outside the media root.
        allow_remote: read media that records name by URL, and sources behind ``http://`` and
            ``https://``. What the call itself names in object storage is always read.
        allow_hosts: machines of this network, by name or address, that may be asked over HTTP;
            without, loopback, link-local and private addresses are not.
        media_cache: a folder of this machine that keeps what is fetched of media behind URLs, so
            that it is fetched once: as text with its limit, as in ``/scratch/media:200G``, or a
            :class:`mmdata.storage.MediaCache`. Without a limit it is 64 GiB.
        allow_fields: names of fields that change what a record means and that its format does not
            understand, but which may go to ``extra``; the record is a reject without.
        parquet: write Parquet instead of Arrow files.
        duplicate_ids: what becomes of a record whose id is taken by one with other content: a
            number after its id, or a reject. A record that repeats both id and content is always a
            reject.
        progress: True shows it on the terminal or in the notebook; or a function, called with how
            many records have been dealt with, and how many of them are rejects.
        size_of: how large the medium at a path is, or None; whoever keeps the answers can tell when
            they change.

    A store of which every record is a reject is written like any other, so that its account can be
    read.

    Raises:
        UsageError: the sources are not there, an option is not one, or there is a store already.
        DataError: the sources hold no record; nothing is written.
        RecordError: ``strict`` is on and a record was not kept.
        StoreError: another process is writing to the same place.
        PluginError: a format of another package is at fault, beyond any one record or under
            ``strict``.
    """
    started = time.monotonic()
    check_address(engine, address)
    target = target_of(store, "store")
    hosts = (allow_hosts,) if isinstance(allow_hosts, str) else tuple(allow_hosts)
    access = Access(remote=allow_remote, hosts=hosts)
    cache = media_cache_of(media_cache)
    paths = _source_paths(sources, access)
    reader, name, notes = _choose_reader(format, paths, options or {}, split)
    rule = HeldOut(cast(Any, split), split_by, seed) if isinstance(split, Mapping) else None
    check_vacant(target, overwrite)  # before hours of hashing

    place = _place_media(
        reader,
        paths,
        MediaOptions(
            "",
            look=check != "none",
            allow_outside=allow_outside,
            embed=embed,
            size_of=partial(size_of, access=access) if size_of is size_of_file else size_of,
            limits=limits,
            access=replace(access, cache=cache),
        ),
        media_root,
    )
    allowed = [allow_fields] if isinstance(allow_fields, str) else list(allow_fields)
    notes = {
        "check": check,
        **({} if on_damage == "raise" else {"on_damage": on_damage}),
        **notes,
        **({"allow_fields": allowed} if allowed else {}),
    }
    origin = _describe_source(
        name, reader, paths, options or {}, place, notes, shown=progress is True
    )
    writer = StoreWriter(
        target,
        sources=[reader.dataset_name],
        origin=origin,
        overwrite=overwrite,
        parquet=parquet,
        journal=[_JOURNAL, PARTITIONS],
        resume=resume,
    )

    one_split = None if isinstance(split, Mapping) else split
    reading = ReadOptions(one_split, strict, frozenset(map(spell, allowed)))
    with writer, pause_collector(), ExitStack() as stack:
        splits = _choose_splits(reader, paths, place, reading, rule, limit)
        steps = Steps(
            format=name if goes_by_name(format, reader) else reader,
            options=dict(options or {}),
            without_splits=split is not None,
            reading=reading,
            place=place,
            check=check,
            on_damage=on_damage,
            limits=limits,
            held_out=splits if isinstance(splits, HeldOutSplits) else None,
        )
        # Who keeps what is found of media keeps it in this process.
        in_one = limit is not None or size_of is not size_of_file or not can_split(reader)
        count = _count_partitions(reader, paths, steps, engine, workers, partitions, in_one)

        meter = Meter()
        update = stack.enter_context(show_progress(progress, f"converting {name}"))

        def say(records: int) -> None:
            share = meter.share_of(records)
            if limit:
                share = max(share or 0.0, records / limit)
            update(records, writer.records_in - writer.rows, share)

        batches: Iterable[tuple[ConversationBatch, list[int] | None]]
        if not count:
            whole = convert_records(
                steps,
                reader,
                paths.measured_by(meter),
                workers=workers,
                journal=writer.folder / _JOURNAL,
                fetchers=_open_fetchers(place, workers, stack),
                seen=say,
            )
            stack.enter_context(closing(whole))
            batches = ((batch, None) for batch in _first(limit, whole))
        else:
            opened = stack.enter_context(use_engine(engine, workers=workers, address=address))
            hashes = {Path(file.path): file.xxh3 for file in origin.files}
            batches = _convert_apart(
                opened, steps, reader, paths, hashes, count, writer.folder, meter
            )

        ids = Ids()
        account = _write_batches(batches, writer, splits, ids, duplicate_ids, strict, say)
        if limit != 0 and not writer.records_in:
            raise DataError(
                f"{_names(paths)}: no record was found. "
                "`mmdata formats` shows the shapes of sources."
            )
        writer.describe(renamed_ids=ids.renamed, **account.as_notes(), **splits.as_notes())
    return ConvertReport(
        store=target,
        records_in=writer.records_in,
        rows=writer.rows,
        rejects=dict(sorted(writer.rejects.items())),
        renamed_ids=ids.renamed,
        seconds=time.monotonic() - started,
        splits=writer.splits,
        notes=writer.notes,
    )


def _choose_reader(
    format: str | Format,  # noqa: A002
    paths: Sequence[Path],
    options: Mapping[str, Any],
    split: Split | Mapping[str, float] | None,
) -> tuple[Format, str, dict[str, Any]]:
    """Return the format that reads the sources, its name, and what the manifest notes of how it was
    found.
    """
    notes: dict[str, Any] = {}
    if format == "auto":
        detection = look_into(paths)
        format = detection.format  # noqa: A001
        notes["detected"] = f"{format}, by {detection.seen}"
    reader = make(format, options) if isinstance(format, str) else format
    require_declared(reader, plugin_of(reader))
    if split is not None:
        reader = reader.without_splits()
    return reader, format if isinstance(format, str) else type(reader).__name__, notes


def _place_media(
    reader: Format, paths: Sequence[Path], options: MediaOptions, media_root: str | Path | None
) -> MediaOptions:
    """Return the options with the folder that media are below: that which the user has named, or
    that which the format knows.
    """
    with blame_plugin(reader):
        home = reader.media_root(paths)
    named = home if media_root is None else path_of(media_root, "media root", options.access)
    root = named.as_posix()
    return replace(
        options,
        root=root if isinstance(named, RemotePath) else posixpath.abspath(root),
        home=None if media_root is None else home.as_posix(),
    )


def _describe_source(
    name: str,
    reader: Format,
    paths: Sequence[Path],
    options: Mapping[str, Any],
    place: MediaOptions,
    notes: Mapping[str, Any],
    *,
    shown: bool,
) -> Origin:
    """Return what the manifest says of where a store comes from; each file is hashed, and how far
    that is is ``shown`` where it takes more than a moment.
    """
    with blame_plugin(reader):
        files = reader.files(paths)
    return Origin(
        format=name,
        options=dict(options),
        media_root=place.root,
        files=_hash_sources(files, shown=shown),
        notes=dict(notes),
    )


def _hash_sources(files: Sequence[Path], *, shown: bool) -> tuple[SourceFile, ...]:
    sizes = [file.stat().st_size for file in files]
    whole, read = sum(sizes), 0
    show = show_progress(shown and whole >= _LARGE, "hashing the sources, MB", whole // _MEGABYTE)
    with show as update:

        def see(count: int) -> None:
            nonlocal read
            read += count
            update(read // _MEGABYTE, 0)

        hashes = [hash_file(file, see) for file in files]
    return tuple(map(SourceFile, map(str, files), sizes, hashes))


def _count_partitions(
    reader: Format,
    paths: Sequence[Path],
    steps: Steps,
    engine: EngineName | Engine,
    workers: int | None,
    asked: int | None,
    in_one: bool,
) -> int:
    """Return into how many partitions a source is split; 0 where this process reads it whole, as it
    has to ``in_one``.
    """
    if in_one:
        if engine != "local":
            _log.warning(
                "the source is not split, and this machine converts it: its format joins files, or "
                "is defined where no worker can import it, or only so many records are wanted"
            )
        return 0
    if asked is not None:
        return 0 if asked == 1 and engine == "local" else asked

    with blame_plugin(reader):
        size = sum(file.stat().st_size for file in reader.files(paths))
    wanted = size // _PARTITION_BYTES
    count = workers or (processors() if isinstance(engine, str) else engine.workers)
    if engine != "local":
        return max(wanted, _PARTITIONS_A_WORKER * count)
    # What looks into media is spread over all workers file by file.
    if steps.is_probed or count == 1 or wanted < 2:
        return 0
    return -(-wanted // count) * count  # as many for each


def _open_fetchers(place: MediaOptions, workers: int | None, stack: ExitStack) -> Pool | None:
    """Return the processes that fetch media which are embedded, closed with the ``stack``; None
    where none are, or they are on this machine.
    """
    if not (place.embed and place.reads_urls):
        return None
    from mmdata.engine.local import Pool

    limits = place.limits or Limits()
    pool = Pool(workers or processors(), deadline=limits.deadline, memory=limits.memory)
    return stack.enter_context(pool)


def _convert_apart(
    engine: Engine,
    steps: Steps,
    reader: Format,
    paths: Sequence[Path],
    hashes: Mapping[Path, str],
    count: int,
    folder: Path,
    meter: Meter,
) -> Iterator[tuple[ConversationBatch, list[int]]]:
    """Yield what the partitions of a source have been converted to, in order."""
    assert isinstance(reader, RecordSource)
    with blame_plugin(reader):
        files = reader.source_files(paths)
    planned = plan_partitions(
        engine, steps, files, hashes, count=count, reads_parts=reader.reads_parts
    )
    for place in convert_partitions(engine, steps, planned, folder / PARTITIONS, meter.tell):
        for batch, contents in read_result(place):
            meter.take(batch.num_records)
            yield batch, contents


def _write_batches(
    batches: Iterable[tuple[ConversationBatch, list[int] | None]],
    writer: StoreWriter,
    splits: Splits,
    ids: Ids,
    duplicate_ids: DuplicateIds,
    strict: bool,
    say: Callable[[int], object],
) -> Account:
    """Write batches with their splits and ``ids`` settled, and return the account of their rows;
    after each ``say`` is called with how many records are dealt with.

    Raises:
        RecordError: ``strict`` is on and a record was not kept.
    """
    account = NOTHING
    for batch, contents in batches:
        if isinstance(splits, NamedSplits):
            batch = splits.apply(batch)
        settled = settle_ids(batch, ids, duplicate_ids, contents)
        if strict and settled.rejects:
            _stop(settled.rejects[0][1])
        account += count_batch(settled)
        writer.write(settled)
        gc.collect(0)
        say(writer.records_in)
    return account


def _choose_splits(
    reader: Format,
    paths: Sequence[Path],
    place: MediaOptions,
    reading: ReadOptions,
    rule: HeldOut | None,
    limit: int | None,
) -> Splits:
    """Return how rows are put into splits; for a division by media the sources are read once for
    the media that rows hold together.
    """
    if rule is not None:
        groups = MediaGroups()
        if rule.by == "media":
            lenient = replace(reading, strict=False)  # what cannot be read is said the second time
            _group_media(_first(limit, read_batches(reader, paths, lenient)), reader, place, groups)
        return HeldOutSplits(rule, groups)
    if reading.split is None and reader.splits_by_name:
        homes = [path.as_posix() for path in paths if path.is_dir()]
        with blame_plugin(reader):
            declared = reader.declared_files(paths)
        return NamedSplits(homes, declared)
    return OwnSplits()


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:3])) + (
        f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    )


def _source_paths(sources: str | Path | Sequence[str | Path], access: Access) -> Sources:
    """Return the sources as their real paths: what is found shall not depend on how they are
    spelt.
    """
    paths = [
        path
        for source in ([sources] if isinstance(sources, (str, Path)) else sources)
        for path in expand_names(path_of(source, "source", access))
    ]
    if not paths:
        raise UsageError("no source was given: name a file or a folder")
    if absent := [str(path) for path in paths if not path.exists()]:
        raise UsageError(f"file or folder not found: {', '.join(absent)}")
    # They are hashed before they are read.
    return Sources(
        path.keep() if isinstance(path, RemotePath) else real_path(path) for path in paths
    )


def _first(limit: int | None, batches: Iterable[ConversationBatch]) -> Iterator[ConversationBatch]:
    """Yield what accounts for the first ``limit`` records."""
    left = sys.maxsize if limit is None else limit
    for batch in batches if left else ():
        yield batch.head(left)
        left -= batch.num_records
        if left <= 0:
            return


def _group_media(
    batches: Iterable[ConversationBatch],
    reader: Format,
    place: MediaOptions,
    groups: MediaGroups,
) -> None:
    """Find the media that rows hold together, before any row is written: which split a medium is in
    may depend on the last row.
    """
    for batch in batches:
        several = [row for row, keys in enumerate(media_keys(batch)) if len(keys) > 1]
        if several:
            for found in find_all_media(reader, place, [batch.select(several)]):
                group_media(found, groups)


def _stop(reject: Reject) -> NoReturn:
    raise RecordError(
        f"{reject.file}, record {reject.record}, id {reject.id!r}: "
        f"{reject.detail} [{reject.reason.value}]. Nothing was written; "
        "without --strict the record is rejected and the others are kept.",
        reason=reject.reason.value,
    )
