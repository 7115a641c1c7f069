"""Sources, media and stores in a bucket, on a real server of this machine."""

from __future__ import annotations

import gzip
import io
import json
import multiprocessing
import pickle
import tarfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from click.testing import CliRunner
from PIL import Image

import mmdata
from mmdata.cli import cli
from mmdata.conversion import convert
from mmdata.errors import RecordError, StoreError, UsageError
from mmdata.pipeline import Stream
from mmdata.storage import path_of
from mmdata.store import check
from mmdata.store.writer import Origin, StoreWriter
from tests.conversations import plain
from tests.pipeline.words import WordTemplate
from tests.source_files import record, source
from tests.storage.buckets import client, keys
from tests.stores import write
from tests.video.clips import clip


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), number, np.uint8)).save(file, "PNG")
    return file.getvalue()


def fill(bucket: str, count: int) -> list[dict[str, Any]]:
    """Put records as JSON Lines and their pictures into a bucket; return the records."""
    records = [record(number) for number in range(count)]
    put(bucket, "data.jsonl", "\n".join(map(json.dumps, records)).encode())
    for number, one in enumerate(records):
        put(bucket, f"media/{one['image']}", picture(number))
    return records


def put(bucket: str, key: str, data: bytes) -> None:
    client().put_object(Bucket=bucket, Key=key, Body=data)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_whole_way_from_bucket_to_bucket_on_the_command_line(
    bucket: str, tmp_path: Path
) -> None:
    fill(bucket, 5)
    store, root = f"s3://{bucket}/store", f"s3://{bucket}/media"

    run("convert", "llava", f"s3://{bucket}/data.jsonl", "-o", store, "--media-root", root)

    assert f"{store} is whole: 5 rows" in run("check", store)
    assert "What is 0?" in run("show", store)
    assert root in run("info", store)
    assert [row.id for row in mmdata.open(store)] == [f"r{number}" for number in range(5)]
    assert not list(tmp_path.rglob("data-*"))


def test_a_path_with_two_slashes_costs_no_conversion(bucket: str) -> None:
    """As on a disk, they are one; where nothing is called so, the record is a reject."""
    put(bucket, "media/sub/0.png", picture(0))
    records = [record(0, image="sub//0.png"), record(1, image="sub//1.png")]
    put(bucket, "data.jsonl", "\n".join(map(json.dumps, records)).encode())

    store = convert_there(bucket)

    assert [row.media[0].path for row in store] == ["sub/0.png"]
    assert [line["reason"] for line in store.rejects()] == ["missing_media"]


def test_a_bucket_that_is_not_there_is_said_before_anything_is_read(bucket: str) -> None:
    put(bucket, "data.jsonl", b"no record")

    with pytest.raises(UsageError, match="there is no bucket 'nowhere'"):
        convert("llava", f"s3://{bucket}/data.jsonl", "s3://nowhere/store", strict=True)


def test_nothing_is_written_or_found_between_two_slashes(bucket: str, tmp_path: Path) -> None:
    fill(bucket, 1)

    with pytest.raises(UsageError, match="empty name between two slashes"):
        convert("llava", f"s3://{bucket}/data.jsonl", f"s3://{bucket}/a//store", check="none")
    with pytest.raises(UsageError, match="not found"):
        convert("llava", f"s3://{bucket}/a//data.jsonl", tmp_path / "store", check="none")


def convert_there(bucket: str, **options: Any) -> mmdata.Store:
    """Convert what :func:`fill` has put into a bucket, to a store in it."""
    store = f"s3://{bucket}/store"
    root = f"s3://{bucket}/media"
    convert("llava", f"s3://{bucket}/data.jsonl", store, **{"media_root": root, **options})
    return mmdata.open(store)


def convert_here(folder: Path, bucket: str, **options: Any) -> mmdata.Store:
    """Convert a copy of the same on this machine."""
    download(bucket, folder)
    source, root = folder / "data.jsonl", folder / "media"
    convert("llava", source, folder / "store", **{"media_root": root, **options})
    return mmdata.open(folder / "store")


def download(bucket: str, folder: Path) -> None:
    for key in keys(bucket):
        if not key.startswith("store/"):
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            client().download_file(bucket, key, str(folder / key))


