"""Whatever else fsspec reads: the Hugging Face Hub, and the storage of other clouds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from mmdata.errors import UsageError
from mmdata.storage._backend import RemoteInfo

__all__ = ["FsspecBackend"]


class FsspecBackend:
    """Files of one scheme, through :mod:`fsspec`."""

    refuses_replaced = False

    def __init__(self, scheme: str, **options: Any) -> None:
        try:
            import fsspec
        except ImportError as error:
            raise UsageError(
                f"{scheme}:// is read by fsspec: pip install 'mmdata-arrow[remote]'"
            ) from error
        try:
            # One of our own: of those that fsspec keeps, others choose the options.
            self._files: Any = fsspec.filesystem(scheme, skip_instance_cache=True, **options)
        except ImportError as error:
            raise UsageError(f"{scheme}:// needs a package that is not installed: {error}") from (
                error
            )
        except ValueError as error:
            raise UsageError(f"{scheme}:// is no storage that fsspec knows: {error}") from error
        self._scheme = scheme

    def info(self, url: str) -> RemoteInfo | None:
        """Return what is at a URL, or None."""
        try:
            return _info_of(self._files.info(url))
        except FileNotFoundError:
            return None

    def content_mark(self, url: str, info: RemoteInfo) -> str:
        """Return its version."""
        return info.version

    def read(self, url: str, start: int, size: int, info: RemoteInfo) -> bytes:
        """Return ``size`` bytes of a file from ``start`` on."""
        # Without the cache of files that are no coroutines: it reads megabytes ahead.
        options = {} if self._files.async_impl else {"cache_type": "none"}
        data: bytes = self._files.cat_file(url, start=start, end=start + size, **options)
        return data

    def list(self, url: str, *, recursive: bool) -> Iterator[tuple[str, RemoteInfo]]:
        """Yield what is below a URL."""
        if recursive:
            found = self._files.find(url, withdirs=False, detail=True).values()
        else:
            found = self._files.ls(url, detail=True)
        for facts in found:
            yield f"{self._scheme}://{facts['name'].lstrip('/')}", _info_of(facts)


def _info_of(facts: Mapping[str, Any]) -> RemoteInfo:
    changed = facts.get("mtime") or facts.get("LastModified") or facts.get("last_modified")
    seconds = changed.timestamp() if isinstance(changed, datetime) else float(changed or 0)
    version = str(facts.get("ETag") or facts.get("blob_id") or changed or "")
    return RemoteInfo(facts.get("size") or 0, seconds, version, facts["type"] == "directory")
