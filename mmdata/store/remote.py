"""Stores in object storage, which appear whole or not at all.

A bucket has no folders that could be moved into place. So the files of a run have names of their
own, below ``runs/`` and the name of the run, and the manifest, which alone says which run the store
is, is written last and on a condition: where none was there before, or in the place of the one that
was. Files of other runs that were there before that are nobody's afterwards, and are removed.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from mmdata.errors import StoreError
from mmdata.storage._bucket import Bucket
from mmdata.storage._path import RemotePath
from mmdata.store.layout import MANIFEST, RUNS
from mmdata.store.manifest import hash_text

__all__ = ["RemoteRun", "staging_path"]


def staging_path(store: RemotePath) -> Path:
    """Return where on this machine the files of a store are until they are sent, one at a time:
    below ``$XDG_CACHE_HOME`` or else ``~/.cache``.
    """
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    cache = base if base.is_absolute() else Path.home() / ".cache"
    return cache / "mmdata" / "stores" / hash_text(str(store).rstrip("/"))


class RemoteRun:
    """The files of one attempt to write a store, sent one by one, and in the end its manifest."""

    def __init__(self, store: RemotePath) -> None:
        self._store = store
        self._bucket = Bucket()
        self.name = f"{RUNS}/{uuid.uuid4().hex}"
        self._replaces: str | None = None
        self._others: list[RemotePath] = []
        self._sent: list[RemotePath] = []

    def begin(self) -> None:
        """Note what is there now: it is what this run may replace and remove.

        Raises:
            UsageError: there is no such bucket.
        """
        # The version first: whoever publishes after this makes ours be refused, and so nothing of
        # his is in the list that could be removed.
        self._replaces = self._bucket.version(self._store / MANIFEST)
        if self._replaces is None:
            self._bucket.require(self._store)
        self._others = [path for path, _ in (self._store / RUNS).files()]

    def send(self, file: Path) -> None:
        """Send a file, and remove it here."""
        target = self._store / self.name / file.name
        self._sent.append(target)
        self._bucket.upload(file, target)
        file.unlink()

    def publish(self, manifest: bytes) -> None:
        """Let the store appear.

        Raises:
            StoreError: another one has appeared in its place since the run began.
        """
        place = self._store / MANIFEST
        try:
            self._bucket.create(place, manifest, replaces=self._replaces)
        except FileExistsError:
            raise StoreError(
                f"{self._store}: another process has written a store there meanwhile, which is "
                "left as it is. Choose another place, or say --overwrite to replace it.",
                path=str(self._store),
            ) from None
        self._sent = []
        self._bucket.delete(self._others)

    def discard(self) -> None:
        """Remove what was sent, unless it was published."""
        self._bucket.delete(self._sent)
        self._sent = []
