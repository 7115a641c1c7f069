"""Turns as targets spell them: texts in which marks stand for media that are listed beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from mmdata.exporters._features import UnsayableError
from mmdata.exporters._media import PlacedMedium
from mmdata.exporters._plain import PlainRows
from mmdata.formats._marks import has_marks
from mmdata.formats._meaning import MEANING_FIELDS, spell
from mmdata.schema import Audio, Conversation, Image, MediaType, Message, Part, Text, Video

__all__ = [
    "MARKS",
    "add_extra",
    "add_extras",
    "join_pieces",
    "join_texts",
    "media_in_order",
    "require_turns",
    "require_words",
    "split_media",
    "text_of",
]

MARKS: Final[dict[MediaType, str]] = {"image": "<image>", "video": "<video>", "audio": "<audio>"}
"""What stands in a text for a medium, in nearly every tool."""
_SHOWS: Final[dict[type, MediaType]] = {Image: "image", Video: "video", Audio: "audio"}
_UNCHANGED: Final = "{}"

_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def require_turns(conversation: Conversation, *, may_have_system: bool) -> None:
    """Refuse a row whose turns are not a system's, if it may have one, and then user and assistant
    by turns.

    Raises:
        UnsayableError: they are not.
    """
    roles = [message.role for message in conversation.messages]
    spoken = roles[1:] if may_have_system and roles[0] == "system" else roles
    expected = ["user", "assistant"] * (len(spoken) // 2)
    if not spoken or spoken != expected:
        raise UnsayableError(
            f"turns must be user and assistant by turns, found {', '.join(roles[:6])}",
            what="turns",
        )


def require_words(text: str) -> str:
    """Return words, in which nothing looks like the mark of a medium.

    Raises:
        UnsayableError: something does.
    """
    if "<" in text and has_marks(text):
        raise UnsayableError(
            f"a text holds what is read as the mark of a medium: {text[:60]!r}", what="marks"
        )
    return text


def media_in_order(conversation: Conversation) -> list[int]:
    """Return the numbers of a row's media in the order in which its turns show them; one that is
    shown twice comes twice.

    Raises:
        UnsayableError: a medium is not shown at all, or one is shown in the worse ending of a pair.
    """
    shown = [
        part.media
        for message in conversation.messages
        for part in message.content
        if isinstance(part, (Image, Video, Audio))
    ]
    if left := sorted(set(range(len(conversation.media))) - set(shown)):
        raise UnsayableError(
            f"medium {left[0]} is not shown in any turn, and would have no place", what="unplaced"
        )
    for message in conversation.rejected or ():
        if any(type(part) in _SHOWS for part in message.content):
            raise UnsayableError("the worse ending of the pair shows media", what="rejected")
    return shown


def split_media(
    conversation: Conversation, media: Sequence[PlacedMedium]
) -> tuple[list[PlacedMedium], list[PlacedMedium]]:
    """Return the images and the videos of a row, each as often and in the order as turns show it.

    Raises:
        UnsayableError: there is audio, or as :func:`media_in_order`.
    """
    shown = [media[number] for number in media_in_order(conversation)]
    if any(medium.type == "audio" for medium in shown):
        raise UnsayableError("the row has audio", what="audio")
    images = [medium for medium in shown if medium.type == "image"]
    return images, [medium for medium in shown if medium.type == "video"]


def text_of(
    message: Message,
    *,
    separator: str = "",
    spell_part: Callable[[Part], str] | None = None,
    marks: Mapping[MediaType, str] = MARKS,
) -> str:
    r"""Return what a turn says as one text, marks in the places of media.

    ``separator`` stands between words and the marks before or behind all of them; ``spell_part``
    says what is written for a part that is neither words nor a medium.

    >>> from mmdata.schema import user
    >>> text_of(user(Image(0), "What is it?"), separator="\n")
    '<image>\nWhat is it?'

    Raises:
        UnsayableError: a text holds a mark, or there is such a part and no way to spell it.
    """
    pieces: list[tuple[MediaType | None, str]] = []
    for part in message.content:
        if isinstance(part, Text):
            pieces.append((None, require_words(part.text)))
        elif (kind := _SHOWS.get(type(part))) is not None:
            pieces.append((kind, ""))
        elif spell_part is not None:
            pieces.append((None, spell_part(part)))
        else:
            raise UnsayableError(f"a turn has a part of type {type(part).__name__.lower()}")
    return join_pieces(pieces, separator, marks)


def join_pieces(
    pieces: Sequence[tuple[MediaType | None, str]],
    separator: str,
    marks: Mapping[MediaType, str] = MARKS,
) -> str:
    r"""Return pieces of a turn as one text; a piece is a type of medium, or None and words.

    >>> join_pieces([(None, "See "), ("image", ""), (None, " here."), ("image", "")], "\n")
    'See <image> here.\n<image>'
    """
    if len(pieces) == 1:
        kind, words = pieces[0]
        return words if kind is None else marks[kind]
    spoken = [number for number, (kind, words) in enumerate(pieces) if kind is None and words]
    if not spoken:
        return separator.join(marks[kind] for kind, _ in pieces if kind is not None)
    first, last = spoken[0], spoken[-1]
    texts: list[str] = []
    for number, (kind, words) in enumerate(pieces):
        if kind is None:
            texts.append(words)
        elif number < first:
            texts.append(marks[kind] + separator)
        elif number > last:
            texts.append(separator + marks[kind])
        else:
            texts.append(marks[kind])
    return "".join(texts)


def join_texts(rows: PlainRows, separator: str) -> Sequence[str]:
    """Return the text of each turn of plain rows, marks in the places of media."""
    if not rows.placed:
        return rows.texts
    texts = list(rows.texts)
    for turn, pieces in rows.placed:
        texts[turn] = join_pieces(pieces, separator)
    return texts


def add_extra(
    record: dict[str, Any], conversation: Conversation, fields: frozenset[str]
) -> dict[str, Any]:
    """Return a record with the fields of the source that had no column; ``fields`` are those of the
    target.

    Raises:
        UnsayableError: one of them would be read as something else.
    """
    return {**record, **_check_extra(conversation.extra, record, fields)}


def add_extras(records: Sequence[dict[str, Any]], rows: PlainRows, fields: frozenset[str]) -> bool:
    """Add to records of plain rows the fields of the source that had no column, in place; return
    whether all of them could be.
    """
    for record, extra in zip(records, rows.extras, strict=True):
        if extra == _UNCHANGED:
            continue
        try:
            # Only names are looked at: values are written as the store has them.
            record.update(_check_extra(_fields.decode(extra), record, fields))
        except UnsayableError:
            return False
    return True


def _check_extra(
    extra: Mapping[str, Any], record: Mapping[str, Any], fields: frozenset[str]
) -> Mapping[str, Any]:
    taken = [
        key
        for key in extra
        if key in record
        or key in fields
        or key.lower() in fields
        or spell(key) in MEANING_FIELDS
        or spell(key) in _READ_ANYWHERE
    ]
    if taken:
        raise UnsayableError(
            f"the field {taken[0]!r} in `extra` would be read as what it is not; --drop extra "
            "leaves all of them out",
            what="extra",
        )
    return extra


_READ_ANYWHERE: Final = frozenset({"id", "split"})
"""The names of fields that every format reads."""
