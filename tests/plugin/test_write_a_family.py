"""The page on writing a family, run as it stands, as a package from outside; and what its faults
are said to be.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Final

import pytest
from PIL import Image

import mmdata
from tests.forks import Forks
from tests.plugin.page import Project, commands, install

PAGE: Final = "write_a_family.md"
PLUGIN: Final = "the template 'pico' of the package pico-family 1.0 (entry point pico_family:Pico)"
RESIZER: Final = (
    "the way to resize 'letterbox' of the package pico-family 1.0 "
    "(entry point pico_family:LETTERBOX)"
)
READING: Final = ("stores/pico", "--template", "pico", "--tokenizer", "data/pico.txt")
SHOW: Final = ("show", *READING)
INFO: Final = ("info", *READING)
BENCH: Final = ("bench", "pipeline.yaml")


@pytest.fixture
def project(tmp_path: Path, forks: Forks) -> Project:
    """The files of the page, the pictures and the store that it speaks of."""
    project = install(PAGE, "pico_family.py", tmp_path, forks)
    for name in ("cup.png", "dog.png"):
        Image.new("RGB", (40, 20), "red").save(tmp_path / "data" / name)
    mmdata.convert("messages", [tmp_path / "data/questions.json"], tmp_path / "stores" / "pico")
    return project


@pytest.mark.slow
def test_the_commands_of_the_page_do_what_they_say(project: Project) -> None:
    (project.folder / "stores" / "pico").rename(project.folder / "stores" / "before")

    outputs = [project.run(*shlex.split(command)) for command in commands(PAGE)]

    assert len(outputs) == 4
    assert [output.stderr for output in outputs if output.returncode] == []
    _, show, info, bench = [output.stdout for output in outputs]
    assert "47 tokens, 13 trained, 4 in 1 slots" in show
    assert "<user>[medium 0: 4 tokens]What is it?<end><assistant>A cup.<end>" in show
    assert "2 samples, 80 tokens" in info
    assert "bottleneck" in bench


@pytest.mark.slow
def test_a_stream_of_the_page_gives_batches_in_the_resizers_pixels(project: Project) -> None:
    (project.folder / "read_pico.py").write_text(
        (project.folder / "read_pico.py").read_text()
        + "    print(batch['pixel_values'][0, 0, 0], batch['pixel_values'][0, 16, 0])\n"
    )

    done = project.run_module("read_pico")

    assert done.stderr == ""
    assert done.stdout.splitlines() == ["(2, 128) (2, 32, 32, 3)", "[128 128 128] [255   0   0]"]


@pytest.mark.slow
def test_the_test_of_the_page_passes(project: Project) -> None:
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly")

    done = project.run_module("pytest", *options, "test_pico.py")

    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("old", "new", "law"),
    [
        ("begin = toolkit.Run([", "begin = toolkit.Run([0, ", "prefix = prompt"),
        ("self._items(toolkit.require_answer", "2 * self._items(toolkit.require_answer", "labels"),
    ],
    ids=["a prompt that begins no sample", "answers that stand twice"],
)
def test_the_test_of_the_page_finds_a_law_that_is_broken(
    project: Project, old: str, new: str, law: str
) -> None:
    project.mend(old, new)

    done = project.run_module("pytest", "-q", "-p", "no:cacheprovider", "test_pico.py")

    assert done.returncode == 1
    assert f"LawError: {law}" in done.stdout


def test_a_wrong_option_of_the_package_is_answered_as_one_of_ours(project: Project) -> None:
    unknown = project.run("show", *READING, "--template-option", "image_token=9")
    bad = project.run("info", *READING, "--template-option", "image_tokens=none")

    assert (unknown.returncode, bad.returncode) == (2, 2)
    assert "Did you mean 'image_tokens'?" in unknown.stderr
    assert "image_tokens must be" in bad.stderr


@pytest.mark.slow
def test_what_the_family_cannot_say_is_no_fault(project: Project) -> None:
    project.mend("elif isinstance(piece, Image):", "elif False:")

    shown, counted = project.run(*SHOW), project.run(*INFO)

    assert shown.returncode == 1
    assert shown.stderr.startswith("mmdata: conversation ")
    assert "Pico reads no videos" in shown.stderr
    assert counted.returncode == 0
    assert "2 cannot be encoded; the first is number 0" in counted.stdout


def test_a_package_that_cannot_be_imported_is_named_and_breaks_no_other_family(
    project: Project,
) -> None:
    project.mend("import numpy as np", "import no_such_module")

    done = project.run(*SHOW)
    other = project.run("show", "stores/pico", "--template", "qwen_vl", "--tokenizer", "nowhere")

    assert done.returncode == 1
    assert done.stderr.startswith(f"mmdata: {PLUGIN} cannot be imported: ModuleNotFoundError")
    assert "Traceback" not in done.stderr
    assert "no qwen vocabulary at nowhere" in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "method"),
    [
        (SHOW, "Return the conversation as a training sample."),
        (INFO, "Return the conversation as a training sample."),
        (BENCH, "Return the conversation as a training sample."),
        (BENCH, "def index_features"),
        (SHOW, "Return the text of ids; control tokens become their names, or nothing."),
        (INFO, "Return the tokenizer of a vocabulary file."),
        (BENCH, "def __post_init__"),
    ],
    ids=["show", "info", "bench", "features", "decode", "load_tokenizer", "options"],
)
def test_a_fault_in_the_template_names_the_package(
    project: Project, command: tuple[str, ...], method: str
) -> None:
    if method.startswith("def "):  # which the page leaves to the base
        view = "    @property\n    def view_size"
        project.mend(view, f"    {method}(self, *_, **__): raise KeyError('oops')\n\n{view}")
    else:
        project.mend(f'"""{method}"""', "raise KeyError('oops')")

    done, strict = project.run(*command), project.run(*command, "--strict")

    assert (done.returncode, strict.returncode) == (1, 1)
    assert done.stderr.startswith(f"mmdata: {PLUGIN} is at fault: KeyError: 'oops'")
    assert "--strict" in done.stderr
    assert "Traceback" in strict.stderr
    assert "pico_family.py" in strict.stderr
    assert strict.stderr.endswith(done.stderr)


def test_what_is_no_sample_names_the_package(project: Project) -> None:
    project.mend('"""Return the conversation as a training sample."""', "return None")

    done = project.run(*SHOW)

    assert f"{PLUGIN} is at fault: TypeError: encode must return an Encoded" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("isolated", ["false", "true"])
@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        ("scale = size / max(height, width)", "raise KeyError('oops')", "KeyError: 'oops'"),
        (
            "return np.asarray(square)",
            "return np.asarray(square)[1:]",
            "ValueError: a resizer must return (32, 32, 3) uint8, found (31, 32, 3) uint8",
        ),
    ],
    ids=["raises", "another shape"],
)
def test_a_fault_in_the_resizer_names_it(
    project: Project, old: str, new: str, detail: str, isolated: str
) -> None:
    project.mend(old, new)
    pipeline = project.folder / "pipeline.yaml"
    skipping = pipeline.read_text().replace(
        "batch_size: 2", f"batch_size: 2, on_error: skip, isolated: {isolated}"
    )
    pipeline.write_text(skipping)

    done, strict = project.run(*BENCH), project.run(*BENCH, "--strict")

    assert done.returncode == 1
    assert done.stderr.startswith(f"mmdata: {RESIZER} is at fault: {detail}")
    assert "Traceback" in strict.stderr
    assert ("in letterbox" if "oops" in detail else "in __call__") in strict.stderr
    assert detail in strict.stderr.partition(RESIZER)[0]
