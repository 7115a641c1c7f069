"""From the path a record names to a file under the media root, and no further."""

from __future__ import annotations

import os
import posixpath
import re
import stat
import string
from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

from mmdata._tools.paths import is_url
from mmdata.errors import RecordError
from mmdata.schema import Media, MediaType
from mmdata.storage import Access, remote_path
from mmdata.storage._path import RemotePath

__all__ = [
    "SizeOf",
    "all_exist",
    "find",
    "folders_of",
    "is_below",
    "is_file",
    "size_of",
    "slashed",
    "under",
]

SizeOf: TypeAlias = Callable[[str, MediaType], int | None]
"""How large a medium at a path is; None if nothing usable is there."""

_PLAIN: Final = re.compile(r"\w[\w.-]*(?:/\w[\w.-]*)*", re.ASCII)
_OF_PLAIN: Final = f"{string.ascii_letters}{string.digits}_.-/".encode()
_TOO_ODD: Final = re.compile(r"[\x00\ud800-\udfff]")
_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]|\\\\")
"""What an absolute path of Windows begins with: a drive, or two backslashes before a server."""


def is_file(medium: Media) -> bool:
    """Return whether a medium is a file of its own:
    not embedded, nor cached as frames, nor behind a URL.
    """
    kept = medium.bytes is not None or medium.frames is not None
    return medium.path is not None and not kept and not is_url(medium.path)


def under(root: str, path: str, *, allow_outside: bool = False) -> str:
    """Return ``path`` relative to the absolute folder ``root``, normalised;
    absolute if it is outside and may be.

    The comparison is of names: links below the root are its owner's business and are followed. An
    absolute path may come to the root by a link as well.

    Raises:
        RecordError: the path leaves the root and may not, or no file can have this name.
    """
    if _PLAIN.fullmatch(path):
        return path
    if _TOO_ODD.search(path):
        raise RecordError(f"not a possible file name: {path!r}", reason="bad_encoding")

    if is_url(root):
        return _under_url(root, path, allow_outside)

    # `normpath` keeps two leading slashes, to which POSIX gives a meaning of their own.
    whole = "/" + posixpath.normpath(posixpath.join(root, path)).lstrip("/")
    if (inside := _inside(root, whole)) is not None:
        return inside
    if path.startswith("/"):
        folder, name = posixpath.split(whole)
        real = posixpath.join(posixpath.realpath(folder), name)
        if (inside := _inside(posixpath.realpath(root), real)) is not None:
            return inside
    return _outside(root, path, whole, allow_outside)


def _under_url(root: str, path: str, allow_outside: bool) -> str:
    """Return what :func:`under` does, of a root in object storage: names are compared there too,
    but there are no links, and an absolute path is one of this machine.
    """
    scheme, _, base = root.partition("://")
    if path.startswith("/"):
        inside, whole = None, posixpath.normpath(path)
    else:
        own = path.partition("://")[2] if is_url(path) else f"{base}/{path}"
        names = "/" + posixpath.normpath(own).lstrip("/")
        same = not is_url(path) or path.partition("://")[0].lower() == scheme
        inside = _inside("/" + base.strip("/"), names) if same else None
        whole = path if is_url(path) else f"{scheme}:/{names}"
    return _outside(root, path, whole, allow_outside) if inside is None else inside


def _outside(root: str, path: str, whole: str, allow_outside: bool) -> str:
    """Return the ``whole`` path of what is outside ``root``, where it may be."""
    if allow_outside:
        return whole
    raise RecordError(
        f"{path!r} leaves the media root {root!r}; --allow-outside admits such paths, "
        "--media-root names another root",
        reason="outside_media_root",
    )


def is_below(root: str, url: str) -> bool:
    """Return whether a URL is below a root that is one, by its name."""
    scheme, _, base = root.partition("://")
    other, _, path = url.partition("://")
    names = "/" + posixpath.normpath(path)
    return other.lower() == scheme and _inside("/" + base.strip("/"), names) is not None


def _inside(root: str, whole: str) -> str | None:
    """Return an absolute path relative to ``root``; None where it is not below it."""
    base = root.rstrip("/")
    if whole == root or whole.startswith(f"{base}/"):
        return whole[len(base) + 1 :] or "."
    return None


