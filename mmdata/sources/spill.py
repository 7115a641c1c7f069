"""A list of JSON values that lives in a temporary file, so that it may be longer than the memory."""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from typing import Any

__all__ = ["Spill"]


class Spill:
    """Values by number. They are appended first and read, in any order, after the last one is there."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="mmdata-")  # noqa: SIM115 - closed by this object's own exit
        self._ends = array("Q", [0])

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def append(self, value: Any) -> int:
        """Store a value; return its number."""
        self._ends.append(self._ends[-1] + self._file.write(json.dumps(value).encode()))
        return len(self) - 1

    def __getitem__(self, number: int) -> Any:
        self._file.flush()
        start, end = self._ends[number : number + 2]
        return json.loads(os.pread(self._file.fileno(), end - start, start))
