"""The records of a CSV file: its rows, by the names that its first line has.

Every cell is text, an empty one an absent field. Of columns that hold lists (:data:`LIST_COLUMNS`)
a cell that begins with a bracket is read as JSON, or else as the Python literal that pandas and
ms-swift write, such as ``[['Hello', 'Hi']]``.

Commas stand between the cells, in a file called ``.tsv`` tabs; where the first line has no comma,
what it has of semicolons or tabs. Quotes are as RFC 4180 has them.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from mmdata._tools.options import checked
from mmdata.errors import RecordError
from mmdata.rejects import Reject
from mmdata.sources._json import identity, is_clean
from mmdata.sources._literal import parse_literal
from mmdata.sources._table import bad_source
from mmdata.sources._window import Window
from mmdata.sources.meter import Tell, tell_nobody
from mmdata.sources.record import Record

__all__ = ["LIST_COLUMNS", "csv_runs"]

LIST_COLUMNS: Final = frozenset(
    {
        "messages", "conversations", "conversation", "texts", "history", "prompt", "completion",
        "chosen", "rejected", "images", "image", "videos", "video", "audios", "audio", "objects",
    }
)  # fmt: skip
"""The columns in which a cell may be a list or an object."""

_OR_WORDS: Final = frozenset({"prompt", "completion", "chosen", "rejected"})
"""Those of them that hold words as well: there only a list of messages is a list."""
_LIST_OF_MESSAGES: Final = re.compile(r"\[\s*[{\]]")

_TOGETHER: Final = 1024
_LONGEST: Final = 1 << 26
"""Characters; a longer cell is an error, so that a stray quote cannot fill the memory."""


@checked
def csv_runs(
    file: Path, *, id_key: str = "id", tell: Tell = tell_nobody
) -> Iterator[list[Record | Reject]]:
    """Yield the rows of a CSV file as records, in lists of what was read together.

    A row with fewer or more cells than the first line, or with bytes that are not UTF-8, is a
    reject that names its line. ``tell`` is called before each list.
    """
    # The limit is Python's own, for the whole process, and too small for a picture in base64.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST))
    name, number = file.as_posix(), 0
    run: list[Record | Reject] = []
    with Window(file) as window:
        rows = _Rows(window, tabs=".tsv" in file.name.lower())
        if rows.fault:
            yield [bad_source(name, 0, rows.fault)]
            return
        for line, row in rows:
            try:
                value = _value(rows.names, row, line)
            except RecordError as error:
                run.append(Record(None, name, number).rejected(error))
            else:
                size = sum(map(len, row)) if isinstance(row, list) else None
                run.append(Record(value, name, number, identity(value, id_key), size))
            number += 1
            if len(run) >= _TOGETHER:
                tell(rows.share)
                yield run
                run = []
        if window.fault:
            run.append(bad_source(name, number, window.fault))
    if run:
        tell(1.0)
        yield run


class _Rows:
    """The rows of a window: ``names`` are the cells of its first line; ``fault`` says why there are
    none.
    """

    def __init__(self, window: Window, *, tabs: bool) -> None:
        self._window = window
        self._start = 0  # of the next line in the text of the window
        self.names: Sequence[str] = []
        self.fault = ""
        head = window.text.partition("\n")[0]
        delimiter = "\t" if tabs else ","
        if delimiter not in head:
            delimiter = max(";\t,", key=head.count)
        self._reader = csv.reader(self._lines(), delimiter=delimiter, strict=True)
        try:
            self.names = next(self._reader, [])
        except csv.Error as error:
            self.fault = f"line 1: {error}"
        if window.fault:
            self.fault = window.fault
        elif twice := [name for name in self.names if self.names.count(name) > 1]:
            self.fault = f"line 1: the column {twice[0]!r} stands twice"

    @property
    def share(self) -> float:
        """About which share of the file comes before the next row."""
        return self._window.share_before(self._start)

    def __iter__(self) -> Iterator[tuple[int, list[str] | csv.Error]]:
        """Yield the rows by the line that each begins on, an error where one cannot be read."""
        while True:
            line = self._reader.line_num + 1
            try:
                row = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, error
            else:
                if row:
                    yield line, row

    def _lines(self) -> Iterator[str]:
        """Yield the lines of the window with their ends."""
        window = self._window
        while True:
            start = self._start
            end = window.text.find("\n", start) + 1
            if end:
                self._start = end
                yield window.text[start:end]
            elif window.ended:
                if start < len(window.text):
                    yield window.text[start:]
                return
            else:
                window.slide(start)
                self._start = 0


def _value(names: Sequence[str], row: list[str] | csv.Error, line: int) -> dict[str, Any]:
    """Return the record that a row is.

    Raises:
        RecordError: it is none; the message names the line.
    """
    if isinstance(row, csv.Error) and "NUL" not in str(row):  # Python 3.10 reads none
        raise RecordError(f"line {line}: {row}")
    if isinstance(row, csv.Error) or not is_clean(row):
        raise RecordError(f"line {line}: bytes that are not UTF-8, or a NUL", reason="bad_encoding")
    if len(row) != len(names):
        raise RecordError(f"line {line} has {len(row)} cells, the first line {len(names)}")
    return {
        name: _read_cell(name, cell, line) for name, cell in zip(names, row, strict=True) if cell
    }


def _read_cell(name: str, cell: str, line: int) -> Any:
    """Return what a cell spells: a list or an object where its column may hold one, else text.

    Raises:
        RecordError: it spells one that holds a key twice, NUL or a lone surrogate.
    """
    if name not in LIST_COLUMNS or cell[0] not in "[{":
        return cell
    if name in _OR_WORDS and not _LIST_OF_MESSAGES.match(cell):
        return cell

    try:
        value = parse_literal(cell, f"line {line}: {name!r}")
    except ValueError:
        return cell
    if not _is_json(value) or not is_clean(value):
        return cell
    if name in _OR_WORDS and not all(type(it) is dict for it in value):
        return cell
    return value


def _is_json(value: Any) -> bool:
    """Return whether a literal's value is one that JSON has."""
    if isinstance(value, list):
        return all(map(_is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_is_json, value.values()))
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (str, bool, int))
