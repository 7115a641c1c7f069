"""A list of JSON values that lives in a temporary file, so that it may be longer than the
memory.
"""

from __future__ import annotations

import json
import mmap
import tempfile
from array import array
from typing import Any, Final

import msgspec

__all__ = ["Spill"]

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class Spill:
    """Values by number. They are appended first and read, in any order, after the last one is
    there.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="mmdata-")  # noqa: SIM115 - closed by this object's own exit
        self._ends = array("Q", [0])
        self._map: mmap.mmap | None = None

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        if self._map is not None:
            self._map.close()
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, value: Any) -> int:
        """Store a value; return its number."""
        self._ends.append(self._ends[-1] + self._file.write(_to_json(value)))
        return len(self) - 1

    def __getitem__(self, number: int) -> Any:
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        start, end = self._ends[number : number + 2]
        return _from_json(self._map[start:end])


def _to_json(value: Any) -> bytes:
    try:
        return _encode(value)
    except (OverflowError, msgspec.MsgspecError):  # an integer of more than 64 bits
        return json.dumps(value).encode()


def _from_json(data: bytes) -> Any:
    try:
        return _decode(data)
    except msgspec.DecodeError:
        return json.loads(data)
