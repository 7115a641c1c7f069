"""A remote file that is read as a local one is: in pieces, from any place, some of it ahead."""

from __future__ import annotations

import io
import os
import tempfile
import weakref
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

__all__ = ["HoledFile", "RemoteFile", "Spool"]

_BLOCK: Final = 1 << 15
_MOST_AHEAD: Final = 4 << 20
_HELD: Final = 32 << 20


class Spool:
    """What was fetched of a file, on the disk of this machine: in a file without a name, which is
    gone with the last process that holds it. At most ``most`` bytes are kept.
    """

    def __init__(self, most: int) -> None:
        with tempfile.TemporaryFile() as file:
            self._file = os.dup(file.fileno())
        # Whoever reads a store does not close it: its last reference does.
        self._closer = weakref.finalize(self, os.close, self._file)
        self._sizes: dict[int, int] = {}
        self._left = most

    def read(self, number: int) -> bytes | None:
        """Return a block, or None where it was not kept."""
        size = self._sizes.get(number)
        return None if size is None else os.pread(self._file, size, number * _BLOCK)

    def write(self, number: int, block: bytes) -> None:
        """Keep a block, if there is room for it."""
        if number in self._sizes or len(block) > self._left:
            return
        try:
            # At its own place: processes that were forked write the same bytes there.
            os.pwrite(self._file, block, number * _BLOCK)
        except OSError:  # no room on the disk: what is not kept is fetched again
            self._left = 0
            return
        self._sizes[number] = len(block)
        self._left -= len(block)

    def close(self) -> None:
        """Let go of it."""
        self._closer()


class _SeekableFile(io.RawIOBase):
    """A file that is read from any place and whose size is known."""

    name: str
    _position = 0

    def size(self) -> int:
        """Return how many bytes it has."""
        raise NotImplementedError

    def readable(self) -> bool:
        """Return that it can be read."""
        return True

    def seekable(self) -> bool:
        """Return that it can be read from any place."""
        return True

    def tell(self) -> int:
        """Return the place that is read next."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place, and return it."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size()}[whence]
        if base + offset < 0:
            raise ValueError(f"{self.name}: no place before the file: {base + offset}")
        self._position = base + offset
        return self._position


class RemoteFile(_SeekableFile):
    """A file of ``size`` bytes of which ``read_range(start, size)`` gives a stretch.

    Blocks that were read are held, the latest 32 MiB of them. Whoever reads on and on is given more
    at a time, half as much as was read without a jump, up to 4 MiB; so that no more than a third of
    what is fetched is for nothing.
    """

    def __init__(
        self,
        read_range: Callable[[int, int], bytes],
        size: int,
        name: str,
        *,
        spool: Spool | None = None,
    ) -> None:
        self._read_range = read_range
        self._spool = spool
        self._size = size
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._run_start = self._run_end = 0
        self.name = name

    def size(self) -> int:
        """Return how many bytes it has."""
        return self._size

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer until it is full or the file ends; return how many bytes it took."""
        view = memoryview(buffer).cast("B")
        wanted = max(0, min(len(view), self._size - self._position))
        done = 0
        while done < wanted:
            number, offset = divmod(self._position, _BLOCK)
            block = self._block(number, self._position + wanted - done)
            piece = block[offset : offset + wanted - done]
            view[done : done + len(piece)] = piece
            done += len(piece)
            self._position += len(piece)
        return done

    def readall(self) -> bytes:
        """Return what follows, in one request."""
        if self.closed:
            raise ValueError(f"{self.name}: the file is closed")
        rest = max(0, self._size - self._position)
        if self._spool is not None:
            kept = bytearray(rest)
            self.readinto(kept)  # in one request too, of what is not there
            return bytes(kept)
        data = self._read_range(self._position, rest) if rest else b""
        self._position += len(data)
        return data

    def close(self) -> None:
        """Close it, and let go of what was kept."""
        self._spool = None  # which is closed with whoever holds it last
        super().close()

    def read1(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes."""
        return self.read(size) or b""

    def _block(self, number: int, stop: int) -> bytes:
        """Return a block; where it is not held, it is fetched with those after it, to ``stop`` at
        least.
        """
        if (held := self._blocks.get(number)) is not None:
            self._blocks.move_to_end(number)
            return held
        if self._spool is not None and (kept := self._spool.read(number)) is not None:
            return kept

        start = number * _BLOCK
        # A fetch that begins where the last one ended, or within it, goes on with the same run.
        if not self._run_start <= start <= self._run_end:
            self._run_start = start
        ahead = min(_MOST_AHEAD, max(0, start - self._run_start) // 2)
        last = -(-max(stop, start + ahead, start + 1) // _BLOCK)
        # What follows and is held is not fetched again.
        last = next((n for n in range(number + 1, last) if n in self._blocks), last)
        end = min(last * _BLOCK, self._size)
        data = self._read_range(start, end - start)
        self._run_end = end
        for place in range(0, len(data), _BLOCK):
            block = data[place : place + _BLOCK]
            self._blocks[number + place // _BLOCK] = block
            if self._spool is not None:
                self._spool.write(number + place // _BLOCK, block)
        first = self._blocks[number]
        while len(self._blocks) > max(_HELD // _BLOCK, 1):
            self._blocks.popitem(last=False)
        return first


class HoledFile(_SeekableFile):
    """A remote file whose ``holes``, in order, read as zeros and are not fetched."""

    def __init__(self, file: RemoteFile, holes: Sequence[range]) -> None:
        self._file = file
        self._holes = holes
        self._starts = [hole.start for hole in holes]
        self.name = file.name

    def size(self) -> int:
        """Return how many bytes it has, holes and all."""
        return self._file.size()

    def read(self, size: int = -1) -> bytes:
        """Return up to ``size`` bytes: as far as a hole goes, or to the next."""
        rest = max(0, self.size() - self._position)
        wanted = rest if size < 0 else min(size, rest)
        number = bisect_right(self._starts, self._position)
        if number and self._position in self._holes[number - 1]:
            data = bytes(min(wanted, self._holes[number - 1].stop - self._position))
        else:
            stop = self._starts[number] if number < len(self._starts) else self.size()
            self._file.seek(self._position)
            data = self._file.read(min(wanted, stop - self._position)) or b""
        self._position += len(data)
        return data
