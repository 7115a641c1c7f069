"""A skip where CI runs is a failure unless it is listed with its reason;
Ctrl-C reaches what tests start.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.skips import ALLOWED, is_allowed

ROOT = Path(__file__).parents[1]
CONFTEST = (
    "from tests.conftest import *  # noqa: F403\nfrom tests.conftest import pytest_configure\n"
)
SOURCES = {
    "a test": "import pytest\ndef test_one():\n    pytest.skip('no reason')\n",
    "a mark": "import pytest\n@pytest.mark.skip(reason='no reason')\ndef test_one():\n    pass\n",
    "a file": "import pytest\nno_such = pytest.importorskip('no_such_module')\n"
    "def test_one():\n    pass\n",
}


def run(
    folder: Path, source: str, *options: str, ci: bool = True
) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_it.py").write_text(source + "def test_two():\n    pass\n")
    environment = {
        key: value for key, value in os.environ.items() if key not in ("CI", "PYTEST_XDIST_WORKER")
    }
    environment |= {"PYTHONPATH": str(ROOT)} | ({"CI": "true"} if ci else {})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        "-c",
        os.devnull,
        "--rootdir",
        str(folder),
    ]
    return subprocess.run(
        [*command, *options, str(folder)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", SOURCES)
def test_an_unlisted_skip_fails_the_run_and_is_named(kind: str, tmp_path: Path) -> None:
    found = run(tmp_path, SOURCES[kind])

    assert found.returncode == 1, found.stdout
    assert "not listed in tests/skips.py" in found.stdout
    assert "test_it.py" in found.stdout.partition("not listed")[2]


@pytest.mark.slow
def test_so_it_does_in_several_processes(tmp_path: Path) -> None:
    found = run(tmp_path, SOURCES["a test"] + SOURCES["a mark"].replace("one", "three"), "-n", "2")

    assert found.returncode == 1, found.stdout
    assert found.stdout.partition("not listed")[2].count("no reason") == 2


@pytest.mark.slow
def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    assert run(tmp_path, SOURCES["a test"], ci=False).returncode == 0


@pytest.mark.slow
def test_a_listed_skip_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    source = SOURCES["a test"].replace(
        "no reason", "MMDATA_GOLDEN is not set: no reference data here"
    )

    found = run(tmp_path / "tests", source, "--rootdir", str(tmp_path))

    assert found.returncode == 0, found.stdout


def test_a_reason_is_listed_for_its_tests_alone() -> None:
    reason = "Skipped: mounts of one's own are not allowed here: no"

    assert is_allowed(
        "tests/pipeline/test_failures.py::test_a_full_shared_memory_changes_nothing", reason
    )
    assert not is_allowed(
        "tests/pipeline/test_failures.py::test_a_full_shared_memory_changes_nothing",
        "Skipped: tired",
    )
    assert not is_allowed("tests/store/test_store.py::test_the_table_is_the_store", reason)
    assert all(each.because for each in ALLOWED)


@pytest.mark.slow
def test_programs_of_tests_are_interrupted_though_the_shell_lets_the_tests_ignore_it(
    tmp_path: Path,
) -> None:
    source = (
        "import signal, subprocess, sys\n"
        "def test_one():\n"
        "    code = 'import sys, time; print(1, flush=True); time.sleep(60)'\n"
        "    program = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE)\n"
        "    program.stdout.readline()\n"
        "    program.send_signal(signal.SIGINT)\n"
        "    assert program.wait(timeout=30) == -signal.SIGINT\n"
    )
    # As a shell does for what runs in its background.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        found = run(tmp_path, source, "-p", "no:unraisableexception")
    finally:
        signal.signal(signal.SIGINT, before)

    assert found.returncode == 0, found.stdout
