"""The folders of reference data: our own pack, always there, and those that the environment names.

All have one layout and each may lack any file, so what a test needs it asks for here: where a
folder does not have it, the test is skipped and says what is missing. Nothing here knows the name
of a case, a clip or a model.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import pytest

PACK = Path(__file__).parent / "pack"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Reference:
    """One set of reference data: ``golden`` (inputs and outputs),
    ``fixtures`` (clips, annotations, vocabularies).
    """

    name: str
    golden: Path | None
    fixtures: Path | None


def references() -> list[Reference]:
    """Return our pack, and what MMDATA_GOLDEN and MMDATA_FIXTURES name."""
    golden, fixtures = (_folder_of(variable) for variable in ("MMDATA_GOLDEN", "MMDATA_FIXTURES"))
    named = [Reference("named", golden, fixtures)] if golden or fixtures else []
    return [Reference("pack", PACK / "golden", PACK / "fixtures"), *named]


def _folder_of(variable: str) -> Path | None:
    value = os.environ.get(variable)
    if value and not Path(value).is_dir():
        raise pytest.UsageError(f"{variable} names {value}, which is not a folder")
    return Path(value) if value else None


def lacking(what: object, folder: Path) -> NoReturn:
    """Skip the test: ``folder`` lacks what it needs."""
    pytest.skip(f"{folder} has no {what}")


def some(found: Iterable[Item], what: object, folder: Path) -> list[Item]:
    """Return ``found`` as a list, or skip the test where there is nothing."""
    return list(found) or lacking(what, folder)


def files(folder: Path, *names: str) -> list[Path]:
    """Return the files called ``names[0]`` under ``folder``
    that have the others beside them, or skip the test.
    """
    first, *others = names
    found = (
        path
        for path in sorted(folder.rglob(first))
        if all((path.parent / name).is_file() for name in others)
    )
    return some(found, " with ".join(names), folder)


def file(folder: Path, *parts: str) -> Path:
    """Return one file or folder, or skip the test where it is not there."""
    path = folder.joinpath(*parts)
    return path if path.exists() else lacking("/".join(parts), folder)


def read(path: Path) -> Any:
    """Return what a JSON file holds."""
    return json.loads(path.read_text(encoding="utf-8"))


def arrays(path: Path) -> dict[str, Any]:
    """Return the arrays of an ``.npz`` file,
    and leave no file open whatever becomes of the test.
    """
    import numpy as np

    with np.load(path) as file:
        return dict(file)


def cases(folder: Path, name: str, section: str | None = None) -> list[Any]:
    """Return the cases of every file ``name`` under ``folder``,
    or of one of their sections, or skip the test.
    """
    contents = (read(path) for path in files(folder, name))
    lists: list[Sequence[Any]] = [each.get(section, ()) if section else each for each in contents]
    return some(
        (case for each in lists for case in each),
        f"case in {name}, {section or ''}".rstrip(", "),
        folder,
    )


def clips(fixtures: Path) -> dict[Path, dict[str, Any]]:
    """Return ffprobe's word on every clip that is in the folder, by its path, or skip the test."""
    told = read(file(fixtures, "videos", "ffprobe.json"))
    found = {
        path: truth
        for name, truth in told.items()
        if (path := fixtures / "videos" / name).is_file()
    }
    return found or lacking("clip that videos/ffprobe.json names", fixtures)
