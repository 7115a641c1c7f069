"""The Hugging Face Hub: data sets as they are at one commit.

What ``main`` stands for may change while it is read, and fsspec keeps its listings; both together
would give new bytes under the names and sizes of old ones. So a revision is looked up once, and all
that a process reads of it is of that commit.
"""

from __future__ import annotations

from collections.abc import Iterator

from mmdata.storage._backend import RemoteInfo
from mmdata.storage._fsspec import FsspecBackend

__all__ = ["HubBackend"]


class HubBackend(FsspecBackend):
    """Files of repositories of the Hub."""

    refuses_replaced = True  # a commit stays as it is

    def __init__(self, endpoint: str | None) -> None:
        super().__init__("hf", endpoint=endpoint)
        self._endpoint = endpoint
        self._commits: dict[tuple[str, str, str], str] = {}

    def info(self, url: str) -> RemoteInfo | None:
        """Return what is at a URL, or None."""
        return super().info(self._pin(url))

    def read(self, url: str, start: int, size: int, info: RemoteInfo) -> bytes:
        """Return ``size`` bytes of a file from ``start`` on."""
        return super().read(self._pin(url), start, size, info)

    def list(self, url: str, *, recursive: bool) -> Iterator[tuple[str, RemoteInfo]]:
        """Yield what is below a URL."""
        pinned = self._pin(url)
        for found, info in super().list(pinned, recursive=recursive):
            yield url.rstrip("/") + found[len(pinned) :], info

    def _pin(self, url: str) -> str:
        """Return a URL with the commit of its revision in the place of that."""
        from huggingface_hub import HfApi

        if url.startswith("hf://buckets/"):  # these have no revisions
            return url
        found = self._files.resolve_path(url)
        key = (found.repo_type, found.repo_id, found.revision)
        if key not in self._commits:
            told = HfApi(self._endpoint).repo_info(
                found.repo_id, repo_type=found.repo_type, revision=found.revision
            )
            self._commits[key] = str(told.sha)
        kind = "" if found.repo_type == "model" else f"{found.repo_type}s/"
        path = f"/{found.path_in_repo}" if found.path_in_repo else ""
        return f"hf://{kind}{found.repo_id}@{self._commits[key]}{path}"
