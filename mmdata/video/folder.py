"""A folder of pictures as a video: LLaVA-Hound keeps its clips so, in the order of names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mmdata._tools.options import checked
from mmdata._tools.paths import join_path
from mmdata.errors import VideoError
from mmdata.schema import CompactTimes, Media
from mmdata.storage import Access, MediaCache
from mmdata.storage._cache import KnownContent
from mmdata.storage._media import is_remote, reach, remote_medium
from mmdata.storage._path import RemotePath
from mmdata.video.pictures import UNSAID, Pictures, VideoSource
from mmdata.video.source import Source

__all__ = ["is_folder", "pictures_in", "reach_medium", "source_of", "with_clock"]

_CONTAINERS: Final = frozenset(
    {
        ".mp4",
        ".webm",
        ".mkv",
        ".avi",
        ".mov",
        ".m4v",
        ".mpg",
        ".mpeg",
        ".ts",
        ".flv",
        ".wmv",
        ".gif",
    }
)
"""How files are called that are no folders; what is called otherwise may be one."""
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def is_folder(source: Source) -> bool:
    """Return whether ``source`` is the path of a folder."""
    if isinstance(source, bytes):
        return False
    if not is_remote(source):
        return os.path.isdir(source)  # noqa: PTH112 - once a sample, and cheaper
    # Asking takes a way through the network: of what is called as a file is, nobody is asked.
    path = remote_medium(source)
    return path.has_folders and path.suffix.lower() not in _CONTAINERS and path.is_dir()


def pictures_in(source: Source, clock: CompactTimes = UNSAID) -> Pictures:
    """Return the pictures of a folder, in the order of their names.

    Raises:
        VideoError: there is none in it.
    """
    if not isinstance(source, bytes) and is_remote(source):
        remote = remote_medium(source)
        found = [path for path in remote.iterdir() if path.suffix.lower() in _SUFFIXES]
        return _pictures_of(str(remote), found, clock)
    folder = Path(os.fsdecode(source))
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    return _pictures_of(str(folder), list(map(str, pictures)), clock)


def _pictures_of(
    folder: str, pictures: Sequence[str | RemotePath], clock: CompactTimes
) -> Pictures:
    if not pictures:
        raise VideoError(f"{folder}: no picture is in this folder", path=folder)
    return Pictures(tuple(pictures), clock, folder)


def with_clock(source: VideoSource, clock: CompactTimes | None) -> VideoSource:
    """Return a folder of pictures of which ``clock`` says when they are as such pictures; all else
    as it is.
    """
    if clock is None or isinstance(source, Pictures) or not is_folder(source):
        return source
    return pictures_in(source, clock)


def reach_medium(medium: Media, root: str, cache: MediaCache | None) -> str | RemotePath:
    """Return the file of a medium that has a path as what reads it takes it."""
    is_known = medium.size is not None and medium.hash is not None
    known = KnownContent(medium.size or 0, medium.hash or "") if is_known else None
    return reach(join_path(root, medium.path or ""), Access(cache=cache), known)


@checked
def source_of(video: Media, root: str = "", *, cache: MediaCache | None = None) -> VideoSource:
    """Return what to sample a video of a store from: its file, its bytes, or its pictures with the
    times that the store knows.

    Relative paths are below ``root``. What is fetched of those in object storage is kept in
    ``cache``, if one is given.

    >>> source_of(Media("video", frame_paths=("1.jpg", "2.jpg")), "/media").name
    '/media/1.jpg to /media/2.jpg'

    Raises:
        VideoError: it is kept as the frames of a cache alone.
        MediaError: it is behind a URL that is not read.
    """
    if video.bytes is not None:
        return video.bytes
    if video.path is not None:
        return with_clock(reach_medium(video, root, cache), video.clock)
    if video.frame_paths is not None:
        return Pictures(video.frame_paths, video.clock or UNSAID).below(root, Access(cache=cache))
    raise VideoError("this video has no path, no bytes and no pictures, but cached frames alone")
