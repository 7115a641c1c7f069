"""Object storage that Arrow itself reads: S3 and what speaks its language, and Google's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from mmdata.storage._backend import RemoteFaultError, RemoteInfo

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

__all__ = ["ArrowBackend", "s3_endpoint"]

_DENIED: Final = ("ACCESS_DENIED", "403", "AccessDenied", "INVALID_ACCESS_KEY", "SIGNATURE")


def s3_endpoint() -> str | None:
    """Return the endpoint that the environment names for S3, as the AWS tools read it."""
    # Arrow reads neither of them by itself.
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


class ArrowBackend:
    """The objects of buckets, through :mod:`pyarrow.fs`."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme
        self._files: FileSystem = _file_system(scheme)

    def info(self, url: str) -> RemoteInfo | None:
        """Return what is at a URL, or None."""
        found = self._ask(self._files.get_file_info, self._inside(url))
        return _info_of(found)

    def read(self, url: str, start: int, size: int, info: RemoteInfo) -> bytes:
        """Return ``size`` bytes of an object from ``start`` on."""
        with self._ask(self._files.open_input_file, self._inside(url)) as file:
            data: bytes = self._ask(file.read_at, size, start)
        return data

    def list(self, url: str, *, recursive: bool) -> Iterator[tuple[str, RemoteInfo]]:
        """Yield what is below a URL."""
        from pyarrow.fs import FileSelector

        below = FileSelector(self._inside(url), allow_not_found=True, recursive=recursive)
        for found in self._ask(self._files.get_file_info, below):
            info = _info_of(found)
            if info is not None:
                yield f"{self._scheme}://{found.path}", info

    def upload(self, path: str, url: str) -> None:
        """Write a local file as an object."""
        with open(path, "rb") as file:  # noqa: PTH123
            target = self._ask(self._files.open_output_stream, self._inside(url))
            while data := file.read(8 << 20):
                self._ask(target.write, data)
            self._ask(target.close)

    def delete(self, url: str) -> None:
        """Remove an object."""
        self._ask(self._files.delete_file, self._inside(url))

    def _inside(self, url: str) -> str:
        return url.partition("://")[2].rstrip("/")

    def _ask(self, action: Any, *args: Any) -> Any:
        import pyarrow as pa

        try:
            return action(*args)
        except FileNotFoundError:
            raise
        except pa.ArrowException as error:  # a name that no object can have
            raise RemoteFaultError(str(error)) from error
        except OSError as error:
            if any(word in str(error) for word in _DENIED):
                raise PermissionError(str(error)) from error
            raise


def _file_system(scheme: str) -> FileSystem:
    from pyarrow import fs

    if scheme == "gs":
        return fs.GcsFileSystem()
    endpoint = s3_endpoint()
    # Without an endpoint it is AWS, which tells the region of a bucket by itself.
    return fs.S3FileSystem(endpoint_override=endpoint) if endpoint else fs.S3FileSystem()


def _info_of(found: FileInfo) -> RemoteInfo | None:
    from pyarrow.fs import FileType

    if found.type == FileType.NotFound:
        return None
    changed = found.mtime_ns / 1e9 if found.mtime_ns else 0.0
    version = str(found.mtime_ns or "")
    return RemoteInfo(found.size or 0, changed, version, found.type == FileType.Directory)
