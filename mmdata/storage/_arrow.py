"""Object storage that Arrow itself reads: S3 and what speaks its language, and Google's."""

from __future__ import annotations

import errno
import os
import re
from collections import OrderedDict
from collections.abc import Iterator
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from mmdata.storage._backend import RemoteInfo

if TYPE_CHECKING:
    from pyarrow import NativeFile
    from pyarrow.fs import FileInfo, FileSystem

__all__ = ["ArrowBackend", "endpoint_of"]

_KEPT_OPEN: Final = 32
_DENIED: Final = re.compile(
    r"AWS Error (?:ACCESS_DENIED|INVALID_ACCESS_KEY|SIGNATURE)|\bExceptionName: AccessDenied\b"
    r"|\bHTTP status 403\b|\bhttp_status_code=403\b|\bPERMISSION_DENIED: "
)
"""How Arrow says that a storage refuses, in a text that also has the name of the object in it."""
_CREDENTIALS: Final = {
    "s3": "AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say as whom it is asked",
    "gs": "Google's application default credentials say as whom it is asked",
}


def endpoint_of(scheme: str) -> str | None:
    """Return the server that the environment names for a kind of storage: for S3 as the AWS tools
    read it, for Google's an emulator as Google's libraries do, and for the Hub as its own does.
    """
    # Arrow reads none of them by itself, or asks for credentials all the same; the library of the
    # Hub reads its own when it is imported.
    names = {
        "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "gs": ("STORAGE_EMULATOR_HOST",),
        "hf": ("HF_ENDPOINT",),
    }
    return next(filter(None, map(os.environ.get, names.get(scheme, ()))), None)


class ArrowBackend:
    """The objects of buckets, through :mod:`pyarrow.fs`."""

    refuses_replaced = False

    def __init__(self, scheme: str, endpoint: str | None) -> None:
        self._scheme = scheme
        self._files: FileSystem = _file_system(scheme, endpoint)
        self._opened: OrderedDict[tuple[str, RemoteInfo], NativeFile] = OrderedDict()
        self._lock = Lock()

    def info(self, url: str) -> RemoteInfo | None:
        """Return what is at a URL, or None."""
        try:
            found = self._ask(url, self._files.get_file_info, self._inside(url))
        except FileNotFoundError:  # no object has this name
            return None
        return _info_of(found)

    def content_mark(self, url: str, info: RemoteInfo) -> str:
        """Return the ETag of an object of S3, whose changes have their time in whole seconds;
        Google's storage has it in milliseconds.
        """
        if self._scheme == "gs":
            return info.version
        # Opened anew, as what is kept open tells what was there when it was opened.
        file = self._ask(url, self._files.open_input_file, self._inside(url))
        told = self._ask(url, file.metadata)
        self._keep_open(url, info, file)
        return str(told.get("ETag", b"").decode())

    def read(self, url: str, start: int, size: int, info: RemoteInfo) -> bytes:
        """Return ``size`` bytes of an object from ``start`` on."""
        # Of a file of Google's storage in which any place may be read, Arrow asks for the whole
        # besides, and reads up to some megabytes of that: what is read whole is not opened so.
        if self._scheme == "gs" and (start, size) == (0, info.bytes):
            with self._ask(url, self._files.open_input_stream, self._inside(url)) as stream:
                return bytes(self._ask(url, stream.read, size))
        # Opening asks how large it is: one request for each read that need not be. What was opened
        # believes in its size, and a version is a second, within which another may have come.
        with self._lock:
            file = self._opened.pop((url, info), None)
        if file is None:
            file = self._ask(url, self._files.open_input_file, self._inside(url))
        data: bytes = self._ask(url, file.read_at, size, start)
        self._keep_open(url, info, file)
        return data

    def _keep_open(self, url: str, info: RemoteInfo, file: NativeFile) -> None:
        with self._lock:
            self._opened[url, info] = file
            while len(self._opened) > _KEPT_OPEN:
                self._opened.popitem(last=False)

    def list(self, url: str, *, recursive: bool) -> Iterator[tuple[str, RemoteInfo]]:
        """Yield what is below a URL."""
        from pyarrow.fs import FileSelector

        below = FileSelector(self._inside(url), allow_not_found=True, recursive=recursive)
        for found in self._ask(url, self._files.get_file_info, below):
            info = _info_of(found)
            if info is not None:
                yield f"{self._scheme}://{found.path}", info

    def _inside(self, url: str) -> str:
        return url.partition("://")[2].rstrip("/")

    def _ask(self, url: str, action: Any, *args: Any) -> Any:
        import pyarrow as pa

        try:
            return action(*args)
        except FileNotFoundError:
            raise
        except pa.ArrowException as error:  # a name that Arrow opens no object by, as of `a//b`
            raise FileNotFoundError(errno.ENOENT, str(error)) from error
        except OSError as error:
            if _DENIED.search(str(error)):
                what = f"access denied ({error}); {_CREDENTIALS[self._scheme]}"
                raise PermissionError(errno.EACCES, what, url) from error
            raise


def _file_system(scheme: str, endpoint: str | None) -> FileSystem:
    from pyarrow import fs

    if scheme == "gs":
        # Its own patience is a quarter of an hour.
        patience = timedelta(seconds=30)
        if endpoint is None:
            return fs.GcsFileSystem(retry_time_limit=patience)
        server, _, address = endpoint.rpartition("://")
        return fs.GcsFileSystem(
            anonymous=True,  # as an emulator takes no credentials, and finding some takes minutes
            endpoint_override=address.rstrip("/"),
            scheme=server or "http",
            retry_time_limit=patience,
        )
    # Without an endpoint it is AWS, which tells the region of a bucket by itself.
    return fs.S3FileSystem(endpoint_override=endpoint) if endpoint else fs.S3FileSystem()


def _info_of(found: FileInfo) -> RemoteInfo | None:
    from pyarrow.fs import FileType

    if found.type == FileType.NotFound:
        return None
    changed = found.mtime_ns / 1e9 if found.mtime_ns else 0.0
    version = str(found.mtime_ns or "")
    return RemoteInfo(found.size or 0, changed, version, found.type == FileType.Directory)
