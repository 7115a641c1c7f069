"""Small stores for tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mmdata.rejects import Reject
from mmdata.schema import Conversation
from mmdata.store import Store
from mmdata.store import open as open_store
from mmdata.store.writer import Origin, StoreWriter
from tests.conversations import plain


def write(
    path: Path,
    rows: Sequence[Conversation],
    *,
    rejects: Sequence[Reject] = (),
    media_root: str = "/media",
    parquet: bool = False,
    overwrite: bool = False,
) -> Store:
    """Write rows into a store and return it opened."""
    origin = Origin("test", {}, media_root=media_root)
    sources = sorted({row.source for row in rows})
    with StoreWriter(
        path, sources=sources, origin=origin, parquet=parquet, overwrite=overwrite
    ) as writer:
        writer.write_conversations(rows)
        for reject in rejects:
            writer.reject(reject)
    return open_store(path)


def numbered(path: Path, count: int, first: int = 0) -> Store:
    """Write a store whose rows say their numbers."""
    return write(path, [plain(number) for number in range(first, first + count)])
