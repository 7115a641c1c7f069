"""What tests of remote storage may ask for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage.buckets import ENVIRONMENT, client, run_server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The endpoint of a server that speaks S3, one for all tests of a process."""
    with run_server() as endpoint:
        yield endpoint


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """The name of an empty bucket, on the server that the environment names."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"b{uuid.uuid4().hex[:12]}"
    client().create_bucket(Bucket=name)
    return name
