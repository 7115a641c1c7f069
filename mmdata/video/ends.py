"""Whether a file ends where it says that it does.

FFmpeg takes a Matroska file or a GIF that was cut short for a shorter one.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO, Final, cast

from mmdata.storage._media import is_remote, open_medium
from mmdata.video.source import Source

__all__ = ["missing_end"]

_EBML: Final = b"\x1a\x45\xdf\xa3"  # identifiers of elements (RFC 8794, RFC 9559)
_SEGMENT: Final = b"\x18\x53\x80\x67"
_TRAILER, _EXTENSION, _IMAGE = b"\x3b", b"\x21", b"\x2c"  # blocks of a GIF
_PALETTE_FOLLOWS: Final = 0x80


def missing_end(source: Source, container: str) -> tuple[str, ...]:
    """Return in words what a file lacks at its end; nothing where it lacks nothing, or where its
    ``container``, as FFmpeg calls it, does not say.
    """
    look = {"matroska,webm": _end_of_matroska, "gif": _end_of_gif}.get(container)
    if look is None:
        return ()
    with _open(source) as file:
        return look(file)


def _open(source: Source) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    if is_remote(source):
        return cast("BinaryIO", io.BufferedReader(open_medium(source)))
    return Path(os.fsdecode(source)).open("rb")


def _end_of_matroska(file: BinaryIO) -> tuple[str, ...]:
    """All of a Matroska file but its header is in one segment, which says how long it is; a live
    recording leaves that open.
    """
    if file.read(4) != _EBML:
        return ()
    header = _read_size(file)
    file.seek(header or 0, os.SEEK_CUR)
    if header is None or file.read(4) != _SEGMENT:
        return ()
    length = _read_size(file)
    if length is None:
        return ()

    end = file.tell() + length
    missing = end - file.seek(0, os.SEEK_END)
    return (f"cut short: {missing} of {end} bytes are missing",) if missing > 0 else ()


def _read_size(file: BinaryIO) -> int | None:
    """Read the size of an element, whose first bits say in how many bytes it is; None of an open
    one.
    """
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    size = int.from_bytes(first + file.read(more), "big") & ((1 << 7 * (more + 1)) - 1)
    return None if size == (1 << 7 * (more + 1)) - 1 else size


def _end_of_gif(file: BinaryIO) -> tuple[str, ...]:
    """A GIF is a row of blocks; one that ends between two of them lacks nothing but its trailer."""
    header = file.read(13)
    _skip_palette(file, header[10] if len(header) == 13 else 0)
    while kind := file.read(1):
        place = file.tell() - 1
        if kind == _TRAILER:
            break
        if kind == _EXTENSION:
            file.read(1)
        elif kind == _IMAGE:
            descriptor = file.read(9)
            _skip_palette(file, descriptor[8] if len(descriptor) == 9 else 0)
            file.read(1)  # the width of its codes
        else:
            return (f"what is at byte {place} is no block of a GIF",)
        if not _skip_parts(file):
            return (f"cut short: it ends within the block at byte {place}",)
    return ()


def _skip_palette(file: BinaryIO, flags: int) -> None:
    if flags & _PALETTE_FOLLOWS:
        file.seek(3 << ((flags & 7) + 1), os.SEEK_CUR)


def _skip_parts(file: BinaryIO) -> bool:
    """Pass over the parts of a block, each led by its length, to the empty one that ends it; return
    whether that is there.
    """
    while length := file.read(1):
        if length == b"\0":
            return True
        file.seek(length[0], os.SEEK_CUR)
    return False
