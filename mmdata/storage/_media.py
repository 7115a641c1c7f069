"""Media behind URLs that records name."""

from __future__ import annotations

import os
from typing import Final

from mmdata._tools.paths import is_url
from mmdata.errors import MediaError, StorageError, as_media_error
from mmdata.storage._access import WEB_PORTS, Access
from mmdata.storage._cache import KnownContent
from mmdata.storage._file import RemoteFile
from mmdata.storage._path import RemotePath, remote_path

__all__ = ["is_remote", "open_medium", "path_of_medium", "reach", "remote_medium"]

_STORAGE: Final = ("s3", "gs", "hf")


def is_remote(source: str | os.PathLike[str] | bytes) -> bool:
    """Return whether a medium is behind a URL."""
    return isinstance(source, RemotePath) or (isinstance(source, str) and is_url(source))


def reach(
    source: str, access: Access | None, known: KnownContent | None = None
) -> str | RemotePath:
    """Return a medium as what reads it takes it: what is behind a URL as a path that is read under
    ``access``, all else as it is. ``known`` is what a store knows of its content.

    Raises:
        MediaError: it may not be read.
    """
    if not is_url(source):
        return source
    try:
        return path_of_medium(source, access, known)
    except StorageError as error:
        raise as_media_error(error, source) from error


def open_medium(source: str | os.PathLike[str]) -> RemoteFile:
    """Open a medium behind a URL.

    Raises:
        MediaError: it may not be read, is not there, or has no bytes; with the server's words.
    """
    name = os.fspath(source)
    try:
        file = remote_medium(source).open_range()
    except (OSError, StorageError) as error:
        raise as_media_error(error, name) from error
    if not file.size():
        raise MediaError(f"{name}: the file is empty", path=name, reason="empty_media")
    return file


def remote_medium(source: str | os.PathLike[str]) -> RemotePath:
    """Return the path of a medium behind a URL, which may be one already.

    Raises:
        StorageError: it may not be read.
    """
    return source if isinstance(source, RemotePath) else path_of_medium(os.fspath(source))


def path_of_medium(
    url: str, access: Access | None = None, known: KnownContent | None = None
) -> RemotePath:
    """Return the path of a medium by its URL, as a record, a store or a media root names it.

    Raises:
        StorageError: it may not be read.
    """
    access = access or Access()
    scheme = url.partition("://")[0].lower()
    if not is_url(url) or scheme not in (*_STORAGE, *WEB_PORTS):
        # fsspec knows schemes that lead anywhere: into this machine, or through another URL.
        schemes = ", ".join(f"{one}://" for one in (*_STORAGE, *WEB_PORTS))
        raise StorageError(f"{url}: media are read from {schemes} alone", path=url)
    if scheme in WEB_PORTS and not access.remote:
        raise StorageError(
            f"{url}: {scheme}:// is read only where it is allowed (--allow-remote); "
            "--embed keeps the bytes of media in a store",
            path=url,
        )
    return remote_path(url, access, known)
