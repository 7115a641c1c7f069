"""The records of a Parquet file: its rows, as :mod:`mmdata.sources._table` reads them.

Pages are read as they are needed, never a row group as a whole: those of data sets with pictures
are as large as the memory of a small machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmdata._tools.options import checked
from mmdata.errors import RecordError
from mmdata.rejects import Reject
from mmdata.sources._table import (
    PIECE_BYTES,
    PIECE_ROWS,
    bad_source,
    read_rows,
    require_unique_names,
)
from mmdata.sources.kinds import describe_fault
from mmdata.sources.meter import Tell, tell_nobody
from mmdata.sources.parts import RowPart
from mmdata.sources.record import Record
from mmdata.storage._input import open_input
from mmdata.storage._path import RemotePath

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = ["parquet_runs", "sample_groups"]

_BUFFER: Final = 1 << 20
_TOGETHER: Final = 1024
"""How many rejects of one row group come in a list."""


@checked
def parquet_runs(
    file: Path, *, id_key: str = "id", part: RowPart | None = None, tell: Tell = tell_nobody
) -> Iterator[list[Record | Reject]]:
    """Yield the rows of a Parquet file as records, in lists of what was read together; of a file
    that is read in parts those of the ``part``. ``tell`` is called before each list.

    A row that lies in a damaged page is a reject, and so is each after it in its row group: how
    many there are, the file says elsewhere. Of a file that cannot be opened at all one reject
    stands for the whole.
    """
    import pyarrow as pa

    name = file.as_posix()
    try:
        opened = _open(file)
    except (pa.ArrowException, OSError) as error:
        yield [bad_source(name, 0, f"not a whole Parquet file: {describe_fault(file, error)}")]
        return
    with opened:
        try:
            require_unique_names(opened.schema_arrow)
        except RecordError as error:
            yield [bad_source(name, 0, str(error))]
            return
        number = 0 if part is None else part.number
        groups = range(opened.num_row_groups) if part is None else range(part.start, part.stop)
        for group in groups:
            rows = opened.metadata.row_group(group).num_rows
            read = number
            for run in _read_group(opened, group, name, number, id_key):
                read += len(run)
                tell(read / opened.metadata.num_rows)
                yield run
            number += rows


def sample_groups(file: Path, count: int) -> list[list[Record | Reject]]:
    """Return up to ``count`` rows from the beginning of the first row group of a Parquet file, as
    many of the one in its middle, and as many of the last; of the whole file where these are one.
    A file that cannot be read has none.
    """
    import pyarrow as pa

    try:
        opened = _open(file)
    except (pa.ArrowException, OSError):
        return []

    with opened:
        try:
            require_unique_names(opened.schema_arrow)
        except RecordError:
            return []
        last = opened.num_row_groups - 1
        places = sorted({0, last // 2, last}) if last >= 0 else []
        name = file.as_posix()
        rows = [chain.from_iterable(_read_group(opened, place, name, 0, "id")) for place in places]
        return [list(islice(some, count)) for some in rows]


def _open(file: Path) -> pq.ParquetFile:
    import pyarrow.parquet as pq

    source = open_input(file) if isinstance(file, RemotePath) else file
    # `pre_buffer` would fetch whole row groups, and so would a buffer of no size.
    return pq.ParquetFile(source, pre_buffer=False, buffer_size=_BUFFER)


def _read_group(
    opened: pq.ParquetFile, group: int, name: str, number: int, id_key: str
) -> Iterator[list[Record | Reject]]:
    """Yield the rows of a row group; the first of them has the ``number``."""
    import pyarrow as pa

    found = opened.metadata.row_group(group)
    each = max(1, found.total_byte_size // max(1, found.num_rows))
    together = max(1, min(PIECE_ROWS, PIECE_BYTES // each))
    # Arrow's memory for a column doubles as it fills, and what is in it is copied each time. Of
    # values of about one size the last copy, the largest, is of no use but at a power of two.
    together = 1 << (together.bit_length() - 1)
    done = 0
    fault: Exception | None = None

    # Where a batch cannot be read, the rows before the damage are read one by one.
    for size in (together, 1):
        place = 0
        try:
            for batch in opened.iter_batches(size, row_groups=[group], use_threads=False):
                place += batch.num_rows
                if place <= done:
                    continue
                done = place
                first = number + done - batch.num_rows
                yield read_rows(batch, file=name, number=first, id_key=id_key)
        except (pa.ArrowException, OSError) as error:
            fault = error
        if done >= found.num_rows:
            return

    for start in range(done, found.num_rows, _TOGETHER):
        lost = range(number + start, number + min(found.num_rows, start + _TOGETHER))
        what = f"row group {group} is damaged from record {number + done} on: {fault}"
        yield [bad_source(name, place, what) for place in lost]
