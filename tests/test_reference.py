"""The folders of reference data may lack anything:
then tests are skipped, and say what is missing.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reference import PACK, cases, clips, file, files, references

ROOT = Path(__file__).parents[1]
USERS = (
    "golden",
    "image/test_goldens.py",
    "formats",
    "video/test_real_clips.py",
    "test_real_sources.py",
)


def run(folder: Path, *chosen: str) -> subprocess.CompletedProcess[str]:
    """Run tests over the folder's own golden and fixtures."""
    named = {f"MMDATA_{name.upper()}": str(folder / name) for name in ("golden", "fixtures")}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-rs",
        "-k",
        "named",
        *chosen,
    ]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | named, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_no_test_fails_for_what_a_folder_lacks(tmp_path: Path) -> None:
    rng = random.Random(0)
    for name in ("golden", "fixtures"):
        shutil.copytree(PACK / name, tmp_path / name)
    for path in sorted(tmp_path.rglob("*")):
        if path.is_file() and rng.random() < 0.4:
            path.unlink()
    (tmp_path / "golden" / "a_family_that_is_not_ours").mkdir()

    done = run(tmp_path, *(f"tests/{each}" for each in USERS))

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{tmp_path}" in done.stdout  # a reason for each test that is skipped


def test_a_folder_that_is_not_there_is_said_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMDATA_GOLDEN", str(tmp_path / "nowhere"))

    with pytest.raises(
        pytest.UsageError, match=r"MMDATA_GOLDEN names .*nowhere, which is not a folder"
    ):
        references()


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "ffprobe.json").write_text('{"lost.mp4": {}}')
    asked: dict[str, Callable[[], object]] = {
        "has no a.json with a.npz": lambda: files(tmp_path, "a.json", "a.npz"),
        "has no case in empty.json": lambda: cases(tmp_path, "empty.json"),
        "has no vocab/a.model": lambda: file(tmp_path, "vocab", "a.model"),
        "has no clip that videos/ffprobe.json names": lambda: clips(tmp_path),
    }

    for words, ask in asked.items():
        with pytest.raises(pytest.skip.Exception, match=words):
            ask()
