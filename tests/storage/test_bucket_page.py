"""The page about buckets runs, on a server of this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.storage.test_remote_store import fill, run
from tests.test_docs import DOCS, blocks_to_run


@pytest.mark.slow
def test_every_command_and_example_of_the_page_runs_in_its_order(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fill(bucket, 2)

    ran = 0
    for language, text in blocks_to_run(DOCS / "tasks" / "bucket.md"):
        code = text.replace("s3://bucket/", f"s3://{bucket}/")
        if language == "python":
            exec(compile(code, "bucket.md", "exec"), {"__name__": "example"})
            ran += 1
            continue
        for line in code.splitlines():
            run(*shlex.split(line)[1:])
            ran += 1

    assert ran == 7
