"""Sources, media and stores in a bucket, on a real server of this machine."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import mmdata
from mmdata.cli import cli
from mmdata.conversion import convert
from mmdata.errors import StoreError, UsageError
from mmdata.store import check
from tests.source_files import record
from tests.storage.buckets import client, keys
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


def test_the_whole_way_from_bucket_to_bucket_on_the_command_line(bucket: str, tmp_path: Path) -> None:
    fill(bucket, 5)
    store, root = f"s3://{bucket}/store", f"s3://{bucket}/media"

    run("convert", "llava", f"s3://{bucket}/data.jsonl", "-o", store, "--media-root", root)

    assert f"{store} is whole: 5 rows" in run("check", store)
    assert "What is 0?" in run("show", store)
    assert root in run("info", store)
    assert [row.id for row in mmdata.open(store)] == [f"r{number}" for number in range(5)]
    assert not list(tmp_path.rglob("data-*"))
