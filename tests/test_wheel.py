"""The package as it is installed:
what the wheel holds, and that its types reach a user's program.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import mmdata

ROOT = Path(mmdata.__file__).parents[1]
PACKAGES = ("mmdata", "models", "recipes")

pytestmark = pytest.mark.slow

PROGRAM = '''
"""What a user writes.

`assert_type` is an error also where a type is Any, as it is without py.typed.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from typing_extensions import assert_type

import mmdata
from mmdata.pipeline import Batch, Stream
from mmdata.schema import Conversation, Media, Message
from mmdata.templates import Encoded, Template, make
from mmdata.tokenizers import Tokenizer, load
from models import FAMILIES
from recipes.config import FinetuneConfig, read

report = mmdata.convert("llava", "detail_23k.json", "stores/detail", check="exists")
assert_type(report, mmdata.ConvertReport)
assert_type(report.rows, int)
assert_type(report.rejects, Mapping[str, int])

store = mmdata.open("stores/detail")
assert_type(store, mmdata.Store)
assert_type(store[0], Conversation)
for conversation in store:
    assert_type(conversation, Conversation)
    assert_type(conversation.messages, tuple[Message, ...])
    assert_type(conversation.media, tuple[Media, ...])
    assert_type(conversation.messages[0].text, str)

tokenizer = load("qwen", Path("qwen.tiktoken"))
assert_type(tokenizer, Tokenizer)
template = make("qwen_vl", tokenizer, {"train_system": False})
assert_type(template, Template)
encoded = template.encode(store[0])
assert_type(encoded, Encoded)
assert_type(encoded.input_ids, NDArray[np.int32])

stream = Stream(mmdata.Mixture.from_yaml("mix.yaml"), template, seq_length=2048, batch_size=8)
for batch in stream:
    assert_type(batch, Batch)
    assert_type(batch.ids, tuple[tuple[str, ...], ...])

assert_type(FAMILIES[0], str)
assert_type(read(FinetuneConfig, Path("finetune.yaml")), FinetuneConfig)
'''

MISTAKES = {
    'mmdata.convert("llava", "a.json", "store", check="exist")': "arg-type",
    'mmdata.open("store").rowz': "attr-defined",
    'mmdata.convert("llava", "a.json")': "call-arg",
}


@dataclass(frozen=True)
class Installation:
    """A wheel, and an environment that it is installed in beside what it needs."""

    wheel: Path
    python: Path

    def check(self, programs: Mapping[str, str], folder: Path) -> str:
        """Read programs with mypy, as a user of the environment does; return what it says."""
        for name, program in programs.items():
            (folder / name).write_text(program)
        options = ["--strict", "--config-file=", f"--python-executable={self.python}"]
        done = run([sys.executable, "-m", "mypy", *options, *programs], folder)
        return done.stdout + done.stderr


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command where no part of the clone can be imported from, unless it is installed."""
    return subprocess.run(command, cwd=folder, env={}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The wheel of this tree in a fresh environment,
    which reads all other packages from that of the tests.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [
        sys.executable,
        "-m",
        "hatchling",
        "build",
        "--target",
        "wheel",
        "--directory",
        str(folder),
    ]
    subprocess.run(build, cwd=ROOT, check=True)
    [wheel] = folder.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "env")], check=True)
    python = folder / "env" / "bin" / "python"
    [site] = (folder / "env").glob("lib/python*/site-packages")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(site),
    ]
    subprocess.run([*pip, str(wheel)], check=True)
    # Files named *.pth in a folder that a *.pth file names are not read: an editable installation
    # stays out of sight.
    (site / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return Installation(wheel, python)


def test_the_wheel_holds_every_module_and_recipe_and_says_that_it_is_typed(
    installed: Installation,
) -> None:
    held = {
        name for name in zipfile.ZipFile(installed.wheel).namelist() if ".dist-info/" not in name
    }
    files = [
        path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.suffix in (".py", ".yaml", ".html", ".css", ".js")
    ]

    assert {path.relative_to(ROOT).as_posix() for path in files} <= held
    assert {f"{package}/py.typed" for package in PACKAGES} <= held
    assert {name.split("/")[0] for name in held} == set(PACKAGES)


def test_a_users_program_and_mistakes_are_checked_against_the_types_of_the_installed_wheel(
    installed: Installation, tmp_path: Path
) -> None:
    mistakes = {
        f"mistake_{number}.py": f"import mmdata\n\n{line}\n" for number, line in enumerate(MISTAKES)
    }

    said = installed.check({"program.py": PROGRAM, **mistakes}, tmp_path)

    errors = sorted(line for line in said.splitlines() if ": error: " in line)
    assert len(errors) == len(MISTAKES), said
    for name, code, error in zip(mistakes, MISTAKES.values(), errors, strict=True):
        assert error.startswith(f"{name}:3: ")
        assert error.endswith(f"[{code}]")


@pytest.mark.mindspore
def test_an_installed_recipe_runs_from_anywhere(installed: Installation, tmp_path: Path) -> None:
    done = run([str(installed.python), "-m", "recipes.merge_lora", "--help"], tmp_path)
    names = ", ".join(f"recipes.{name}" for name in ("finetune", "predict", "convert_weights"))
    found = run([str(installed.python), "-c", f"import {names}; print(recipes.__file__)"], tmp_path)

    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert found.stdout.startswith(str(installed.python.parents[1])), found.stderr
