"""Records from all over a JSON file, without reading it whole: its first, some of its middle, its
last.

What is between is found by jumping into the file, where nothing tells which brackets are open. Any
record taken that way is whole and is the file's, or else is a part of one; who looks at a sample
must be ready for a few such.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mmdata.sources._json import has_whole_lines, records
from mmdata.sources._window import Window, is_packed
from mmdata.sources.record import Record

__all__ = ["FileSample", "pick_places", "sample_file"]

_HEAD: Final = 1000
_CHUNK: Final = 1 << 17
"""How many bytes are read at each place that is jumped to."""
_OPENING: Final = re.compile(r"[\[,]\s*(?=\{)")
_TOKEN: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\]]', re.DOTALL)


@dataclass(frozen=True, slots=True)
class FileSample:
    """What was seen of a file: its ``head``, the first characters; ``records``, of its head, its
    middle and its end; and which ``places`` that were.

    A file that is one object, larger than a window, has no records.
    """

    head: str
    records: tuple[Any, ...]
    places: tuple[str, ...]


def sample_file(file: Path, count: int) -> FileSample:
    """Return up to ``count`` records from the head of a JSON file, as many from its middle, and as
    many from its end.

    Of a packed file the head alone is read: nothing else of it can be had without all before.
    """
    with Window(file) as window:
        text, ended = window.text, window.ended
    if not _first_is_whole(text):
        return FileSample(text[:_HEAD], (), ("the head",))

    if ended:
        return pick_places(text[:_HEAD], list(_values(file)), count)

    first = list(islice(_values(file), count))
    if is_packed(file):
        return FileSample(text[:_HEAD], tuple(first), ("the head (it is packed)",))
    size = file.stat().st_size
    by_line = has_whole_lines(text)
    middle_text = _read_at(file, size // 2)
    last_text = _read_at(file, max(0, size - _CHUNK))
    between = _values_within(middle_text, by_line)[:count]
    last_ones = _values_within(last_text, by_line)[-count:]
    return FileSample(text[:_HEAD], (*first, *between, *last_ones), ("head", "middle", "end"))


def pick_places(head: str, values: Sequence[Any], count: int) -> FileSample:
    """Return up to ``count`` of a file's values from its head, as many from its middle, and as many
    from its end.

    >>> pick_places("", range(100), 2).records
    (0, 1, 49, 50, 98, 99)
    """
    middle = max(count, len(values) // 2 - count // 2)
    last = max(count, middle + count, len(values) - count)
    kept = (*values[:count], *values[middle : middle + count], *values[last:])
    return FileSample(head, kept, ("head", "middle", "end"))


def _values(file: Path) -> Iterator[Any]:
    return (item.value for item in records(file) if isinstance(item, Record))


def _first_is_whole(text: str) -> bool:
    """Return whether the file's records are smaller than the window: one object as large as a file
    is no record.
    """
    if not text.lstrip().startswith("{") or has_whole_lines(text):
        return True
    try:
        json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return False
    return True


def _read_at(file: Path, start: int) -> str:
    with file.open("rb") as data:
        data.seek(start)
        # A character that the start cuts in two is a part of a record that is not taken anyway.
        return data.read(_CHUNK).decode("utf-8", "replace")


def _values_within(text: str, by_line: bool) -> list[Any]:
    """Return the records that are whole in a stretch of a file."""
    if by_line:
        return list(filter(None, map(_decoded, text.split("\n")[1:])))
    return [value for start in _starts(text) if (value := _decoded_from(text, start)) is not None]


def _starts(text: str) -> list[int]:
    """Return where objects start that are nested least of those in a stretch of an array.

    Brackets are counted from the first object that can be read. What looks like one in a string
    cannot be: its quotes are escaped there.
    """
    opening = next(
        (each for each in _OPENING.finditer(text) if _decoded_from(text, each.end())), None
    )
    if opening is None:
        return []
    depth = 0
    starts: list[tuple[int, int]] = []
    for token in _TOKEN.finditer(text, opening.end()):
        character = token[0]
        if character == "{":
            starts.append((depth, token.start()))
        if character in "{[":
            depth += 1
        elif character in "}]":
            depth -= 1
    least = min((each for each, _ in starts), default=0)
    return [start for each, start in starts if each == least]


def _decoded(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _decoded_from(text: str, start: int) -> Any:
    try:
        return json.JSONDecoder().raw_decode(text, start)[0]
    except (ValueError, RecursionError):
        return None
