"""Sources, media and stores in Google's storage and on the Hub, from a server of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import mmdata
from mmdata.conversion import convert
from mmdata.errors import StorageError, UsageError
from mmdata.storage import Access, MediaCache, path_of, remote_path
from mmdata.store import check
from tests.source_files import record
from tests.storage.cloud import COMMIT, run_server
from tests.storage.test_remote_store import pack, picture
from tests.video.clips import clip


@dataclass(frozen=True)
class Cloud:
    """At ``url`` are the files of ``folder``; ``server`` is the folder of all that is there."""

    url: str
    folder: Path
    server: Path

    def sent(self) -> list[tuple[str, int]]:
        """The names and bytes of the pieces that were sent, in order."""
        lines = (self.server / "asked").read_text().splitlines()
        return [(name, int(size)) for name, size in (line.rsplit(" ", 1) for line in lines)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    folder = tmp_path_factory.mktemp("served")
    with run_server(folder) as endpoint:
        yield folder, endpoint


@pytest.fixture(params=["gs", "hf"])
def cloud(
    served: tuple[Path, str],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Cloud:
    """An empty bucket of Google's storage, or an empty data set of the Hub."""
    server, endpoint = served
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", endpoint)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    (server / "asked").write_text("")
    name = tmp_path.name.lower().replace("_", "-")
    folder = server / name if request.param == "gs" else server / "user" / name
    folder.mkdir(parents=True)
    url = f"gs://{name}" if request.param == "gs" else f"hf://datasets/user/{name}"
    return Cloud(url, folder, server)


def fill(folder: Path) -> None:
    """Put records of two clips, one of them given as pictures, and of a picture into a folder."""
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "That."}]
    records: list[dict[str, Any]] = [
        {"id": "clip", "video": "clips/0.mp4", "conversations": turns},
        {"id": "folder", "video": "clips/v_1.2", "conversations": turns},
        record(0),
        record(1, image="images/gone.jpg"),
    ]
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, records)))
    for name in ("images", "clips/v_1.2"):
        (folder / "media" / name).mkdir(parents=True)
    (folder / "media/clips/0.mp4").write_bytes(clip("libx264", "mp4", range(20)))
    (folder / "media/images/0.jpg").write_bytes(picture(0))
    for number in range(3):
        frame = folder / f"media/clips/v_1.2/{number}.png"
        Image.new("RGB", (16, 12), (number, 0, 0)).save(frame)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"check": "exists"}, {"check": "probe"}, {"check": "decode"}, {"embed": True}],
    ids=str,
)
def test_a_conversion_from_afar_gives_the_store_of_one_on_this_machine(
    cloud: Cloud, tmp_path: Path, options: dict[str, Any]
) -> None:
    fill(cloud.folder)

    stores: list[mmdata.Store] = []
    for place in (cloud.url, str(cloud.folder)):
        target = tmp_path / f"store{len(stores)}"
        convert(
            "llava",
            f"{place}/data.jsonl",
            target,
            media_root=f"{place}/media",
            workers=1,
            **options,
        )
        stores.append(mmdata.open(target))

    there, here = stores
    assert [row.id for row in there] == ["clip", "folder", "r0"]
    assert there.fingerprint == here.fingerprint
    assert [one["reason"] for one in there.rejects()] == ["missing_media"]


@pytest.mark.slow
def test_a_store_is_read_from_afar_and_its_media_are_checked(cloud: Cloud) -> None:
    fill(cloud.folder)
    root = f"{cloud.url}/media"
    convert(
        "llava",
        cloud.folder / "data.jsonl",
        cloud.folder / "store",
        media_root=cloud.folder / "media",
        check="probe",
        workers=1,
    )

    there = mmdata.open(f"{cloud.url}/store", media_root=root)

    assert list(there) == list(mmdata.open(cloud.folder / "store"))
    assert check(f"{cloud.url}/store") == []
    assert there.locate(there[0].media[0]) == f"{root}/clips/0.mp4"


@pytest.mark.slow
def test_files_of_a_folder_are_found_by_its_name_and_by_patterns(
    cloud: Cloud, tmp_path: Path
) -> None:
    for number in range(3):
        for kind in ("parquet", "tar"):
            (cloud.folder / kind).mkdir(exist_ok=True)
            data = pack(kind, [record(number)], tmp_path)
            (cloud.folder / kind / f"{number}.{kind}").write_bytes(data)

    for number, name in enumerate(
        ["tar", "tar/{0..2}.tar", "tar/*.tar", "parquet/*", "*/{0,1,2}.tar", "**/[0-2].parquet"]
    ):
        store = tmp_path / str(number)
        convert("llava", f"{cloud.url}/{name}", store, check="none")
        assert [row.id for row in mmdata.open(store)] == ["r0", "r1", "r2"]


@pytest.mark.parametrize("cloud", ["hf"], indirect=True)
def test_no_more_is_fetched_than_is_asked_for(cloud: Cloud) -> None:
    data = bytes(range(256)) * 4000
    (cloud.folder / "a.bin").write_bytes(data)

    with remote_path(f"{cloud.url}/a.bin").open_range() as file:
        file.seek(500_000)
        assert file.read(100) == data[500_000:500_100]

    # Blocks of 32 KiB.
    assert sum(size for _, size in cloud.sent()) <= 1 << 16


def test_what_is_not_there_is_not(cloud: Cloud) -> None:
    (cloud.folder / "a").mkdir()
    (cloud.folder / "a/b.bin").write_bytes(b"1")

    found = [path_of(f"{cloud.url}/{name}", "source") for name in ("a", "a/b.bin", "a/c.bin")]

    assert [path.exists() for path in found] == [True, True, False]
    assert [path.is_dir() for path in found] == [True, False, False]
    with pytest.raises(FileNotFoundError):
        found[2].read_bytes()
    with pytest.raises(UsageError, match="not found"):
        convert("llava", f"{cloud.url}/c.json", "store")


def test_a_cache_keeps_what_was_fetched(cloud: Cloud, tmp_path: Path) -> None:
    (cloud.folder / "a.bin").write_bytes(bytes(100_000))
    access = Access(cache=MediaCache(tmp_path / "cache"))

    found = [remote_path(f"{cloud.url}/a.bin", access).read_bytes() for _ in range(3)]

    assert found == [bytes(100_000)] * 3
    assert sum(size for _, size in cloud.sent()) == 100_000


@pytest.mark.parametrize("cloud", ["hf"], indirect=True)
@pytest.mark.parametrize("revision", ["main", "v1.0", COMMIT])
def test_a_revision_of_a_data_set_is_read_by_its_commit(cloud: Cloud, revision: str) -> None:
    (cloud.folder / "a").mkdir()
    (cloud.folder / "a/b.bin").write_bytes(b"1")
    root = remote_path(f"{cloud.url}@{revision}")

    # The server sends nothing by the name of a branch.
    assert [(str(path), path.read_bytes()) for path, _ in root.files()] == [
        (f"{cloud.url}@{revision}/a/b.bin", b"1")
    ]


@pytest.mark.parametrize("cloud", ["hf"], indirect=True)
def test_a_data_set_that_is_not_there_is_said(cloud: Cloud) -> None:
    with pytest.raises((FileNotFoundError, StorageError), match="user/nothing"):
        remote_path("hf://datasets/user/nothing/a.bin").read_bytes()
