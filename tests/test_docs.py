"""The pages of docs/: what they show runs, and what they say of the code is so."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from docs.generate import pages, pages_of_repository
from examples.synthetic import write_coco, write_fewshot, write_rwf
from mmdata import formats, templates
from mmdata._tools.options import defaults
from mmdata.cli import cli
from mmdata.formats._meaning import MEANING_FIELDS
from mmdata.video.sampling import RULES
from tests.test_rooms import ROOMS
from tests.vocabularies import find_published

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
RUN = {"sh", "python", "yaml"}


def written_pages() -> list[Path]:
    """Return the pages that stand in the folder."""
    return sorted(DOCS.rglob("*.md"))


def blocks_to_run(page: Path) -> list[tuple[str, str]]:
    """Return the language and the text of the blocks of a page that a reader would copy."""
    return [found for found in BLOCK.findall(page.read_text(encoding="utf-8")) if found[0] in RUN]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader of any page has on disk: sources, and a store of clips."""
    folder = tmp_path_factory.mktemp("reader")
    write_rwf(folder / "RWF-2000", clips=2, seconds=1)
    write_fewshot(folder)
    for name in "ab":
        write_coco(folder / "coco").rename(folder / "coco" / f"detail_{name}.json")
    call = ["convert", "rwf2000", "RWF-2000", "-o", "stores/rwf", "--check", "probe"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        CliRunner().invoke(cli, call, catch_exceptions=False)

    fixtures = os.environ.get("MMDATA_FIXTURES")
    if fixtures and (found := find_published("llama3", Path(fixtures))):
        (folder / "llama3").mkdir()
        (folder / "llama3" / "tokenizer.model").symlink_to(found)
    return folder


@pytest.fixture
def folder(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, where the test runs."""
    place = tmp_path / "reader"
    shutil.copytree(drawn, place, symlinks=True)
    monkeypatch.chdir(place)
    return place


ELSEWHERE = {"bucket"}
"""Pages whose reader has more than a disk: tests/storage/test_bucket_page.py."""


@pytest.mark.parametrize(
    "page",
    [page for page in written_pages() if blocks_to_run(page) and page.stem not in ELSEWHERE],
    ids=lambda page: page.stem,
)
def test_every_command_and_example_of_a_page_runs_in_its_order(page: Path, folder: Path) -> None:
    """A page's YAML is ``mix.yaml`` or ``pipeline.yaml``;
    what needs the published vocabulary waits for it.
    """
    ran = 0
    for language, text in blocks_to_run(page):
        if language == "yaml":
            name = "mix.yaml" if "datasets:" in text else "pipeline.yaml"
            (folder / name).write_text(text, encoding="utf-8")
        elif language == "python":
            if "tokenizers.load" in text and not (folder / "llama3").exists():
                continue
            exec(compile(text, page.name, "exec"), {"__name__": "example"})
            ran += 1
        else:
            for line in text.splitlines():
                ran += run_command(shlex.split(line, comments=True), folder)

    assert ran


def run_command(words: list[str], folder: Path) -> bool:
    """Run a line of a page;
    False where it needs the published vocabulary, and that is not there.
    """
    if not words:
        return False
    if {"--tokenizer", "bench"} & set(words) and not (folder / "llama3").exists():
        return False
    assert words[0] == "mmdata", words
    done = CliRunner().invoke(cli, words[1:], catch_exceptions=False)
    assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output}"
    return True


def test_the_test_that_holds_each_promise_is_there() -> None:
    rows = [
        line
        for line in (DOCS / "guarantees.md").read_text(encoding="utf-8").splitlines()
        if line[:2] == "| "
    ]
    promises = [row for row in rows if row not in {"| promise | held by |", "| --- | --- |"}]

    assert len(promises) > 20
    for promise in promises:
        named = re.findall(r"`(tests/[\w/.]+)`", promise)
        assert named, promise
        for name in named:
            assert (ROOT / name).is_file(), name


def test_the_promises_of_the_readme_are_among_the_guarantees() -> None:
    readme = re.findall(
        r"^\| (.*?) \| `tests/", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    guarantees = (DOCS / "guarantees.md").read_text(encoding="utf-8")

    assert readme
    assert [promise for promise in readme if promise.rstrip("; ") not in guarantees] == []


def test_the_house_has_the_rooms_in_the_order_that_the_imports_keep() -> None:
    text = (DOCS / "house.md").read_text(encoding="utf-8")
    shown = text[text.index("<!-- rooms -->") : text.index("<!-- /rooms -->")]

    assert tuple(re.findall(r"`(\w+)`", shown)) == ROOMS
    for room in ROOMS:
        assert re.search(rf"\b{room}\b", text[: text.index("<!-- rooms -->")]), room


def test_every_format_and_family_has_a_page_with_each_of_its_options() -> None:
    generated = dict(pages())

    for folder, registry in (("formats", formats.registry), ("families", templates.registry)):
        for name in registry.names():
            page = generated[f"{folder}/{name}.md"]
            assert f"[{name}]({name}.md)" in generated[f"{folder}/index.md"]
            for option, default in defaults(registry.get(name)).items():
                assert re.search(
                    rf"^\| `{option}` \| .+ \| `{re.escape(default)}` \|$", page, re.MULTILINE
                ), option


def test_the_page_of_each_family_names_its_vocabulary_file_and_where_it_is_published() -> None:
    for name in ("cogvlm2_video", "llava_next_video", "qwen_vl", "visualglm"):
        page = dict(pages())[f"families/{name}.md"]
        assert re.search(
            r"^`mmdata show`.* from huggingface.co/.*sha256 [0-9a-f]{64}", page, re.MULTILINE
        ), name


def test_every_frame_strategy_is_on_its_page() -> None:
    page = dict(pages())["reference/frames.md"]

    for name in RULES:
        assert re.search(rf"^\| `{name}[:`]", page, re.MULTILINE), name


def test_every_field_that_changes_the_meaning_of_a_record_is_on_their_page() -> None:
    page = dict(pages())["reference/fields.md"]

    assert re.findall(r"^- `(\w+)`$", page, re.MULTILINE) == sorted(MEANING_FIELDS)


def test_five_minutes_are_those_of_the_readme() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    page = dict(pages_of_repository(ROOT))["five_minutes.md"]

    assert BLOCK.findall(page)
    assert [block for block in BLOCK.findall(page) if block[1] not in readme] == []


@pytest.mark.parametrize("page", written_pages(), ids=lambda page: page.stem)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    made = {DOCS / path for path, _ in [*pages(), *pages_of_repository(ROOT)]}

    for target in re.findall(r"\]\(([^)#:]+\.md)", page.read_text(encoding="utf-8")):
        place = Path(os.path.normpath(page.parent / target))
        assert place in made or place.is_file(), target
