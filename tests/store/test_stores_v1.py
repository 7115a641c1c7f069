"""Stores that an earlier version of the library wrote open as before;
``stores_v1/make.py`` made those of this test.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmdata
from mmdata.conversion.prober import count_without_hash, media_faults
from mmdata.errors import StoreError
from mmdata.frame_cache import cache_frames, cached_frames
from mmdata.mixture import Mixture, write_mixture
from mmdata.schema import SCHEMA_VERSION, replace
from mmdata.store.decode import BatchView
from mmdata.store.encode import arrow_schema, encode, flatten, upgrade
from tests.conversations import plain
from tests.store.stores_v1.rows import CLIPS, REJECTS, ROWS
from tests.stores import write
from tests.video.clips import numbers_in

FOLDER = Path(__file__).parent / "stores_v1"
STORES = ("arrow", "parquet", "empty", "clips", "frames")


@pytest.mark.parametrize("name", ["arrow", "parquet"])
def test_an_earlier_store_gives_the_rows_it_was_made_from(name: str) -> None:
    store = mmdata.open(FOLDER / name)

    assert store.manifest.schema_version == 1
    assert tuple(store) == ROWS
    assert tuple(store[n] for n in range(len(store))) == ROWS
    assert tuple(store.rows()[1:4]) == ROWS[1:4]
    assert [line["id"] for line in store.rejects()] == [reject.id for reject in REJECTS]
    assert store.manifest.records_in == len(ROWS) + len(REJECTS)


@pytest.mark.parametrize("name", STORES)
def test_an_earlier_store_is_whole_and_its_table_is_of_this_schema(name: str) -> None:
    store = mmdata.open(FOLDER / name)

    assert mmdata.check(FOLDER / name) == []
    assert store.table.schema.equals(arrow_schema())
    store.table.validate(full=True)
    assert store.table.num_rows == len(store) == store.manifest.rows


@pytest.mark.parametrize("name", ["arrow", "parquet"])
def test_damage_of_an_earlier_store_is_found(tmp_path: Path, name: str) -> None:
    shutil.copytree(FOLDER / name, tmp_path / "store")
    shard = next((tmp_path / "store").glob("data-00001.*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)

    assert [fault.path for fault in mmdata.check(tmp_path / "store")] == [str(shard)]


def test_an_earlier_frame_cache_gives_its_frames() -> None:
    cached = mmdata.open(FOLDER / "frames")

    assert [row.messages for row in cached] == [row.messages for row in CLIPS]
    [whole], [part] = cached[0].media, cached[1].media
    assert numbers_in(cached_frames(whole).pixels) == [0, 3, 6, 9]
    assert numbers_in(cached_frames(part).pixels) == [4, 5, 7, 9]
    np.testing.assert_array_equal(cached_frames(part).times, [0.16, 0.2, 0.28, 0.36])
    assert replace(whole, frames=None, frame_times=None) == CLIPS[0].media[0]
    assert list(media_faults(cached, workers=1)) == []


def test_earlier_stores_are_mixed_with_new_ones_into_a_new_one(tmp_path: Path) -> None:
    new = [plain(number) for number in range(3)]
    write(tmp_path / "new", new)
    datasets = [
        f"{{store: {FOLDER / 'arrow'}}}",
        "{store: new}",
        f"{{store: {FOLDER / 'parquet'}}}",
    ]
    (tmp_path / "mix.yaml").write_text(f"datasets: [{', '.join(datasets)}]")

    mixed = write_mixture(Mixture.from_yaml(tmp_path / "mix.yaml"), tmp_path / "mixed")

    assert mixed.manifest.schema_version == SCHEMA_VERSION
    assert [row.messages for row in mixed] == [row.messages for row in (*ROWS, *new, *ROWS)]
    assert [row.source for row in mixed] == [row.source for row in (*ROWS, *new, *ROWS)]
    assert [row.id for row in mixed][: len(ROWS)] == [row.id for row in ROWS]


def test_frames_of_an_earlier_store_are_cached(tmp_path: Path) -> None:
    cache_frames(FOLDER / "clips", tmp_path / "frames", "uniform:4", media_root=FOLDER, workers=1)

    cached = mmdata.open(tmp_path / "frames")
    earlier = mmdata.open(FOLDER / "frames")
    assert cached.manifest.schema_version == SCHEMA_VERSION
    for new, old in zip(cached, earlier, strict=True):
        assert [medium.frame_times for medium in new.media] == [
            medium.frame_times for medium in old.media
        ]


def test_a_cache_of_an_earlier_cache_is_one_again(tmp_path: Path) -> None:
    cache_frames(FOLDER / "frames", tmp_path / "frames", "uniform:2", media_root=FOLDER, workers=1)

    assert [
        len(medium.frames or ()) for row in mmdata.open(tmp_path / "frames") for medium in row.media
    ] == [2, 2]


def test_the_media_of_an_earlier_store_are_looked_at_with_no_hash_to_compare() -> None:
    store = mmdata.open(FOLDER / "clips", media_root=FOLDER)

    assert (
        list(media_faults(store, "compare", workers=1))
        == list(media_faults(store, "decode", workers=1))
        == []
    )
    assert count_without_hash(store) == 2


@pytest.mark.parametrize("version", [0, -1, SCHEMA_VERSION + 1, "1", None])
def test_a_version_that_is_none_of_ours_is_refused_with_those_that_are(
    tmp_path: Path, version: object
) -> None:
    from dataclasses import replace as changed

    from mmdata.store.manifest import read_manifest, write_manifest

    shutil.copytree(FOLDER / "arrow", tmp_path / "store")
    manifest = read_manifest(tmp_path / "store")
    write_manifest(changed(manifest, schema_version=version), tmp_path / "store")  # type: ignore[arg-type]

    with pytest.raises(StoreError, match=f"reads versions 1 to {SCHEMA_VERSION}"):
        mmdata.open(tmp_path / "store")


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION + 1))
def test_a_shard_is_of_the_version_that_its_manifest_says(tmp_path: Path, version: int) -> None:
    from dataclasses import replace as changed

    from mmdata.store.manifest import read_manifest, write_manifest

    write(tmp_path / "store", [plain(0)])
    write_manifest(
        changed(read_manifest(tmp_path / "store"), schema_version=version), tmp_path / "store"
    )

    if version == SCHEMA_VERSION:
        assert list(mmdata.open(tmp_path / "store")) == [plain(0)]
    else:
        with pytest.raises(
            StoreError, match="its columns or batches are not what the manifest says"
        ):
            mmdata.open(tmp_path / "store")


def test_a_slice_of_an_earlier_batch_is_upgraded_as_the_whole_is() -> None:
    batch = mmdata.open(FOLDER / "arrow").table.combine_chunks().to_batches()[0]
    # each column by Arrow's own cast of Python values: an independent way to a batch of version 1
    import pyarrow as pa

    earlier = pa.RecordBatch.from_pylist(_without_new(batch.to_pylist()), schema=arrow_schema(1))

    assert upgrade(encode([flatten(ROWS)])).equals(encode([flatten(ROWS)]))
    for start in range(len(ROWS)):
        upgraded = upgrade(earlier.slice(start))
        upgraded.validate(full=True)
        assert upgraded.schema.equals(arrow_schema())
        view = BatchView(upgraded)
        assert tuple(view[n] for n in range(len(ROWS) - start)) == ROWS[start:]


def _without_new(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    known = {field.name for field in arrow_schema(1).field("media").type.value_type}
    for row in rows:
        row["media"] = [
            {key: value for key, value in medium.items() if key in known} for medium in row["media"]
        ]
    return rows


def test_every_version_adds_to_the_one_before_and_takes_nothing() -> None:
    import pyarrow as pa

    def fields(kind: pa.DataType, path: str = "") -> list[tuple[str, str]]:
        if pa.types.is_struct(kind):
            return [
                found
                for f in kind
                for found in [(f"{path}.{f.name}", ""), *fields(f.type, f"{path}.{f.name}")]
            ]
        if pa.types.is_list(kind):
            return fields(kind.value_type, path + "[]")
        return [(path, str(kind))]

    for version in range(1, SCHEMA_VERSION):
        before, after = (
            {found for f in arrow_schema(v) for found in [(f.name, ""), *fields(f.type, f.name)]}
            for v in (version, version + 1)
        )
        assert before < after