def pack(kind: str, records: list[dict[str, Any]], folder: Path) -> bytes:
    """Return records as a file of a kind."""
    lines = "\n".join(map(json.dumps, records)).encode()
    table = pa.Table.from_pylist(records)
    file = folder / f"packed.{kind}"
    if kind == "json":
        return json.dumps(records).encode()
    if kind == "jsonl.gz":
        return gzip.compress(lines)
    if kind == "jsonl.zst":
        return zstandard.compress(lines)
    if kind == "parquet":
        pq.write_table(table, file, row_group_size=2)
    elif kind == "arrow":
        with pa.ipc.new_file(str(file), table.schema) as writer:
            writer.write_table(table)
    else:
        with tarfile.open(file, "w") as archive:
            for number, one in enumerate(records):
                data = json.dumps(one).encode()
                header = tarfile.TarInfo(f"{number:04d}.json")
                header.size = len(data)
                archive.addfile(header, io.BytesIO(data))
    return file.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["json", "jsonl.gz", "jsonl.zst", "parquet", "arrow", "tar"])
def test_a_source_of_any_kind_gives_the_same_store_from_a_bucket(
    bucket: str, tmp_path: Path, kind: str
) -> None:
    data = pack(kind, fill(bucket, 7), tmp_path)
    put(bucket, f"packed.{kind}", data)
    (tmp_path / f"packed.{kind}").write_bytes(data)
    options: dict[str, Any] = {"media_root": f"s3://{bucket}/media"}

    convert("auto", f"s3://{bucket}/packed.{kind}", tmp_path / "there", **options)
    convert("auto", tmp_path / f"packed.{kind}", tmp_path / "here", **options)

    there, here = mmdata.open(tmp_path / "there"), mmdata.open(tmp_path / "here")
    assert len(there) == 7
    assert there.fingerprint == here.fingerprint


@pytest.mark.slow
def test_a_folder_in_a_bucket_stands_for_its_files_and_not_for_a_store_below(bucket: str) -> None:
    fill(bucket, 3)
    more = json.dumps(record(9, image="images/0.jpg"))
    put(bucket, "part/more.jsonl", more.encode())
    root = f"s3://{bucket}/media"
    convert("llava", f"s3://{bucket}/data.jsonl", f"s3://{bucket}/part/store", media_root=root)

    report = convert("auto", f"s3://{bucket}/part", f"s3://{bucket}/second", media_root=root)

    assert [row.id for row in mmdata.open(f"s3://{bucket}/second")] == ["r9"]
    assert report.rows == 1


def test_an_export_names_media_in_a_bucket_and_copies_none(bucket: str, tmp_path: Path) -> None:
    fill(bucket, 1)
    convert_there(bucket)
    place = tmp_path / "exported"

    run("export", "messages", f"s3://{bucket}/store", "-o", str(place), "--paths", "absolute")

    written = "".join(file.read_text() for file in place.rglob("*.json*"))
    assert f"s3://{bucket}/media/images/0.jpg" in written
    assert f"{tmp_path}" not in written.replace(str(place), "")


@pytest.mark.slow
@pytest.mark.parametrize("pattern", ["*.json", "**/*.json", "a/*", "**/*", "a/**/b/*.json"])
def test_patterns_find_in_a_bucket_what_they_find_in_a_folder(
    bucket: str, tmp_path: Path, pattern: str
) -> None:
    for name in ("1.json", "a/2.json", "a/b/3.json", "a/c/b/4.json", "a/5.txt"):
        put(bucket, name, b"{}")
    download(bucket, tmp_path)

    there = [str(path).removeprefix(f"s3://{bucket}/") for path in root(bucket).glob(pattern)]

    found = (path for path in tmp_path.glob(pattern) if path.is_file())
    assert there == sorted(path.relative_to(tmp_path).as_posix() for path in found)


def root(bucket: str) -> Path:
    return path_of(f"s3://{bucket}", "source")


def test_the_usual_media_root_is_the_folder_of_the_source(bucket: str) -> None:
    fill(bucket, 2)
    put(bucket, "media/data.jsonl", json.dumps(record(1)).encode())

    convert("llava", f"s3://{bucket}/media/data.jsonl", f"s3://{bucket}/store")

    assert str(mmdata.open(f"s3://{bucket}/store").media_root) == f"s3://{bucket}/media"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{"check": "probe"}, {"check": "decode", "parquet": True}, {"embed": True}]
)
def test_media_in_a_bucket_are_looked_into_as_on_this_machine(
    bucket: str, tmp_path: Path, options: dict[str, Any]
) -> None:
    fill_clips(bucket, 2)

    there = convert_there(bucket, workers=1, **options)
    here = convert_here(tmp_path, bucket, workers=1, **options)

    assert len(there) == 3
    assert list(there) == list(here)
    assert there.fingerprint == here.fingerprint


def fill_clips(bucket: str, count: int) -> None:
    """Put records of clips and of one picture into a bucket."""
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "That."}]
    records = [
        {"id": f"v{number}", "video": f"{number}.mp4", "conversations": turns}
        for number in range(count)
    ] + [record(0)]
    for number in range(count):
        put(bucket, f"media/{number}.mp4", clip("libx264", "mp4", range(20), first=number))
    put(bucket, "media/images/0.jpg", picture(0))
    put(bucket, "data.jsonl", "\n".join(map(json.dumps, records)).encode())


