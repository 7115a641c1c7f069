"""JSON of plain rows, column by column.

A record is a few constant pieces around the texts of a row. Arrow puts such pieces together for all
rows at once, in their final bytes, so that no row becomes an object of Python's; what is escaped in
JSON is found in all texts of a batch with three comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mmdata.exporters._features import UnsayableError
from mmdata.exporters._plain import PlainRows
from mmdata.exporters._turns import MARKS, check_extra
from mmdata.exporters._writers import ARRAY_END
from mmdata.schema import MediaType
from mmdata.store.arrays import constant, integers, lists_of, text

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "concat",
    "escape",
    "extras_of",
    "list_records",
    "lists_by_count",
    "part_objects",
    "turn_texts",
    "turns_of",
]

_SPACE, _QUOTE, _BACKSLASH = b' "\\'
_SHORT: Final = b'\b\t\n\f\r"\\'
"""What JSON escapes with two characters; other control characters take six."""

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def escape(texts: pa.StringArray) -> pa.StringArray:
    r"""Return texts as they stand between the quotes of JSON.

    >>> escape(text(['say "hi"'])).to_pylist()
    ['say \\"hi\\"']
    """
    import numpy as np
    import pyarrow as pa

    offsets = np.frombuffer(texts.buffers()[1], np.int32)[
        texts.offset : texts.offset + len(texts) + 1
    ]
    if not len(texts) or texts.buffers()[2] is None:
        return texts
    first, last = int(offsets[0]), int(offsets[-1])
    data = memoryview(texts.buffers()[2])[first:last]
    found = np.frombuffer(data, np.uint8)
    special = np.flatnonzero((found < _SPACE) | (found == _QUOTE) | (found == _BACKSLASH))
    if not len(special):
        return texts

    # All texts are written as one; each then begins where it did, and as much further on as
    # characters before it have grown.
    escaped = msgspec.json.encode(str(data, "utf-8"))
    growth = np.concatenate([[0], np.cumsum(_growth()[found[special]])])
    starts = offsets - first
    moved = starts + growth[np.searchsorted(special, starts)]
    assert moved[-1] == len(escaped) - 2, "JSON's escapes are of two or six characters"
    return pa.StringArray.from_buffers(
        len(texts), pa.py_buffer(moved.astype(np.int32)), pa.py_buffer(escaped).slice(1)
    )


@cache
def _growth() -> NDArray[np.int64]:
    """Return by how many bytes each byte that is escaped grows."""
    import numpy as np

    growth = np.full(256, 5, np.int64)
    growth[list(_SHORT)] = 1
    return growth


def concat(*columns: pa.StringArray | str) -> pa.StringArray:
    """Return the texts of several columns, and constants between them, row by row as one."""
    import pyarrow.compute as pc

    values = [constant(each) if isinstance(each, str) else each for each in columns]
    return pc.binary_join_element_wise(*values, constant(""))


def choose(words: Sequence[str], codes: NDArray[Any]) -> pa.StringArray:
    """Return the word that each code stands for."""
    import numpy as np

    return text(words).take(integers(codes.astype(np.int32)))


def join_lists(lengths: NDArray[np.int32], items: pa.StringArray, between: str) -> pa.StringArray:
    """Return for each of some lists its texts as one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.binary_join(lists_of(lengths, items, pa.list_(pa.string())), constant(between))


def turn_texts(rows: PlainRows, separator: str, marks: Mapping[MediaType, str]) -> pa.StringArray:
    """Return what each turn says, escaped, marks in the places of media, as
    :func:`mmdata.exporters._turns.join_pieces` puts them.
    """
    import numpy as np
    import pyarrow as pa

    columns = rows.columns
    words = escape(columns.parts.field("text"))
    shows = columns.shows
    if not shows.any() and len(words) == len(columns.roles):
        return words

    between = msgspec.json.encode(separator).decode()[1:-1]
    spelt = [f"{before}{mark}{after}" for mark in (marks["image"], marks["video"])
             for before, after in (("", ""), ("", between), (between, ""))]  # fmt: skip
    which = _place_of_marks(columns.num_parts, shows, list_lengths_of(words))
    which += 3 * columns.are_videos
    index = np.where(shows, len(words) + which, np.arange(len(words)))
    pieces = pa.concat_arrays([words, text(spelt)]).take(integers(index.astype(np.int32)))
    return join_lists(columns.num_parts, pieces, "")


def list_lengths_of(texts: pa.StringArray) -> NDArray[np.int32]:
    """Return how many bytes each text has."""
    import numpy as np

    offsets = np.frombuffer(texts.buffers()[1], np.int32)
    return np.diff(offsets[texts.offset : texts.offset + len(texts) + 1])


