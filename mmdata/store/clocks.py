"""The clocks of videos as a store keeps them: the steps from frame to frame in few bytes.

A file of variable rate has a step for each of its frames. Steps are alike, so their differences are
small: each is kept in as many bytes as it needs, of seven bits, nearly always in one. That is a
quarter of what whole numbers take, and the same on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec.structs import asdict

from mmdata.errors import StoreError
from mmdata.schema import CompactTimes

__all__ = ["clock_of", "clock_row"]

_BITS: Final = 7  # of a number in each byte; the eighth says that more follow
_MORE: Final = 1 << _BITS
_MOST_BYTES: Final = 5  # a difference of two steps of 31 bits has 33 with its sign


def clock_row(clock: CompactTimes) -> dict[str, Any]:
    """Return a clock as a value of the store's column."""
    row = asdict(clock)
    if clock.deltas is None:
        return {**row, "packed": None}
    return {**row, "deltas": None, "packed": _pack(clock.deltas)}


def clock_of(row: Mapping[str, Any]) -> CompactTimes:
    """Return the clock that a value of the store's column is; of earlier versions, which kept whole
    numbers, too.

    Raises:
        StoreError: the bytes are cut.
    """
    fields = dict(row)
    packed = fields.pop("packed", None)
    deltas = fields.pop("deltas", None)
    if packed is not None:
        deltas = _unpack(packed)
    return CompactTimes(**fields, deltas=None if deltas is None else tuple(deltas))


def _pack(deltas: Sequence[int]) -> bytes:
    import numpy as np

    changes = np.diff(np.array(deltas, np.int64), prepend=0)  # (deltas,)
    # Small ones of either sign become small ones without: 0, -1, 1, -2 ... are 0, 1, 2, 3 ...
    numbers = ((changes << 1) ^ (changes >> 63)).astype(np.uint64)
    groups = [numbers >> np.uint64(_BITS * place) for place in range(_MOST_BYTES)]
    lengths = 1 + np.count_nonzero(groups[1:], axis=0)  # (deltas,) bytes
    starts = np.cumsum(lengths) - lengths
    data = np.zeros(int(lengths.sum()), np.uint8)
    for place, group in enumerate(groups):
        there = lengths > place
        more = np.where(lengths[there] > place + 1, _MORE, 0)
        data[starts[there] + place] = (group[there] % _MORE).astype(np.int64) | more
    return data.tobytes()


def _unpack(data: bytes) -> list[int]:
    import numpy as np

    if not data:
        return []
    groups = np.frombuffer(data, np.uint8)
    is_last = groups < _MORE
    if not is_last[-1]:
        raise StoreError("the clock of a video is cut")
    starts = np.flatnonzero(np.concatenate([[True], is_last[:-1]]))
    lengths = np.diff(starts, append=len(groups))
    place = np.arange(len(groups)) - np.repeat(starts, lengths)  # of each byte in its number
    numbers = np.add.reduceat((groups % _MORE).astype(np.int64) << (_BITS * place), starts)
    changes = (numbers >> 1) ^ -(numbers & 1)
    found: list[int] = np.cumsum(changes).tolist()
    return found
