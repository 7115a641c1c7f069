"""The clocks of videos as a store keeps them: the steps from frame to frame in few bits.

A file of variable rate has a step for each of its frames, and steps are alike. What is kept of each
is how far it is from the usual one, or from the one before, whichever is less to write, in the
common measure of all. Such differences are small and small ones frequent, which a Golomb-Rice code
writes in few bits: of jitter about a fifth of what whole numbers take. The bytes are the same on
every machine, as those of a compressor would not be.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from msgspec.structs import asdict

from mmdata.errors import StoreError
from mmdata.schema import CompactTimes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Steps: TypeAlias = NDArray[np.int64]  # (numbers,)

__all__ = ["clock_of", "clock_row"]

_LONGEST: Final = 15  # ones in front of a number; what needs more stands behind, as a whole
_WHOLE: Final = "<u8"
_FEW: Final = 64  # keyframes of a clip whose bytes are kept for the next that has the same
_MOST: Final = 1 << 27  # numbers; a count above it is damage, and no room is made for it


def clock_row(clock: CompactTimes) -> dict[str, Any]:
    """Return a clock as a value of the store's column."""
    import numpy as np

    row = asdict(clock) | {"deltas": None, "packed": None}
    if clock.deltas is not None:
        row["packed"] = _pack(np.array(clock.deltas, np.int64))
    if clock.keyframes is not None:
        keyframes = clock.keyframes
        pack = _pack_few if len(keyframes) <= _FEW else _pack_places
        row["keyframes"] = pack(tuple(keyframes))
    return row


def clock_of(row: Mapping[str, Any]) -> CompactTimes:
    """Return the clock that a value of the store's column is; of earlier versions, which kept whole
    numbers, too.

    Raises:
        StoreError: the bytes are cut.
    """
    fields = dict(row)
    packed, keyframes = fields.pop("packed", None), fields.pop("keyframes", None)
    deltas = fields.pop("deltas", None)
    if packed is not None:
        deltas = _unpack(packed).tolist()
    if isinstance(keyframes, bytes):
        keyframes = _unpack(keyframes).cumsum().tolist()
    return CompactTimes(
        **fields,
        deltas=None if deltas is None else tuple(deltas),
        keyframes=None if keyframes is None else tuple(keyframes),
    )


@lru_cache(maxsize=4096)
def _pack_few(places: tuple[int, ...]) -> bytes:
    # Short clips are alike: most begin with their one keyframe, or have one each second.
    return _pack_places(places)


def _pack_places(places: tuple[int, ...]) -> bytes:
    """Return ascending numbers in few bytes."""
    import numpy as np

    return _pack(np.diff(np.array(places, np.int64), prepend=0))


def _pack(steps: Steps) -> bytes:
    """Return whole numbers whose neighbours are alike in few bytes."""
    import numpy as np

    common = int(np.gcd.reduce(steps)) or 1
    steps = steps // common
    usual = int(np.sort(steps)[len(steps) // 2]) if len(steps) else 0
    ways = [_write(steps - usual), _write(np.diff(steps, prepend=0))]
    way = int(len(ways[1]) < len(ways[0]))
    return _varint(len(steps)) + _varint(common) + _varint(usual) + bytes([way]) + ways[way]


def _unpack(data: bytes) -> Steps:
    import numpy as np

    try:
        count, data = _read_varint(data)
        common, data = _read_varint(data)
        usual, data = _read_varint(data)
        way, data = data[0], data[1:]
        if count > _MOST:
            raise ValueError(f"{count} numbers")
        differences = _read(data, count)
    except (IndexError, ValueError) as error:  # of bytes that are not there
        raise StoreError("the clock of a video is cut") from error
    steps: Steps = np.cumsum(differences) if way else differences + usual
    return steps * common


def _write(differences: Steps) -> bytes:
    """Return a Golomb-Rice code: of each number the quotient by a power of two as so many ones and
    a zero, then of each the rest, then whole those whose quotients are long.
    """
    import numpy as np

    # Small ones of either sign become small ones without: 0, -1, 1, -2 ... are 0, 1, 2, 3 ...
    numbers = (differences << 1) ^ (differences >> 63)
    numbers = np.trim_zeros(numbers, "b")  # what the count tells
    if not len(numbers):
        return _varint(0)

    # Near the middle of them, which a few long ones do not move, or near their mean.
    middle = np.sort(numbers)[len(numbers) // 2]
    middles = int(middle).bit_length(), int(numbers.mean()).bit_length()
    widths = {max(middle - less, 0) for middle in middles for less in (0, 1, 2)}
    width = min(sorted(widths), key=lambda width: _bits(numbers, width))

    quotients = (numbers >> width).clip(max=_LONGEST)
    ends = np.cumsum(quotients + 1) - 1
    ones = np.ones(int(ends[-1]) + 1, np.uint8)
    ones[ends] = 0
    rests = (numbers[:, None] >> np.arange(width)) & 1  # (numbers, width), lowest bit first
    bits = np.packbits(np.concatenate([ones, rests.ravel().astype(np.uint8)]))
    whole = numbers[quotients == _LONGEST].astype(_WHOLE)
    return b"".join([_varint(len(numbers)), bytes([width]), bits.tobytes(), whole.tobytes()])


def _bits(numbers: Steps, width: int) -> int:
    quotients = numbers >> width
    whole = 64 * int((quotients >= _LONGEST).sum())
    return int(quotients.clip(max=_LONGEST).sum()) + len(numbers) * (1 + width) + whole


def _read(data: bytes, count: int) -> Steps:
    """Return the (count,) numbers of a code.

    Raises:
        ValueError: there is less, or more, than it should be.
    """
    import numpy as np

    differences = np.zeros(count, np.int64)
    length, data = _read_varint(data)
    if length > count:
        raise ValueError(f"{length} numbers of {count}")
    if not length:
        return differences

    width, data = data[0], data[1:]
    bits = np.unpackbits(np.frombuffer(data, np.uint8))
    ends = np.flatnonzero(bits == 0)[:length]
    quotients = np.diff(ends, prepend=-1) - 1
    start = int(ends[-1]) + 1
    stop = start + length * width
    is_whole = quotients == _LONGEST
    whole = np.frombuffer(data[-(-stop // 8) :], _WHOLE)
    if len(ends) < length or len(whole) != is_whole.sum():
        raise ValueError("bits are missing")

    rests = bits[start:stop].reshape(length, width).astype(np.int64) @ (1 << np.arange(width))
    numbers = (quotients << width) + rests
    numbers[is_whole] = whole
    differences[:length] = (numbers >> 1) ^ -(numbers & 1)
    return differences


def _varint(number: int) -> bytes:
    """Return a whole number in as many bytes as it needs, of seven bits, the lowest first."""
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def _read_varint(data: bytes) -> tuple[int, bytes]:
    """Return a number and the bytes behind it.

    Raises:
        ValueError: it has no end.
    """
    length = next((place for place, byte in enumerate(data[:10], 1) if byte < 128), 0)
    if not length:
        raise ValueError("a number does not end")
    number = sum((byte & 127) << 7 * place for place, byte in enumerate(data[:length]))
    return number, data[length:]
