"""Every command and every example of the README runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from examples.synthetic import write_coco, write_rwf
from tests.command import mmdata
from tests.vocabularies import find_published

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return [code for found, code in BLOCK.findall(text) if found == language]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader of the README has on disk."""
    write_rwf(tmp_path / "RWF-2000", clips=2, seconds=1)
    for name in "ab":
        write_coco(tmp_path / "coco").rename(tmp_path / "coco" / f"detail_{name}.json")
    (tmp_path / "mix.yaml").write_text(blocks("yaml")[0])
    return tmp_path


@pytest.fixture
def vocabulary(folder: Path) -> bool:
    """Whether the vocabulary that some examples name is there; it cannot be shipped."""
    known = os.environ.get("MMDATA_FIXTURES")
    found = find_published("llama3", Path(known)) if known else None
    if found:
        (folder / "llama3").mkdir()
        (folder / "llama3" / "tokenizer.model").symlink_to(found)
    return bool(found)


def run(folder: Path, *command: str) -> None:
    check(subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False))


def check(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, f"{' '.join(done.args)}\n{done.stdout}{done.stderr}"


def test_every_command_of_the_readme_runs_in_its_order(folder: Path, vocabulary: bool) -> None:
    commands = [
        line.partition("#")[0].split() for block in blocks("sh") for line in block.splitlines()
    ]

    ran = 0
    for command in filter(None, commands):
        if "--tokenizer" in command and not vocabulary:
            continue
        if command[0] == "mmdata":
            check(mmdata(folder, *command[1:]))
            ran += 1
        else:
            assert command in (["make", "demo"], ["make", "test"])
    assert ran


@pytest.mark.slow
def test_every_python_example_of_the_readme_runs(folder: Path, vocabulary: bool) -> None:
    check(mmdata(folder, "convert", "rwf2000", "RWF-2000", "-o", "stores/rwf"))
    for code in blocks("python"):
        if "tokenizers.load" in code and not vocabulary:
            continue
        run(folder, sys.executable, "-c", code)


@pytest.mark.slow
@pytest.mark.mindspore
def test_the_tour_runs(tmp_path: Path) -> None:
    run(ROOT, sys.executable, "-m", "examples.demo", str(tmp_path))


def test_the_tests_that_the_readme_names_are_there() -> None:
    named = re.findall(r"`(tests/[\w/.]+)`", (ROOT / "README.md").read_text(encoding="utf-8"))

    assert named
    for name in named:
        assert (ROOT / name).exists(), name
