"""The conversation store: a directory of Arrow shards that vouches for itself.

:func:`open` gives one back memory-mapped, refusing one that is not what its manifest says;
:func:`check` reads every byte of it. :mod:`mmdata.store.writer` makes them.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate, groupby
from operator import itemgetter
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, overload

from mmdata._tools.markup import shorten, table, text
from mmdata._tools.options import checked
from mmdata.errors import StoreError
from mmdata.schema import Conversation, Media, replace
from mmdata.storage import path_of
from mmdata.storage._input import open_input, open_mapped
from mmdata.storage._path import RemotePath
from mmdata.store.decode import BatchView
from mmdata.store.encode import arrow_schema, upgrade
from mmdata.store.layout import REJECTS
from mmdata.store.manifest import Manifest, Shard, hash_file, hash_text, read_manifest

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Rows", "Store", "check", "check_file", "list_files", "open"]

_PARQUET_BATCHES_KEPT: Final = 8
_REMOTE_MEMORY: Final = 1 << 30
"""Bytes of batches of a remote store that are held, all its shards together."""
_REMOTE_DISK: Final = 32 << 30
"""Bytes of one that are kept on the disk of this machine, so that no epoch fetches them again."""
_SHOWN: Final = 5
"""How many rows a notebook shows."""


class Rows(Sequence[Conversation]):
    """Some rows of a store, decoded when they are asked for;
    ``located`` ones have media paths that can be opened.
    """

    @checked
    def __init__(self, store: Store, indices: range, *, located: bool = False) -> None:
        self._store = store
        self._indices = indices
        self._located = located

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Conversation | Rows:
        """Return one conversation, or fewer rows for a slice."""
        if isinstance(index, slice):
            return Rows(self._store, self._indices[index], located=self._located)
        row = self._indices[index]
        return self._store.located(row) if self._located else self._store[row]

    def __repr__(self) -> str:
        """Return the number of rows and of which store."""
        return f"Rows({len(self)} of {self._store.path})"

    def _repr_html_(self) -> str:
        """Return the first rows as a table, for a notebook."""
        return _rows_table(repr(self), self[:_SHOWN], len(self))


class Store(Sequence[Conversation]):
    """A store that has been opened: a sequence of conversations, memory-mapped; read-only.

    ``store[i]`` takes constant time, ``store[a:b]`` gives :class:`Rows` without decoding them.
    Media paths come as they are stored; :meth:`locate` gives the file. Stores travel to other
    processes as their path.
    """

    @checked
    def __init__(self, path: Path, media_root: Path | None = None) -> None:
        self.path = path.absolute()
        self.manifest = read_manifest(self.path)
        self.media_root = media_root or (
            path_of(self.manifest.media_root, "media root") if self.manifest.media_root else None
        )
        self._folder = self.manifest.folder_in(self.path)
        sizes = _check_listing(self._folder, self.manifest)
        self._shards = [
            _open_shard(self._folder, shard, sizes[shard.name], number, self.manifest)
            for number, shard in enumerate(self.manifest.shards)
        ]
        self._batches = [
            (shard, number) for shard in self._shards for number in range(shard.num_batches)
        ]
        rows = (rows for shard in self.manifest.shards for rows in shard.batches)
        self._starts = list(accumulate(rows, initial=0))

    def __len__(self) -> int:
        """Return how many rows there are."""
        return self.manifest.rows

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Conversation | Rows:
        """Return one conversation, or :class:`Rows` for a slice;
        negative indices count from the end.
        """
        if isinstance(index, slice):
            return Rows(self, range(len(self))[index])
        length = self.manifest.rows
        if not -length <= index < length:
            raise IndexError(f"row {index} of a store of {length} rows")
        row = index % length
        batch = bisect.bisect_right(self._starts, row) - 1
        return self._view(batch)[row - self._starts[batch]]

    def __iter__(self) -> Iterator[Conversation]:
        """Yield every conversation in order."""
        for batch, start in enumerate(self._starts[:-1]):
            view = self._view(batch)
            for row in range(self._starts[batch + 1] - start):
                yield view[row]

    def __repr__(self) -> str:
        """Return the path and the number of rows."""
        return f"Store({str(self.path)!r}, {len(self)} rows)"

    def _repr_html_(self) -> str:
        """Return what the store holds and its first rows as tables, for a notebook."""
        manifest = self.manifest
        rejects = manifest.records_in - manifest.rows
        facts = [
            ("format", manifest.format),
            (
                "records in",
                f"{manifest.records_in:,} = {manifest.rows:,} rows + {rejects:,} rejects",
            ),
            ("media root", self.media_root or "none"),
            *(("split", f"{name}: {count:,}") for name, count in manifest.splits.items()),
            *(("source", f"{name}: {count:,}") for name, count in manifest.sources.items()),
            *(("reject", f"{name}: {count:,}") for name, count in manifest.rejects.items()),
        ]
        told = table(repr(self), ((text(name), text(value)) for name, value in facts))
        return told + _rows_table("rows", self[:_SHOWN], len(self))

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Path, Path | None]]:
        """Travel as a path."""
        return Store, (self.path, self.media_root)

    @property
    def table(self) -> pa.Table:
        """The whole store as one Arrow table, memory-mapped where the shards are Arrow files."""
        import pyarrow as pa

        batches = [shard.batch(number) for shard, number in self._batches]
        return pa.Table.from_batches(batches, schema=arrow_schema())

    def batches(self, rows: range | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows as Arrow record batches, in order, of a few thousand rows each; or some
        ``rows`` that follow one another, of the batches that hold them.

        They are read and not mapped: whoever goes through a store once holds a batch of it, and not
        all that was looked at.
        """
        wanted = range(len(self)) if rows is None else rows
        if not wanted:
            return
        first = bisect.bisect_right(self._starts, wanted.start) - 1
        last = bisect.bisect_left(self._starts, wanted.stop)

        # A shard is opened once for all of its batches.
        batches = (
            columns
            for shard, held in groupby(self._batches[first:last], key=itemgetter(0))
            for columns in shard.read([number for _, number in held])
        )
        for start, columns in zip(self._starts[first:last], batches, strict=True):
            begin, end = max(wanted.start - start, 0), wanted.stop - start
            is_whole = begin == 0 and end >= columns.num_rows
            yield columns if is_whole else columns.slice(begin, end - begin)

    @property
    def batch_starts(self) -> Sequence[int]:
        """The number of the first row of each batch, and that of all rows."""
        return self._starts

    @property
    def fingerprint(self) -> str:
        """A hash of the rows: equal for stores that hold the same, wherever they are."""
        return hash_text(*(shard.xxh3 for shard in self.manifest.shards))

    def rejects(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of ``rejects.jsonl``:
        record, file, id, reason and detail of what was not kept.
        """
        import jsonlines

        with (
            (self._folder / REJECTS).open(encoding="utf-8") as file,
            jsonlines.Reader(file) as lines,
        ):
            yield from lines

    def locate(self, media: Media) -> str | None:
        """Return where the file of a medium is:
        its URL or absolute path, the media root applied; None if embedded.
        """
        return None if media.path is None else self._locate(media.path)

    def _locate(self, path: str) -> str:
        return path if "://" in path or self.media_root is None else str(self.media_root / path)

    @property
    def folder(self) -> Path:
        """Where its shards and rejects are: its path, or in object storage a folder below it."""
        return self._folder

    @checked
    def rows(self, *, located: bool = False) -> Rows:
        """Return all rows, with media paths that can be opened
        where they are wanted ``located``.
        """
        return Rows(self, range(len(self)), located=located)

    def located(self, index: int) -> Conversation:
        """Return the conversation ``self[index]`` with the path
        of each medium as :meth:`locate` gives it.
        """
        conversation = self[index]
        return replace(conversation, media=tuple(map(self._locate_medium, conversation.media)))

    def _locate_medium(self, medium: Media) -> Media:
        if medium.frame_paths is not None:
            medium = replace(medium, frame_paths=tuple(map(self._locate, medium.frame_paths)))
        return replace(medium, path=self.locate(medium))

    def _view(self, batch: int) -> BatchView:
        shard, number = self._batches[batch]
        return shard.view(number)


def _rows_table(title: str, rows: Iterable[Conversation], count: int) -> str:
    """Return ``rows``, the first of ``count``, as a table with the words that each begins with."""
    cells = [
        (text(row.id), text(row.split), text(len(row.messages)), text(len(row.media)),
         text(shorten(" ".join(message.text for message in row.messages), 120)))
        for row in rows
    ]  # fmt: skip
    more = count - len(cells)
    cells += [(text(f"and {more:,} more"), "", "", "", "")] if more > 0 else []
    return table(title, cells, ("id", "split", "turns", "media", "words"))


class _ArrowShard:
    """A shard in Arrow's file format, memory-mapped;
    every view that was made is kept, they are small.

    Of a remote one, of which there are so many ``shards``, batches are held as there is room.
    """

    def __init__(self, path: Path, size: int, shards: int) -> None:
        import pyarrow as pa

        self._path = path
        self._reader = pa.ipc.open_file(open_mapped(path, keep=_REMOTE_DISK // shards))
        self.schema = self._reader.schema
        self.num_batches = self._reader.num_record_batches
        # Arrow reads the dictionaries with the first batch, and two threads would read them twice
        self._lock = Lock()
        # Of a file that is mapped a view costs nothing; of one that is fetched it is the memory.
        kept = None
        if isinstance(path, RemotePath):
            batch_bytes = size // max(1, self.num_batches) + 1
            kept = max(1, _REMOTE_MEMORY // shards // batch_bytes)
        self.view = lru_cache(maxsize=kept)(lambda number: BatchView(self.batch(number)))

    def batch(self, number: int) -> pa.RecordBatch:
        with self._lock:
            batch = self._reader.get_batch(number)
        return upgrade(batch.replace_schema_metadata(None))

    def read(self, numbers: Iterable[int]) -> Iterator[pa.RecordBatch]:
        import pyarrow as pa

        with open_input(self._path) as file:
            reader = pa.ipc.open_file(file)
            for number in numbers:
                yield upgrade(reader.get_batch(number).replace_schema_metadata(None))


class _ParquetShard:
    """A shard in Parquet; a batch is a row group, and the last few that were read are kept."""

    def __init__(self, path: Path, version: int, shards: int) -> None:
        import pyarrow.parquet as pq

        self._written_as = arrow_schema(version)
        self._file = pq.ParquetFile(open_mapped(path, keep=_REMOTE_DISK // shards))
        self.schema = self._file.schema_arrow
        self.num_batches = self._file.num_row_groups
        self._lock = Lock()  # Arrow's reader of Parquet files is for one thread at a time
        self.view = lru_cache(maxsize=_PARQUET_BATCHES_KEPT)(
            lambda number: BatchView(self.batch(number))
        )

    def batch(self, number: int) -> pa.RecordBatch:
        with self._lock:
            table = self._file.read_row_group(number).cast(self._written_as)
        return upgrade(table.combine_chunks().to_batches()[0])

    def read(self, numbers: Iterable[int]) -> Iterator[pa.RecordBatch]:
        return map(self.batch, numbers)


def _check_listing(path: Path, manifest: Manifest) -> dict[str, int]:
    """Return the bytes of each file of a store's data."""
    listed = {shard.name for shard in manifest.shards}
    if isinstance(path, RemotePath):
        found = {file.name: size for file, size in path.files() if file.name.startswith("data-")}
    else:
        data = [entry for entry in path.iterdir() if entry.name.startswith("data-")]
        found = {entry.name: entry.stat().st_size for entry in data}
    if missing := sorted(listed - found.keys()):
        raise StoreError(
            f"{path}: {', '.join(missing)} is missing. Restore it or convert again.", path=str(path)
        )
    if stray := sorted(found.keys() - listed):
        raise StoreError(
            f"{path}: {', '.join(stray)} does not belong to this store. Remove it.", path=str(path)
        )
    return found


def _open_shard(
    path: Path, shard: Shard, size: int, number: int, manifest: Manifest
) -> _ArrowShard | _ParquetShard:
    import pyarrow as pa

    file, version, shards = path / shard.name, manifest.schema_version, len(manifest.shards)
    if size != shard.bytes:
        raise _damage_error(file, f"it has {size} bytes of {shard.bytes}")
    opened: _ArrowShard | _ParquetShard
    try:
        if file.suffix == ".parquet":
            opened = _ParquetShard(file, version, shards)
        else:
            opened = _ArrowShard(file, size, shards)
    except (pa.ArrowException, OSError) as error:
        raise _damage_error(file, str(error)) from error
    if (opened.schema.metadata or {}).get(b"mmdata.shard") != str(number).encode():
        raise _damage_error(file, f"its header does not say that it is shard {number}")
    if not opened.schema.equals(arrow_schema(version)) or opened.num_batches != len(shard.batches):
        raise _damage_error(file, "its columns or batches are not what the manifest says")
    return opened


def _damage_error(file: Path, what: str) -> StoreError:
    return StoreError(f"{file} is damaged: {what}. Restore it or convert again.", path=str(file))


@checked
def open(path: str | Path, *, media_root: str | Path | None = None) -> Store:  # noqa: A001
    """Return the store at ``path``, memory-mapped;
    every shard is there, of the right size and in its place.

    ``media_root`` says where the media are now, if they have moved. What only reading every byte
    can tell is
    :func:`check`'s.

    Raises:
        StoreError: there is no store, or it is damaged; the message names the file.
        UsageError: there is nothing at ``path``, or one of the two is a URL.
    """
    root = path_of(media_root, "media root") if media_root is not None else None
    return Store(path_of(path, "store"), root)


def check(
    path: str | Path, *, progress: Callable[[int], object] = lambda _: None
) -> list[StoreError]:
    """Return what is wrong with the store at ``path``,
    after reading every byte of it; nothing, if it is whole.

    ``progress`` is called with the bytes of each file as it is done.
    """
    try:
        store = open(path)
    except StoreError as error:
        return [error]

    faults = []
    for file, digest in list_files(store):
        faults += check_file(file, digest)
        with suppress(OSError):
            progress(file.stat().st_size)
    return faults


def list_files(store: Store) -> list[tuple[Path, str]]:
    """Return the files that hold the rows and the rejects of a store, with the hash of each."""
    digests = {shard.name: shard.xxh3 for shard in store.manifest.shards}
    digests[REJECTS] = store.manifest.rejects_xxh3
    return [(store.folder / name, digest) for name, digest in digests.items()]


def check_file(file: Path, digest: str) -> list[StoreError]:
    """Return what is wrong with a file of a store, whose hash is known; nothing, if it is whole."""
    try:
        if hash_file(file) == digest:
            return []
        what = "its bytes do not match their hash"
    except OSError as error:
        what = str(error)
    return [_damage_error(file, what)]