@pytest.mark.slow
def test_a_stream_from_a_bucket_gives_the_batches_of_one_from_a_disk(
    bucket: str, tmp_path: Path
) -> None:
    fill_clips(bucket, 3)
    there = convert_there(bucket, check="probe", workers=1)
    here = convert_here(tmp_path, bucket, check="probe", workers=1)
    options: dict[str, Any] = {"seq_length": 40, "batch_size": 2, "pixels": "uint8"}

    ours, theirs = (
        list(Stream(store, WordTemplate(), workers=2, isolated=isolated, **options))
        for store, isolated in ((there, True), (here, False))
    )

    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        assert one.ids == other.ids
        for name, array in one.arrays.items():
            assert np.array_equal(array, other.arrays[name])


def test_a_medium_that_is_not_there_is_a_reject(bucket: str) -> None:
    fill(bucket, 3)
    client().delete_object(Bucket=bucket, Key="media/images/1.jpg")

    store = convert_there(bucket)

    assert [row.id for row in store] == ["r0", "r2"]
    assert [(one["id"], one["reason"]) for one in store.rejects()] == [("r1", "missing_media")]


def test_a_medium_outside_the_root_in_a_bucket_is_a_reject(bucket: str) -> None:
    fill(bucket, 1)
    names = ["../secret.jpg", f"s3://{bucket}/secret.jpg", "/etc/passwd", "s3://other/a.jpg"]
    records = [record(number, image=name) for number, name in enumerate(names)]
    put(bucket, "data.jsonl", "\n".join(map(json.dumps, records)).encode())
    put(bucket, "secret.jpg", picture(1))

    store = convert_there(bucket)

    reasons = [one["reason"] for one in store.rejects()]
    assert reasons == [
        "outside_media_root",
        "remote_media",
        "outside_media_root",
        "remote_media",
    ]


def test_a_url_below_the_root_is_read_as_a_path_below_it(bucket: str) -> None:
    fill(bucket, 1)
    named = record(0, image=f"s3://{bucket}/media/images/0.jpg")
    put(bucket, "data.jsonl", json.dumps(named).encode())

    assert convert_there(bucket)[0].media[0].path == "images/0.jpg"


@pytest.mark.slow
def test_media_that_have_changed_in_a_bucket_are_found(bucket: str) -> None:
    fill(bucket, 3)
    convert_there(bucket, check="probe", workers=1)
    put(bucket, "media/images/1.jpg", picture(7))
    client().delete_object(Bucket=bucket, Key="media/images/2.jpg")

    result = CliRunner().invoke(cli, ["check", f"s3://{bucket}/store", "--media"])

    assert result.exit_code == 1
    assert "[changed_media]" in result.output
    assert "[missing_media]" in result.output


# --- whole or not at all


@pytest.mark.slow
def test_a_damaged_shard_and_a_missing_one_are_named(bucket: str) -> None:
    fill(bucket, 3)
    convert_there(bucket)
    [shard] = [key for key in keys(bucket, "store/") if key.endswith(".arrow")]
    data = client().get_object(Bucket=bucket, Key=shard)["Body"].read()

    put(bucket, shard, data[:600] + bytes([data[600] ^ 1]) + data[601:])
    [fault] = check(f"s3://{bucket}/store")
    client().delete_object(Bucket=bucket, Key=shard)
    [gone] = check(f"s3://{bucket}/store")

    assert "do not match their hash" in str(fault)
    assert shard in str(fault)
    assert "data-00000.arrow is missing" in str(gone)


def test_what_is_replaced_within_a_second_is_read_whole(bucket: str) -> None:
    place = path_of(f"s3://{bucket}/a.json", "source")

    for size in (3, 5, 2, 4):
        put(bucket, "a.json", b"x" * size)
        assert place.read_bytes() == b"x" * size


@pytest.mark.slow
def test_a_store_that_is_there_is_replaced_only_where_that_is_said(bucket: str) -> None:
    fill(bucket, 3)
    convert_there(bucket)
    before = keys(bucket, "store/")

    with pytest.raises(UsageError, match="--overwrite"):
        convert_there(bucket, limit=1)
    kept = keys(bucket, "store/")
    after = convert_there(bucket, limit=1, overwrite=True)

    assert kept == before
    assert len(after) == 1
    assert len(keys(bucket, "store/")) == 3
    assert set(keys(bucket, "store/")) & set(before) == {"store/manifest.json"}


