"""PNG files without the metadata that Pillow would refuse them for."""

from __future__ import annotations

import io
import struct
import zlib
from typing import BinaryIO, Final

__all__ = ["without_large_metadata"]

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_HEAD: Final = struct.Struct(">I4s")  # of a chunk: the length of its content, and its type
_CHECKSUM: Final = 4  # bytes after the content
_METADATA: Final = frozenset({b"tEXt", b"zTXt", b"iTXt", b"iCCP"})


def without_large_metadata(file: BinaryIO) -> BinaryIO:
    """Return ``file`` at its beginning or, of a PNG with metadata that Pillow refuses to unpack, a
    copy that lacks them.

    Texts and colour profiles change no pixel here, but for one of more than a megabyte Pillow
    refuses the whole picture, to guard against what unpacks to fill the memory. What it takes
    stays: a small text may hold the orientation.
    """
    left_out = _find_large_metadata(file) if file.read(len(_SIGNATURE)) == _SIGNATURE else []
    file.seek(0)
    if not left_out:
        return file

    kept = io.BytesIO()
    for start, stop in left_out:
        kept.write(file.read(start - file.tell()))
        file.seek(stop)
    kept.write(file.read())
    kept.seek(0)
    return kept


def _find_large_metadata(file: BinaryIO) -> list[tuple[int, int]]:
    """Return where the chunks are that Pillow would refuse, as (start, stop) in bytes."""
    from PIL.PngImagePlugin import MAX_TEXT_MEMORY

    found = []
    total = 0  # bytes that the metadata so far unpack to
    while len(head := file.read(_HEAD.size)) == _HEAD.size:
        length, kind = _HEAD.unpack(head)
        start = file.tell() - _HEAD.size
        stop = start + _HEAD.size + length + _CHECKSUM

        if kind in _METADATA:
            size = _unpacked_size(kind, file.read(length))
            if size is None or total + size > MAX_TEXT_MEMORY:
                found.append((start, stop))
            else:
                total += size
        file.seek(stop)
    return found


def _unpacked_size(kind: bytes, content: bytes) -> int | None:
    """Return how many bytes a chunk of metadata unpacks to; None of one beyond Pillow's limit."""
    from PIL.PngImagePlugin import MAX_TEXT_CHUNK

    if kind == b"tEXt":
        return len(content)
    # A keyword, a NUL and the number of the way of packing come first; in iTXt also whether it is
    # packed, and two more texts that end in a NUL.
    _, _, packed = content.partition(b"\0")
    if kind == b"iTXt":
        if packed[:1] == b"\0":
            return len(content)
        packed = packed[2:].partition(b"\0")[2].partition(b"\0")[2]
    else:
        packed = packed[1:]

    unpacker = zlib.decompressobj()
    try:
        unpacked = unpacker.decompress(packed, MAX_TEXT_CHUNK)
    except zlib.error:
        return len(content)  # Pillow passes over it
    return None if unpacker.unconsumed_tail else len(unpacked)
