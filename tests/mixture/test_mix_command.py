"""The command `mmdata mix`: what it says of the cache and of rejects,
and that each of its options does its work.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mmdata
from tests.source_files import source
from tests.store.test_empty import command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mixing YAML of six records, of which one has no image."""
    source(tmp_path, 6)
    (tmp_path / "images" / "2.jpg").unlink()
    (tmp_path / "mix.yaml").write_text(
        "datasets: [{json_path: source.json, sampling_strategy: 'random:3'}]"
    )
    return tmp_path


def test_the_plan_shows_rejects_and_the_place_of_the_cache(folder: Path) -> None:
    done = command(folder, "mix", "mix.yaml", "--plan")

    assert done.returncode == 0, done.stderr
    assert "source.json: 1 missing_media  a media file is not there" in done.stdout
    [named] = [
        line.rpartition(" ")[2] for line in done.stdout.splitlines() if "all rejects are in" in line
    ]
    assert "images/2.jpg" in Path(named).read_text()
    assert (
        f"cache of annotation files: {folder / 'xdg' / 'mmdata' / 'mixtures'}, 1 stores"
        in done.stdout
    )


def test_help_names_the_place_of_the_cache(tmp_path: Path) -> None:
    said = " ".join(command(tmp_path, "mix", "--help").stdout.split())

    for words in ("$XDG_CACHE_HOME", "~/.cache", "mmdata/mixtures", "--cache", "--clear-cache"):
        assert words in said


def test_a_mixed_store_says_its_rejects_and_its_parts(folder: Path) -> None:
    assert command(folder, "mix", "mix.yaml", "-o", "mixed").returncode == 0

    said = command(folder, "info", "mixed").stdout
    assert "4 = 3 rows + 1 rejects" in said
    assert "missing_media: 1" in said
    assert "source.json: 3 of 5 rows (random:3), 1 rejects, " in said
    assert str(folder / "xdg" / "mmdata" / "mixtures") in said


def test_a_cache_of_ones_own_is_used_and_cleared(folder: Path) -> None:
    row = json.loads(
        command(folder, "mix", "mix.yaml", "--plan", "--json", "--cache", "own").stdout
    )[0]

    assert Path(row["store"]).is_relative_to(folder / "own")
    assert row["reasons"] == {"missing_media": 1}
    assert not (folder / "xdg").exists()
    command(folder, "mix", "mix.yaml", "--plan")
    done = command(folder, "mix", "--clear-cache", "--cache", "own")
    assert done.stdout.startswith("removed 1 stores")
    assert list((folder / "own").iterdir()) == []
    assert list((folder / "xdg").rglob("manifest.json")) != []
    assert json.loads(command(folder, "mix", "--clear-cache", "--json").stdout)["stores"] == 1
    assert list((folder / "xdg").rglob("manifest.json")) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mix"], "takes a CONFIG"),
        (["mix", "mix.yaml"], "--plan"),
        (["mix", "mix.yaml", "--plan", "-o", "mixed"], "--plan"),
        (["mix", "mix.yaml", "--clear-cache"], "alone"),
        (["mix", "--clear-cache", "--plan"], "alone"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(
    folder: Path, arguments: list[str], words: str
) -> None:
    done = command(folder, *arguments)

    assert done.returncode == 2
    assert words in done.stderr
    assert not (folder / "xdg").exists()


def test_each_option_changes_what_it_says_it_changes(folder: Path) -> None:
    def mixed(*options: str) -> list[str]:
        done = command(folder, "mix", "mix.yaml", "-o", "mixed", *options)
        assert done.returncode == 0, done.stderr
        return [row.id for row in mmdata.open(folder / "mixed")]

    plain = mixed()
    assert [file.suffix for file in (folder / "mixed").glob("data-*")] == [".arrow"]
    assert command(folder, "mix", "mix.yaml", "-o", "mixed").returncode == 2
    assert mixed("--overwrite", "--seed", "1") != plain
    assert mixed("--overwrite", "--parquet") == plain
    assert [file.suffix for file in (folder / "mixed").glob("data-*")] == [".parquet"]
