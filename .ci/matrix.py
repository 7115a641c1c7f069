"""Run the suite without MindSpore at both ends of every core dependency's bounds,
on every Python that is supported.

    python .ci/matrix.py             each Python with the lowest and with the newest releases, the
                                     whole suite
    python .ci/matrix.py --smallest  what CI runs: the lowest on the oldest Python, the newest on
                                     the newest, and of the suite what stands nearest to the
                                     dependencies

Both build the wheel and use it on each Python as it is installed, from a folder that is not the
clone. Pythons are looked for on the path, under pyenv and by uv; one that is not there is named and
left out. Environments are made by uv.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.parser import Parser
from pathlib import Path
from typing import Literal
from zipfile import ZipFile

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
EXTRA = "test"  # what the tests need besides the core; MindSpore and torch are left out
SHOWN = ("av", "numpy", "pillow", "pyarrow")  # whose versions the table gives
NEEDS_MINDSPORE = (  # besides whole folders, which say so
    "pipeline/test_edges.py",
    "pipeline/test_packed_models.py",
)
NEEDS_TOOLS = ("test_wheel.py",)  # what builds a wheel and checks types; the wheel is used below
# One room for each dependency: Arrow, Parquet and hashes; FFmpeg; Pillow; JSON; vocabularies; the
# terminal.
NEAREST = (
    "store",
    "conversion/test_convert.py",
    "sources",
    "test_frame_cache.py",
    "cli/test_cli.py",
    "test_imports.py",
    "formats",
    "image",
    "tokenizers",
    "video",
)
END = Literal["lowest", "newest"]
UV = (sys.executable, "-m", "uv")


@dataclass(frozen=True)
class Cell:
    """One run: a Python with one end of the bounds, and how it went."""

    python: str
    end: END
    versions: str
    outcome: str
    seconds: float
    failed: bool

    def row(self) -> str:
        """Return the cell as a row of a Markdown table."""
        seconds = f"{self.seconds:.0f} s"
        return f"| {self.python} | {self.end} | {self.versions} | {self.outcome} | {seconds} |"


def main() -> int:
    """Print the table; 1 if a test failed or no Python was found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--smallest", action="store_true", help="the part that CI runs")
    parser.add_argument(
        "--jobs", default="auto", help="processes of tests, as pytest-xdist takes them"
    )
    options = parser.parse_args()
    found = {version: python for version in PYTHONS if (python := find_python(version)) is not None}
    for version in PYTHONS:
        print(f"Python {version}: {found.get(version, 'NOT FOUND, left out')}", flush=True)
    if not found:
        print("no Python to run on", file=sys.stderr)
        return 1
    if missing := [
        name
        for name in (*NEAREST, *NEEDS_MINDSPORE, *NEEDS_TOOLS)
        if not (ROOT / "tests" / name).exists()
    ]:
        print(
            f"no such tests: {', '.join(missing)}; correct the names in {__file__}", file=sys.stderr
        )
        return 1
    with (
        tempfile.TemporaryDirectory(prefix="mmdata-matrix-") as name,
        ThreadPoolExecutor(2) as pool,
    ):
        folder = Path(name)
        wheel = build_wheel(folder)
        # Each of these keeps one core at work; the tests, which keep them all, begin after them.
        using = {
            version: pool.submit(use_wheel, folder, wheel, version, python)
            for version, python in found.items()
        }
        ends = list(choose_versions(list(found), smallest=options.smallest))
        made = [
            pool.submit(make_cell_environment, folder, wheel, version, found[version], end)
            for version, end in ends
        ]
        used = {version: use.result() for version, use in using.items()}
        installed = [each.result() for each in made]
        cells = [
            run_cell(folder, python, version, end, options.jobs, smallest=options.smallest)
            for (version, end), python in zip(ends, installed, strict=True)
        ]
    print(
        "\n| Python | core dependencies | of them | tests | time |\n| --- | --- | --- | --- | --- |"
    )
    print("\n".join(cell.row() for cell in cells))
    for version, works in used.items():
        print(f"wheel on Python {version}: {'converts and samples' if works else 'FAILED'}")
    return int(any(cell.failed for cell in cells) or not all(used.values()))


def choose_versions(versions: Sequence[str], *, smallest: bool) -> Iterator[tuple[str, END]]:
    """Yield the Pythons and the ends of the bounds to run them with."""
    if smallest:
        yield versions[0], "lowest"
        yield versions[-1], "newest"
        return
    for version in versions:
        yield version, "lowest"
        yield version, "newest"


def find_python(version: str) -> str | None:
    """Return the path of an interpreter of this version, or None."""
    selected: list[str | None] = [None]
    if shutil.which("pyenv"):  # whose commands refuse to run until one of its versions is selected
        listed = subprocess.run(
            ["pyenv", "versions", "--bare"], capture_output=True, text=True, check=False
        ).stdout
        selected += [name for name in listed.split() if name.startswith(f"{version}.")]
    for choice in selected:
        if path := _executable([f"python{version}"], version, choice):
            return path
    uv_finds = subprocess.run(
        [*UV, "python", "find", version], capture_output=True, text=True, check=False
    )
    return _executable([uv_finds.stdout.strip()], version) if uv_finds.returncode == 0 else None


