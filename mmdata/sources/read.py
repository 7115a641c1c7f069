"""The records of a file of any kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mmdata._tools.options import checked
from mmdata.rejects import Reject
from mmdata.schema import replace
from mmdata.sources import _json
from mmdata.sources._run import Way, read_strictly
from mmdata.sources.arrow import arrow_runs
from mmdata.sources.csv import csv_runs
from mmdata.sources.files import SourceFile
from mmdata.sources.meter import Tell, tell_nobody
from mmdata.sources.parquet import parquet_runs
from mmdata.sources.parts import WHOLE, RowPart, TextPart
from mmdata.sources.record import Record
from mmdata.sources.tar import tar_runs

__all__ = ["read_runs"]


@checked
def read_runs(
    file: SourceFile,
    *,
    id_key: str = "id",
    ways: Sequence[Way] = (read_strictly,),
    tell: Tell = tell_nobody,
) -> Iterator[list[Record | Reject]]:
    """Yield the records of a file, or of a part of it, in order, in lists of what was read
    together, and a reject where one cannot be read.

    ``id_key`` names the field that holds a record's id; JSON is read in the first of the ``ways``
    that can. ``tell`` is called before each list with about which share of the file ends with it,
    where that is known.
    """
    for run in _runs(file, id_key, ways, tell):
        if file.split is None:
            yield run
            continue
        yield [
            replace(item, split=file.split) if isinstance(item, Record) else item for item in run
        ]


def _runs(
    file: SourceFile, id_key: str, ways: Sequence[Way], tell: Tell
) -> Iterator[list[Record | Reject]]:
    rows = file.part if isinstance(file.part, RowPart) else None
    if file.kind == "parquet":
        return parquet_runs(file.path, id_key=id_key, part=rows, tell=tell)
    if file.kind == "arrow":
        return arrow_runs(file.path, id_key=id_key, part=rows, tell=tell)
    if file.kind == "tar":
        return tar_runs(file.path, id_key=id_key, tell=tell)
    if file.kind == "csv":
        return csv_runs(file.path, id_key=id_key, tell=tell)
    text = file.part if isinstance(file.part, TextPart) else WHOLE
    return _json.runs(file.path, id_key=id_key, ways=ways, part=text, tell=tell)
