"""Lines of JSON that live in a temporary file, so that they may be more than the memory holds."""

from __future__ import annotations

import mmap
import tempfile
from array import array
from collections.abc import Sequence
from typing import Any, Final

from mmdata.sources._run import Spelled
from mmdata.store.encode import encode_json_lines

__all__ = ["Spill"]

_NEWLINE: Final = ord("\n")


class Spill:
    """Values by number, as JSON text. They are appended first and read, in any order, after the
    last one is there.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix="mmdata-")  # noqa: SIM115 - closed by this object's own exit
        self._ends = array("q", [0])
        self._map: mmap.mmap | None = None

    def __enter__(self) -> Spill:
        return self

    def __exit__(self, *_: object) -> None:
        if self._map is not None:
            self._map.close()
        self._file.close()

    def __len__(self) -> int:
        return len(self._ends) - 1

    def extend(self, values: Sequence[Any]) -> int:
        """Store values that were read from JSON; return the number of the first.

        Raises:
            RecursionError: one of them is nested deeper than can be written; none is stored.
        """
        written = values.lines if isinstance(values, Spelled) else b""
        return self.extend_lines(encode_json_lines(values, written))

    def extend_lines(self, lines: bytes) -> int:
        """Store lines that are written already, as :func:`encode_json_lines` writes them; return
        the number of the first.
        """
        import numpy as np

        first = len(self)
        self._file.write(lines)

        # JSON text has no line break of its own, so that each one is the end of a value.
        breaks = np.flatnonzero(np.frombuffer(lines, np.uint8) == _NEWLINE) + 1
        self._ends.frombytes((breaks + self._ends[-1]).astype(np.int64).tobytes())
        return first

    def texts(self, numbers: Sequence[int]) -> list[bytes]:
        """Return the values with these numbers, as JSON text."""
        if not numbers:
            return []
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        import numpy as np

        data, ends, places = self._map, np.frombuffer(self._ends, np.int64), np.array(numbers)
        bounds = zip(ends[places].tolist(), (ends[places + 1] - 1).tolist(), strict=True)
        return [data[start:end] for start, end in bounds]
