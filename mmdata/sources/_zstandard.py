"""Zstandard files, read to the very byte where they are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["ZstandardFile"]

_PIECE: Final = 1 << 14


class ZstandardFile:
    """The bytes of a Zstandard file of one or more frames;
    what is whole before a cut comes before the error.
    """

    def __init__(self, path: Path) -> None:
        import zstandard

        self._start_frame = zstandard.ZstdDecompressor().decompressobj
        self._frame = self._start_frame()
        self._error = zstandard.ZstdError
        self._file = path.open("rb")
        self._packed = self._ready = b""

    def read1(self, size: int) -> bytes:
        """Return at most ``size`` bytes, none at the end.

        Raises:
            EOFError: the last frame is cut.
            OSError: the bytes are not Zstandard's.
        """
        while not self._ready and (packed := self._packed or self._file.read(_PIECE)):
            if self._frame.eof:
                self._frame = self._start_frame()
            try:
                self._ready = self._frame.decompress(packed)
            except self._error as error:
                raise OSError(str(error)) from error
            self._packed = self._frame.unused_data

        if not self._ready and not self._frame.eof:
            raise EOFError("the last Zstandard frame is cut")

        data, self._ready = self._ready[:size], self._ready[size:]
        return data

    def seek(self, place: int) -> None:
        """Refuse: what is packed is read from its start.

        Raises:
            OSError: always.
        """
        raise OSError("a Zstandard file can be read from its start alone")

    def tell(self) -> int:
        """Return how many bytes of the file were read, packed as they are."""
        return self._file.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
