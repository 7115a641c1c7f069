"""The conversation store: a directory of Arrow shards that vouches for itself.

A :class:`StoreWriter` fills it shard by shard in bounded memory and publishes it whole or not at all; :func:`open`
gives it back memory-mapped, refusing one that is not what its manifest says; :func:`check` reads every byte.
"""

from __future__ import annotations

import bisect
import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, overload

import mmdata
from mmdata.columns import arrow_schema, to_batch
from mmdata.errors import StoreError, UsageError
from mmdata.manifest import MANIFEST, Manifest, Shard, SourceFile, hash_file, hash_text, read_manifest, write_manifest
from mmdata.publish import partial_directory, partial_path, publish, sync
from mmdata.rejects import Reject
from mmdata.rows import BatchView
from mmdata.schema import Conversation, Media, Text, replace

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["Located", "Rows", "Store", "StoreWriter", "check", "open"]

REJECTS: Final = "rejects.jsonl"
_BATCH_ROWS: Final = 512
_BATCH_BYTES: Final = 16 << 20
_SHARD_BYTES: Final = 256 << 20
_PARQUET_BATCHES_KEPT: Final = 8


@dataclass(frozen=True, slots=True)
class Origin:
    """What a manifest says of where a store came from."""

    format: str
    options: Mapping[str, Any]
    media_root: str | None = None
    files: tuple[SourceFile, ...] = ()
    notes: Mapping[str, Any] | None = None


