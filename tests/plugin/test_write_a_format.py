"""The page on writing a format, run as it stands, as a package from outside;
and what its faults are said to be.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

import mmdata

PAGE: Final = Path(mmdata.__file__).parent.parent / "docs" / "write_a_format.md"
_FILE: Final = re.compile(r"^```\w+ file=(\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_COMMAND: Final = re.compile(r"^\$ mmdata (.+)$", re.MULTILINE)


def install(site: Path, project: Path) -> None:
    """Do what pip does with the package, without a network:
    its module, its metadata and its entry points.
    """
    text = (project / "pyproject.toml").read_text()
    group, point = re.findall(r'\[project\.entry-points\."([\w.]+)"\]\n(\w+ = "[\w:]+")', text)[0]
    info = site / "acme_formats-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-formats\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{point}\n".replace('"', ""))
    # The working folder is searched before all others.
    (project / "acme_formats.py").rename(site / "acme_formats.py")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of the page, and the pictures that it speaks of;
    the package is installed in ``site``.
    """
    files = _FILE.findall(PAGE.read_text())
    for name, text in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "data" / "pictures").mkdir()
    for name in ("cup.jpg", "dog.jpg"):
        (tmp_path / "data" / "pictures" / name).write_bytes(b"a picture")
    install(tmp_path / "site", tmp_path)
    return tmp_path


def run(project: Path, *arguments: str, module: str = "mmdata") -> subprocess.CompletedProcess[str]:
    paths = [str(project / "site"), str(PAGE.parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )


def mend(project: Path, old: str, new: str) -> None:
    """Change the installed module."""
    file = project / "site" / "acme_formats.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


CONVERT: Final = ("convert", "acme", "data/questions.json", "-o", "store")
PLUGIN: Final = "the format 'acme' of the package acme-formats 1.0 (entry point acme_formats:Acme)"
FAULT: Final = (
    "        value = toolkit.mapping(record)\n",
    "        value = toolkit.mapping(record)\n        value['oops']\n",
)


def test_the_commands_of_the_page_do_what_they_say(project: Path) -> None:
    commands = _COMMAND.findall(PAGE.read_text())
    outputs = [run(project, *shlex.split(command)) for command in commands]

    assert len(commands) == 4
    assert [output.stderr for output in outputs if output.returncode] == []
    assert "Acme's questions about pictures" in outputs[0].stdout
    assert "folder='pictures'" in outputs[0].stdout
    mine, found = mmdata.open(project / "stores" / "acme"), mmdata.open(project / "stores" / "auto")
    assert [row.source for row in mine] == ["mine", "mine"]
    assert [row.source for row in found] == ["acme", "acme"]
    assert [row.id for row in mine] == ["q1", "q2"]
    assert [medium.path for row in mine for medium in row.media] == [
        "pictures/cup.jpg",
        "pictures/dog.jpg",
    ]
    assert mine[0].extra == {"license": "MIT"}
    assert [message.text for message in mine[0].messages] == [
        "What is it?",
        "A cup.",
        "What colour?",
        "Blue.",
    ]


def test_the_test_of_the_page_passes(project: Path) -> None:
    done = run(
        project,
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:randomly",
        "test_acme.py",
        module="pytest",
    )

    assert done.returncode == 0, done.stdout


def test_formats_are_listed_with_that_of_the_package(project: Path) -> None:
    done = run(project, "formats", "--json")

    assert done.returncode == 0
    listed = json.loads(done.stdout)
    assert listed["acme"] == "Acme's questions about pictures"
    assert "llava" in listed
    assert "toolkit" not in listed


def test_a_wrong_option_of_the_package_is_answered_as_one_of_ours(project: Path) -> None:
    done = run(project, *CONVERT, "--option", "foldr=x")

    assert done.returncode == 2
    assert "Did you mean 'folder'?" in done.stderr


def test_a_package_that_cannot_be_imported_is_named_and_breaks_no_other_format(
    project: Path,
) -> None:
    mend(project, "from mmdata.formats import toolkit", "import no_such_module")
    (project / "llava.json").write_text(
        '[{"model": "", "conversations": '
        '[{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}]'
    )

    listed = run(project, "formats")
    assert listed.returncode == 0
    assert f"not available: {PLUGIN} cannot be imported: ModuleNotFoundError" in listed.stdout
    assert "LLaVA instruction data" in listed.stdout

    used = run(project, *CONVERT)
    assert used.returncode == 1
    assert used.stderr.startswith(f"mmdata: {PLUGIN} cannot be imported")
    assert "Traceback" not in used.stderr

    detected = run(project, "convert", "auto", "llava.json", "-o", "other")
    assert detected.returncode == 0
    assert f"passed over: {PLUGIN}" in detected.stderr


def test_a_package_whose_recogniser_fails_breaks_no_detection(project: Path) -> None:
    mend(project, 'return sample.every("picture", "qa")', "raise KeyError('oops')")
    (project / "llava.json").write_text(
        '[{"model": "", "conversations": '
        '[{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}]'
    )

    detected = run(project, "convert", "auto", "llava.json", "-o", "other")

    assert detected.returncode == 0
    assert PLUGIN in detected.stderr


def test_a_fault_in_the_package_is_a_counted_reject_that_names_it(project: Path) -> None:
    mend(project, *FAULT)
    mend(
        project,
        "return toolkit.flatten_with(self._read, records, self.dataset_name)",
        "return None",
    )
    mend(project, "value['oops']", "value['license']")

    done = run(project, *CONVERT)

    assert done.returncode == 0
    assert [row.id for row in mmdata.open(project / "store")] == ["q1"]
    reject = json.loads((project / "store" / "rejects.jsonl").read_text())
    assert (reject["record"], reject["id"], reject["reason"]) == (1, "q2", "malformed")
    assert reject["detail"].startswith(f"KeyError: 'license' in {PLUGIN}")


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        (
            "return toolkit.converse(chat, record, self.dataset_name)",
            "return None",
            "must return a Conversation",
        ),
        (
            "MAPPED_FIELDS),\n        )\n        return",
            "MAPPED_FIELDS) | {'x': {1}},\n        )\n        return",
            "TypeError: ",
        ),
    ],
    ids=["no conversation", "extra that is no JSON"],
)
def test_what_a_conversation_cannot_be_names_the_package(
    project: Path, old: str, new: str, detail: str
) -> None:
    mend(
        project,
        "return toolkit.flatten_with(self._read, records, self.dataset_name)",
        "return None",
    )
    mend(project, old, new)

    done = run(project, *CONVERT)

    assert done.returncode == 1, "no row was kept"
    assert detail in done.stderr
    assert PLUGIN in done.stderr
    rejects = [
        json.loads(line) for line in (project / "store" / "rejects.jsonl").read_text().splitlines()
    ]
    assert [reject["record"] for reject in rejects] == [0, 1]
    assert all(detail in reject["detail"] and PLUGIN in reject["detail"] for reject in rejects)


