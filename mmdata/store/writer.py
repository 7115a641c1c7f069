"""Writing a store: shard by shard in bounded memory, published whole or not at all."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import mmdata
from mmdata._tools.options import checked
from mmdata.errors import SchemaError, StoreError, UsageError
from mmdata.rejects import Reject
from mmdata.schema import Conversation
from mmdata.storage._bucket import target_of
from mmdata.storage._path import RemotePath
from mmdata.store._hashed_file import HashedFile
from mmdata.store.arrays import canonical, count_row_bytes, dictionary, dictionary_codes
from mmdata.store.batch import BATCH_BYTES, BATCH_RECORDS, ConversationBatch
from mmdata.store.encode import arrow_schema
from mmdata.store.layout import MANIFEST, REJECTS, RUNS, partial_path
from mmdata.store.manifest import (
    Manifest,
    Shard,
    SourceFile,
    hash_file,
    read_manifest,
    spell_manifest,
    write_manifest,
)
from mmdata.store.publish import partial_directory, publish, remove, sync, write_ahead
from mmdata.store.remote import RemoteRun, staging_path

if TYPE_CHECKING:
    import jsonlines
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["Origin", "StoreWriter", "check_vacant"]

_SHARD_BYTES: Final = 256 << 20


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

    A block that ends in an exception leaves nothing there and what was there before untouched.
    ``sources`` are the values that the column ``source`` may take. ``journal`` names files and
    folders in the partial directory :attr:`folder` that the caller keeps notes in: they outlive an
    attempt that fails or is killed, ``resume`` hands them to the next one, and they are not
    published.

    How rows come together in batches and shards depends on the rows alone, not on how they are
    handed over.

    Raises:
        UsageError: there is a store at ``path`` and ``overwrite`` is off, or something that is not
            a store.
        StoreError: another process is writing to ``path``.
    """

    @checked
    def __init__(
        self,
        path: Path,
        *,
        sources: Sequence[str],
        origin: Origin,
        overwrite: bool = False,
        parquet: bool = False,
        journal: Sequence[str] = (),
        resume: bool = False,
    ) -> None:
        self.path = target_of(path, "store").absolute()
        self._local, self._remote = self.path, None
        if isinstance(self.path, RemotePath):
            self._local, self._remote = staging_path(self.path), RemoteRun(self.path)
        self.folder = partial_path(self._local)
        self.rows = 0
        self.rejects: Counter[str] = Counter()
        self._sources = tuple(sources)
        self._origin = origin
        self._overwrite = overwrite
        self._suffix = "parquet" if parquet else "arrow"
        self._journal = frozenset(journal)
        self._resume = resume
        self._pending: list[_Rows] = []
        self._pending_rows = self._pending_bytes = 0
        self._shard: _ShardWriter | None = None
        self._shards: list[Shard] = []
        self._splits: Counter[str] = Counter()
        self._rows_of: Counter[str] = Counter()
        self._stack = ExitStack()

    def __enter__(self) -> StoreWriter:
        """Take the place."""
        # its imports come first: C code that is stopped on its way in ends the process at once
        arrow_schema()
        kept = self._journal if self._resume else frozenset()
        with ExitStack() as stack:
            stack.enter_context(partial_directory(self._local, keep=kept, name=str(self.path)))
            stack.callback(self._clean_up)
            if self._remote is not None:
                self._remote.begin()
            check_vacant(self.path, self._overwrite)
            self._rejects = (self.folder / REJECTS).open("wb")
            self._stack = stack.pop_all()
        return self

    @property
    def records_in(self) -> int:
        """How many records have been accounted for, rows and rejects."""
        return self.rows + sum(self.rejects.values())

    @property
    def splits(self) -> Mapping[str, int]:
        """How many of the rows that have been put into shards are in each split."""
        return dict(sorted(self._splits.items()))

    @property
    def notes(self) -> Mapping[str, Any]:
        """The notes of the manifest."""
        return self._origin.notes or {}

    def write(self, batch: ConversationBatch) -> None:
        """Add the rows of a batch, and its rejects as lines of ``rejects.jsonl``.

        Raises:
            SchemaError: a row has a ``source`` that was not declared.
            StoreError: boxes of a row are in pixels still; a store holds fractions.
        """
        self._check_sources(batch.columns)
        for row, waiting in enumerate(batch.pixel_boxes):
            if waiting:
                raise StoreError(
                    f"{batch.origins.files[row] or 'a conversation'}, "
                    f"record {batch.origins.numbers[row]}: its boxes are in pixels; "
                    "mmdata.conversion.boxes.scale_boxes() makes fractions of them"
                )
        for _, reject in batch.rejects:
            self.reject(reject)
        self.rows += len(batch)
        if len(batch):
            self._add(_Rows(batch.columns, 0, len(batch)))

    def write_conversations(self, conversations: Iterable[Conversation]) -> None:
        """Add conversations as rows.

        Raises:
            SchemaError: a row holds what a store cannot, such as NaN in ``extra`` or half a
                character in a text, or has a ``source`` that was not declared; with its id.
        """
        for some in _in_lists(conversations, BATCH_RECORDS):
            self.write(ConversationBatch.from_conversations(some))

    def reject(self, reject: Reject) -> None:
        """Add a line to ``rejects.jsonl``."""
        self._reject_lines.write(dataclasses.asdict(reject))
        self.rejects[reject.reason.value] += 1

    @cached_property
    def _reject_lines(self) -> jsonlines.Writer:
        # Imported with the first reject: most conversions have none, and it takes as long as five
        # hundred rows.
        import jsonlines

        return jsonlines.Writer(self._rejects, dumps=json.dumps)

    def _check_sources(self, rows: pa.RecordBatch) -> None:
        column = rows.column("source")
        if set(column.dictionary.to_pylist()) <= set(self._sources):
            return
        # Names that no row is left of may stay in the dictionary of a batch.
        if unknown := sorted(_count_words(column).keys() - set(self._sources)):
            row = column.to_pylist().index(unknown[0])
            raise SchemaError(
                f"conversation {rows.column('id')[row].as_py()!r}: its source {unknown[0]!r} was "
                f"not declared, only {', '.join(map(repr, self._sources))}. The format "
                f"{self._origin.format} must give its rows the dataset_name that it declares."
            )

    def _add(self, rows: _Rows) -> None:
        """Put rows behind those that wait for a full batch, and write the batch when it is full:
        when the next row would be one too many, or its bytes too many.
        """
        import numpy as np

        ends = np.cumsum(count_row_bytes(rows.batch))  # where the bytes of each row end
        while len(rows):
            before = 0 if rows.start == 0 else int(ends[rows.start - 1])
            room = BATCH_BYTES - self._pending_bytes
            # A row that is larger than a batch is one by itself.
            fitting = int(np.searchsorted(ends, before + room, side="right")) - rows.start
            count = min(fitting, BATCH_RECORDS - self._pending_rows)
            if count < 1 and self._pending_rows:
                self._flush()
                continue

            some, rows = rows.split(max(1, count))
            self._pending.append(some)
            self._pending_rows += len(some)
            self._pending_bytes += int(ends[some.stop - 1]) - before

    def describe(self, **notes: Any) -> None:
        """Add notes to the manifest, for people."""
        self._origin = dataclasses.replace(
            self._origin, notes={**(self._origin.notes or {}), **notes}
        )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Publish, or leave nothing."""
        if kind is not None:
            # What holds the partial directory names it in an error that does not say the place.
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            self._seal()

    def _clean_up(self) -> None:
        if hasattr(self, "_rejects"):
            # They are closed already but in an attempt that fails, which has an error to say.
            with suppress(OSError):
                self._rejects.close()
        if self._shard is not None:
            self._shard.abandon()
        _empty(self.folder, self._journal)
        if self._remote is not None:
            self._remote.discard()

    def _flush(self) -> None:
        if not self._pending:
            return
        if self._shard is None:
            self._shard = _ShardWriter(self.folder, len(self._shards), self._suffix)
        batch = _join(self._pending, self._sources)
        self._shard.write(batch)
        self._splits.update(_count_words(batch.column("split")))
        self._rows_of.update(_count_words(batch.column("source")))
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0
        if self._shard.bytes >= _SHARD_BYTES:
            self._close_shard()

    def _close_shard(self) -> None:
        if self._shard is not None:
            self._shards.append(self._shard.close())
            self._shard = None
            if self._remote is not None:
                self._remote.send(self.folder / self._shards[-1].name)

    def _seal(self) -> None:
        self._flush()
        self._close_shard()
        self._rejects.close()
        if self._remote is not None:
            manifest = dataclasses.replace(self._manifest(), run=self._remote.name)
            self._remote.send(self.folder / REJECTS)
            self._remote.publish(spell_manifest(manifest))
            for name in self._journal:
                (self.folder / name).unlink(missing_ok=True)
            return
        write_manifest(self._manifest(), self.folder)
        for name in (*[shard.name for shard in self._shards], REJECTS, MANIFEST):
            sync(self.folder / name)
        for name in self._journal:
            remove(self.folder / name)
        publish(self.folder, self.path)

    def _manifest(self) -> Manifest:
        return Manifest(
            library_version=mmdata.__version__,
            created=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            format=self._origin.format,
            options=self._origin.options,
            media_root=self._origin.media_root,
            records_in=self.records_in,
            rows=self.rows,
            splits=self.splits,
            sources=dict(sorted(self._rows_of.items())),
            rejects=dict(sorted(self.rejects.items())),
            rejects_xxh3=hash_file(self.folder / REJECTS),
            shards=tuple(self._shards),
            files=self._origin.files,
            notes=self.notes,
        )


def check_vacant(path: Path, overwrite: bool) -> None:
    """Refuse a place that a store cannot take; one that has no row may always be replaced.

    Raises:
        UsageError: there is a store at ``path`` and ``overwrite`` is off, or something that is not
            a store.
    """
    if not path.exists():
        if path.is_symlink():
            raise UsageError(f"{path} is a link to nothing. Choose another place for the store.")
        return
    if path.is_dir() and not any(path.iterdir()):
        return
    is_remote = isinstance(path, RemotePath)
    if is_remote and [entry.name for entry in path.iterdir()] == [RUNS]:
        return  # what an attempt that was killed has left
    if not (path / MANIFEST).is_file():
        raise UsageError(f"{path} exists and is not a store. Choose another place for the store.")
    if not overwrite and not _is_empty(path):
        raise UsageError(
            f"{path} is a store already. Choose another place, or say --overwrite to replace it."
        )


def _is_empty(store: Path) -> bool:
    try:
        return read_manifest(store).rows == 0
    except StoreError:
        return False


def _in_lists(conversations: Iterable[Conversation], length: int) -> Iterator[list[Conversation]]:
    left = iter(conversations)
    while some := list(islice(left, length)):
        yield some


@dataclass(frozen=True, slots=True)
class _Rows:
    """The rows ``start`` to ``stop`` of a batch, the last left out."""

    batch: pa.RecordBatch
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start

    @property
    def slice(self) -> pa.RecordBatch:
        """These rows as a batch, without a copy."""
        return self.batch.slice(self.start, len(self))

    def split(self, count: int) -> tuple[_Rows, _Rows]:
        """Return the first ``count`` of them, or all if they are fewer, and the rest."""
        place = min(self.stop, self.start + count)
        return _Rows(self.batch, self.start, place), _Rows(self.batch, place, self.stop)


def _join(pieces: Sequence[_Rows], sources: Sequence[str]) -> pa.RecordBatch:
    """Return the rows of all pieces as one batch whose
    column ``source`` has the dictionary ``sources``.

    Every batch of a file shares that dictionary; and a batch is laid out the same however its rows
    came together.
    """
    import numpy as np
    import pyarrow as pa

    # A batch that is written as it came is not copied. Of a part of one, bitmaps may end in bits of
    # rows that follow; joining copies, and leaves them out.
    is_whole = len(pieces) == 1 and len(pieces[0]) == len(pieces[0].batch)
    batches = [piece.slice for piece in pieces]
    schema = arrow_schema()
    arrays = []
    for number, field in enumerate(schema):
        columns = [batch.column(number) for batch in batches]
        if field.name == "source":
            codes = [_source_codes(column, sources) for column in columns]
            arrays.append(dictionary(np.concatenate(codes), sources))
        elif is_whole:
            arrays.append(canonical(columns[0]))
        else:
            arrays.append(canonical(pa.concat_arrays(columns)))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _source_codes(column: pa.DictionaryArray, sources: Sequence[str]) -> NDArray[np.int32]:
    """Return the place of each row's source among ``sources``, (rows,) int32."""
    import numpy as np

    place = {source: number for number, source in enumerate(sources)}
    # -1 stands for names that no row has: `write` has refused the others.
    words = column.dictionary.to_pylist()
    places = np.fromiter((place.get(word, -1) for word in words), np.int32, len(words))
    return np.take(places, dictionary_codes(column))


