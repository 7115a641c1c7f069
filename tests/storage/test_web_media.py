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
