"""The records of an Arrow file, of either of its formats: its rows, as :mod:`mmdata.sources._table`
reads them.

``datasets`` keeps its data in such files, and so do Feather files of version 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

from mmdata._tools.options import checked
from mmdata.errors import RecordError
from mmdata.rejects import Reject
from mmdata.sources._table import bad_source, pieces_of, read_rows, require_unique_names
from mmdata.sources.kinds import describe_fault
from mmdata.sources.meter import Tell, tell_nobody
from mmdata.sources.parts import RowPart
from mmdata.sources.record import Record
from mmdata.storage._input import open_mapped

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["arrow_runs", "count_rows", "num_batches"]

_Measured: TypeAlias = "tuple[pa.RecordBatch | Exception, float]"
"""A record batch, or why it cannot be read, and the share of its file that comes before the next.
"""
_MAGIC: Final = b"ARROW1\0\0"
_END_OF_STREAM: Final = b"\xff\xff\xff\xff\0\0\0\0"


@checked
def arrow_runs(
    file: Path, *, id_key: str = "id", part: RowPart | None = None, tell: Tell = tell_nobody
) -> Iterator[list[Record | Reject]]:
    """Yield the rows of an Arrow file or stream as records, in lists of what was read together; of
    a file that is read in parts those of the ``part``.

    What of it cannot be read is one reject in its place: nothing says how many rows there were. Of
    a file that is cut, what is whole before the cut is read. ``tell`` is called before each list
    of a file that is not read in parts.
    """
    name, number = file.as_posix(), 0 if part is None else part.number
    before = 0.0
    for batch, share in _batches(file) if part is None else _batches_of_part(file, part):
        if isinstance(batch, Exception):
            yield [
                bad_source(name, number, f"not a whole Arrow file: {describe_fault(file, batch)}")
            ]
            number += 1
            continue
        rows = 0
        for piece in pieces_of(batch):
            rows += piece.num_rows
            tell(before + (share - before) * rows / batch.num_rows)
            yield read_rows(piece, file=name, number=number, id_key=id_key)
            number += piece.num_rows
        before = share


def num_batches(file: Path) -> int:
    """Return how many record batches an Arrow file has; none where it has no index, or is to be
    refused as a whole.
    """
    import pyarrow as pa

    try:
        with pa.memory_map(str(file)) as opened:
            reader = pa.ipc.open_file(opened)
            require_unique_names(reader.schema)
            return int(reader.num_record_batches)
    except (pa.ArrowException, OSError, RecordError):
        return 0


def count_rows(file: Path, part: RowPart) -> int:
    """Return how many records :func:`arrow_runs` finds in a part, a reject counted as one."""
    return sum(
        1 if isinstance(batch, Exception) else batch.num_rows
        for batch, _ in _batches_of_part(file, part)
    )


def _batches_of_part(file: Path, part: RowPart) -> Iterator[_Measured]:
    import pyarrow as pa

    with pa.memory_map(str(file)) as opened:
        yield from _indexed_batches(pa.ipc.open_file(opened), range(part.start, part.stop))


def _batches(file: Path) -> Iterator[_Measured]:
    """Yield the record batches of a file, and in the place of one that cannot be read why; each
    with the share of the file that it ends.
    """
    import pyarrow as pa

    with open_mapped(file) as opened:
        is_file = opened.read(len(_MAGIC)) == _MAGIC
        opened.seek(0)
        try:
            if is_file:
                try:
                    reader = pa.ipc.open_file(opened)
                    yield from _indexed_batches(reader, range(reader.num_record_batches))
                    return
                except pa.ArrowInvalid:
                    # A file is a stream with an index behind it. Without the index it was cut, and
                    # what is left is read as the stream.
                    opened.seek(len(_MAGIC))
            for batch in _streamed_batches(pa.ipc.open_stream(opened)):
                yield batch, opened.tell() / opened.size()
        except (pa.ArrowException, OSError, RecordError) as error:
            yield error, 1.0
            return
        if is_file:
            yield RecordError("its index is missing: was it cut?"), 1.0
            return
        opened.seek(max(0, opened.size() - len(_END_OF_STREAM)))
        if opened.read() != _END_OF_STREAM:
            yield RecordError("the stream does not end with the mark of its end: was it cut?"), 1.0


def _indexed_batches(reader: pa.ipc.RecordBatchFileReader, places: range) -> Iterator[_Measured]:
    import pyarrow as pa

    require_unique_names(reader.schema)
    for place in places:
        try:
            batch = reader.get_batch(place)
            # Of a stranger's file nothing is believed: an offset that leads out of its buffer would
            # end the process.
            batch.validate(full=True)
        except (pa.ArrowException, OSError) as error:
            yield error, (place + 1) / reader.num_record_batches
        else:
            yield batch, (place + 1) / reader.num_record_batches


def _streamed_batches(reader: pa.ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    require_unique_names(reader.schema)
    for batch in reader:
        batch.validate(full=True)
        yield batch