def _count_words(column: pa.DictionaryArray) -> dict[str, int]:
    """Return how often each word of a column stands in it, those that do."""
    import numpy as np

    words = column.dictionary.to_pylist()
    counts = np.bincount(dictionary_codes(column), minlength=len(words)).tolist()
    return {word: count for word, count in zip(words, counts, strict=True) if count}


def _empty(folder: Path, keep: frozenset[str]) -> None:
    """Remove what an attempt left in its partial directory,
    and the directory unless something in it is kept.
    """
    if not folder.exists():
        return
    kept = False
    for entry in folder.iterdir():
        is_empty = not any(entry.iterdir()) if entry.is_dir() else not entry.stat().st_size
        if entry.name in keep and not is_empty:
            kept = True
        else:
            remove(entry)
    if not kept:
        folder.rmdir()


class _ShardWriter:
    """One data file being written."""

    def __init__(self, folder: Path, number: int, suffix: str) -> None:
        import pyarrow as pa

        self._path = folder / f"data-{number:05d}.{suffix}"
        self._hashed = HashedFile(self._path)
        self._file = pa.PythonFile(self._hashed, "w")
        schema = arrow_schema().with_metadata({"mmdata.shard": str(number)})
        self._writer: Any
        if suffix == "parquet":
            import pyarrow.parquet as pq

            self._writer = pq.ParquetWriter(
                self._file, schema, compression="zstd", store_schema=True
            )
        else:
            self._writer = pa.ipc.new_file(self._file, schema)
        self._batches: list[int] = []

    @property
    def bytes(self) -> int:
        return int(self._file.tell())

    def write(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        write_ahead(self._path)
        self._batches.append(batch.num_rows)

    def close(self) -> Shard:
        self._writer.close()
        self._file.close()
        size, digest = self._path.stat().st_size, self._hashed.hexdigest()
        return Shard(self._path.name, sum(self._batches), size, digest, tuple(self._batches))

    def abandon(self) -> None:
        # What is still to be written may not fit on a disk that is full, at either end.
        with suppress(OSError, ValueError):
            self._writer.close()
        with suppress(OSError):
            self._file.close()
