"""The page on writing a format, run as it stands, as a package from outside;
and what its faults are said to be.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Final

import pytest

import mmdata
from tests.forks import Forks
from tests.plugin.page import Project, commands, install

PAGE: Final = "write_a_format.md"


@pytest.fixture
def project(tmp_path: Path, forks: Forks) -> Project:
    """The files of the page, and the pictures that it speaks of."""
    project = install(PAGE, "acme_formats.py", tmp_path, forks)
    (tmp_path / "data" / "pictures").mkdir()
    for name in ("cup.jpg", "dog.jpg"):
        (tmp_path / "data" / "pictures" / name).write_bytes(b"a picture")
    return project


CONVERT: Final = ("convert", "acme", "data/questions.json", "-o", "store")
PLUGIN: Final = "the format 'acme' of the package acme-formats 1.0 (entry point acme_formats:Acme)"
FAULT: Final = (
    "        value = toolkit.mapping(record)\n",
    "        value = toolkit.mapping(record)\n        value['oops']\n",
)


@pytest.mark.slow
def test_the_commands_of_the_page_do_what_they_say(project: Project) -> None:
    outputs = [project.run(*shlex.split(command)) for command in commands(PAGE)]

    assert len(outputs) == 4
    assert [output.stderr for output in outputs if output.returncode] == []
    assert "Acme's questions about pictures" in outputs[0].stdout
    assert "folder='pictures'" in outputs[0].stdout
    mine, found = (
        mmdata.open(project.folder / "stores" / "acme"),
        mmdata.open(project.folder / "stores" / "auto"),
    )
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


@pytest.mark.slow
def test_the_test_of_the_page_passes(project: Project) -> None:
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly")

    done = project.run_module("pytest", *options, "test_acme.py")

    assert done.returncode == 0, done.stdout


def test_formats_are_listed_with_that_of_the_package(project: Project) -> None:
    done = project.run("formats", "--json")

    assert done.returncode == 0
    listed = json.loads(done.stdout)
    assert listed["acme"] == "Acme's questions about pictures"
    assert "llava" in listed
    assert "toolkit" not in listed


def test_a_wrong_option_of_the_package_is_answered_as_one_of_ours(project: Project) -> None:
    done = project.run(*CONVERT, "--option", "foldr=x")

    assert done.returncode == 2
    assert "Did you mean 'folder'?" in done.stderr


def test_a_package_that_cannot_be_imported_is_named_and_breaks_no_other_format(
    project: Project,
) -> None:
    project.mend("from mmdata.formats import toolkit", "import no_such_module")
    (project.folder / "llava.json").write_text(
        '[{"model": "", "conversations": '
        '[{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}]'
    )

    listed = project.run("formats")
    assert listed.returncode == 0
    assert f"not available: {PLUGIN} cannot be imported: ModuleNotFoundError" in listed.stdout
    assert "LLaVA instruction data" in listed.stdout

    used = project.run(*CONVERT)
    assert used.returncode == 1
    assert used.stderr.startswith(f"mmdata: {PLUGIN} cannot be imported")
    assert "Traceback" not in used.stderr

    detected = project.run("convert", "auto", "llava.json", "-o", "other")
    assert detected.returncode == 0
    assert f"passed over: {PLUGIN}" in detected.stderr


def test_a_package_whose_recogniser_fails_breaks_no_detection(project: Project) -> None:
    project.mend('return sample.every("picture", "qa")', "raise KeyError('oops')")
    (project.folder / "llava.json").write_text(
        '[{"model": "", "conversations": '
        '[{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}]'
    )

    detected = project.run("convert", "auto", "llava.json", "-o", "other")

    assert detected.returncode == 0
    assert PLUGIN in detected.stderr


def test_a_fault_in_the_package_is_a_counted_reject_that_names_it(project: Project) -> None:
    project.mend(*FAULT)
    project.mend(
        "return toolkit.flatten_with(self._read, records, self.dataset_name)",
        "return None",
    )
    project.mend("value['oops']", "value['license']")

    done = project.run(*CONVERT)

    assert done.returncode == 0
    assert [row.id for row in mmdata.open(project.folder / "store")] == ["q1"]
    reject = json.loads((project.folder / "store" / "rejects.jsonl").read_text())
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
    project: Project, old: str, new: str, detail: str
) -> None:
    project.mend(
        "return toolkit.flatten_with(self._read, records, self.dataset_name)",
        "return None",
    )
    project.mend(old, new)

    done = project.run(*CONVERT)

    assert done.returncode == 1, "no row was kept"
    assert detail in done.stderr
    assert PLUGIN in done.stderr
    rejects = [
        json.loads(line)
        for line in (project.folder / "store" / "rejects.jsonl").read_text().splitlines()
    ]
    assert [reject["record"] for reject in rejects] == [0, 1]
    assert all(detail in reject["detail"] and PLUGIN in reject["detail"] for reject in rejects)


def test_under_strict_the_traceback_of_a_fault_in_the_package_is_shown(project: Project) -> None:
    project.mend(*FAULT)
    project.mend(
        "return toolkit.flatten_with(self._read, records, self.dataset_name)",
        "return None",
    )

    done = project.run(*CONVERT, "--strict")

    assert done.returncode == 1
    assert "acme_formats.py" in done.stderr
    assert "value['oops']" in done.stderr
    assert f"mmdata: {PLUGIN} is at fault: KeyError: 'oops'" in done.stderr
    assert "fault in mmdata itself" not in done.stderr
    assert not (project.folder / "store").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        "def files(self, sources)",
        "def media_root(self, sources)",
        "def runs(self, sources)",
        "def records(self, sources)",
    ],
)
def test_a_fault_outside_of_records_names_the_package(project: Project, method: str) -> None:
    lines = f"    {method}:\n        raise KeyError('oops')\n\n    @staticmethod\n"
    project.mend("    @staticmethod\n", lines)
    if "records" in method:  # which is asked only of a format that does not flatten
        project.mend("def flatten(", "def other(")

    done = project.run(*CONVERT)

    assert done.returncode == 1
    assert done.stderr.strip().startswith(f"mmdata: {PLUGIN} is at fault: KeyError: 'oops'")


def test_a_fault_in_reading_many_at_once_costs_no_record(project: Project) -> None:
    project.mend(
        "return toolkit.flatten_with(self._read, records, self.dataset_name)",
        "raise KeyError('oops')",
    )

    done = project.run(*CONVERT)
    strict = project.run("convert", "acme", "data/questions.json", "-o", "other", "--strict")

    assert done.returncode == 0
    assert PLUGIN in done.stderr
    assert len(mmdata.open(project.folder / "store")) == 2
    assert strict.returncode == 1
    assert PLUGIN in strict.stderr
