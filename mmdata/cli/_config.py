"""``mmdata config``."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import click

from mmdata._tools.yaml_file import read_yaml
from mmdata.cli._help import WholeHelp
from mmdata.cli._say import say
from mmdata.cli._shared import JSON, STORE
from mmdata.errors import ConfigError, UsageError

__all__ = ["config"]

_RECIPE: Final = frozenset({"base", "data", "generation", "lora", "model", "run"})
"""Keys that stand in the YAML of a recipe alone."""


_PREDICTION: Final = frozenset({"device", "generation", "graph", "merge"})
"""Keys of those that stand in the YAML of a recipe that predicts alone."""


@click.group(cls=WholeHelp)
def config() -> None:
    """Look at the YAML of mixtures, pipelines and recipes."""


@config.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=STORE)
@JSON
def check(files: tuple[Path, ...], as_json: bool) -> None:
    """Say all that is wrong with a mixing YAML, a pipeline or a recipe, before anything is run."""
    kinds: dict[str, str] = {}
    faults: dict[str, str] = {}
    for file in files:
        try:
            kinds[str(file)] = _check(file)
        except UsageError as error:
            faults[str(file)] = str(error)
    if as_json:
        say(json.dumps({"files": kinds, "faults": faults}))
        sys.exit(2 if faults else 0)
    for name, kind in kinds.items():
        say(f"{name}: {kind}; nothing is wrong with it")
    if faults:
        raise ConfigError("\n".join(faults.values()))


def _check(file: Path) -> str:
    """Return what a file configures.

    Raises:
        UsageError: with every fault of it.
    """
    values = _read(file)
    if "datasets" in values:
        from mmdata.mixture import read_config

        return f"a mixture of {len(read_config(file).datasets)} data sets"
    if _RECIPE & values.keys():
        return _check_recipe(file)

    from mmdata.pipeline.bench import check_pipeline

    check_pipeline(file)
    return "a pipeline"


def _read(file: Path) -> Mapping[str, Any]:
    values = read_yaml(file)
    if not isinstance(values, dict):
        found = "nothing: it is empty" if values is None else f"a {type(values).__name__}"
        raise ConfigError(
            f"{file}: a mixing YAML has `datasets:`, a pipeline `stream:` and `template:`, "
            f"a recipe `model:`; found {found}"
        )
    return values


def _check_recipe(file: Path) -> str:
    """Return which recipe a file configures. The recipes are a package beside this one."""
    try:
        recipes = import_module("recipes.config")
    except ImportError as error:
        raise UsageError(
            f"{file}: it configures a recipe, and recipes are not here: {error}"
        ) from error
    if _PREDICTION & recipes.read_yaml(file).keys():
        recipes.read(recipes.PredictConfig, file, ignore=recipes.TRAINING_ONLY)
        return "a recipe that predicts"
    recipes.read(recipes.FinetuneConfig, file)
    return "a recipe that fine-tunes"
