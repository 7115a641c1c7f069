"""Annotations of objects whose text is kept as it stands in the file, blanks aside.

An outline is a long list of numbers. To read them all, only to write them again, takes most of the
time that such a file takes; and of nearly every file the text that comes out is the text that went
in. So a run of annotations is looked at here: where it is certain that reading and writing would
change nothing but the blanks, the few fields that are asked for are read from it, and the rest is
stepped over. Any doubt leaves the run to :func:`mmdata.sources._run.read_strictly`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, overload

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from mmdata.sources._run import has_strings
from mmdata.store.encode import encode_json_lines

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Instance", "Instances", "read_instances"]

_LONGEST: Final = 16
"""Characters of a number that is the shortest spelling of its value whatever its digits are, zeros
at its end aside: with a point it has 15 digits, and float64 tells any two of such apart.
"""
_DEEPEST: Final = 16
"""Brackets that may be open at once; what is nested deeper than can be read must be found so."""

_ZERO_AT_END: Final = re.compile(rb"\.[0-9]+0\Z")
_MINUS, _NINE, _POINT, _ZERO, _E, _OPEN, _CLOSE, _BRACE, _NEWLINE = b"-9.0e[]{\n"
_LOWER: Final = 0x20  # the bit that makes a lower letter of an upper one


class Instance(Struct, frozen=True, gc=False):
    """What of an annotation is asked for; the others of its fields are stepped over."""

    image_id: int
    category_id: int
    bbox: tuple[float, float, float, float]
    id: Raw
    segmentation: Raw
    area: Raw
    iscrowd: int | UnsetType = UNSET  # LVIS has none


class Instances(Sequence[Any]):
    """Annotations as lines of JSON text, and what was ``found`` in each of them. Each is read as a
    whole only where somebody asks for it.
    """

    __slots__ = ("found", "lines")

    def __init__(self, found: list[Instance], lines: bytes) -> None:
        self.found = found
        self.lines = lines

    def __len__(self) -> int:
        return len(self.found)

    @overload
    def __getitem__(self, number: int) -> Any: ...

    @overload
    def __getitem__(self, number: slice) -> list[Any]: ...

    def __getitem__(self, number: int | slice) -> Any:
        """Return an annotation, or some, as JSON has them."""
        if number == -1:  # every reader asks for it, of each run
            return _read(self.lines[self.lines.rfind(b"\n", 0, -1) + 1 :])
        found = self.lines.splitlines()[number]
        return _read(found) if isinstance(found, bytes) else list(map(_read, found))

    def __iter__(self) -> Iterator[Any]:
        """Yield the annotations as JSON has them."""
        return map(_read, self.lines.splitlines())


_read: Final = msgspec.json.Decoder().decode
_decode: Final = msgspec.json.Decoder(list[Instance]).decode


def read_instances(data: bytes, in_array: bool) -> Sequence[Any]:
    """Return the annotations that JSON text holds; none of them where one has other fields than
    COCO's instances have, or a text that would not be written as it stands.
    """
    import numpy as np

    if not in_array or b"\\" in data:
        return []
    try:
        found = _decode(b"[%b]" % data)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return []

    # With as many strings as fields there is no key twice, no other key and no string but the keys:
    # no blank outside of them means anything, and none is within them.
    num_flags = len(found) - [one.iscrowd for one in found].count(UNSET)
    if not has_strings(data, 6 * len(found) + num_flags):
        return []
    text = data.translate(None, b" \t\r\n")
    starts = np.flatnonzero(np.frombuffer(text, np.uint8) == _BRACE)
    if len(starts) != len(found) or not _is_canonical(text):
        return []

    # A comma stands before each annotation but the first. Written over by place: to search for
    # all three characters takes four times as long.
    lines = np.frombuffer(bytearray(text + b"\n"), np.uint8)
    lines[starts[1:] - 1] = _NEWLINE
    return Instances(found, lines.tobytes())


def _is_canonical(text: bytes) -> bool:
    """Return whether a JSON text without blanks, whose strings hold letters and ``_`` alone, is
    certain to be what :func:`encode_json_lines` makes of what it says.
    """
    import numpy as np

    if b"0.0000" in text:
        return False
    spelled = np.frombuffer(text, np.uint8)
    is_minus_zero = (spelled[:-2] == _MINUS) & (spelled[1:-1] == _ZERO)
    if np.any(is_minus_zero & (spelled[2:] != _POINT)):  # -0, which is read as 0
        return False
    is_number = spelled - np.uint8(_MINUS) <= _NINE - _MINUS  # a sign, a point or a digit
    if np.any(is_number[:-1] & ((spelled[1:] | _LOWER) == _E)):  # an exponent
        return False

    brackets = spelled[np.flatnonzero((spelled == _OPEN) | (spelled == _CLOSE))]
    if np.any(np.cumsum(np.where(brackets == _OPEN, 1, -1)) > _DEEPEST):
        return False

    # A fraction must not end in 0, unless that is all of it: 1.0. Of a number that is longer than
    # what is looked at here, more is looked at below.
    is_end = is_number[1:-1] & ~is_number[2:]
    ends_in_zero = is_end & (spelled[1:-1] == _ZERO) & is_number[:-2] & (spelled[:-2] != _POINT)
    for place in np.flatnonzero(ends_in_zero).tolist():
        end = place + 2
        if _ZERO_AT_END.search(text, max(end - _LONGEST, 0), end):
            return False

    numbers = b"[%b]\n" % b",".join(_long_numbers(text, is_number))
    try:
        return encode_json_lines([_read(numbers)]) == numbers
    except (msgspec.MsgspecError, OverflowError):
        return False


def _long_numbers(text: bytes, is_number: NDArray[np.bool_]) -> list[bytes]:
    """Return the numbers of a text that have more characters than :data:`_LONGEST`."""
    import numpy as np

    # Whether the next 2, 4, 8, 16 characters are all of numbers, and the one behind them.
    begins, reach = is_number, 1
    while reach < _LONGEST:
        begins = begins[:-reach] & begins[reach:]
        reach *= 2
    places = np.flatnonzero(begins[:-1] & is_number[reach:])

    is_next = np.diff(places) == 1
    starts = places[np.append(True, ~is_next)[: len(places)]].tolist()
    ends = (places[np.append(~is_next, True)[: len(places)]] + _LONGEST + 1).tolist()
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]