class StoreWriter:
    """Writes a store; use it in a ``with`` block, at whose end the store appears at ``path`` whole.

    A block that ends in an exception leaves nothing there and what was there before untouched. ``sources`` are the
    values that the column ``source`` may take. ``journal`` names a file in the partial directory :attr:`folder` that
    the caller keeps notes in: it outlives an attempt that fails or is killed, ``resume`` hands it to the next one, and
    it is not published.

    Raises:
        UsageError: there is a store at ``path`` and ``overwrite`` is off, or something that is not a store.
        StoreError: another process is writing to ``path``.
    """

    def __init__(
        self,
        path: Path,
        *,
        sources: Sequence[str],
        origin: Origin,
        overwrite: bool = False,
        parquet: bool = False,
        journal: str | None = None,
        resume: bool = False,
    ) -> None:
        self.path = path.absolute()
        self.folder = partial_path(self.path)
        self.rows = 0
        self.rejects: Counter[str] = Counter()
        self._sources = tuple(sources)
        self._origin = origin
        self._overwrite = overwrite
        self._suffix = "parquet" if parquet else "arrow"
        self._journal = frozenset({journal} if journal else ())
        self._resume = resume
        self._pending: list[Conversation] = []
        self._pending_bytes = 0
        self._shard: _ShardWriter | None = None
        self._shards: list[Shard] = []
        self._counts: Counter[tuple[str, str]] = Counter()
        self._stack = ExitStack()

    def __enter__(self) -> StoreWriter:
        """Take the place."""
        kept = self._journal if self._resume else frozenset()
        self._stack.enter_context(partial_directory(self.path, keep=kept))
        try:
            _check_vacant(self.path, self._overwrite)
            self._rejects = (self.folder / REJECTS).open("wb")
        except BaseException:
            self._leave()
            raise
        return self

    def write(self, conversation: Conversation) -> None:
        """Add a row."""
        self._pending.append(conversation)
        self._pending_bytes += _weight(conversation)
        if len(self._pending) >= _BATCH_ROWS or self._pending_bytes >= _BATCH_BYTES:
            self._flush()

    def reject(self, reject: Reject) -> None:
        """Add a line to ``rejects.jsonl``."""
        self._rejects.write(reject.to_json().encode() + b"\n")
        self.rejects[reject.reason.value] += 1

    def describe(self, **notes: Any) -> None:
        """Add notes to the manifest, for people."""
        self._origin = dataclasses.replace(self._origin, notes={**(self._origin.notes or {}), **notes})

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Publish, or leave nothing."""
        try:
            if kind is None:
                self._seal()
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._stack:
            if hasattr(self, "_rejects"):
                self._rejects.close()
            if self._shard is not None:
                self._shard.abandon()
            _empty(self.folder, self._journal)

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._shard is None:
            self._shard = _ShardWriter(self.folder, len(self._shards), self._suffix)
        self._shard.write(to_batch(self._pending, self._sources))
        self._counts.update((c.split, c.source) for c in self._pending)
        self.rows += len(self._pending)
        self._pending, self._pending_bytes = [], 0
        if self._shard.bytes >= _SHARD_BYTES:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shards.append(self._shard.close())
            self._shard = None

    def _seal(self) -> None:
        self._flush()
        self._close_shard()
        self._rejects.close()
        sync(self.folder / REJECTS)
        write_manifest(self._manifest(), self.folder)
        sync(self.folder / MANIFEST)
        for name in self._journal:
            (self.folder / name).unlink(missing_ok=True)
        publish(self.folder, self.path)

    def _manifest(self) -> Manifest:
        splits: Counter[str] = Counter()
        sources: Counter[str] = Counter()
        for (split, source), count in self._counts.items():
            splits[split] += count
            sources[source] += count
        return Manifest(
            library_version=mmdata.__version__,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            format=self._origin.format,
            options=self._origin.options,
            media_root=self._origin.media_root,
            records_in=self.rows + sum(self.rejects.values()),
            rows=self.rows,
            splits=dict(sorted(splits.items())),
            sources=dict(sorted(sources.items())),
            rejects=dict(sorted(self.rejects.items())),
            rejects_xxh3=hash_file(self.folder / REJECTS),
            shards=tuple(self._shards),
            files=self._origin.files,
            notes=self._origin.notes or {},
        )


def _check_vacant(path: Path, overwrite: bool) -> None:
    if not path.exists():
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    if not (path / MANIFEST).is_file():
        raise UsageError(f"{path} exists and is not a store. Choose another place for the store.")
    if not overwrite:
        raise UsageError(f"{path} is a store already. Choose another place, or say --overwrite to replace it.")


def _weight(conversation: Conversation) -> int:
    """Return about how many bytes a row takes, so that a batch of large rows is cut early."""
    words = [len(p.text) for m in conversation.messages for p in m.content if type(p) is Text]
    files = [len(m.bytes or b"") + sum(map(len, m.frames or ())) for m in conversation.media]
    return sum(words) + sum(files)


def _empty(folder: Path, keep: frozenset[str]) -> None:
    """Remove what an attempt left in its partial directory, and the directory unless something in it is kept."""
    if not folder.exists():
        return
    kept = False
    for entry in folder.iterdir():
        if entry.name in keep and entry.stat().st_size:
            kept = True
        else:
            entry.unlink()
    if not kept:
        folder.rmdir()


class _ShardWriter:
    """One data file being written."""

    def __init__(self, folder: Path, number: int, suffix: str) -> None:
        import pyarrow as pa

        self._path = folder / f"data-{number:05d}.{suffix}"
        self._file = pa.OSFile(str(self._path), "wb")
        schema = arrow_schema().with_metadata({"mmdata.shard": str(number)})
        self._writer = _parquet_writer(self._file, schema) if suffix == "parquet" else _ipc_writer(self._file, schema)
        self._batches: list[int] = []

    @property
    def bytes(self) -> int:
        return int(self._file.tell())

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self._batches.append(batch.num_rows)

    def close(self) -> Shard:
        self._writer.close()
        self._file.close()
        sync(self._path)
        size, digest = self._path.stat().st_size, hash_file(self._path)
        return Shard(self._path.name, sum(self._batches), size, digest, tuple(self._batches))

    def abandon(self) -> None:
        with suppress(OSError, ValueError):
            self._writer.close()
        self._file.close()


def _ipc_writer(file: pa.NativeFile, schema: pa.Schema) -> Any:
    import pyarrow as pa

    return pa.ipc.new_file(file, schema)


def _parquet_writer(file: pa.NativeFile, schema: pa.Schema) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(file, schema, compression="zstd", store_schema=True)


class Rows(Sequence[Conversation]):
    """Some rows of a store, decoded when they are asked for."""

    def __init__(self, store: Store, indices: range) -> None:
        self._store = store
        self._indices = indices

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
            return Rows(self._store, self._indices[index])
        return self._store[self._indices[index]]

    def __repr__(self) -> str:
        """Return the number of rows and of which store."""
        return f"Rows({len(self)} of {self._store.path})"


class Store(Sequence[Conversation]):
    """A store that has been opened: a sequence of conversations, memory-mapped; read-only.

    ``store[i]`` takes constant time, ``store[a:b]`` gives :class:`Rows` without decoding them. Media paths come as they
    are stored; :meth:`locate` gives the file. Stores travel to other processes as their path.
    """

    def __init__(self, path: Path, media_root: Path | None = None) -> None:
        self.path = path.absolute()
        self.manifest = read_manifest(self.path)
        self.media_root = media_root or (Path(self.manifest.media_root) if self.manifest.media_root else None)
        _check_listing(self.path, self.manifest)
        self._shards = [_open_shard(self.path, shard, number) for number, shard in enumerate(self.manifest.shards)]
        self._batches = [(shard, number) for shard in self._shards for number in range(shard.num_batches)]
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
        """Return one conversation, or :class:`Rows` for a slice; negative indices count from the end."""
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

    def __reduce__(self) -> tuple[Callable[..., Store], tuple[Path, Path | None]]:
        """Travel as a path."""
        return Store, (self.path, self.media_root)

    @property
    def table(self) -> pa.Table:
        """The whole store as one Arrow table, memory-mapped where the shards are Arrow files."""
        import pyarrow as pa

        batches = [shard.batch(number) for shard, number in self._batches]
        return pa.Table.from_batches(batches, schema=arrow_schema())

    @property
    def fingerprint(self) -> str:
        """A hash of the rows: equal for stores that hold the same, wherever they are."""
        return hash_text(*(shard.xxh3 for shard in self.manifest.shards))

    def rejects(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of ``rejects.jsonl``: record, file, id, reason and detail of what was not kept."""
        with (self.path / REJECTS).open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    def locate(self, media: Media) -> str | None:
        """Return where the file of a medium is: its URL or absolute path, the media root applied; None if embedded."""
        if media.path is None or "://" in media.path or self.media_root is None:
            return media.path
        return str(self.media_root / media.path)

    def located(self, index: int) -> Conversation:
        """Return the conversation ``self[index]`` with the path of each medium as :meth:`locate` gives it."""
        conversation = self[index]
        media = tuple(replace(medium, path=self.locate(medium)) for medium in conversation.media)
        return replace(conversation, media=media)

    def _view(self, batch: int) -> BatchView:
        shard, number = self._batches[batch]
        return shard.view(number)


