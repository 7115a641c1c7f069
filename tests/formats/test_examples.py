"""The shapes that a format shows besides its usual one: each is read, and shown where people
look.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import mmdata
from docs.generate import format_page, indent_json
from mmdata.cli import cli
from mmdata.formats import describe, examples, registry

SHOWN = [(name, words) for name in registry.names() for words in examples(name)]


def write_example(folder: Path, source: str) -> Path:
    """Write a source as its example says, beside a folder of images, and return its file."""
    place = re.match(r"([\w/.]+): ", source)
    file = folder / (place[1] if place else "source.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(source[place.end() :] if place else source, encoding="utf-8")
    (folder / "images").mkdir()
    return file


@pytest.mark.parametrize(("name", "words"), SHOWN, ids=lambda part: str(part).replace(" ", "_"))
def test_every_example_of_a_format_becomes_rows_alone(
    tmp_path: Path, name: str, words: str
) -> None:
    file = write_example(tmp_path / "source", examples(name)[words])

    report = mmdata.convert(name, file, tmp_path / "store", check="none")

    rejects = [line["detail"] for line in mmdata.open(tmp_path / "store").rejects()]
    assert rejects == []
    assert report.rows >= 1


@pytest.mark.parametrize(
    "name", ["llava", "video178k", "messages", "sharegpt", "swift", "qwen_vl", "coco", "cauldron"]
)
def test_the_formats_that_many_tools_write_show_what_they_write(name: str) -> None:
    assert len(examples(name)) > 1


@pytest.mark.parametrize("name", registry.names())
def test_what_a_format_reads_is_shown_by_the_command_and_on_its_page(name: str) -> None:
    shown = CliRunner().invoke(cli, ["formats", name], catch_exceptions=False).output
    page = format_page(name)

    assert shown.rstrip("\n") == describe(name)
    for words, source in examples(name).items():
        assert words in shown
        assert source in shown
        assert f"### {words[0].upper()}{words[1:]}\n\n```text\n{indent_json(source)}\n" in page


def test_a_format_that_shows_no_examples_is_described_without_them() -> None:
    assert examples("rwf2000") == {}
    assert "other shapes" not in describe("rwf2000")
    assert "Other shapes" not in format_page("rwf2000")


def test_the_name_of_a_file_stands_before_its_indented_json() -> None:
    assert indent_json('a/b.json: {"c": 1}') == 'a/b.json:\n{\n  "c": 1\n}'
    assert json.loads(indent_json('{"a: b": [1]}')) == {"a: b": [1]}
    assert indent_json("folder/{a,b}: words") == "folder/{a,b}: words"
