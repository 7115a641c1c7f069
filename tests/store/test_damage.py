"""A store that is not what its manifest says is refused when it is opened, or found by `check`."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pyarrow as pa
import pytest

import mmdata
from mmdata.errors import StoreError
from mmdata.rejects import Reason, Reject
from mmdata.store import Store
from mmdata.store.writer import Origin, StoreWriter
from tests.conversations import plain


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three shards and some rejects, which is damaged in copies alone."""
    place = tmp_path_factory.mktemp("whole") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mmdata.store.writer._SHARD_BYTES", 100_000)
        patch.setattr("mmdata.store.writer.BATCH_RECORDS", 512)
        with StoreWriter(place, sources=["numbers"], origin=Origin("test", {})) as writer:
            for number in range(2048 + 300):
                writer.write_conversations([plain(number, words=8)])
            for number in range(5):
                writer.reject(
                    Reject(
                        number, "source.json", f"r{number}", Reason.MISSING_MEDIA, "there is none"
                    )
                )
    assert len(mmdata.open(place).manifest.shards) >= 3
    return place


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Store:
    """A copy of the store."""
    return mmdata.open(shutil.copytree(whole, tmp_path / "store"))


def refused(path: Path) -> str:
    with pytest.raises(StoreError) as caught:
        mmdata.open(path)
    return str(caught.value)


def test_every_truncation_of_a_shard_is_found_when_the_store_is_opened(store: Store) -> None:
    shard = store.path / "data-00001.arrow"
    whole = shard.read_bytes()
    chance = random.Random(0)
    cuts = {chance.randrange(len(whole)) for _ in range(300)} | set(message_boundaries(whole))

    for cut in sorted(cuts - {len(whole)}):
        shard.write_bytes(whole[:cut])
        assert "data-00001.arrow is damaged" in refused(store.path)


def message_boundaries(data: bytes) -> list[int]:
    """Return where each message of an Arrow file begins and ends."""
    source = pa.BufferReader(data)
    source.seek(8)
    reader = pa.ipc.MessageReader.open_stream(source)
    boundaries = [source.tell()]
    while True:
        try:
            reader.read_next_message()
        except StopIteration:
            return boundaries
        boundaries.append(source.tell())


def test_a_missing_shard_is_found_when_the_store_is_opened(store: Store) -> None:
    (store.path / "data-00001.arrow").unlink()

    assert "data-00001.arrow is missing" in refused(store.path)


def test_a_renamed_shard_is_found_when_the_store_is_opened(store: Store) -> None:
    (store.path / "data-00001.arrow").rename(store.path / "data-00009.arrow")

    assert "data-00001.arrow is missing" in refused(store.path)


def test_an_added_shard_is_found_when_the_store_is_opened(store: Store) -> None:
    shutil.copy(store.path / "data-00001.arrow", store.path / "data-00009.arrow")

    assert "data-00009.arrow does not belong" in refused(store.path)


@pytest.mark.slow
@pytest.mark.parametrize(("first", "second"), [(0, 1), (0, 2), (1, 2)])
def test_swapped_and_doubled_shards_are_found_when_the_store_is_opened(
    store: Store, first: int, second: int
) -> None:
    one, other = (store.path / f"data-{n:05d}.arrow" for n in (first, second))
    contents = one.read_bytes(), other.read_bytes()

    one.write_bytes(contents[1])
    assert "damaged" in refused(store.path)
    other.write_bytes(contents[0])
    assert "damaged" in refused(store.path)


@pytest.mark.slow
def test_shards_of_one_size_that_were_swapped_are_found_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdata.store.writer._SHARD_BYTES", 1)
    monkeypatch.setattr("mmdata.store.writer.BATCH_RECORDS", 512)
    with StoreWriter(tmp_path / "store", sources=["numbers"], origin=Origin("test", {})) as writer:
        for number in range(10_000, 10_000 + 2 * 512):
            writer.write_conversations([plain(number)])
    one, other = sorted((tmp_path / "store").glob("data-*"))
    assert one.stat().st_size == other.stat().st_size
    one.rename(tmp_path / "aside")
    other.rename(one)
    (tmp_path / "aside").rename(other)

    assert "does not say that it is shard 0" in refused(tmp_path / "store")


@pytest.mark.parametrize(
    "name", ["data-00000.arrow", "data-00002.arrow", "manifest.json", "rejects.jsonl"]
)
def test_a_flipped_bit_in_any_file_of_a_store_is_found_by_check(store: Store, name: str) -> None:
    chance = random.Random(2)
    file = store.path / name
    whole = file.read_bytes()
    bits = [0, 8 * len(whole) - 1, *(chance.randrange(8 * len(whole)) for _ in range(40))]

    for bit in bits:
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        assert [fault.path for fault in mmdata.check(store.path)] == [str(file)]


@pytest.mark.slow
@pytest.mark.parametrize("change", [b"", b"x", None])
def test_rejects_that_are_cut_longer_or_gone_are_found_by_check(
    store: Store, change: bytes | None
) -> None:
    rejects = store.path / "rejects.jsonl"
    if change is None:
        rejects.unlink()
    else:
        rejects.write_bytes(rejects.read_bytes() + change if change else b"")

    assert [fault.path for fault in mmdata.check(store.path)] == [str(rejects)]


def test_every_file_of_a_store_has_bytes_that_check_reads(store: Store) -> None:
    read: list[int] = []

    assert mmdata.check(store.path, progress=read.append) == []

    sizes = {file.name: file.stat().st_size for file in store.path.iterdir()}
    assert all(sizes.values())
    assert sum(read) == sum(sizes.values()) - sizes["manifest.json"]


@pytest.mark.slow
def test_every_flipped_bit_is_found_by_check(store: Store) -> None:
    chance = random.Random(1)
    contents = {
        file: file.read_bytes() for file in sorted(store.path.iterdir()) if file.stat().st_size
    }

    for _ in range(1000):
        file, whole = chance.choice(list(contents.items()))
        place = chance.randrange(len(whole))
        with file.open("r+b") as opened:
            opened.seek(place)
            opened.write(bytes([whole[place] ^ 1 << chance.randrange(8)]))
        assert mmdata.check(store.path), f"{file.name}: a flip at byte {place} was not found"
        file.write_bytes(whole)


def test_a_whole_store_has_no_faults(store: Store) -> None:
    assert mmdata.check(store.path) == []


def test_check_names_every_damaged_file(store: Store) -> None:
    for name in ("data-00000.arrow", "data-00002.arrow"):
        data = bytearray((store.path / name).read_bytes())
        data[len(data) // 2] ^= 1
        (store.path / name).write_bytes(data)

    assert [Path(fault.path).name for fault in mmdata.check(store.path)] == [
        "data-00000.arrow",
        "data-00002.arrow",
    ]


@pytest.mark.parametrize("spelled", [b"xser", b"sser", b"\xff\xff\xff\xff"])
def test_a_word_that_no_store_holds_is_refused_when_its_row_is_read(
    store: Store, spelled: bytes
) -> None:
    shard = store.path / "data-00000.arrow"
    data = shard.read_bytes()
    place = data.index(b"userassistant")
    shard.write_bytes(data[:place] + spelled + data[place + 4 :])

    with pytest.raises(StoreError, match="mmdata check"):
        mmdata.open(store.path)[0]
