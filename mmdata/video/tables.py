"""Reading an MP4 or MOV without its media: its tables say of each packet when it is presented,
where it stands and whether decoding can start there, and so a film is not fetched to learn that.

Other containers have no such tables. A Matroska file has cues, which name keyframes alone; when the
frames between them are presented, the packets say, and so it is read whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from mmdata.storage._file import RemoteFile

__all__ = ["media_of"]

_KINDS: Final = frozenset(
    {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"mfra", b"sidx", b"styp"}
    | {b"pnot", b"uuid", b"meta", b"pdin", b"emsg", b"prft", b"udta", b"ssix"}
)
"""Boxes that stand beside one another in a file (ISO 14496-12, table 1, and QuickTime's own)."""
_LEAST: Final = 1 << 18  # bytes; to pass over fewer is no cheaper than to fetch them
_MOST_BOXES: Final = 1000
_MOST_TABLES: Final = 256 << 20
_BESIDES: Final = frozenset({b"rap ", b"roll"})
"""Groups of frames at which decoding can start although the table of keyframes does not have them;
FFmpeg finds them in the packets (ISO 14496-12, 10.1 and 10.4).
"""


class _Box(NamedTuple):
    """A box of a file: its kind, and where its content is."""

    kind: bytes
    content: range


def media_of(file: RemoteFile) -> list[range]:
    """Return where in an MP4 or MOV the media are, in order; nothing of a file whose tables do not
    say all of its packets, or whose media are too small to pass over.
    """
    boxes = _boxes(file)
    tables = [box.content for box in boxes if box.kind == b"moov"]
    # What comes in fragments has a table in each of them, and is read through.
    is_in_fragments = any(box.kind == b"moof" for box in boxes)
    if len(tables) != 1 or is_in_fragments or len(tables[0]) > _MOST_TABLES:
        return []
    file.seek(tables[0].start)
    if _has_other_keyframes(file.read(len(tables[0])) or b""):
        return []
    media = (box.content for box in boxes if box.kind == b"mdat")
    return [content for content in media if len(content) >= _LEAST]


def _boxes(file: RemoteFile) -> list[_Box]:
    """Return the boxes of a file; none of one that is not made of boxes."""
    found: list[_Box] = []
    place, size = 0, file.size()
    while place < size and len(found) < _MOST_BOXES:
        file.seek(place)
        head = file.read(16) or b""
        length, header = _length_of(head, size - place)
        if head[4:8] not in _KINDS or length < header:
            return []
        found.append(_Box(head[4:8], range(place + header, min(place + length, size))))
        place += length
    return found if place >= size else []


def _length_of(head: bytes, rest: int) -> tuple[int, int]:
    """Return how long a box is, and how long what says so is."""
    length = int.from_bytes(head[:4], "big")
    if length == 1:  # it did not fit in 32 bits
        return int.from_bytes(head[8:16], "big"), 16
    return length or rest, 8


def _has_other_keyframes(tables: bytes) -> bool:
    for track in _contents(tables, b"trak"):
        handlers = _contents(track, b"mdia", b"hdlr")
        if not any(handler[8:12] == b"vide" for handler in handlers):
            continue
        groups = _contents(track, b"mdia", b"minf", b"stbl", b"sgpd")
        if any(group[4:8] in _BESIDES for group in groups):
            return True
    return False


def _contents(data: bytes, kind: bytes, *below: bytes) -> Iterator[bytes]:
    """Yield what is in the boxes of a kind; or in those below them, of the kinds that follow."""
    place = 0
    while place + 8 <= len(data):
        length, header = _length_of(data[place : place + 16], len(data) - place)
        if length < header:
            return
        if data[place + 4 : place + 8] == kind:
            content = data[place + header : place + length]
            if below:
                yield from _contents(content, *below)
            else:
                yield content
        place += length
