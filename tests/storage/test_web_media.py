"""Media behind URLs that records name: looked into where that is allowed, and rejects else."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image

import mmdata
from mmdata.conversion import convert
from mmdata.schema import replace
from mmdata.storage._path import RemotePath
from tests.source_files import record, write_records
from tests.storage.web import Web, serve
from tests.video.clips import clip


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as served:
        yield served


HERE: dict[str, Any] = {"allow_remote": True, "allow_hosts": "127.0.0.1", "workers": 1}


def convert_urls(folder: Path, urls: list[str], **options: Any) -> mmdata.Store:
    records = [record(number, image=url) for number, url in enumerate(urls)]
    source = write_records(folder / "source.json", records)
    convert("llava", source, folder / "store", overwrite=True, **{**HERE, **options})
    return mmdata.open(folder / "store")


def picture() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((6, 9, 3), np.uint8)).save(file, "PNG")
    return file.getvalue()


def rejects(store: mmdata.Store) -> list[tuple[str, str]]:
    return [(one["reason"], one["detail"]) for one in store.rejects()]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_picture_behind_a_url_is_really_looked_into(
    web: Web, tmp_path: Path, ranges: bool
) -> None:
    web.files |= {"/0.png": picture(), "/1.png": b"no picture"}
    web.ranges = ranges

    store = convert_urls(tmp_path, [web.url("/0.png"), web.url("/1.png")], check="probe")

    [medium] = store[0].media
    assert (medium.path, medium.width, medium.height) == (web.url("/0.png"), 9, 6)
    assert medium.size == len(picture())
    assert [reason for reason, _ in rejects(store)] == ["unreadable_media"]


def test_a_picture_behind_a_url_is_embedded(web: Web, tmp_path: Path) -> None:
    web.files["/0.png"] = picture()

    store = convert_urls(tmp_path, [web.url("/0.png")], embed=True, check="probe")

    assert store[0].media[0].bytes == picture()


def test_what_is_embedded_is_fetched_by_other_processes(
    web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.files |= {f"/{number}.png": picture() + bytes(number) for number in range(3)}

    def refuse(path: RemotePath) -> bytes:
        raise AssertionError(f"this process reads {path}")

    monkeypatch.setattr(RemotePath, "read_bytes", refuse)
    urls = [web.url(f"/{number}.png") for number in (2, 0, 9, 1)]
    store = convert_urls(tmp_path, urls, embed=True, workers=2)

    assert [row.media[0].bytes for row in store] == [
        picture() + bytes(number) for number in (2, 0, 1)
    ]


def test_a_clip_behind_a_url_is_looked_into(web: Web, tmp_path: Path) -> None:
    web.files["/0.mp4"] = clip("libx264", "mp4", range(20))
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "That."}]
    one = {"id": "v", "video": web.url("/0.mp4"), "conversations": turns}
    source = write_records(tmp_path / "source.json", [one])

    convert(
        "llava",
        source,
        tmp_path / "store",
        check="decode",
        allow_remote=True,
        allow_hosts=["127.0.0.1"],
        workers=1,
    )

    assert mmdata.open(tmp_path / "store")[0].media[0].num_frames == 20


@pytest.mark.parametrize("check", ["probe", "decode"])
def test_a_clip_is_fetched_once_to_be_hashed_and_to_be_looked_into(
    web: Web, tmp_path: Path, check: Literal["probe", "decode"]
) -> None:
    data = web.files["/0.mkv"] = clip("libx264", "matroska", range(200))
    turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": "That."}]
    one = {"id": "v", "video": web.url("/0.mkv"), "conversations": turns}
    source = write_records(tmp_path / "source.json", [one])

    convert("llava", source, tmp_path / "store", check=check, **HERE)

    assert mmdata.open(tmp_path / "store")[0].media[0].num_frames == 200
    assert web.sent < len(data) + 100


def test_a_source_is_fetched_once_to_be_hashed_and_to_be_read(web: Web, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That. " * 2000}]
    records = [{"id": str(number), "conversations": turns} for number in range(100)]
    data = web.files["/source.json"] = json.dumps(records).encode()

    report = convert("llava", web.url("/source.json"), tmp_path / "store", check="none", **HERE)

    assert report.rows == 100
    assert web.sent < len(data) + 100


def test_what_cannot_be_fetched_is_a_reject_with_the_status(web: Web, tmp_path: Path) -> None:
    web.files |= {"/403.png": 403, "/418.png": 418, "/0.png": b""}

    store = convert_urls(
        tmp_path, [web.url(f"/{name}.png") for name in ("404", "403", "418", "0")], limit=4
    )

    found = rejects(store)
    assert [reason for reason, _ in found] == [
        "missing_media",
        "remote_media",
        "remote_media",
        "empty_media",
    ]
    for status, (_, detail) in zip(("HTTP 404", "HTTP 403", "HTTP 418"), found, strict=False):
        assert status in detail


def test_a_url_of_this_network_is_a_reject_and_is_not_asked(web: Web, tmp_path: Path) -> None:
    web.files["/secret.png"] = picture()

    store = convert_urls(tmp_path, [web.url("/secret.png")], allow_hosts=[], check="probe")

    [(reason, detail)] = rejects(store)
    assert reason == "remote_media"
    assert "--allow-host 127.0.0.1" in detail
    assert not web.asked


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/a.png", "memory://a.png", "github://a:b@c/d.png"])
def test_a_scheme_that_could_lead_anywhere_is_a_reject(tmp_path: Path, url: str) -> None:
    [(reason, detail)] = rejects(convert_urls(tmp_path, [url]))

    assert reason == "remote_media"
    assert "media are read from" in detail


@pytest.mark.parametrize(
    "options", [{"check": "exists"}, {"check": "probe"}, {"embed": True}], ids=str
)
def test_a_video_of_pictures_behind_urls_is_read_as_one_of_files(
    web: Web, tmp_path: Path, options: dict[str, Any]
) -> None:
    for number in range(3):
        web.files[f"/{number}.png"] = picture()
        (tmp_path / f"{number}.png").write_bytes(picture())

    stores: list[Any] = []
    for place in (web.url(""), str(tmp_path)):
        frames = [f"{place}/{number}.png" for number in range(3)]
        content = [{"type": "video", "video": frames}, {"type": "text", "text": "What?"}]
        messages = [
            {"role": "user", "content": content},
            {"role": "assistant", "content": "That."},
        ]
        source = write_records(tmp_path / "source.json", [{"id": "v", "messages": messages}])
        store = tmp_path / f"store{len(stores)}"
        convert(
            "messages",
            source,
            store,
            allow_remote=True,
            allow_hosts="127.0.0.1",
            allow_outside=True,
            workers=1,
            **options,
        )
        stores.append(mmdata.open(store)[0].media[0])

    there, here = stores
    assert there.frame_paths == tuple(web.url(f"/{number}.png") for number in range(3))
    assert replace(there, frame_paths=here.frame_paths) == here
