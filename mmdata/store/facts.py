"""Numbers of rows, counted column by column: how many turns, words, characters a row has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from mmdata.store.arrays import flag_bytes, list_lengths, list_values

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = ["FACTS", "row_facts"]

_WORD: Final = r"[\p{Han}\p{Hiragana}\p{Katakana}]|[^\s\p{Han}\p{Hiragana}\p{Katakana}]+"
"""A word is what stands between white space; of scripts that have none, each character is one."""


def row_facts(columns: pa.RecordBatch, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return some of :data:`FACTS` of each row, (rows,) int64 each."""
    return {name: FACTS[name](columns) for name in names}


def _turns(columns: pa.RecordBatch) -> NDArray[Any]:
    return list_lengths(columns.column("messages")).astype("int64")


def _characters(columns: pa.RecordBatch) -> NDArray[Any]:
    import pyarrow.compute as pc

    return _sum_parts(columns, _filled(pc.utf8_length(_texts(columns))))


def _trained_characters(columns: pa.RecordBatch) -> NDArray[Any]:
    import numpy as np
    import pyarrow.compute as pc

    messages = list_values(columns.column("messages"))
    content = messages.field("content")
    trained = _flags(messages.field("train")).repeat(list_lengths(content))
    own = list_values(content).field("train")
    if own.null_count < len(own):
        says = own.is_valid().to_numpy(zero_copy_only=False)
        trained = np.where(says, _flags(own), trained)
    return _sum_parts(columns, _filled(pc.utf8_length(_texts(columns))) * trained)


def _words(columns: pa.RecordBatch) -> NDArray[Any]:
    import pyarrow.compute as pc

    return _sum_parts(columns, _filled(pc.count_substring_regex(_texts(columns), _WORD)))


def _media(columns: pa.RecordBatch) -> NDArray[Any]:
    return list_lengths(columns.column("media")).astype("int64")


FACTS: Final[Mapping[str, Callable[[pa.RecordBatch], NDArray[Any]]]] = {
    "turns": _turns,
    "words": _words,
    "characters": _characters,
    "trained_characters": _trained_characters,
    "media_per_row": _media,
}
"""What can be counted of a row's messages and media, rejected endings left out."""


def _texts(columns: pa.RecordBatch) -> pa.StringArray:
    """Return the texts of all parts of the messages of all rows, null where a part has none."""
    return list_values(list_values(columns.column("messages")).field("content")).field("text")


def _sum_parts(columns: pa.RecordBatch, values: NDArray[Any]) -> NDArray[Any]:
    """Return the sum over the parts of each row, (rows,)."""
    messages = columns.column("messages")
    of_messages = _sum_runs(values, list_lengths(list_values(messages).field("content")))
    return _sum_runs(of_messages, list_lengths(messages))


def _sum_runs(values: NDArray[Any], lengths: NDArray[Any]) -> NDArray[Any]:
    """Return the sum of each run of values, (runs,); ``lengths`` says how many each has."""
    import numpy as np

    ends = np.concatenate([[0], np.cumsum(values, dtype=np.int64)])
    bounds = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    found: NDArray[Any] = np.diff(ends[bounds])
    return found


def _filled(numbers: pa.Array) -> NDArray[Any]:
    import pyarrow.compute as pc

    found: NDArray[Any] = pc.fill_null(numbers, 0).to_numpy()
    return found


def _flags(array: pa.BooleanArray) -> NDArray[Any]:
    import numpy as np

    return np.frombuffer(flag_bytes(array), np.bool_)
