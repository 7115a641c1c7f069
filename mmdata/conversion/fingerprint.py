"""What the content of a media file is, in few words: enough to tell another file in its place.

A hash says how it was made: ``xxh3:<16 hexadecimal digits>`` is the xxh3 (64 bits) of all bytes of
a file, and ``xxh3-ends:<…>`` that of its first and its last 64 KiB, one after the other; of a file
no longer than both it is all bytes, once. A video that is a folder of pictures has the size of all
its files together and, as its hash, the xxh3 of the name, size and hash of each in the order of
their names. Hidden files and folders below are none of it. A video that is given as a list of
pictures has the like, of these files in their order.
"""

from __future__ import annotations

import os
import stat
from io import RawIOBase
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from mmdata._tools.options import checked
from mmdata.errors import MediaError
from mmdata.storage._media import is_remote, open_medium, remote_medium
from mmdata.storage._path import RemotePath

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Fingerprint", "compare", "fingerprint"]

_WHOLE: Final = "xxh3:"
_ENDS: Final = "xxh3-ends:"
_END: Final = 1 << 16
_CHUNK: Final = 1 << 20


Content: TypeAlias = str | os.PathLike[str] | bytes | tuple[str | os.PathLike[str], ...]
"""The path of a file or a folder, the bytes of a file, or the paths of several."""


class Fingerprint(NamedTuple):
    """The bytes of a file, and a hash of its content that says how it was made."""

    size: int
    hash: str


@checked
def fingerprint(source: Content, *, whole: bool) -> Fingerprint:
    """Return the size and the hash of a file, of a folder of pictures, of the bytes of a file, or
    of several files as one.

    ``whole`` hashes every byte, else only the two ends are read.

    Raises:
        OSError: it cannot be read, or is neither file nor folder.
    """
    import xxhash

    if isinstance(source, bytes):
        parts = [source] if whole or len(source) <= 2 * _END else [source[:_END], source[-_END:]]
        return Fingerprint(len(source), _spell(xxhash.xxh3_64_hexdigest(b"".join(parts)), whole))
    if isinstance(source, tuple):
        return _of_files(source, whole)
    if is_remote(source):
        from mmdata.video.folder import is_folder

        if is_folder(source):
            return _of_files(_files_in(remote_medium(source)), whole)
        with open_medium(source) as remote:
            return _of_file(remote, remote.size(), whole)
    found = os.stat(source)  # noqa: PTH116 - as bare as can be: once a medium
    if stat.S_ISDIR(found.st_mode):
        folder = os.fspath(source)
        names = _names(folder)
        return _of_files((os.path.join(folder, name) for name in names), whole)  # noqa: PTH118
    if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for a writer
        raise OSError(f"{os.fspath(source)} is neither a file nor a folder")
    with open(source, "rb", buffering=0) as file:  # noqa: PTH123
        return _of_file(file, os.fstat(file.fileno()).st_size, whole)


@checked
def compare(source: Content, kept: Fingerprint, *, path: str | None = None) -> None:
    """Refuse a file that is not the one of which ``kept`` is the fingerprint.

    ``path`` is where bytes were read from, if they were.

    Raises:
        MediaError: with the reason ``changed_media``; the message says what differs. As
            ``missing_media``, it is gone.
    """
    if isinstance(source, bytes):
        name = f"<{len(source)} bytes>"
    else:
        name = os.fspath(source[0] if isinstance(source, tuple) else source)
    name = path or name
    if not kept.hash.startswith((_WHOLE, _ENDS)):
        raise MediaError(
            f"{name}: cannot be compared with {kept.hash!r}, a hash of an unknown kind",
            path=name,
            reason="changed_media",
        )

    try:
        found = fingerprint(source, whole=kept.hash.startswith(_WHOLE))
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        why = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"{name}: {why}", path=name, reason="missing_media") from error

    if found.size != kept.size:
        differs = f"it has {found.size} bytes, and had {kept.size}"
    elif found.hash != kept.hash:
        differs = f"its content has the hash {found.hash}, and had {kept.hash}"
    else:
        return

    raise MediaError(
        f"{name}: is not the file that was converted: {differs}. Restore it or convert again.",
        path=name,
        reason="changed_media",
    )


def _of_file(file: RawIOBase, length: int, whole: bool) -> Fingerprint:
    import xxhash

    digest, size = xxhash.xxh3_64(), 0
    if whole or length <= 2 * _END:
        while data := file.read(_CHUNK):
            digest.update(data)
            size += len(data)
    else:
        digest.update(file.read(_END) or b"")
        file.seek(-_END, os.SEEK_END)
        digest.update(file.read(_END) or b"")
        size = length
    return Fingerprint(size, _spell(digest.hexdigest(), whole))


def _of_files(paths: Iterable[str | os.PathLike[str]], whole: bool) -> Fingerprint:
    import xxhash

    digest, size = xxhash.xxh3_64(), 0
    for path in paths:
        found = fingerprint(path, whole=whole)
        size += found.size
        name = os.fsencode(os.path.basename(path))  # noqa: PTH119
        digest.update(b"%s\0%d\0%s\n" % (name, found.size, found.hash.encode()))
    return Fingerprint(size, _spell(digest.hexdigest(), whole))


def _names(folder: str) -> Iterator[str]:
    with os.scandir(folder) as entries:
        files = [
            entry.name for entry in entries if not entry.name.startswith(".") and entry.is_file()
        ]
    yield from sorted(files)


def _files_in(folder: RemotePath) -> Iterator[RemotePath]:
    """Yield the files of a folder in object storage in the order of their names, as of a local
    one.
    """
    for url, info in folder.listed():
        path = folder.like(url)
        if not info.is_folder and not path.name.startswith("."):
            yield path


def _spell(digest: str, whole: bool) -> str:
    return f"{_WHOLE if whole else _ENDS}{digest}"
