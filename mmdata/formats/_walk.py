"""The files below a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

__all__ = ["walk"]


def walk(
    folder: str, *, skip: Callable[[os.DirEntry[str]], bool], above: tuple[tuple[int, int], ...] = ()
) -> Iterator[str]:
    """Yield the files below ``folder`` by sorted path, but for the files and folders to ``skip``.

    Links are followed, but not back to a folder ``above``: those (device, inode) that the walk came through.
    """
    found = os.stat(folder)  # noqa: PTH116 - file names may be no text; Path objects gain nothing here
    here = (found.st_dev, found.st_ino)
    if here in above:
        return
    with os.scandir(folder) as entries:
        listed = sorted((entry.name, entry.is_dir(), entry.path) for entry in entries if not skip(entry))
    for _, is_folder, path in listed:
        if is_folder:
            yield from walk(path, skip=skip, above=(*above, here))
        else:
            yield path
