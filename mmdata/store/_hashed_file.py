"""A file that is hashed while it is written, so that nobody has to read it for its hash."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from mmdata.store.publish import reserve

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["HashedFile"]

_CHUNK: Final = 1 << 19
"""So many bytes are still in the processor's cache when they are written after they were hashed."""


class HashedFile:
    """A new file at ``path``, written from its beginning to its end; it has what
    :class:`pyarrow.PythonFile` asks of a file.
    """

    def __init__(self, path: Path) -> None:
        import xxhash

        self._file = path.open("wb")
        self._digest = xxhash.xxh3_64()

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._file.closed

    def write(self, data: bytes | pa.Buffer) -> int:
        """Add bytes; return how many they are."""
        whole = memoryview(data).cast("B")
        if len(whole) > _CHUNK:
            reserve(self._file.fileno(), self._file.tell(), len(whole))

        for start in range(0, len(whole), _CHUNK):
            chunk = whole[start : start + _CHUNK]
            self._digest.update(chunk)
            self._file.write(chunk)

        return len(whole)

    def tell(self) -> int:
        """Return how many bytes have been written."""
        return self._file.tell()

    def flush(self) -> None:
        """Hand all bytes to the system."""
        self._file.flush()

    def close(self) -> None:
        """Close it."""
        self._file.close()

    def hexdigest(self) -> str:
        """Return the xxh3 of what has been written, as :func:`mmdata.store.manifest.hash_file`
        does.
        """
        return self._digest.hexdigest()