class Located(Sequence[Conversation]):
    """The conversations of a store with media paths that can be opened, decoded when they are asked for."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __len__(self) -> int:
        """Return how many rows there are."""
        return len(self._store)

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> list[Conversation]: ...
    def __getitem__(self, index: int | slice) -> Conversation | list[Conversation]:
        """Return one conversation, or a list of them for a slice."""
        if isinstance(index, slice):
            return [self._store.located(number) for number in range(len(self))[index]]
        return self._store.located(index)


class _ArrowShard:
    """A shard in Arrow's file format, memory-mapped; every view that was made is kept, they are small."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._reader = pa.ipc.open_file(pa.memory_map(str(path)))
        self.schema = self._reader.schema
        self.num_batches = self._reader.num_record_batches
        self.view = lru_cache(maxsize=None)(lambda number: BatchView(self.batch(number)))

    def batch(self, number: int) -> pa.RecordBatch:
        return self._reader.get_batch(number).replace_schema_metadata(None)


class _ParquetShard:
    """A shard in Parquet; a batch is a row group, and the last few that were read are kept."""

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._file = pq.ParquetFile(path, memory_map=True)
        self.schema = self._file.schema_arrow
        self.num_batches = self._file.num_row_groups
        self.view = lru_cache(maxsize=_PARQUET_BATCHES_KEPT)(lambda number: BatchView(self.batch(number)))

    def batch(self, number: int) -> pa.RecordBatch:
        table = self._file.read_row_group(number).cast(arrow_schema())
        return table.combine_chunks().to_batches()[0]


def _check_listing(path: Path, manifest: Manifest) -> None:
    listed = {shard.name for shard in manifest.shards}
    found = {entry.name for entry in path.iterdir() if entry.name.startswith("data-")}
    if missing := sorted(listed - found):
        raise StoreError(f"{path}: {', '.join(missing)} is missing. Restore it or convert again.", path=str(path))
    if stray := sorted(found - listed):
        raise StoreError(f"{path}: {', '.join(stray)} does not belong to this store. Remove it.", path=str(path))


def _open_shard(path: Path, shard: Shard, number: int) -> _ArrowShard | _ParquetShard:
    import pyarrow as pa

    file = path / shard.name
    size = file.stat().st_size
    if size != shard.bytes:
        raise _damaged(file, f"it has {size} bytes of {shard.bytes}")
    try:
        opened = _ParquetShard(file) if file.suffix == ".parquet" else _ArrowShard(file)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(file, str(error)) from error
    if (opened.schema.metadata or {}).get(b"mmdata.shard") != str(number).encode():
        raise _damaged(file, f"its header does not say that it is shard {number}")
    if not opened.schema.equals(arrow_schema()) or opened.num_batches != len(shard.batches):
        raise _damaged(file, "its columns or batches are not what the manifest says")
    return opened


def _damaged(file: Path, what: str) -> StoreError:
    return StoreError(f"{file} is damaged: {what}. Restore it or convert again.", path=str(file))


def open(path: str | Path, *, media_root: str | Path | None = None) -> Store:  # noqa: A001
    """Return the store at ``path``, memory-mapped; every shard is there, of the right size and in its place.

    ``media_root`` says where the media are now, if they have moved. What only reading every byte can tell is
    :func:`check`'s.

    Raises:
        StoreError: there is no store, or it is damaged; the message names the file.
    """
    return Store(Path(path), Path(media_root) if media_root is not None else None)


def check(path: str | Path, *, progress: Callable[[int], object] = lambda _: None) -> list[StoreError]:
    """Return what is wrong with the store at ``path``, after reading every byte of it; nothing, if it is whole.

    ``progress`` is called with the bytes of each file as it is done.
    """
    try:
        store = open(path)
    except StoreError as error:
        return [error]
    expected = {shard.name: shard.xxh3 for shard in store.manifest.shards} | {REJECTS: store.manifest.rejects_xxh3}
    faults = []
    for name, digest in expected.items():
        file = store.path / name
        try:
            if hash_file(file) != digest:
                faults.append(_damaged(file, "its bytes do not match their hash"))
            progress(file.stat().st_size)
        except OSError as error:
            faults.append(_damaged(file, str(error)))
    return faults
