"""A URL as a path: what reading takes is there, and nothing is written by it."""

from __future__ import annotations

import os
import pickle
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmdata.errors import StorageError, UsageError
from mmdata.storage import Access, path_of, remote_path
from mmdata.storage._arrow import ArrowBackend
from mmdata.storage._media import path_of_medium
from mmdata.storage._path import RemotePath, common_folder
from tests.storage.buckets import client


def at(url: str) -> RemotePath:
    path = path_of(url, "source")
    assert isinstance(path, RemotePath)
    return path


def test_a_url_keeps_its_slashes_on_every_way() -> None:
    path = at("s3://bucket/a/b.json")

    assert str(path_of(Path("s3://bucket/a/b.json"), "source")) == str(path)
    assert str(path.parent) == "s3://bucket/a"
    assert str(path.parent / "c" / "d.jpg") == "s3://bucket/a/c/d.jpg"
    assert str(path.with_name("x")) == "s3://bucket/a/x"
    assert str(at("s3://bucket").parent) == "s3://bucket"
    assert (path.name, path.stem, path.suffix) == ("b.json", "b", ".json")


def test_a_url_with_a_query_stays_as_it_is() -> None:
    url = "https://host/a//b?c=http://d/e"

    assert str(remote_path(url, Access(remote=True))) == url


def test_what_may_be_read_travels_with_a_path() -> None:
    path = remote_path("https://host/a", Access(remote=True, hosts=("host",)))

    assert pickle.loads(pickle.dumps(path)).access == path.access
    assert (path.parent / "b").access == path.access


def test_files_of_two_buckets_have_no_folder_together() -> None:
    assert str(common_folder([at("s3://b/x/1"), at("s3://b/x/y/2")])) == "s3://b/x"
    with pytest.raises(UsageError, match="in no folder together"):
        common_folder([at("s3://b/1"), at("s3://c/1")])


@pytest.mark.parametrize("name", ["mkdir", "touch", "unlink", "rmdir"])
def test_nothing_is_written_by_it(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(UsageError, match="s3://bucket/a cannot be written"):
        getattr(at("s3://bucket/a"), name)()

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("url", ["simplecache::https://host/a", "s3://b/a::http://host/b"])
def test_a_url_in_a_url_is_no_way_around_what_may_be_read(url: str) -> None:
    with pytest.raises((UsageError, StorageError)):
        path = path_of(url, "source")
        if isinstance(path, RemotePath):
            path.info()
        else:
            raise UsageError(f"{path} is a path of this machine")


@pytest.mark.parametrize("url", ["file:///etc/passwd", "memory://a", "local://a", "http://host/a"])
def test_a_record_names_no_other_storage_than_is_known(url: str) -> None:
    with pytest.raises(StorageError):
        path_of_medium(url)


@pytest.fixture
def memory() -> Iterator[str]:
    """A folder in fsspec's memory."""
    import fsspec

    files, folder = fsspec.filesystem("memory"), uuid.uuid4().hex
    files.pipe(f"/{folder}/a.txt", b"hello")
    files.pipe(f"/{folder}/b/c.txt", b"deep")
    yield f"memory://{folder}"
    files.rm(f"/{folder}", recursive=True)


def test_what_fsspec_knows_is_read_as_a_folder_is(memory: str) -> None:
    folder = at(memory)

    assert folder.is_dir()
    assert [path.name for path in folder.iterdir()] == ["a.txt", "b"]
    assert [path.name for path in folder.rglob("*.txt")] == ["a.txt", "c.txt"]
    assert (folder / "a.txt").read_text() == "hello"
    assert (folder / "a.txt").stat().st_size == 5
    assert not (folder / "none").exists()
    with (folder / "b" / "c.txt").open("rb") as file:
        file.seek(2)
        assert file.read() == b"ep"


def test_a_scheme_that_nobody_knows_is_said() -> None:
    with pytest.raises(UsageError, match="nosuch://"):
        at("nosuch://a/b").exists()


def test_a_fault_at_a_name_that_reads_like_a_refusal_is_no_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A refusal is final, and a fault is worth another attempt."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    nobody = ArrowBackend("s3", "http://127.0.0.1:1")

    with pytest.raises(OSError, match="ACCESS_DENIED-403") as raised:
        nobody.info("s3://bucket/ACCESS_DENIED-403.jpg")
    assert not isinstance(raised.value, PermissionError)


@pytest.mark.slow
def test_a_refusal_names_the_object_and_says_whose_credentials_count(
    bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"s3://{bucket}/data.json"
    client().put_object(Bucket=bucket, Key="data.json", Body=b"[]")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)

    with pytest.raises(PermissionError, match="AWS_PROFILE") as raised:
        ArrowBackend("s3", os.environ["AWS_ENDPOINT_URL"]).info(url)
    assert raised.value.filename == url
