"""A folder of this machine that keeps what was fetched of media, no more of it than a limit.

What is kept are blocks and not whole files: of a long clip training reads a few frames, and the
next epoch the same; of a picture all blocks are fetched, which keeps it whole. An entry is one
sparse file for each content of each URL, in which each block is at its place behind a table of
their hashes. So any number of processes may read and write an entry without a lock: they write the
same bytes to the same places, and a block counts once its hash is in the table and is that of its
bytes. A process that is killed leaves a block without a hash, or none.

The one lock is held while blocks are written, so that all processes together keep to the limit.
Whoever has no room left removes the entries that were opened longest ago.
"""

from __future__ import annotations

import hashlib
import logging
import os
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final, NamedTuple

from msgspec import Meta

from mmdata._tools.limits import parse_bytes
from mmdata._tools.options import check_fields, checked
from mmdata._tools.paths import local_path
from mmdata._tools.requirements import load_posix

__all__ = ["CacheEntry", "KnownContent", "MediaCache", "media_cache"]

_log: Final = logging.getLogger("mmdata.storage")

_BLOCK: Final = 1 << 15
_PAGE: Final = 1 << 12  # what file systems give a file at a time
_HASH: Final = 8  # bytes of one in the table; all of them zero where there is no block
_ABSENT: Final = bytes(_HASH)
_USED: Final = "used"
"""The file in which the bytes of all entries are counted, and which is locked."""
_DIGITS: Final = 20
_FOLDER: Final = re.compile("[0-9a-f]{2}")
_ENTRY: Final = re.compile("[0-9a-f]{30}")
_KEPT_SHARE: Final = 0.9
"""Of the limit, what stays where something has to go: going through all entries takes a while."""


class KnownContent(NamedTuple):
    """What a store knows of a medium's file: its bytes, and the hash of its content."""

    size: int
    hash: str


