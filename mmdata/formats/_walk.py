"""The files below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

__all__ = ["walk"]


def walk(folder: str, *, enter: Callable[[str], bool] = lambda folder: True) -> Iterator[str]:
    """Yield the files below ``folder`` by sorted path, in those folders that one may ``enter``.

    Links are followed, but not back to a folder above them.
    """
    yield from _walk(folder, (), enter)


def _walk(folder: str, above: tuple[tuple[int, int], ...], enter: Callable[[str], bool]) -> Iterator[str]:
    found = os.stat(folder)  # noqa: PTH116 - file names may be no text; Path objects gain nothing here
    here = (found.st_dev, found.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        listed = sorted((entry.name, entry.is_dir(), entry.path) for entry in entries)
    for _, is_folder, path in listed:
        if not is_folder:
            yield path
        elif enter(path):
            yield from _walk(path, (*above, here), enter)
