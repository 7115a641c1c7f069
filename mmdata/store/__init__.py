"""The conversation store: a directory of Arrow shards that vouches for itself."""

from __future__ import annotations

from mmdata.store.reader import Rows, Store, check, open  # noqa: A004

__all__ = ["Rows", "Store", "check", "open"]
