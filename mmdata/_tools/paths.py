"""Paths and URLs in calls and records."""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Final

from mmdata.errors import UsageError

__all__ = ["is_url", "join_path", "local_path", "real_path"]

_URL: Final = re.compile(r"(?!file:)[A-Za-z][A-Za-z0-9+.-]*://")
_URL_OF_A_CALL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/+(.*)", re.DOTALL)
"""A URL that a path was made of has lost one of its slashes; a drive of Windows has one letter."""


def is_url(path: str) -> bool:
    """Return whether ``path`` is a URL rather than a file's name."""
    return "://" in path and _URL.match(path) is not None


def join_path(root: str, path: str) -> str:
    """Return a path below ``root``, which may be a URL; one that is absolute, or a URL, as it is.

    >>> join_path("s3://bucket/media", "a.jpg"), join_path("/media", "s3://bucket/a.jpg")
    ('s3://bucket/media/a.jpg', 's3://bucket/a.jpg')
    """
    return path if is_url(path) else posixpath.join(root, path)


def local_path(path: str | os.PathLike[str], what: str) -> Path:
    """Return the path of ``what`` in a call: a source, a media root, a store.

    Raises:
        UsageError: it is a URL.
    """
    url = _URL_OF_A_CALL.fullmatch(os.fspath(path))
    if url is None:
        return Path(path)
    scheme, rest = url.groups()
    if scheme.lower() == "file":
        raise UsageError(f"{what} {scheme}:///{rest}: name it as a path, /{rest}")
    raise UsageError(
        f"{what} {scheme}://{rest}: URLs ({scheme}://) are not supported yet. Name a local path; "
        "what is stored elsewhere can be copied or mounted."
    )


def real_path(path: Path) -> Path:
    """Return the one absolute path of a file or folder, however a call spells it.

    Links to folders are followed. A link to a file is not: it stands in the folder that it is in,
    and what belongs to the file is beside the link. Downloads of the Hugging Face Hub are such
    links, into a folder of blobs.
    """
    if is_url(os.fspath(path)):
        return path
    if path.is_dir():
        return Path(os.path.realpath(path))
    return Path(os.path.realpath(path.parent)) / path.name
