"""How rows come together in the batches of a store depends on the rows alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from mmdata.schema import Conversation, Media, Video, assistant, user
from mmdata.store import open as open_store
from mmdata.store.arrays import count_row_bytes
from mmdata.store.batch import BATCH_BYTES, ConversationBatch
from mmdata.store.writer import Origin, StoreWriter


def row(number: int, size: int) -> Conversation:
    """Return a row with embedded bytes."""
    clip = Media("video", path=f"{number}.mp4", bytes=bytes([number]) * size)
    turns = (user(Video(0), "What?"), assistant("That."))
    return Conversation(f"r{number}", turns, media=(clip,), source="test")


SIZES = [3 << 20, 100, 7 << 20, 20 << 20, 5, 5, 9 << 20, 9 << 20, 1 << 20, 16 << 20, 12]


@pytest.mark.slow
@pytest.mark.parametrize("bounds", [[0, 11], [0, 1, 2, 11], [0, 4, 5, 6, 9, 11], [*range(12)]])
def test_however_rows_are_handed_over_their_batches_are_the_same(
    tmp_path: Path, bounds: list[int]
) -> None:
    rows = ConversationBatch.from_conversations(
        [row(number, size) for number, size in enumerate(SIZES)]
    )

    with StoreWriter(tmp_path / "store", sources=["test"], origin=Origin("test", {})) as writer:
        for start, stop in pairwise(bounds):
            writer.write(rows.slice(start, stop))

    [shard] = open_store(tmp_path / "store").manifest.shards
    assert shard.batches == (3, 1, 3, 2, 1, 1)


def test_the_bytes_of_a_row_are_the_same_in_whatever_batch_it_stands() -> None:
    rows = ConversationBatch.from_conversations([row(number, 10 * number) for number in range(9)])

    together = count_row_bytes(rows.columns).tolist()

    assert together == [
        size
        for number in range(9)
        for size in count_row_bytes(rows.slice(number, number + 1).columns)
    ]
    assert [b - a for a, b in pairwise(together)] == [10] * 8
    assert together[0] < BATCH_BYTES