def test_an_attempt_that_fails_leaves_nothing(bucket: str) -> None:
    fill(bucket, 3)
    put(bucket, "data.jsonl", b"{}\n" + json.dumps(record(0)).encode())

    with pytest.raises(RecordError):
        convert_there(bucket, strict=True)

    assert keys(bucket, "store") == []


@pytest.mark.slow
def test_of_many_shards_those_that_were_sent_are_removed_where_one_fails(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmdata.store.writer.BATCH_RECORDS", 1)
    monkeypatch.setattr("mmdata.store.writer._SHARD_BYTES", 1)
    place = path_of(f"s3://{bucket}/store", "store")
    sent: list[str] = []

    with (
        pytest.raises(KeyboardInterrupt),
        StoreWriter(place, sources=["numbers"], origin=Origin("test", {})) as writer,
    ):
        writer.write_conversations(map(plain, range(3)))
        sent = keys(bucket, "store/")
        raise KeyboardInterrupt
    left = keys(bucket, "store")
    whole = write(place, list(map(plain, range(3))))

    assert len(sent) > 1  # a batch that may still grow is not sent
    assert left == []
    assert [row.id for row in whole] == [plain(number).id for number in range(3)]
    assert len(whole.manifest.shards) == 3
    assert check(place) == []


def test_what_a_killed_attempt_has_left_is_no_store_and_is_removed(bucket: str) -> None:
    fill(bucket, 3)
    put(bucket, "store/runs/0123/data-00000.arrow", b"half")

    with pytest.raises(StoreError, match="is not a store"):
        mmdata.open(f"s3://{bucket}/store")
    convert_there(bucket)

    assert len(keys(bucket, "store/")) == 3
    assert not keys(bucket, "store/runs/0123")


def test_a_place_with_other_objects_is_not_written_to(bucket: str) -> None:
    fill(bucket, 1)
    put(bucket, "store/precious.txt", b"precious")

    with pytest.raises(UsageError, match="exists and is not a store"):
        convert_there(bucket)


@pytest.mark.slow
@pytest.mark.parametrize("overwrite", [False, True])
def test_of_two_machines_that_write_one_store_the_second_is_refused(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overwrite: bool
) -> None:
    place = path_of(f"s3://{bucket}/store", "store")
    if overwrite:
        write(place, [plain(0)])
    origin = Origin("test", {})
    options: dict[str, Any] = {"sources": ["numbers"], "origin": origin, "overwrite": overwrite}

    refused = pytest.raises(StoreError, match="another process has written a store")
    with refused, StoreWriter(place, **options) as first:
        first.write_conversations([plain(1)])
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "of another machine"))
        with StoreWriter(place, **options) as second:
            second.write_conversations([plain(2)])

    assert [row.id for row in mmdata.open(place)] == [plain(2).id]
    assert check(place) == []
    assert len(keys(bucket, "store/")) == 3


@pytest.mark.slow
def test_of_two_processes_of_one_machine_the_second_is_refused_at_once(bucket: str) -> None:
    place = path_of(f"s3://{bucket}/store", "store")
    origin = Origin("test", {})

    with StoreWriter(place, sources=["numbers"], origin=origin) as writer:
        refused = pytest.raises(StoreError, match=f"s3://{bucket}/store: another process")
        with refused, StoreWriter(place, sources=["numbers"], origin=origin):
            pass
        writer.write_conversations([plain(1)])

    assert len(mmdata.open(place)) == 1


def test_a_store_in_a_bucket_travels_to_another_process(bucket: str) -> None:
    place = path_of(f"s3://{bucket}/store", "store")
    store = write(place, [plain(number) for number in range(3)])

    assert list(pickle.loads(pickle.dumps(store))) == list(store)
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(last_id, store).result(30) == plain(2).id


def last_id(store: mmdata.Store) -> str:
    return store[-1].id


# --- what takes no URL says so


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "messages", "STORE", "-o", "s3://b/x"],
        ["preview", "STORE", "-o", "s3://b/x.html"],
        ["frames", "STORE", "-o", "gs://b/x", "--frames", "uniform:2"],
        ["convert", "llava", "SOURCE", "-o", "gs://b/x"],
        ["convert", "llava", "SOURCE", "-o", "https://b/x"],
        ["select", "STORE", "-o", "gs://b/x"],
        ["merge", "STORE", "STORE", "-o", "hf://b/x"],
    ],
    ids=" ".join,
)
def test_what_cannot_write_to_a_url_says_so_and_makes_no_folder_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "STORE", [plain(0)])
    source(tmp_path, 1).rename(tmp_path / "SOURCE")
    before = sorted(tmp_path.iterdir())

    result = CliRunner().invoke(cli, arguments)

    assert isinstance(result.exception, UsageError), result.output
    assert "://b/x" in str(result.exception)
    assert sorted(tmp_path.iterdir()) == before
