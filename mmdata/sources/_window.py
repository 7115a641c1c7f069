"""A window that slides over the text of a file: plain, gzip or Zstandard, read once, front to back.

What the file is shows in its first bytes, never in its name. Bytes that are not UTF-8 arrive as
lone surrogates (``surrogateescape``), so that they cost the record that holds them and not the
file.
"""

from __future__ import annotations

import codecs
import gzip
import zlib
from io import BufferedReader
from pathlib import Path
from typing import Final

from mmdata.sources._sniff import HEAD, binary_kind
from mmdata.sources._zstandard import ZstandardFile
from mmdata.sources.parts import WHOLE, TextPart
from mmdata.storage._path import RemotePath

__all__ = ["Window", "head_of", "is_packed", "suspicious"]

_CHUNK: Final = 1 << 18
_GZIP: Final = b"\x1f\x8b"
_ZSTANDARD: Final = b"\x28\xb5\x2f\xfd"
_NEWLINE: Final = ord("\n")
_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"\x00\x00\xfe\xff")


class Window:
    """The text of a file from some place on.

    ``text`` is what is held, ``ended`` whether nothing follows it, and ``fault`` why the file could
    not be read to its end, or an empty string. It reads ``chunk`` bytes at a time, more where more
    is held.

    A window on a ``part`` of a plain file begins where that does, and slides on beyond its end:
    what stands there may tell what is wrong with the last record before it.
    """

    def __init__(self, file: Path, *, chunk: int = _CHUNK, part: TextPart = WHOLE) -> None:
        self._chunk = chunk
        self.text = ""
        self.ended = False
        self.fault = ""
        self._characters = part.characters
        self._lines = part.lines  # that end in what has been read
        self._stop = part.stop
        self._stop_character: int | None = None  # that of the file at which the part ends
        self._place = part.start  # of the next byte
        self._file = file
        self._bytes = _open(file)
        self._size: int | None = None  # asked for where somebody wants to know shares
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        if part.start:
            self._bytes.seek(part.start)
            self.slide(0)
        else:
            self._sniff()

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        self._bytes.close()

    def slide(self, start: int) -> None:
        """Drop the text before ``start`` and read on:
        one chunk, or as much as is held where that is more.
        """
        self._characters += start
        kept = self.text[start:]
        # A record longer than the window is copied anew at each slide. As much again as is held
        # doubles the window, so that all copies together cost no more than twice the record.
        self.text = kept + self._decode(self._read(max(self._chunk, len(kept))), len(kept))

    @property
    def limit(self) -> int | None:
        """The position of ``text`` at which the part ends, which may be before it; None where that
        has not been read, or the part ends with the file.
        """
        return None if self._stop_character is None else self._stop_character - self._characters

    def where(self, position: int) -> str:
        """Return the place of a position of ``text`` in the file, for people."""
        line = self._lines - self.text.count("\n", position) + 1
        return f"line {line}, character {self._characters + position}"

    def share_before(self, position: int) -> float:
        """Return about which share of the file comes before a position of ``text``; of a packed
        file, of its packed bytes.
        """
        before, known = self._characters + position, self._characters + len(self.text)
        if not known:
            return 0.0
        if self._size is None:
            self._size = self._file.stat().st_size
        # Characters are taken to have as many bytes as they have had on average so far.
        return min(1.0, _place_in_file(self._bytes) / max(1, self._size)) * before / known

    def _sniff(self) -> None:
        head = self._read(max(self._chunk, 4))
        if kind := binary_kind(head):
            self.fault, self.ended = f"the file is {kind}", True
            return
        if head.startswith(_WIDE) or b"\x00\x00" in (head[0:4:2], head[1:4:2]):
            self.fault, self.ended = "the file is UTF-16 or UTF-32; write it as UTF-8", True
            return
        if head.startswith(codecs.BOM_UTF8):
            self._place = len(codecs.BOM_UTF8)
        self.text = self._decode(head[self._place :], 0)

    def _read(self, size: int) -> bytes:
        """Return ``size`` bytes, fewer before the end of the file or a fault."""
        parts: list[bytes] = []
        while size > 0 and not self.ended:
            try:
                data = self._bytes.read1(size)
            except (EOFError, OSError, zlib.error) as error:
                self.fault, data = f"the file cannot be read to its end: {error}", b""
            self.ended = not data
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def _decode(self, data: bytes, held: int) -> str:
        """Return the text of the next bytes, which comes behind so many characters that are
        held.
        """
        import numpy as np

        # numpy compares many bytes at once: five times faster than `data.count`.
        self._lines += int(np.count_nonzero(np.frombuffer(data, np.uint8) == _NEWLINE))
        start, self._place = self._place, self._place + len(data)
        if self._stop is None or not start < self._stop <= self._place:
            return self._decoder.decode(data, final=self.ended)

        # Up to the end of the part by itself: only the decoder knows how many characters that is.
        inside = self._decoder.decode(data[: self._stop - start])
        self._stop_character = self._characters + held + len(inside)
        return inside + self._decoder.decode(data[self._stop - start :], final=self.ended)


def head_of(file: Path) -> bytes:
    """Return the first bytes of what is in a file, packed or not;
    none where they cannot be read.
    """
    opened = _open(file)
    try:
        return opened.read1(HEAD)
    except (EOFError, OSError, zlib.error):
        return b""
    finally:
        opened.close()


def is_packed(file: Path) -> bool:
    """Return whether a file is gzip or Zstandard, which can only be read from its start."""
    with file.open("rb") as plain:
        return plain.read(4).startswith((_GZIP, _ZSTANDARD))


def suspicious(text: str) -> bool:
    """Return whether ``text`` may hold a NUL or a lone surrogate,
    raw or as a JSON escape; paired ones count too.
    """
    if _may_hold_escapes(text) and ("\\u0000" in text or "\\ud" in text or "\\uD" in text):
        return True
    return not _encodable(text)


def _may_hold_escapes(text: str) -> bool:
    r"""Return False only if ``text`` holds no ``\u``:
    a search for one character is many times faster than for two.
    """
    position = text.find("\\")
    # Where every 64th character is a backslash, going from one to the next costs more than the
    # searches that it would spare.
    for _ in range(len(text) // 64):
        if position < 0:
            return False
        if text.startswith("u", position + 1):
            return True
        position = text.find("\\", position + 2)
    return True


def _encodable(text: str) -> bool:
    if text.isascii():  # a string knows that of itself: nothing is read
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _open(file: Path) -> BufferedReader | gzip.GzipFile | ZstandardFile:
    with file.open("rb") as plain:
        magic = plain.read(4)
    if magic.startswith(_GZIP):
        return gzip.open(file.open("rb") if isinstance(file, RemotePath) else file)
    return ZstandardFile(file) if magic == _ZSTANDARD else file.open("rb")


def _place_in_file(opened: BufferedReader | gzip.GzipFile | ZstandardFile) -> int:
    """Return how many bytes of a file were read, those that are packed if it is."""
    if isinstance(opened, gzip.GzipFile):
        packed: BufferedReader = opened.fileobj  # type: ignore[assignment]
        return packed.tell()
    return opened.tell()
