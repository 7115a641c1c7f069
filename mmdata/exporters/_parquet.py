"""Parquet files of conversations, written as the rows come."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from mmdata.schema import Split
from mmdata.store.publish import write_ahead

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetWriter", "make_batch"]

_GROUP_ROWS: Final = 3 << 12
"""How many rows wait in memory before they are written as a row group: three batches of a store.
With twice as many more time goes into new memory, and the files are no smaller.
"""
_ROLE: Final = "messages.list.element.role"
_TYPE: Final = "messages.list.element.content.list.element.type"


def make_batch(
    records: pa.RecordBatch | Sequence[dict[str, Any]], schema: pa.Schema
) -> pa.RecordBatch:
    """Return records of a ``schema`` as a record batch, if they are none yet."""
    import pyarrow as pa

    if isinstance(records, pa.RecordBatch):
        return records
    return pa.RecordBatch.from_pylist(list(records), schema=schema)


class ParquetWriter:
    """Writes the record batches of a part, of one schema, into Parquet files, the next one where
    one is full.
    """

    def __init__(self, folder: Path, part: int, most_bytes: int, schema: pa.Schema) -> None:
        self._folder = folder
        self._part = part
        self._schema = schema
        self._most = most_bytes
        self._files: dict[str, _ParquetFile] = {}
        self._shards: Counter[str] = Counter()
        self._waiting: dict[str, list[pa.RecordBatch]] = {}

    def write(self, split: Split, records: pa.RecordBatch | Sequence[dict[str, Any]]) -> None:
        batch = make_batch(records, self._schema)
        if not len(batch):
            return
        waiting = self._waiting.setdefault(split, [])
        waiting.append(batch)
        rows, size = sum(map(len, waiting)), sum(each.nbytes for each in waiting)
        # Few rows make a poor row group, and many wait in memory.
        if rows >= _GROUP_ROWS or size >= self._most // 16:
            self._flush(split)

    def _flush(self, split: str) -> None:
        """Write a row group."""
        import pyarrow as pa

        file = self._files.get(split)
        if file is None:
            file = self._files[split] = self._open_next(split)
        table = pa.Table.from_batches(self._waiting.pop(split), schema=self._schema)
        file.writer.write_table(table, row_group_size=len(table))
        # The disk writes it while the next row group is made, and the end has little to wait for.
        write_ahead(file.path)
        if file.path.stat().st_size >= self._most:
            file.writer.close()
            del self._files[split]

    def _open_next(self, split: str) -> _ParquetFile:
        import pyarrow.parquet as pq

        self._folder.mkdir(exist_ok=True)
        # How many there are is known at the end.
        path = self._folder / f"{split}.{self._part:05d}-{self._shards[split]:05d}"
        self._shards[split] += 1
        writer = pq.ParquetWriter(
            path,
            self._schema,
            compression="snappy",
            # Texts hardly repeat: to look for those that do costs more than writing them; nor does
            # anybody skip a row group for the first and last of its texts or of its roles.
            use_dictionary=[_ROLE, _TYPE],
            write_statistics=["id"],
        )
        return _ParquetFile(path, writer)

    def close(self) -> None:
        try:
            for split in list(self._waiting):
                self._flush(split)
        finally:
            for file in self._files.values():
                file.writer.close()


class _ParquetFile(NamedTuple):
    """A file that is written."""

    path: Path
    writer: Any
