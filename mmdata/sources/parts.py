"""Parts of source files that are read apart from one another, on as many processes as there are.

A part says where it begins and ends, and what a reader that has come there from the beginning of
the file would know: how many records it has met, lines and characters. So what is read of the parts
of a file, one after the other, is what is read of the whole, messages of errors among it.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from msgspec import Struct

__all__ = ["WHOLE", "Part", "RowPart", "TextPart"]


class TextPart(Struct, frozen=True):
    """Part of a plain JSON file: the records that begin between two bytes, the last left out.

    Before ``start`` are so many ``characters``, ``lines`` and records, of which the last is the
    ``number`` of the first record of the part. ``by_line`` says whether the file is JSON Lines, and
    ``level`` which brackets are open around the part. ``stop`` is None up to the end of the file.
    """

    start: int = 0
    stop: int | None = None
    characters: int = 0
    lines: int = 0
    number: int = 0
    by_line: bool | None = None
    level: str = ""


class RowPart(Struct, frozen=True):
    """Part of a Parquet or an Arrow file: the row groups, or the record batches, from ``start`` up
    to ``stop``, which is left out; the first row of them has the ``number``.
    """

    start: int
    stop: int
    number: int


Part: TypeAlias = TextPart | RowPart

WHOLE: Final = TextPart()
"""The whole of a file."""