@dataclass(frozen=True, slots=True)
class MediaCache:
    """A ``folder`` that keeps what was fetched of media behind URLs, ``max_bytes`` of it at most;
    what was read longest ago goes first.

    Any number of processes of this machine may use one folder at a time.

    >>> MediaCache(Path("/scratch/media"), 1 << 40).max_bytes
    1099511627776
    """

    folder: Path
    max_bytes: Annotated[int, Meta(ge=1 << 20)] = 64 << 30

    def __post_init__(self) -> None:
        """Check the options."""
        check_fields(self)
        # Its users may be in other folders, or come to be.
        object.__setattr__(self, "folder", self.folder.expanduser().absolute())

    def open(self, url: str, version: str, size: int) -> CacheEntry | None:
        """Return the entry of a content of a URL, as large as it is; None where the folder cannot
        be written to, which is said once.
        """
        path = self._path_of(url, version, size)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return CacheEntry(self, path, url, size)
        except OSError as error:
            _say_once(f"nothing is kept in the media cache {self.folder}: {error}")
            return None

    def version_of(self, url: str, known: KnownContent) -> str | None:
        """Return the version of a URL that was noted for a content of which size and hash are
        known; None where none was.
        """
        path = self._path_of(url, known.hash, known.size)
        try:
            noted = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        digest, version = noted[:_HASH], noted[_HASH:]
        return version.decode() if version and digest == _hash(version) else None

    def note_version(self, url: str, known: KnownContent, version: str) -> None:
        """Note which version of a URL has a content of which size and hash are known."""
        path = self._path_of(url, known.hash, known.size)

        def write() -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Two that note the same at once write the same; one that was cut has another hash.
            path.write_bytes(_hash(version.encode()) + version.encode())

        try:
            self.keep(_PAGE, write)
        except OSError as error:
            _say_once(f"nothing more is kept in the media cache {self.folder}: {error}")

    def _path_of(self, url: str, version: str, size: int) -> Path:
        key = hashlib.blake2b(f"{url}\0{version}\0{size}".encode(), digest_size=16).hexdigest()
        return self.folder / key[:2] / key[2:]

    def keep(self, needed: int, write: Callable[[], object]) -> None:
        """Have something written that takes up to ``needed`` bytes, if there is room for it, for
        which old entries are removed.
        """
        fcntl = load_posix("fcntl", needed_by="a media cache")
        # Opened anew: the lock is of an opening, and keeps threads that share one not apart.
        descriptor = os.open(self.folder / _USED, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            said = os.pread(descriptor, _DIGITS, 0)
            used = int(said) if said.isdigit() else self._make_room(self.max_bytes)
            if used + needed > self.max_bytes:
                used = self._make_room(int(_KEPT_SHARE * self.max_bytes) - needed)
            if used + needed <= self.max_bytes:
                # Counted before it is written, and perhaps as too much: a file system may take
                # less, or more, and that later. What all take is counted when room is made.
                os.pwrite(descriptor, b"%0*d" % (_DIGITS, used + needed), 0)
                write()
            else:
                os.pwrite(descriptor, b"%0*d" % (_DIGITS, used), 0)
        finally:
            os.close(descriptor)

    def _make_room(self, most: int) -> int:
        """Remove entries, those that were opened longest ago first, until the rest takes ``most``
        bytes; return how many it takes.
        """
        entries = sorted(self._entries())
        total = sum(size for _, size, _ in entries)
        for _, size, path in entries:
            if total <= most:
                break
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108 - there may be millions
            total -= size
        return total

    def _entries(self) -> Iterator[tuple[int, int, str]]:
        """Yield when each entry was opened last, the bytes that it takes on the disk, and where it
        is; what others have put there is none.
        """
        folders = [path for path in self.folder.iterdir() if _FOLDER.fullmatch(path.name)]
        for folder in folders:
            with os.scandir(folder) as files:
                for file in files:
                    if _ENTRY.fullmatch(file.name) is None:
                        continue
                    found = file.stat(follow_symlinks=False)
                    # A sparse file takes less than its length; in units of 512 bytes, says POSIX.
                    yield found.st_mtime_ns, found.st_blocks * 512, file.path


class CacheEntry:
    """What is kept of one content: a table of the hashes of its blocks, and these."""

    def __init__(self, cache: MediaCache, path: Path, url: str, size: int) -> None:
        self._cache = cache
        self._path = path
        self._url = url
        self._size = size
        count = -(-size // _BLOCK)
        self._start = -(-count * _HASH // _PAGE) * _PAGE
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        # Whoever decodes does not always close what it reads from: the last reference does.
        self._closer = weakref.finalize(self, os.close, self._file)
        # Alike for all who open it: none need wait until another has made it.
        os.ftruncate(self._file, self._start + size)
        os.utime(self._file)

    def read(self, start: int, size: int, fetch: Callable[[int, int], bytes]) -> bytes:
        """Return a stretch of the content; what is not kept is fetched, in as few requests as
        there are gaps, and kept.
        """
        first, last = start // _BLOCK, -(-(start + size) // _BLOCK)
        blocks = {number: self._read_block(number) for number in range(first, last)}

        is_absent = groupby(blocks.items(), lambda item: item[1] is None)
        gaps = [[number for number, _ in run] for absent, run in is_absent if absent]
        for gap in gaps:
            begin, end = gap[0] * _BLOCK, min((gap[-1] + 1) * _BLOCK, self._size)
            data = fetch(begin, end - begin)
            found = [data[place : place + _BLOCK] for place in range(0, len(data), _BLOCK)]
            blocks.update(zip(gap, found, strict=True))
            self._write_blocks(gap[0], found)

        whole = b"".join(block or b"" for block in blocks.values())
        return whole[start - first * _BLOCK :][:size]

    def close(self) -> None:
        """Let go of it."""
        self._closer()

    def _read_block(self, number: int) -> bytes | None:
        """Return a block, or None where it is not kept; one that is damaged is said, and gone."""
        try:
            kept = os.pread(self._file, _HASH, number * _HASH)
            if kept == _ABSENT:
                return None
            size = min(_BLOCK, self._size - number * _BLOCK)
            block = os.pread(self._file, size, self._start + number * _BLOCK)
            if _hash(block) == kept:
                return block
            why = "its bytes are not those that were fetched"
            os.pwrite(self._file, _ABSENT, number * _HASH)
        except OSError as error:
            why = str(error)
        _log.warning(
            "%s: block %d is damaged in the media cache (%s: %s); it is fetched again",
            self._url,
            number,
            self._path,
            why,
        )
        return None

    def _write_blocks(self, first: int, blocks: Sequence[bytes]) -> None:
        """Keep blocks that follow one another, if there is room for them."""
        data = b"".join(blocks)
        table = b"".join(map(_hash, blocks))
        # Of the table it may be one page more than it fills, and one for where all of them are.
        pages = -(-len(data) // _PAGE) + -(-len(table) // _PAGE) + 2
        needed = pages * _PAGE

        def write() -> None:
            # What another has removed would take room that nobody counts.
            if os.fstat(self._file).st_nlink:
                os.pwrite(self._file, data, self._start + first * _BLOCK)
                os.pwrite(self._file, table, first * _HASH)

        try:
            self._cache.keep(needed, write)
        except OSError as error:  # no room on the disk: what is not kept is fetched again
            _say_once(f"nothing more is kept in the media cache {self._cache.folder}: {error}")


@checked
def media_cache(place: str | Path | MediaCache | None) -> MediaCache | None:
    """Return the cache of media that an option names: a folder, or as text a folder and its limit,
    as in ``/scratch/media:200G``.

    >>> media_cache("/scratch/media:200G").max_bytes >> 30
    200

    Raises:
        UsageError: the limit is below a mebibyte, or the folder is a URL.
    """
    if place is None or isinstance(place, MediaCache):
        return place
    if isinstance(place, Path):
        return MediaCache(local_path(place, "media cache"))
    folder, _, limit = place.rpartition(":")
    size = parse_bytes(limit)
    if not folder or size is None:
        return MediaCache(local_path(place, "media cache"))
    return MediaCache(local_path(folder, "media cache"), size)


def _hash(block: bytes) -> bytes:
    import xxhash

    return xxhash.xxh3_64_digest(block)


@lru_cache(maxsize=64)
def _say_once(what: str) -> None:
    _log.warning("%s", what)