def _place_of_marks(
    num_parts: NDArray[np.int32], shows: NDArray[np.bool_], lengths: NDArray[np.int32]
) -> NDArray[np.int64]:
    """Return for each part whether it stands among the words of its turn (0), before all of them
    (1), or behind (2). Where there are no words, the last mark has none behind it.
    """
    import numpy as np

    turn = np.repeat(np.arange(len(num_parts)), num_parts)
    ends = np.cumsum(num_parts)
    place = np.arange(len(shows))
    spoken = np.flatnonzero(~shows & (lengths > 0))

    first, last = ends - 1, ends - 1
    first[turn[spoken[::-1]]] = spoken[::-1]  # the last that is written stays: the first of a turn
    last[turn[spoken]] = spoken
    found: NDArray[np.int64] = np.where(place < first[turn], 1, np.where(place > last[turn], 2, 0))
    return found


def turns_of(
    rows: PlainRows, said: pa.StringArray, before: Mapping[int, str], after: str
) -> pa.StringArray:
    """Return for each row the objects that its turns are, commas between them; ``before`` is what
    stands in front of what a turn says, by the code of its role.
    """
    import numpy as np

    roles = sorted(before)
    codes = np.zeros(max(roles) + 1, np.int64)
    codes[roles] = np.arange(len(roles))
    fronts = choose([before[role] for role in roles], codes[rows.columns.roles])
    return join_lists(rows.columns.num_turns, concat(fronts, said, after), ",")


def part_objects(rows: PlainRows, objects: Mapping[MediaType, tuple[str, str]]) -> pa.StringArray:
    """Return for each turn the objects that its parts are, commas between them; a medium's is its
    path between two texts.
    """
    import numpy as np
    import pyarrow as pa

    columns = rows.columns
    words = concat('{"type":"text","text":"', escape(columns.parts.field("text")), '"}')
    if columns.shows.any():
        kinds = [objects["image"], objects["video"]]
        videos = columns.are_videos[columns.shows]
        media = concat(
            choose([front for front, _ in kinds], videos),
            escape(columns.media.field("path")),
            choose([back for _, back in kinds], videos),
        )
        index = np.arange(len(words))
        index[columns.shows] = len(words) + np.arange(len(media))
        words = pa.concat_arrays([words, media]).take(integers(index.astype(np.int32)))
    return join_lists(columns.num_parts, words, ",")


def lists_by_count(
    rows: PlainRows, kind: MediaType, wrap: Sequence[tuple[str, str]]
) -> pa.StringArray | str:
    """Return for each row the paths of its media of a kind, between two texts: the first pair of
    ``wrap`` for none, the next for one, the last for more.
    """
    import numpy as np

    columns = rows.columns
    there = columns.media_are_videos == (kind == "video")
    if not there.any():
        return wrap[0][0] + wrap[0][1]
    paths = concat(
        '"', escape(columns.media.field("path").take(integers(np.flatnonzero(there)))), '"'
    )
    counts = np.bincount(columns.row_of_medium[there], minlength=len(rows)).astype(np.int32)
    joined = join_lists(counts, paths, ",")
    codes = np.minimum(counts, len(wrap) - 1)
    fronts, backs = ([pair[side] for pair in wrap] for side in (0, 1))
    return concat(choose(fronts, codes), joined, choose(backs, codes))


def extras_of(rows: PlainRows, fields: frozenset[str], taken: Sequence[str]) -> Any:
    """Return for each row the fields of its source that had no column, a comma before them; None
    where one of them would be read as something else.
    """
    extras = rows.extras
    if all(extra == "{}" for extra in extras):
        return ""
    record = dict.fromkeys(taken)
    try:
        for extra in extras:
            if extra != "{}":
                check_extra(_fields.decode(extra), record, fields)
    except UnsayableError:
        return None
    return text(["" if extra == "{}" else f",{extra[1:-1]}" for extra in extras])


def list_records(
    rows: PlainRows,
    turns_field: str,
    keys: tuple[str, str],
    names: Mapping[int, str],
    fields: frozenset[str],
    *,
    always: str = "",
    end: str = ARRAY_END,
) -> pa.StringArray | None:
    """Return the records, as JSON, of plain rows that have their turns in one field, objects with
    these two ``keys`` and these ``names`` of roles by their codes, and lists of ``images`` and
    ``videos``; with ``always``, which is more that each record has, the lists are there even if
    they are empty.

    It is None where a field in ``extra`` would be read as something else.
    """
    extras = extras_of(rows, fields, ("id", turns_field, "images", "videos"))
    if extras is None:
        return None
    speaker, said = keys
    before = {code: f'{{"{speaker}":"{name}","{said}":"' for code, name in names.items()}
    turns = turns_of(rows, turn_texts(rows, "", MARKS), before, '"}')
    lists = [
        lists_by_count(
            rows,
            kind,
            ((f',"{field}":[', "]") if always else ("", ""), (f',"{field}":[', "]")),
        )
        for kind, field in _LISTS
    ]
    head = f'","{turns_field}":['
    return concat(
        '{"id":"', escape(rows.id_array), head, turns, "]", *lists, always, extras, "}" + end
    )


_LISTS: Final[tuple[tuple[MediaType, str], ...]] = (("image", "images"), ("video", "videos"))
