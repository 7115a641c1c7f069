"""What was fetched of media is kept: the same bytes, within the limit, for many processes."""

from __future__ import annotations

import fcntl
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata import video
from mmdata.errors import StorageError, UsageError
from mmdata.frame_cache import cache_frames
from mmdata.pipeline import Stream
from mmdata.storage import Access, MediaCache, remote_path
from mmdata.storage._arrow import ArrowBackend
from mmdata.storage._cache import KnownContent, media_cache
from tests.pipeline.words import WordTemplate
from tests.storage.buckets import client
from tests.storage.test_remote_store import convert_there, fill_clips, put
from tests.storage.test_web_media import convert_urls, picture, rejects
from tests.storage.web import Web, serve

MIB = 1 << 20


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as served:
        yield served


def noise(seed: int, size: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def read_whole(cache: MediaCache, seed: int, size: int) -> list[tuple[int, int]]:
    """Read a content through a cache; return what was fetched of it."""
    fetched: list[tuple[int, int]] = []
    data = noise(seed, size)

    def fetch(start: int, count: int) -> bytes:
        fetched.append((start, count))
        return data[start : start + count]

    entry = cache.open(f"s3://b/{seed}", "1", size)
    assert entry is not None
    assert entry.read(0, size, fetch) == data
    entry.close()
    return fetched


def bytes_on_disk(cache: MediaCache) -> int:
    return sum(path.stat().st_blocks * 512 for path in cache.folder.glob("??/*"))


# --- the same bytes


@pytest.mark.slow
@given(
    size=st.integers(1, 300_000),
    reads=st.lists(st.tuples(st.integers(0, 300_000), st.integers(1, 90_000)), max_size=8),
)
def test_what_is_read_through_a_cache_is_what_is_there(
    tmp_path_factory: pytest.TempPathFactory, size: int, reads: list[tuple[int, int]]
) -> None:
    data, cache = noise(size, size), MediaCache(tmp_path_factory.mktemp("cache"))
    fetched: set[int] = set()

    def fetch(start: int, count: int) -> bytes:
        places = set(range(start, start + count))
        assert not places & fetched, "what is kept is fetched again"
        fetched.update(places)
        return data[start : start + count]

    for start, count in reads:
        start, end = min(start, size - 1), min(start + count, size)
        entry = cache.open("s3://b/a", "1", size)
        assert entry is not None
        assert entry.read(start, max(1, end - start), fetch) == data[start : max(start + 1, end)]


def test_another_version_of_an_object_is_fetched_anew(bucket: str, tmp_path: Path) -> None:
    url, access = f"s3://{bucket}/a", Access(cache=MediaCache(tmp_path))
    put(bucket, "a", b"one of its bytes")
    first = remote_path(url, access).read_bytes()

    # As large, and in the same second: only the ETag tells.
    put(bucket, "a", b"two of its bytes")
    second = remote_path(url, access).read_bytes()

    assert (first, second) == (b"one of its bytes", b"two of its bytes")


def test_an_object_that_is_replaced_while_it_is_read_is_not_kept(
    bucket: str, tmp_path: Path
) -> None:
    url, access = f"s3://{bucket}/a", Access(cache=MediaCache(tmp_path))
    put(bucket, "a", bytes(100))

    with remote_path(url, access).open_range() as file:
        put(bucket, "a", bytes(99) + b"1")
        with pytest.raises(StorageError, match="was replaced while it was read"):
            file.readall()

    assert remote_path(url, access).read_bytes() == bytes(99) + b"1"


def test_a_server_that_does_not_tell_contents_apart_is_asked_each_time(
    web: Web, tmp_path: Path
) -> None:
    web.files["/a"], web.etag = picture(), ""
    access = Access(remote=True, hosts=("127.0.0.1",), cache=MediaCache(tmp_path))

    for _ in range(2):
        assert remote_path(web.url("/a"), access).read_bytes() == picture()

    assert not list(tmp_path.iterdir())


# --- within the limit


@pytest.mark.slow
@given(sizes=st.lists(st.integers(1, 700_000), min_size=1, max_size=12))
def test_the_limit_holds_whatever_is_read(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    cache = MediaCache(tmp_path_factory.mktemp("cache"), MIB)

    for seed, size in enumerate(sizes):
        read_whole(cache, seed, size)
        assert bytes_on_disk(cache) <= MIB


def test_a_file_beyond_the_limit_is_read_and_the_limit_holds(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, MIB)

    for _ in range(2):
        assert read_whole(cache, 0, 3 * MIB)
        assert bytes_on_disk(cache) <= MIB


def test_what_was_read_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, MIB)
    for seed in range(3):
        read_whole(cache, seed, 300_000)
    read_whole(cache, 0, 300_000)

    read_whole(cache, 3, 300_000)

    assert read_whole(cache, 0, 300_000) == []
    assert read_whole(cache, 1, 300_000) != []


def test_what_others_have_in_the_folder_stays(tmp_path: Path) -> None:
    (tmp_path / "ab").mkdir()
    (tmp_path / "ab" / "notes.txt").write_bytes(bytes(MIB))
    (tmp_path / "film.mp4").write_bytes(bytes(MIB))

    for seed in range(4):
        read_whole(MediaCache(tmp_path, MIB), seed, 600_000)

    assert (tmp_path / "ab" / "notes.txt").exists()
    assert (tmp_path / "film.mp4").exists()


# --- what can go wrong


@pytest.mark.parametrize("place", [0, 4096, 4096 + 40_000])
def test_a_damaged_block_is_fetched_again_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, place: int
) -> None:
    cache = MediaCache(tmp_path)
    read_whole(cache, 0, 100_000)
    [path] = tmp_path.glob("??/*")
    with path.open("r+b") as file:
        file.seek(place)
        [old] = file.read(1)
        file.seek(place)
        file.write(bytes([old ^ 1]))

    with caplog.at_level(logging.WARNING, "mmdata"):
        fetched = read_whole(cache, 0, 100_000)

    assert [count for _, count in fetched] == [1 << 15]
    assert f"s3://b/0: block {fetched[0][0] >> 15} is damaged in the media cache" in caplog.text
    assert read_whole(cache, 0, 100_000) == []


