"""A folder of pictures as a video: LLaVA-Hound keeps its clips so, in the order of names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from mmdata._tools.options import checked
from mmdata.errors import VideoError
from mmdata.schema import CompactTimes, Media
from mmdata.video.pictures import UNSAID, Pictures, VideoSource
from mmdata.video.source import Source

__all__ = ["is_folder", "pictures_in", "source_of", "with_clock"]

_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})


def is_folder(source: Source) -> bool:
    """Return whether ``source`` is the path of a folder."""
    return not isinstance(source, bytes) and os.path.isdir(source)  # noqa: PTH112 - once a sample, and cheaper


def pictures_in(source: Source, clock: CompactTimes = UNSAID) -> Pictures:
    """Return the pictures of a folder, in the order of their names.

    Raises:
        VideoError: there is none in it.
    """
    folder = Path(os.fsdecode(source))
    pictures = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not pictures:
        raise VideoError(f"{folder}: no picture is in this folder", path=str(folder))
    return Pictures(tuple(map(str, pictures)), clock, str(folder))


def with_clock(source: VideoSource, clock: CompactTimes | None) -> VideoSource:
    """Return a folder of pictures of which ``clock`` says when they are as such pictures; all else
    as it is.
    """
    if clock is None or isinstance(source, Pictures) or not is_folder(source):
        return source
    return pictures_in(source, clock)


@checked
def source_of(video: Media, root: str = "") -> VideoSource:
    """Return what to sample a video of a store from: its file, its bytes, or its pictures with the
    times that the store knows.

    Relative paths are below ``root``.

    >>> source_of(Media("video", frame_paths=("1.jpg", "2.jpg")), "/media").name
    '/media/1.jpg to /media/2.jpg'

    Raises:
        VideoError: it is kept as the frames of a cache alone.
    """
    if video.bytes is not None:
        return video.bytes
    if video.path is not None:
        return with_clock(os.path.join(root, video.path), video.clock)  # noqa: PTH118 - as above
    if video.frame_paths is not None:
        return Pictures(video.frame_paths, video.clock or UNSAID).below(root)
    raise VideoError("this video has no path, no bytes and no pictures, but cached frames alone")
