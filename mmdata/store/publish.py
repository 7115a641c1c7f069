"""Directories that appear whole or not at all.

A directory is filled beside its final name, under ``.<name>.partial``, synced to disk and moved
into place in one step. The partial directory is locked while somebody fills it; one that a killed
process left behind is nobody's, and the next writer of the same name takes it over.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

from mmdata._tools.requirements import load_posix
from mmdata.errors import StoreError
from mmdata.store.layout import partial_path

__all__ = [
    "NO_ROOM",
    "close_after",
    "hold_lock",
    "partial_directory",
    "publish",
    "remove",
    "reserve",
    "sync",
    "write_ahead",
]

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a write fails with that finds no room, whatever is written."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_SYNC_FILE_RANGE_WRITE = 2
_FALLOC_FL_KEEP_SIZE = 1


@contextmanager
def partial_directory(
    path: Path, *, keep: frozenset[str] = frozenset(), name: str = ""
) -> Iterator[Path]:
    """Hold the partial directory of ``path``,
    emptied but for the names in ``keep``, locked against other writers.

    ``name`` is how messages call ``path``, where it is to be called otherwise.

    It is the caller's to :func:`publish` or to remove; on leaving the block only the lock goes.

    Raises:
        StoreError: another process is writing to ``path`` now.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(path)
    lock = _lock(partial, name or path)
    try:
        for entry in partial.iterdir():
            if entry.name not in keep:
                remove(entry)
        yield partial
    except OSError as error:
        # A full disk is found by a write, which does not say to what.
        if error.errno in NO_ROOM and error.filename is None:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
        raise
    finally:
        os.close(lock)


@contextmanager
def hold_lock(folder: Path, on_wait: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock of a directory, made if need be, as soon as nobody else does;
    of a dead process, nobody does.

    ``on_wait`` is called before this waits for another.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder, folder, on_wait)
    try:
        yield
    finally:
        os.close(lock)


def publish(partial: Path, path: Path) -> None:
    """Move a finished partial directory to ``path``,
    in place of what was there, each step on disk before the next.
    """
    sync(partial)
    if not path.exists():
        partial.rename(path)
        sync(path.parent)
        return

    # The next writer must not take up the old directory while it is removed.
    replaced = _lock(path, path)

    try:
        _exchange(partial, path)
        sync(path.parent)
        remove(partial)
    finally:
        os.close(replaced)


def sync(path: Path) -> None:
    """Return when the file or directory at ``path`` is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def close_after(error: object, file: IO[Any]) -> None:
    """Close a file that was written; where an ``error`` is on its way, say no other: what is still
    to be written may not fit on a full disk, and that has been said.
    """
    try:
        file.close()
    except OSError:
        if error is None:
            raise


def reserve(descriptor: int, start: int, size: int) -> None:
    """Let the system find room on the disk for what is to be written next to an open file, where it
    can: at once it takes a third less of the time of writing than block by block.

    What there is no room for, the writing itself says.
    """
    libc = _libc()
    if hasattr(libc, "fallocate"):
        libc.fallocate(
            descriptor, _FALLOC_FL_KEEP_SIZE, ctypes.c_int64(start), ctypes.c_int64(size)
        )


def write_ahead(path: Path) -> None:
    """Let the system begin to write a file to disk, where it can,
    so that :func:`sync` has little to wait for.
    """
    libc = _libc()
    if not hasattr(libc, "sync_file_range"):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        libc.sync_file_range(
            descriptor, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE
        )
    finally:
        os.close(descriptor)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _lock(folder: Path, path: Path | str, on_wait: Callable[[], object] | None = None) -> int:
    """Return a descriptor that holds the lock of the directory
    that is at ``folder`` now, made if need be; with ``on_wait``, which is called before it, it
    waits for whoever holds it.
    """
    fcntl = load_posix("fcntl", needed_by="writing a store")
    while True:
        folder.mkdir(exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is None:
                os.close(descriptor)
                raise StoreError(
                    f"{path}: another process is writing this store now. "
                    "Wait for it, or choose another place.",
                    path=str(path),
                ) from None
            on_wait()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _is_at(descriptor, folder):
            return descriptor
        os.close(descriptor)  # published or removed between our opening and our locking


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _exchange(partial: Path, path: Path) -> None:
    """Swap two directories in one step where the system can,
    else in three, of which none lets go of either.
    """
    libc = _libc()
    if hasattr(libc, "renameat2"):
        names = os.fsencode(partial), os.fsencode(path)
        if libc.renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), str(path))

    aside = path.with_name(f".{path.name}.old")
    # It is there if a process was killed between the steps below; since then ``path`` has been
    # written again.
    remove(aside)

    try:
        path.rename(aside)
        partial.rename(path)
    except BaseException:
        if not path.exists():  # stopped, or refused, halfway
            aside.rename(path)
        raise

    aside.rename(partial)


def remove(path: Path) -> None:
    """Remove a file, or a directory with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
