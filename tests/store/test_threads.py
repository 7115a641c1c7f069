"""Readers of one store in several threads, all at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import mmdata
from mmdata.schema import Conversation, assistant, user
from mmdata.store.writer import Origin, StoreWriter


def test_threads_that_read_first_at_the_same_moment_read_the_same(tmp_path: Path) -> None:
    with StoreWriter(tmp_path / "s", sources=("drawn",), origin=Origin("drawn", {})) as writer:
        for number in range(20):
            writer.write_conversations(
                [Conversation(str(number), (user("a"), assistant("b")), (), "drawn")]
            )
    start = Barrier(8)

    def read(store: mmdata.Store, row: int) -> str:
        start.wait()
        return store[row].id

    with ThreadPoolExecutor(8) as pool:
        for _ in range(100):
            store = mmdata.open(tmp_path / "s")
            assert list(pool.map(read, [store] * 8, range(8))) == list("01234567")