def test_under_strict_the_traceback_of_a_fault_in_the_package_is_shown(project: Path) -> None:
    mend(project, *FAULT)
    mend(
        project,
        "return toolkit.flatten_with(self._read, records, self.dataset_name)",
        "return None",
    )

    done = run(project, *CONVERT, "--strict")

    assert done.returncode == 1
    assert "acme_formats.py" in done.stderr
    assert "value['oops']" in done.stderr
    assert f"mmdata: {PLUGIN} is at fault: KeyError: 'oops'" in done.stderr
    assert "fault in mmdata itself" not in done.stderr
    assert not (project / "store").exists()


@pytest.mark.parametrize(
    "method",
    [
        "def files(self, sources)",
        "def media_root(self, sources)",
        "def runs(self, sources)",
        "def records(self, sources)",
    ],
)
def test_a_fault_outside_of_records_names_the_package(project: Path, method: str) -> None:
    lines = f"    {method}:\n        raise KeyError('oops')\n\n    @staticmethod\n"
    mend(project, "    @staticmethod\n", lines)
    if "records" in method:  # which is asked only of a format that does not flatten
        mend(project, "def flatten(", "def other(")

    done = run(project, *CONVERT)

    assert done.returncode == 1
    assert done.stderr.strip().startswith(f"mmdata: {PLUGIN} is at fault: KeyError: 'oops'")


def test_a_fault_in_reading_many_at_once_costs_no_record(project: Path) -> None:
    mend(
        project,
        "return toolkit.flatten_with(self._read, records, self.dataset_name)",
        "raise KeyError('oops')",
    )

    done = run(project, *CONVERT)
    strict = run(project, "convert", "acme", "data/questions.json", "-o", "other", "--strict")

    assert done.returncode == 0
    assert PLUGIN in done.stderr
    assert len(mmdata.open(project / "store")) == 2
    assert strict.returncode == 1
    assert PLUGIN in strict.stderr
