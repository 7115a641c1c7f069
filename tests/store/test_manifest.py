from __future__ import annotations

import json
import random
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import xxhash

import mmdata
from mmdata.errors import StoreError, UsageError
from mmdata.rejects import Reason, Reject
from mmdata.schema import Split
from mmdata.store.manifest import Manifest, hash_file, read_manifest, write_manifest
from tests.conversations import plain
from tests.source_files import source
from tests.stores import write

CHUNK = 1 << 19
LENGTHS = [0, 1, *(n * CHUNK + d for n in (1, 2, 3) for d in (-1, 0, 1)), 2 * CHUNK + CHUNK // 2]


@pytest.mark.parametrize("length", LENGTHS)
def test_the_hash_of_a_file_is_its_xxh3(tmp_path: Path, length: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(random.Random(length).randbytes(length))

    seen: list[int] = []

    assert hash_file(file, seen.append) == xxhash.xxh3_64_hexdigest(file.read_bytes())
    assert sum(seen) == length


def test_the_manifest_holds_the_xxh3_and_the_bytes_of_every_file(tmp_path: Path) -> None:
    reject = Reject(3, "a.json", "x", Reason.MISSING_MEDIA, "there is no image")
    store = write(tmp_path / "store", [plain(n, words=400) for n in range(300)], rejects=[reject])

    manifest = store.manifest
    assert sum(shard.bytes for shard in manifest.shards) > CHUNK
    for shard in manifest.shards:
        data = (store.path / shard.name).read_bytes()
        assert (shard.bytes, shard.xxh3) == (len(data), xxhash.xxh3_64_hexdigest(data))
        assert shard.rows == sum(shard.batches)
    assert manifest.rejects_xxh3 == xxhash.xxh3_64_hexdigest(
        (store.path / "rejects.jsonl").read_bytes()
    )
    assert sum(shard.rows for shard in manifest.shards) == manifest.rows == len(store)


def test_a_conversion_names_its_sources_by_their_xxh3(tmp_path: Path) -> None:
    file = tmp_path / "source.jsonl"
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a" * 1000}]
    file.write_text(
        "\n".join(json.dumps({"id": str(n), "conversations": turns}) for n in range(600))
    )
    assert file.stat().st_size > CHUNK

    mmdata.convert("llava", file, tmp_path / "store")

    [source] = mmdata.open(tmp_path / "store").manifest.files
    assert (source.path, source.bytes) == (str(file), file.stat().st_size)
    assert source.xxh3 == xxhash.xxh3_64_hexdigest(file.read_bytes())


@pytest.mark.slow
@pytest.mark.parametrize("parquet", [False, True])
@pytest.mark.parametrize("split", [None, "val"])
def test_the_manifest_counts_rows_by_split_and_source_as_they_are_in_the_store(
    tmp_path: Path, parquet: bool, split: Split | None
) -> None:
    path = source(tmp_path, 300)
    for number in range(0, 300, 7):
        (tmp_path / "images" / f"{number}.jpg").unlink()

    mmdata.convert(
        "llava",
        path,
        tmp_path / "store",
        parquet=parquet,
        split=split,
        options={"dataset_name": "mine"},
    )

    store = mmdata.open(tmp_path / "store")
    assert store.manifest.splits == Counter(row.split for row in store) == {split or "train": 257}
    assert store.manifest.sources == Counter(row.source for row in store) == {"mine": 257}
    assert (
        store.manifest.rejects
        == Counter(line["reason"] for line in store.rejects())
        == {"missing_media": 43}
    )
    assert (store.manifest.records_in, store.manifest.rows) == (300, 257)


def test_a_manifest_comes_back_as_it_was_written(tmp_path: Path) -> None:
    manifest = write(tmp_path / "store", [plain(0)]).manifest

    assert read_manifest(tmp_path / "store") == manifest


@pytest.mark.parametrize(
    "field", ["records_in", "rows", "rejects", "media_root", "created", "schema_version", "shards"]
)
def test_a_manifest_whose_field_was_edited_is_refused(tmp_path: Path, field: str) -> None:
    write(tmp_path / "store", [plain(0)])
    path = tmp_path / "store" / "manifest.json"
    values = json.loads(path.read_text())
    values[field] = {"rejects": {}, "shards": []}.get(field, values[field] and None)
    if field == "rejects":
        values["rejects"] = {"bad_json": 0}
    path.write_text(json.dumps(values, indent=1) + "\n")

    with pytest.raises(StoreError, match=r"manifest\.json"):
        mmdata.open(tmp_path / "store")


@pytest.mark.parametrize("change", [{"rows": 2}, {"records_in": 0}, {"rejects": {"bad_json": 1}}])
def test_an_account_that_does_not_balance_is_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    manifest = write(tmp_path / "store", [plain(0)]).manifest

    with pytest.raises(StoreError, match="does not balance"):
        replace(manifest, **change)  # type: ignore[arg-type]


def test_a_manifest_that_vouches_for_itself_but_does_not_balance_is_refused(tmp_path: Path) -> None:
    manifest = write(tmp_path / "store", [plain(0)]).manifest
    unbalanced = object.__new__(Manifest)
    for name, value in {
        **{f: getattr(manifest, f) for f in asdict(manifest)},
        "records_in": 7,
    }.items():
        object.__setattr__(unbalanced, name, value)
    write_manifest(unbalanced, tmp_path / "store")

    with pytest.raises(StoreError, match="does not balance"):
        mmdata.open(tmp_path / "store")


def test_a_file_where_a_store_should_be_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").touch()

    with pytest.raises(UsageError, match=r"no store at .*chats.jsonl; it is a file"):
        mmdata.open(tmp_path / "chats.jsonl")
    with pytest.raises(UsageError, match=r"no store at .*gone; `mmdata convert`"):
        mmdata.open(tmp_path / "gone")
