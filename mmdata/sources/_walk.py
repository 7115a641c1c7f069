"""The files below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

__all__ = ["is_folder", "walk"]


def walk(
    folder: str,
    *,
    skip: Callable[[os.DirEntry[str]], bool],
    above: tuple[tuple[int, int], ...] = (),
) -> Iterator[str]:
    """Yield the files below ``folder`` by sorted path, but for the files and folders to ``skip``.

    Links are followed, but not back to a folder ``above``: those (device, inode) that the walk came
    through.
    """
    found = os.stat(folder)  # noqa: PTH116 - file names may be no text; Path objects gain nothing here
    here = (found.st_dev, found.st_ino)
    if here in above:
        return

    with os.scandir(folder) as entries:
        listed = sorted(
            (entry.name, is_folder(entry), entry.path) for entry in entries if not skip(entry)
        )

    for _, further, path in listed:
        if further:
            yield from walk(path, skip=skip, above=(*above, here))
        else:
            yield path


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or leads to one; a link to itself does not."""
    try:
        return entry.is_dir()
    except OSError:
        return False