@pytest.mark.parametrize("size", [0, 10, 5000, 70_000])
def test_an_entry_that_was_cut_is_fetched_again(tmp_path: Path, size: int) -> None:
    cache = MediaCache(tmp_path)
    read_whole(cache, 0, 100_000)
    [path] = tmp_path.glob("??/*")

    os.truncate(path, size)

    assert read_whole(cache, 0, 100_000) != []
    assert read_whole(cache, 0, 100_000) == []


def test_a_count_that_is_lost_is_made_again(tmp_path: Path) -> None:
    cache = MediaCache(tmp_path, MIB)
    for seed in range(3):
        read_whole(cache, seed, 300_000)

    (tmp_path / "used").write_text("no number")
    read_whole(cache, 3, 300_000)

    assert bytes_on_disk(cache) <= MIB


def test_a_folder_that_cannot_be_written_to_is_said_and_media_are_read(
    web: Web, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    web.files["/a"] = picture()
    (tmp_path / "file").touch()
    access = Access(remote=True, hosts=("127.0.0.1",), cache=MediaCache(tmp_path / "file" / "c"))

    with caplog.at_level(logging.WARNING, "mmdata"):
        found = [remote_path(web.url("/a"), access).read_bytes() for _ in range(2)]

    assert found == [picture(), picture()]
    assert caplog.text.count("nothing is kept in the media cache") == 1


READER = """
import sys
from pathlib import Path
from mmdata.storage import MediaCache
from tests.storage.test_media_cache import read_whole
cache = MediaCache(Path(sys.argv[1]), 1 << 20)
print("ready", flush=True)
for turn in range(int(sys.argv[2])):
    read_whole(cache, turn % 7, 200_000 + 1000 * (turn % 7))
"""


@contextmanager
def run_reader(folder: Path, turns: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", READER, str(folder), str(turns)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        assert started.stdout.readline() == "ready\n"
        yield started


@pytest.mark.slow
def test_two_processes_read_the_same_bytes_and_keep_to_the_limit(tmp_path: Path) -> None:
    largest = 0

    with run_reader(tmp_path, 60) as one, run_reader(tmp_path, 60) as other:
        while one.poll() is None or other.poll() is None:
            # While nobody writes: else what is removed is counted with what takes its place.
            with (tmp_path / "used").open("ab") as used:
                fcntl.flock(used, fcntl.LOCK_EX)
                largest = max(largest, bytes_on_disk(MediaCache(tmp_path)))

    assert [one.returncode, other.returncode] == [0, 0]
    assert 0 < largest <= MIB


@pytest.mark.slow
def test_a_reader_that_is_killed_leaves_nothing_wrong(tmp_path: Path) -> None:
    with run_reader(tmp_path, 100_000) as reader:
        threading.Event().wait(0.05)
        reader.kill()

    cache = MediaCache(tmp_path, MIB)
    for turn in range(7):
        read_whole(cache, turn, 200_000 + 1000 * turn)

    assert bytes_on_disk(cache) <= MIB


# --- those who read media


@pytest.mark.slow
def test_a_conversion_fetches_once_and_gives_the_same_store(web: Web, tmp_path: Path) -> None:
    web.files |= {"/0.png": picture(), "/1.png": b"no picture"}
    urls = [web.url("/0.png"), web.url("/1.png")]
    options: dict[str, Any] = {"check": "probe", "embed": True}
    without = convert_urls(tmp_path, urls, **options)
    fingerprint, refused = without.fingerprint, rejects(without)

    sent = []
    for _ in range(2):
        web.sent = 0
        store = convert_urls(tmp_path, urls, media_cache=tmp_path / "cache", **options)
        assert (store.fingerprint, rejects(store)) == (fingerprint, refused)
        sent.append(web.sent)

    # Each opening asks for the first byte, to learn which content is there.
    assert sent[1] < 30 < len(picture()) < sent[0]


def count_reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the bytes of each piece of an object that is fetched by this process from now on."""
    read, sizes = ArrowBackend.read, []

    def count(self: ArrowBackend, url: str, start: int, size: int, info: Any) -> bytes:
        sizes.append(size)
        return read(self, url, start, size, info)

    monkeypatch.setattr(ArrowBackend, "read", count)
    return sizes


@pytest.mark.slow
def test_the_second_epoch_of_a_stream_fetches_no_medium(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_clips(bucket, 2)
    store = convert_there(bucket, workers=1)
    options: dict[str, Any] = {"seq_length": 40, "batch_size": 1, "workers": 0}
    without = list(Stream(store, WordTemplate(), **options))
    stream = Stream(store, WordTemplate(), media_cache=f"{tmp_path}:1G", **options)
    fetched = count_reads(monkeypatch)

    first = list(stream)
    after_one_epoch = len(fetched)
    list(stream)

    assert after_one_epoch > 0
    assert len(fetched) == after_one_epoch
    for one, other in zip(first, without, strict=True):
        assert one.ids == other.ids
        assert all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


def count_questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the URLs that this process asks the storage of objects about from now on."""
    info, asked = ArrowBackend.info, []

    def count(self: ArrowBackend, url: str) -> Any:
        asked.append(url)
        return info(self, url)

    monkeypatch.setattr(ArrowBackend, "info", count)
    return asked


@pytest.mark.slow
def test_of_what_a_store_knows_the_second_epoch_asks_for_nothing(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill_clips(bucket, 2)
    store = convert_there(bucket, check="probe", workers=1)
    options: dict[str, Any] = {"seq_length": 40, "batch_size": 1, "workers": 0}
    stream = Stream(store, WordTemplate(), media_cache=tmp_path, **options)
    first = list(stream)
    asked, read = count_questions(monkeypatch), count_reads(monkeypatch)

    second = list(Stream(store, WordTemplate(), media_cache=tmp_path, **options))

    assert (asked, read) == ([], [])
    for one, other in zip(first, second, strict=True):
        assert all(np.array_equal(array, other.arrays[name]) for name, array in one.arrays.items())


def test_a_file_in_the_place_of_one_that_is_kept_in_part_is_refused(
    bucket: str, tmp_path: Path
) -> None:
    data = noise(0, 100_000)
    put(bucket, "a", data)
    access, known = Access(cache=MediaCache(tmp_path)), KnownContent(100_000, "xxh3:1")

    def read(start: int) -> bytes:
        with remote_path(f"s3://{bucket}/a", access, known).open_range() as file:
            file.seek(start)
            return file.read(100) or b""

    assert read(0) == data[:100]
    put(bucket, "a", noise(1, 100_000))

    assert read(0) == data[:100]
    with pytest.raises(StorageError, match="is not the file any more that the store was made of"):
        read(90_000)


def test_a_note_that_is_damaged_is_made_again(bucket: str, tmp_path: Path) -> None:
    put(bucket, "a", b"bytes")
    access, known = Access(cache=MediaCache(tmp_path)), KnownContent(5, "xxh3:1")
    path = remote_path(f"s3://{bucket}/a", access, known)

    for damage in (b"", b"?", b"no such version at all"):
        assert path.read_bytes() == b"bytes"
        [note] = [file for file in tmp_path.glob("??/*") if file.stat().st_size < 100]
        note.write_bytes(damage)

    assert path.read_bytes() == b"bytes"


@pytest.mark.slow
def test_frames_are_taken_of_clips_in_a_bucket(bucket: str, tmp_path: Path) -> None:
    fill_clips(bucket, 2)
    store = convert_there(bucket, check="probe", workers=1)
    options: dict[str, Any] = {"workers": 1, "codec": "webp", "media_cache": tmp_path / "cache"}

    report = cache_frames(store.path, tmp_path / "frames", "uniform:3", **options)

    assert report.rejects == {}
    data = client().get_object(Bucket=bucket, Key="media/0.mp4")["Body"].read()
    cached = mmdata.open(tmp_path / "frames")[0].media[0]
    assert cached.frame_times == tuple(video.sample(data, "uniform:3").times.tolist())
    assert bytes_on_disk(MediaCache(tmp_path / "cache")) > 0


# --- how it is named


@pytest.mark.parametrize(
    ("named", "folder", "size"),
    [
        ("/scratch/media", "/scratch/media", 64 << 30),
        ("/scratch/media:200G", "/scratch/media", 200 << 30),
        ("/scratch/media:1.5T", "/scratch/media", 3 << 39),
        ("/scratch/a:b", "/scratch/a:b", 64 << 30),
        (Path("/scratch/a:2G"), "/scratch/a:2G", 64 << 30),
        (MediaCache(Path("/x"), MIB), "/x", MIB),
    ],
)
def test_an_option_names_a_folder_and_a_limit(named: Any, folder: str, size: int) -> None:
    found = media_cache(named)

    assert found is not None
    assert (str(found.folder), found.max_bytes) == (folder, size)


@pytest.mark.parametrize(
    "call",
    [
        media_cache,
        lambda place: mmdata.convert("llava", "source.json", "store", media_cache=place),
        lambda place: cache_frames("store", "frames", "uniform:4", media_cache=place),
    ],
)
@pytest.mark.parametrize(
    ("place", "words"), [("s3://b/x", "s3://b/x"), ("/x:1K", "at least 1048576, found 1024")]
)
def test_a_place_that_is_none_is_refused(
    call: Callable[[str], object], place: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        call(place)
