"""Splitting source files into parts (:mod:`mmdata.sources.parts`).

A file is split in three steps. :func:`propose_parts` looks at a few bytes around each place where a
part might end. :func:`measure_part` reads one part, on whatever process, and counts what it holds:
lines of JSON are stepped over, which takes a fraction of what converting them does.
:func:`locate_parts` adds up what stands before each. Where a part turns out not to hold whole
records, the file is left whole: it is read as slowly as ever, and as exactly.

What is packed, and tar and CSV, can be read from their start alone: one part a file.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from mmdata.errors import RecordError
from mmdata.sources._json import Reader, has_whole_lines
from mmdata.sources._table import require_unique_names
from mmdata.sources._window import Window, is_packed
from mmdata.sources.arrow import count_rows, num_batches
from mmdata.sources.files import SourceFile
from mmdata.sources.parts import WHOLE, Part, RowPart, TextPart

__all__ = ["Measure", "locate_parts", "measure_part", "propose_parts"]

_SEEN: Final = 1 << 22
"""How many bytes are looked through for a place where a record begins."""
_OPENING: Final = re.compile(rb'\{\s*"(?:[^"\\\n]|\\.){0,200}"')
_lines: Final = msgspec.json.Decoder(msgspec.Raw)


class Measure(msgspec.Struct, frozen=True):
    """What a part holds: characters and ended lines, where it is text, and records; ``is_whole`` is
    whether it holds whole records, and the same ones wherever the file is read from.
    """

    records: int
    characters: int = 0
    lines: int = 0
    is_whole: bool = True


def propose_parts(file: SourceFile, count: int) -> list[Part]:
    """Return at most ``count`` parts of a file that follow one another, the whole where it cannot
    be split; they are to be measured and located.
    """
    if count == 1:
        return [WHOLE]
    if file.kind == "json" and not is_packed(file.path):
        return _split_text(file.path, count)
    if file.kind == "parquet":
        return _split_rows(_num_row_groups(file.path), count)
    if file.kind == "arrow":
        return _split_rows(num_batches(file.path), count)
    return [WHOLE]


def measure_part(file: SourceFile, part: Part, *, covers: Collection[str] = ()) -> Measure:
    """Return what a proposed part of a file holds.

    A JSON array that is a record, and an object with one of the fields ``covers``, may stand for
    several records, and how many only a format tells: such a part does not count as whole.
    """
    if isinstance(part, TextPart):
        return _measure_text(file.path, part, covers)
    if file.kind == "arrow":
        return Measure(count_rows(file.path, part))
    return Measure(_count_parquet_rows(file.path, part))


def locate_parts(parts: Sequence[Part], measures: Sequence[Measure]) -> list[Part]:
    """Return the parts of a file with what stands before each; the whole where one does not hold
    whole records.
    """
    if not all(measure.is_whole for measure in measures):
        return [WHOLE]

    located: list[Part] = []
    characters = lines = number = 0
    for part, measure in zip(parts, measures, strict=True):
        if isinstance(part, TextPart):
            before = {"characters": characters, "lines": lines}
            located.append(replace(part, number=number, **before))
        else:
            located.append(replace(part, number=number))
        characters += measure.characters
        lines += measure.lines
        number += measure.records
    return located


# --- text
# --------------------------------------------------------------------------------------------------


def _split_text(file: Path, count: int) -> list[Part]:
    with Window(file) as window:
        is_lines = not window.fault and has_whole_lines(window.text)
        is_array = not window.fault and window.text.lstrip().startswith("[")
        opening = _OPENING.search(window.text.encode("utf-8", "surrogateescape"))
    # In JSON Lines a record begins behind a line's end, in an array with the key that the first
    # begins with. A text or a record inside another may look like it: measuring tells.
    begins = b"\n" if is_lines else opening[0] if is_array and opening else None
    if begins is None:
        return [WHOLE]

    size = file.stat().st_size
    starts = [0]
    with file.open("rb") as opened:
        for number in range(1, count):
            place = size * number // count
            opened.seek(place)
            found = opened.read(_SEEN).find(begins)
            start = place + found + is_lines
            if found >= 0 and starts[-1] < start < size:
                starts.append(start)

    level = "" if is_lines else "["
    stops: list[int | None] = [*starts[1:], None]
    return [
        TextPart(start, stop, by_line=is_lines, level=level if start else "")
        for start, stop in zip(starts, stops, strict=True)
    ]


def _measure_text(file: Path, part: TextPart, covers: Collection[str]) -> Measure:
    with file.open("rb") as opened:
        opened.seek(part.start)
        data = opened.read() if part.stop is None else opened.read(part.stop - part.start)
    if part.start == 0:
        data = data.removeprefix(codecs.BOM_UTF8)
    characters = len(data.decode("utf-8", "surrogateescape"))
    lines = data.count(b"\n")

    records = _count_plain_lines(data, covers) if part.by_line else None
    if records is not None:
        return Measure(records, characters, lines)

    # Value by value, as a conversion reads them: not all that is broken ends with its line.
    records, is_whole = 0, True
    with Window(file, part=part) as window:
        reader = Reader(window, by_line=bool(part.by_line), level=part.level)
        for values in reader.runs():
            records += len(values)
            # Where a broken record of an array ends is told by those before it.
            is_broken = any(isinstance(value, RecordError) for value in values)
            is_whole &= bool(part.by_line) or not is_broken
            is_whole &= not reader.overran and not any(_may_cover(one, covers) for one in values)
        # An array that ends before the part does would leave the next one outside of it.
        is_whole &= part.stop is None or bool(part.by_line) or reader.level == "["
    return Measure(records, characters, lines, is_whole)


def _count_plain_lines(data: bytes, covers: Collection[str]) -> int | None:
    """Return how many records JSON Lines are, each an object on a line of its own that stands for
    one record; None where that is not plain to see.
    """
    if any(f'"{name}"'.encode() in data for name in covers):
        return None
    try:
        values = _lines.decode_lines(data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None
    if any(bytes(memoryview(value)[:1]) != b"{" for value in values):
        return None
    return len(values)


def _may_cover(value: Any, covers: Collection[str]) -> bool:
    if isinstance(value, dict):
        return any(isinstance(value.get(name), list) for name in covers)
    return isinstance(value, list)


# --- rows
# --------------------------------------------------------------------------------------------------


def _split_rows(pieces: int, count: int) -> list[Part]:
    count = min(pieces, count)
    if count < 2:
        return [WHOLE]
    bounds = [pieces * number // count for number in range(count + 1)]
    return [RowPart(start, stop, 0) for start, stop in pairwise(bounds)]


def _num_row_groups(file: Path) -> int:
    """Return how many row groups a Parquet file has; none where it is to be refused as a whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as opened:
            require_unique_names(opened.schema_arrow)
            return int(opened.num_row_groups)
    except (pa.ArrowException, OSError, RecordError):
        return 0


def _count_parquet_rows(file: Path, part: RowPart) -> int:
    import pyarrow.parquet as pq

    with pq.ParquetFile(file) as opened:
        groups = range(part.start, part.stop)
        return sum(opened.metadata.row_group(group).num_rows for group in groups)