def folders_of(file: str, root: str, home: str | None = None) -> tuple[str, ...]:
    """Return the folders below ``root`` that a relative path in a source file may start from, in
    the order in which they are tried; ``""`` is the root.

    Whatever the root is: the file's own folder comes first, so that what is found does not depend
    on which other files are converted with it. Where the user has named the root, the root comes
    first, and a root beside the files may have their folders again: those of a file below ``home``,
    which holds all of the files.

    >>> folders_of("/data/part1/a.json", "/data")
    ('part1', '')
    >>> folders_of("/notes/part1/a.json", "/media", home="/notes")
    ('', 'part1')
    """
    folder = posixpath.dirname(file if is_url(file) else posixpath.abspath(file))
    own = _inside(root, folder)
    if own is None and home is not None:
        own = _inside(home, folder)
    if own is None or own == ".":
        return ("",)
    return (own, "") if home is None else ("", own)


def slashed(path: str) -> str:
    r"""Return a path that was written on Windows as it is written here.

    >>> slashed("images\\cup.jpg")
    'images/cup.jpg'

    Raises:
        RecordError: it starts at a drive or a server: nobody knows which folder that is here.
    """
    if _DRIVE.match(path):
        raise RecordError(
            f"{path!r} is an absolute path of Windows, which does not lead to a file here; "
            "write it relative to the media root",
            reason="outside_media_root",
        )
    return path.replace("\\", "/")


def size_of(path: str, kind: MediaType, *, access: Access | None = None) -> int | None:
    """Return the bytes of a file, or the entries of a folder of frames;
    None if nothing usable is there.

    ``access`` says which URLs may be read.
    """
    if "://" in path and is_url(path):
        return _size_of_remote(remote_path(path, access), kind)
    try:
        found = os.stat(path)  # noqa: PTH116 - called once a record; Path objects would double its cost
        if stat.S_ISREG(found.st_mode):
            return found.st_size
        if stat.S_ISDIR(found.st_mode) and kind == "video":
            return len(os.listdir(path))  # noqa: PTH208
    except OSError:
        return None
    return None


def _size_of_remote(path: RemotePath, kind: MediaType) -> int | None:
    try:
        found = path.info()
    except OSError:
        return None
    if found is None:
        return None
    if not found.is_folder:
        return found.bytes
    return len(path.listed()) if kind == "video" else None


def find(
    root: str,
    candidates: Iterable[str],
    kind: MediaType,
    *,
    look: bool = True,
    allow_outside: bool = False,
    size_of: SizeOf = size_of,
) -> str:
    """Return the first candidate that is there, as :func:`under` spells it:
    a file, or for a video a folder of frames.

    Without ``look`` the first is believed to be there.

    Raises:
        RecordError: none is there, or what is there has no bytes; the message names the likeliest
            place.
    """
    tried = []
    for candidate in candidates:
        path = under(root, candidate, allow_outside=allow_outside)
        if not look:
            return path
        tried.append(path)
        place = path if is_url(path) else posixpath.join(root, path)
        if (size := size_of(place, kind)) is None:
            continue
        if size == 0:
            raise RecordError(f"{path} has no bytes", reason="empty_media")
        return path

    others = f" (nor in {len(tried) - 1} other places)" if len(tried) > 1 else ""
    raise RecordError(
        f"{kind} not found: {tried[0]!r} under {root}{others}", reason="missing_media"
    )


def all_exist(
    root: str,
    paths: Sequence[str],
    kind: MediaType,
    *,
    look: bool = True,
    size_of: SizeOf = size_of,
) -> bool:
    """Return whether all are plain names which :func:`find` would return;
    not all that it would are plain.
    """
    if not _all_plain(paths):
        return False
    return not look or all(size_of(f"{root}/{path}", kind) for path in paths)


def _all_plain(paths: Sequence[str]) -> bool:
    """Return whether :data:`_PLAIN` matches all: a few times faster than asking it."""
    joined = "/".join(("", *paths, ""))
    if not joined.isascii() or joined.encode().translate(None, _OF_PLAIN):
        return False
    return not any(odd in joined for odd in ("//", "/.", "/-"))