def _executable(command: list[str], version: str, pyenv_version: str | None = None) -> str | None:
    """Return where the Python that a command starts lies, if it starts and is of the version."""
    code = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    environment = (
        os.environ if pyenv_version is None else {**os.environ, "PYENV_VERSION": pyenv_version}
    )
    try:
        done = subprocess.run(
            [*command, "-c", code], capture_output=True, text=True, check=False, env=environment
        )
    except OSError:
        return None
    is_version, _, path = done.stdout.strip().partition(" ")
    return path if done.returncode == 0 and is_version == version else None


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this clone."""
    run([*UV, "build", "--quiet", "--wheel", "--out-dir", str(folder / "dist"), str(ROOT)])
    [wheel] = (folder / "dist").glob("*.whl")
    return wheel


def make_environment(place: Path, python: str, *requirements: str) -> str:
    """Make a virtual environment and return its Python."""
    run([*UV, "venv", "--quiet", "--python", python, str(place)])
    installed = str(place / "bin" / "python")
    run([*UV, "pip", "install", "--quiet", "--python", installed, *requirements])
    return installed


def use_wheel(folder: Path, wheel: Path, version: str, python: str) -> bool:
    """Install the wheel with nothing besides;
    whether what is installed converts a source and samples clips.
    """
    place = folder / f"wheel-{version}"
    installed = make_environment(place, python, str(wheel))
    command = [installed, "-I", str(ROOT / ".ci" / "use_wheel.py"), str(place / "work")]
    return subprocess.run(command, cwd=place, check=False).returncode == 0


def make_cell_environment(folder: Path, wheel: Path, version: str, python: str, end: END) -> str:
    """Make the environment of one end of the bounds and return its Python."""
    place = folder / f"{version}-{end}"
    bounds = folder / f"{version}-{end}.txt"
    bounds.write_text("\n".join(lowest(wheel)))
    constraints = ["--constraint", str(bounds)] if end == "lowest" else []
    return make_environment(place, python, f"{wheel}[{EXTRA}]", *constraints)


def run_cell(
    folder: Path, python: str, version: str, end: END, jobs: str, *, smallest: bool
) -> Cell:
    """Run the tests at one end of the bounds."""
    began = time.monotonic()
    print(f"\n== Python {version}, the {end} releases", flush=True)
    tests = [f"tests/{name}" for name in NEAREST] if smallest else ["tests"]
    left_out = [f"--ignore=tests/{name}" for name in (*NEEDS_MINDSPORE, *NEEDS_TOOLS)]
    markers = "not mindspore and not alone" + (" and not slow" if smallest else "")
    command = [
        python,
        "-m",
        "pytest",
        "-n",
        jobs,
        "--dist",
        "worksteal",
        "-p",
        "no:cacheprovider",
        "-m",
        markers,
    ]
    # uv compiles nothing. Whatever the caller's environment says, what one process of the tests
    # compiles is kept for the hundreds after it, and goes with the folder.
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
        "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
    }
    process = subprocess.Popen(
        [*command, *left_out, *tests], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line.strip("= \n") or last
    outcome = ", ".join(re.findall(r"\d+ (?:passed|failed|skipped|errors?)", last)) or last
    versions = ", ".join(f"{name} {_version(python, name)}" for name in SHOWN)
    return Cell(
        version, end, versions, outcome, time.monotonic() - began, failed=process.wait() != 0
    )


def lowest(wheel: Path) -> Iterator[str]:
    """Yield a constraint to the lower bound of each dependency of the wheel,
    those of its extras too but for tools.
    """
    with ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    for line in metadata.get_all("Requires-Dist", []):
        requirement = Requirement(line)
        marker = str(requirement.marker or "")
        bound = lower_bound(requirement.specifier)
        if bound and not re.search(r"extra == .(mindspore|torch|bench|test|dev)\b", marker):
            marker = re.sub(r"(^| and )extra == .\w+.$", "", marker)
            yield f"{requirement.name}=={bound}" + (f"; {marker}" if marker else "")


def lower_bound(specifiers: SpecifierSet) -> str | None:
    """Return the version after ``>=``."""
    return next((each.version for each in specifiers if each.operator == ">="), None)


def _version(python: str, name: str) -> str:
    code = f"from importlib.metadata import version; print(version({name!r}))"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def run(command: Sequence[str]) -> None:
    """Run a command that has to succeed."""
    subprocess.run(command, check=True, env={**os.environ, "UV_PYTHON_DOWNLOADS": "never"})


if __name__ == "__main__":
    sys.exit(main())
