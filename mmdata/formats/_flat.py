"""Records with turns, many at a time, column by column.

:class:`TurnColumns` is what a format reads of some records; :func:`flatten_turns` makes rows of it.
Each step goes over all the records at once, which is many times faster than one by one, and is
right only where all of them are plain: speakers who take turns, texts that say something, and a
mark in the text for each medium, or none for all. Whoever meets a record that is not plain raises
:class:`NotPlainError`; its half is then read again without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, compress, pairwise
from typing import Any, Final, TypeAlias

from msgspec import Struct

from mmdata.formats._grounding import BoxStyle, may_have_boxes
from mmdata.formats._marks import STRAY_MARKS, has_video_suffix
from mmdata.formats._meaning import may_change_meaning
from mmdata.formats._parts import RAW_PICTURES, SHORTEST_RAW
from mmdata.formats._placeholders import fill
from mmdata.formats._suspects import LEFT_MARKS, may_have_mark
from mmdata.formats._turns import IMAGE, VIDEO, MediaCursor
from mmdata.schema import Image, MediaType, Split, Text
from mmdata.store.encode import PART_CODES, ROLE_CODES, FlatRows, SparseColumn

__all__ = ["Medium", "NotPlainError", "TurnColumns", "flatten_turns", "require"]

_SYSTEM, _USER, _ASSISTANT = (ROLE_CODES[role] for role in ("system", "user", "assistant"))
_IMAGE_PART, _VIDEO_PART = PART_CODES["image"], PART_CODES["video"]
_TRAINED: Final = bytes(code == _ASSISTANT for code in range(256))
"""A table from the code of a role to 1 where a model learns to say what it says."""
_TURNS: Final = [bytes([_USER, _ASSISTANT] * 64)[:length] for length in range(2, 129)]
_ORDERS: Final = frozenset([*_TURNS, *(bytes([_SYSTEM]) + turns for turns in _TURNS)])
"""The speakers of a plain conversation, for every length up to 128 turns."""
_MARK_LENGTH: Final = len(IMAGE)  # and of VIDEO
_TAGS: Final = {
    (IMAGE,): re.compile(f"({IMAGE})"),
    (IMAGE, VIDEO): re.compile(f"({IMAGE}|{VIDEO})"),
}

_OTHER: Final = bytes.maketrans(b"\0\1", b"\1\0")
"""A table from 0 to 1 and from 1 to 0."""

Medium: TypeAlias = str | bytes | memoryview
"""Where a medium is, or itself: its bytes, or a view of them in the table that holds them."""
_Parts: TypeAlias = Sequence[tuple[int, Any]]
"""The parts of a message that has not just a text: the code of each, and its text or the number of
its medium.
"""


class NotPlainError(Exception):
    """One of the records must be read by itself."""


def require(condition: bool) -> None:
    """Raise :class:`NotPlainError` unless the condition holds: in ``flatten``, what sends a record
    to be read alone.

    >>> require(1 + 1 == 2)
    """
    if not condition:
        raise NotPlainError


class TurnColumns(Struct, frozen=True, eq=False):
    """What some records say: of each its id, how many turns it has, its media beside them, and its
    other fields.

    ``roles`` holds the code of each turn's role, ``texts`` what is said, marks of media and all,
    one after the other.
    """

    ids: Sequence[str]
    num_turns: Sequence[int]
    roles: bytes
    texts: Sequence[str]
    images: Sequence[Sequence[Medium]]
    """Of each record where its images are, or themselves."""
    videos: Sequence[Sequence[Medium]]
    extras: Sequence[Mapping[str, Any]]
    placed: Sequence[tuple[int, _Parts]] = ()
    """The turns that bring their media with them: the number of each among all, and its parts."""


def flatten_turns(
    columns: TurnColumns,
    dataset_name: str,
    *,
    marks: tuple[str, ...] = (IMAGE, VIDEO),
    refused: tuple[str, ...] = (),
    split: Split = "train",
    boxes: BoxStyle = "auto",
) -> FlatRows:
    """Return the rows that the records are.

    ``marks`` stand for media in the texts, that for videos where there are videos. Without marks,
    media lead. A text in which a mark is left, or one of those ``refused``, is not plain.

    >>> columns = TurnColumns(
    ...     ids=["1"],
    ...     num_turns=[2],
    ...     roles=bytes([_USER, _ASSISTANT]),
    ...     texts=["<image>What is it?", "A cup."],
    ...     images=[["cup.jpg"]],
    ...     videos=[[]],
    ...     extras=[{}],
    ... )
    >>> flatten_turns(columns, "cups").texts
    ['What is it?', 'A cup.']

    Raises:
        NotPlainError: not all of the records are plain.
    """
    rows = len(columns.ids)
    starts = list(accumulate(columns.num_turns, initial=0))

    # The roles of a conversation are a slice of bytes: one look into a set says whether speakers
    # take turns.
    require(all(columns.roles[start:end] in _ORDERS for start, end in pairwise(starts)))
    special = columns.placed or list(_special_messages(columns, starts, marks))
    parts = _Assembled(columns.texts, special)
    require(all(parts.texts) and not any(map(str.isspace, parts.texts)))

    # No mark may be left in what is said, in whatever spelling. One search of all texts joined is
    # many times faster than one of each, and without any "<" not even that is needed.
    said = "\n".join(parts.texts) if marks or refused else ""
    require("<" not in said or not any(mark in said for mark in refused))
    if marks and may_have_mark(said):
        doubtful = "\n".join(filter(may_have_mark, parts.texts))
        require(not LEFT_MARKS.search(doubtful) and not STRAY_MARKS.search(doubtful))
    require(not may_have_boxes([said], boxes))
    require(not may_change_meaning(columns.extras))
    # A source has few suffixes: they are looked at, not each path.
    tails = {path[-5:] for paths in columns.images for path in paths if type(path) is str}
    require(not any(map(has_video_suffix, tails)))

    num_media = [
        len(images) + len(videos)
        for images, videos in zip(columns.images, columns.videos, strict=True)
    ]
    types, found = _list_media(columns)
    media: dict[str, SparseColumn] = {}
    are_paths = bytes([type(medium) is str for medium in found])
    for name, there in (("path", are_paths), ("bytes", are_paths.translate(_OTHER))):
        if any(there):
            media[name] = there, list(compress(found, there))
    return FlatRows(
        ids=columns.ids,
        sources=[dataset_name] * rows,
        splits=[split] * rows,
        extras=columns.extras,
        num_messages=columns.num_turns,
        num_media=num_media,
        roles=columns.roles,
        train=columns.roles.translate(_TRAINED),
        num_parts=parts.num_parts,
        part_codes=bytes(parts.codes),
        texts=parts.texts,
        part_media=parts.media,
        media_types=types,
        media=media,
    )


def _list_media(columns: TurnColumns) -> tuple[list[MediaType], list[Medium]]:
    """Return the types of all media, and their paths or bytes: of each record its images, then its
    videos.
    """
    types: list[MediaType] = []
    paths: list[Medium] = []
    for images, videos in zip(columns.images, columns.videos, strict=True):
        if images:
            types += ["image"] * len(images)
            paths += images
        if videos:
            types += ["video"] * len(videos)
            paths += videos

    # Nearly always all are short, which is seen in a fraction of the time that looking at the
    # beginning of each takes.
    if max(map(len, paths), default=0) >= SHORTEST_RAW:
        require(not any(type(path) is str and path.startswith(RAW_PICTURES) for path in paths))
    return types, paths


def _special_messages(
    columns: TurnColumns, starts: Sequence[int], marks: tuple[str, ...]
) -> Iterator[tuple[int, _Parts]]:
    """Yield the messages that media stand in: the number of each among all, and its parts."""
    texts, roles = columns.texts, columns.roles
    for row, (images, videos) in enumerate(zip(columns.images, columns.videos, strict=True)):
        count = len(images) + len(videos)
        if not count:
            continue
        first = starts[row]
        if roles[first] == _SYSTEM:
            first += 1

        # Nearly always one medium at an end of the first question.
        text, tags = texts[first], marks if videos else marks[:1]
        if count == 1 and tags:
            code = _IMAGE_PART if images else _VIDEO_PART
            if text.startswith(tags) and (words := text[_MARK_LENGTH:].lstrip()):
                yield first, ((code, 0), (0, words))
                continue
            if text.endswith(tags) and (words := text[:-_MARK_LENGTH].rstrip()):
                yield first, ((0, words), (code, 0))
                continue
        yield from _place_media(
            texts, range(starts[row], starts[row + 1]), first, len(images), len(videos), tags
        )


def _place_media(
    texts: Sequence[str], turns: range, first: int, images: int, videos: int, marks: tuple[str, ...]
) -> Iterator[tuple[int, _Parts]]:
    """Yield the messages of one record that its media stand in: where their marks are, or before
    the first question.
    """
    marked = [turn for turn in turns if any(mark in texts[turn] for mark in marks)]
    if not marked:
        leading = [(_IMAGE_PART, number) for number in range(images)]
        leading += [(_VIDEO_PART, images + number) for number in range(videos)]
        yield first, (*leading, (0, texts[first]))
        return
    cursor, found = MediaCursor(images, videos), 0
    for turn in marked:
        parts = fill(texts[turn], _TAGS[marks], cursor.take)
        found += sum(type(part) is not Text for part in parts)
        require(bool(parts))
        yield turn, tuple([_encode_part(part) for part in parts])
    require(found == images + videos and not cursor.surplus)


def _encode_part(part: Any) -> tuple[int, Any]:
    if type(part) is Text:
        return 0, part.text
    return (_IMAGE_PART if type(part) is Image else _VIDEO_PART), part.media


class _Assembled:
    """Parts one after the other: of each message its text, or its parts where it is special."""

    __slots__ = ("codes", "media", "num_parts", "texts")

    def __init__(self, texts: Sequence[str], special: Sequence[tuple[int, _Parts]]) -> None:
        self.num_parts = [1] * len(texts)
        self.codes = bytearray()
        self.texts: list[str] = []
        self.media: list[int] = []
        done = 0
        for turn, parts in special:
            self.texts += texts[done:turn]
            self.codes += bytes(turn - done)
            self.num_parts[turn] = len(parts)
            for code, value in parts:
                self.codes.append(code)
                (self.media if code else self.texts).append(value)
            done = turn + 1
        self.texts += texts[done:]
        self.codes += bytes(len(texts) - done)
