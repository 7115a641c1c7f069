"""Many samples: the first batch needs few of them, and memory does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mmdata.pipeline import Stream
from mmdata.schema import Conversation, assistant, user
from mmdata.store import Store
from mmdata.store import open as open_store
from mmdata.store.writer import Origin, StoreWriter
from tests.pipeline.words import WordTemplate

pytestmark = pytest.mark.slow

ROWS = 1_000_000


@pytest.fixture(scope="module")
def million(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store of a million rows."""
    path = tmp_path_factory.mktemp("scale") / "store"
    rows = [Conversation(f"r{n}", (user("tell me"), assistant(f"number {n}"))) for n in range(1000)]
    with StoreWriter(path, sources=[""], origin=Origin("test", {})) as writer:
        for _ in range(ROWS // len(rows)):
            writer.write_conversations(rows)
    yield path


def anonymous_memory() -> int:
    """Bytes of this process that are its own, pages of mapped files left out."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


class Counted:
    """A store that counts what is read of it."""

    def __init__(self, store: Store) -> None:
        self.store, self.reads = store, 0
        self.fingerprint = store.fingerprint

    def __len__(self) -> int:
        return len(self.store)

    def located(self, index: int) -> Conversation:
        self.reads += 1
        return self.store.located(index)


@pytest.mark.parametrize(("options", "most"), [({}, 100), ({"packing": True}, 5000)])
def test_the_first_batch_of_a_million_samples_reads_few_of_them(
    million: Path, options: dict[str, Any], most: int
) -> None:
    samples = Counted(open_store(million))

    first = next(iter(Stream(samples, WordTemplate(), seq_length=64, batch_size=8, **options)))

    assert first.step == 1
    assert samples.reads <= most


def test_memory_stays_flat_over_a_hundred_thousand_samples(million: Path) -> None:
    stream = Stream(open_store(million), WordTemplate(), seq_length=64, batch_size=100, workers=2)
    used = []

    for batch in stream.take(1000):
        if batch.step % 100 == 0:
            used.append(anonymous_memory())

    assert max(used[3:]) - used[2] < 64 << 20, [f"{bytes_ / 2**20:.0f} MiB" for bytes_ in used]
