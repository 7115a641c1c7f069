"""A picture in base64 that stands where a path is looked for is known by its first bytes."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pytest
from PIL import Image

import mmdata
from mmdata.formats.toolkit import medium_of

KINDS = ("JPEG", "PNG", "GIF", "WEBP", "BMP")


def encode(kind: str, side: int = 1) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side)).save(buffer, kind)
    return buffer.getvalue()


def text_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def convert(name: str, value: object, folder: Path) -> mmdata.Store:
    (folder / "source.json").write_text(json.dumps([value]))
    mmdata.convert(name, folder / "source.json", folder / "store", check="none")
    return mmdata.open(folder / "store")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("side", [1, 30])
def test_a_picture_in_base64_is_embedded_whatever_kind_it_is(kind: str, side: int) -> None:
    data = encode(kind, side)

    found = medium_of(text_of(data), "image")

    assert (found.path, found.bytes) == (None, data)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", [".jpg", "/", "-", "é"])
def test_a_path_that_begins_like_a_picture_stays_a_path(kind: str, suffix: str) -> None:
    path = text_of(encode(kind))[:60] + suffix + "cup.png"

    assert medium_of(path, "image").path == path
    assert medium_of("/9j/a.jpg", "image").path == "/9j/a.jpg"


@pytest.mark.parametrize(
    ("name", "record"),
    [
        ("swift", {"query": "<image>What?", "response": "A cup.", "images": ["PICTURE"]}),
        ("swift", {"question": "What?", "answer": "A cup.", "image": "PICTURE"}),
        ("lavis", {"image": "PICTURE", "caption": "A cup."}),
        (
            "llava",
            {
                "image": "PICTURE",
                "conversations": [
                    {"from": "human", "value": "<image>\nWhat?"},
                    {"from": "gpt", "value": "A cup."},
                ],
            },
        ),
    ],
)
def test_a_record_with_a_picture_in_base64_is_kept_with_its_bytes(
    tmp_path: Path, name: str, record: object
) -> None:
    data = encode("JPEG")

    (row,) = convert(
        name, json.loads(json.dumps(record).replace("PICTURE", text_of(data))), tmp_path
    )

    assert [(medium.path, medium.bytes) for medium in row.media] == [(None, data)]
