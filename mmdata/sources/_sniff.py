"""What a file that was given as JSON is, where its first bytes say that it is none.

Of a binary file read as JSON every line would be a reject, which is true and helps nobody.
"""

from __future__ import annotations

import codecs
from typing import Final

__all__ = ["HEAD", "binary_kind"]

HEAD: Final = 4096
"""How many bytes are enough to know it."""

_UNPACK: Final = "unpack it and name what is in it"
_REWRITE: Final = "write its rows as JSON Lines"
_RENAME: Final = "it is read if its suffix says so, and if it is packed with nothing else"
_MAGIC: Final = (
    (0, b"version https://git-lfs", "a Git LFS pointer", "`git lfs pull` fetches the file itself"),
    (0, b"PAR1", "a Parquet file", _RENAME),
    (0, b"ARROW1", "an Arrow file", _RENAME),
    (0, b"FEA1", "a Feather file", _REWRITE),
    (0, b"\xff\xff\xff\xff", "an Arrow stream", _RENAME),
    (0, b"ORC", "an ORC file", _REWRITE),
    (0, b"Obj\x01", "an Avro file", _REWRITE),
    (0, b"SQLite format 3\0", "an SQLite database", _REWRITE),
    (0, b"\x89HDF\r\n", "an HDF5 file", _REWRITE),
    (0, b"\x93NUMPY", "a NumPy array", _REWRITE),
    (257, b"ustar", "a tar archive", _RENAME),
    (0, b"PK\x03\x04", "a zip archive", _UNPACK),
    (0, b"PK\x05\x06", "an empty zip archive", _UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (0, b"Rar!\x1a\x07", "a rar archive", _UNPACK),
    (0, b"\xfd7zXZ\0", "packed with xz", _UNPACK),
    (0, b"BZh", "packed with bzip2", _UNPACK),
    (0, b"\x04\x22\x4d\x18", "packed with LZ4", _UNPACK),
    (0, b"\x1f\x8b", "packed twice with gzip", _UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "packed twice with Zstandard", _UNPACK),
    (0, b"\x89PNG", "a PNG picture", ""),
    (0, b"\xff\xd8\xff", "a JPEG picture", ""),
    (0, b"GIF8", "a GIF picture", ""),
    (4, b"ftyp", "an MP4 video", ""),
    (0, b"\x1aE\xdf\xa3", "a Matroska or WebM video", ""),
    (0, b"RIFF", "a RIFF file (AVI, WAV or WebP)", ""),
    (0, b"%PDF", "a PDF", ""),
)  # fmt: skip
_WIDE: Final = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_BLANK: Final = b" \t\r\n,\0"
_CONTROLS: Final = bytes(set(range(32)) - set(b"\t\n\r\f\b\x1b"))
_FEW: Final = 16
"""Of random bytes one in nine is a control character,
of damaged text far fewer than one in so many, and these.
"""


def binary_kind(head: bytes, *, wanted: str = "JSON") -> str | None:
    """Return what a file is that begins with ``head`` (unpacked, :data:`HEAD` bytes of it), or None
    if it may be what is ``wanted``: JSON, or other text.

    What begins as JSON does is JSON, however it goes on. Else a known signature says what a file
    is, and it is binary where too much of it is no text: damaged text stays text, and so does text
    in another encoding.
    """
    head = head[:HEAD]
    if head.startswith(_WIDE) or head.removeprefix(codecs.BOM_UTF8).lstrip(_BLANK).startswith(
        (b"[", b"{")
    ):
        return None  # wide text is for the reader to name

    for place, magic, kind, mend in _MAGIC:
        if head.startswith(magic, place):
            return f"{kind}, not {wanted}{mend and f': {mend}'}"
    controls = len(head) - len(head.translate(None, _CONTROLS))
    if controls <= max(_FEW, len(head) // _FEW):
        return None

    begins = (
        repr(head[:8])
        if head.strip(b"\0")
        else "nothing but zero bytes: was its writing cut short?"
    )
    return f"a binary file, not {wanted} (it begins with {begins})"
