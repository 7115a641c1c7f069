"""``mmdata config check``: all that is wrong with a YAML, before anything is run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.test_options import run
from tests.stores import numbered

RECIPES = Path(__file__).parents[2] / "recipes" / "configs"


@pytest.mark.parametrize(
    "recipe", sorted(RECIPES.rglob("*.yaml")), ids=lambda file: f"{file.parent.name}/{file.stem}"
)
def test_every_recipe_that_comes_along_is_found_right(recipe: Path) -> None:
    kind = "predicts" if recipe.stem.startswith("predict") else "fine-tunes"

    assert f"a recipe that {kind}; nothing is wrong" in run("config", "check", str(recipe)).stdout


def test_a_right_mixture_and_a_right_pipeline_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    numbered(tmp_path / "some", 3)
    Path("mix.yaml").write_text("datasets: [{store: some}, {store: some}]")
    Path("words.txt").write_text("")

    assert "a mixture of 2 data sets; nothing" in run("config", "check", "mix.yaml").stdout


FAULTY = {
    "datasets: [{store: nowhere}, {json_path: gone.json}]": ["no store at nowhere", "no gone.json"],
    "datasets: [{store: a, repeat: -1}]\nepoch: 3": ["repeat", "unknown key 'epoch'"],
    "model: {famly: qwen_vl}\nrun: {steps: -1}": ["famly", "Did you mean", "run.steps"],
    "stream: {seq_lenght: 9}\ntemplate: {}": ["seq_lenght", "template must be", "tokenizer must"],
    "store: gone\nmixture: mix\ntemplate: 1": ["either mixture", "no store at", "template must be"],
    "store: here\ntemplate: {name: nobody}\ntokenizer: {path: x}": ["no store at", "nobody"],
    "datasets: [{store: a}]\nseed: 1\ndatasets: [{store: b}]": [
        "line 3",
        "'datasets' a second time",
    ],
    "datasets:\n  - store: a\n    store: b": ["line 3", "'store' a second time"],
    "datasets: &a\n  - *a": ["entry 0 needs"],
    "- 1": ["datasets", "stream", "model", "found a list"],
    "": ["datasets", "stream", "model", "found nothing: it is empty"],
    "{": ["cannot be read as YAML"],
}


@pytest.mark.parametrize("text", FAULTY)
def test_all_faults_of_a_file_are_said_at_once(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("some.yaml").write_text(text)

    said = str(run("config", "check", "some.yaml", code=2).exception)

    for words in FAULTY[text]:
        assert words in said


def test_of_several_files_each_says_what_is_wrong_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    numbered(tmp_path / "some", 1)
    Path("right.yaml").write_text("datasets: [{store: some}]")
    for name in ("one.yaml", "two.yaml"):
        Path(name).write_text("datasets: []")

    done = run("config", "check", "one.yaml", "right.yaml", "two.yaml", code=2)

    assert "right.yaml: a mixture of 1" in done.stdout
    assert all(name in str(done.exception) for name in ("one.yaml", "two.yaml"))


def test_the_help_of_the_command_says_whole_what_each_command_does() -> None:
    said = run("--help").stdout

    assert "..." not in said.partition("Commands:")[2].partition("Example")[0]
    assert "every record accounted for" in " ".join(said.split())
    assert "check" in run("config", "--help").stdout
