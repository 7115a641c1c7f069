"""Turns as targets spell them: texts in which marks stand for media that are listed beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from mmdata.exporters._features import UnsayableError
from mmdata.exporters._media import PlacedMedium
from mmdata.schema import (
    Audio,
    Conversation,
    Image,
    MediaType,
    Message,
    Part,
    Reasoning,
    Text,
    ToolCall,
    Video,
    replace,
)

__all__ = [
    "MARKS",
    "SPEAKERS",
    "add_extra",
    "add_media",
    "check_extra",
    "divide_turn",
    "ending_of",
    "join_pieces",
    "media_in_order",
    "options_for_thoughts",
    "require_dialog",
    "require_turns",
    "require_whole_turns",
    "require_words",
    "spell_call",
    "split_media",
    "text_of",
    "think",
]

MARKS: Final[dict[MediaType, str]] = {"image": "<image>", "video": "<video>", "audio": "<audio>"}
"""What stands in a text for a medium, in nearly every tool."""
SPEAKERS: Final = {"user": "human", "assistant": "gpt"}
"""What LLaVA calls who speaks, and whoever follows it."""
_SHOWS: Final[dict[type, MediaType]] = {Image: "image", Video: "video", Audio: "audio"}


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


def require_dialog(conversation: Conversation) -> None:
    """Refuse a row whose turns are not a system's, or none, and then an assistant's after each of
    the user's or of tools', the first of them the user's.

    Raises:
        UnsayableError: they are not.
    """
    roles = [message.role for message in conversation.messages]
    spoken = roles[1:] if roles[0] == "system" else roles
    is_dialog = (
        len(spoken) % 2 == 0
        and spoken[:1] == ["user"]
        and all(role in ("user", "tool") for role in spoken[::2])
        and all(role == "assistant" for role in spoken[1::2])
    )
    if not is_dialog:
        raise UnsayableError(
            f"turns must be the user's, or a tool's, and the assistant's by turns, found "
            f"{', '.join(roles[:6])}",
            what="turns",
        )


def require_whole_turns(conversation: Conversation) -> None:
    """Refuse a row that trains on some parts of a turn and not on others, or on a turn that is not
    the assistant's.

    Raises:
        UnsayableError: it does.
    """
    for message in conversation.messages:
        if message.train and message.role != "assistant":
            raise UnsayableError(f"a turn of the {message.role}'s is trained on", what="training")
        if any(part.train not in (None, message.train) for part in message.content):
            raise UnsayableError("a part is trained on, or not, against its turn", what="training")


def divide_turn(message: Message) -> tuple[str | None, Message | None, list[ToolCall]]:
    """Return what is thought, what is said, and what is called in a turn, in this order; None for
    what is not there.

    Raises:
        UnsayableError: it is in another order, or not the assistant's.
    """
    parts = list(message.content)
    thoughts: list[str] = []
    while parts and isinstance(parts[0], Reasoning):
        thoughts.append(parts.pop(0).text)  # type: ignore[union-attr]
    calls: list[ToolCall] = []
    while parts and isinstance(parts[-1], ToolCall):
        calls.insert(0, parts.pop())  # type: ignore[arg-type]
    if any(isinstance(part, (Reasoning, ToolCall)) for part in parts):
        raise UnsayableError(
            "a turn is thought, then words, then calls; here they are in another order",
            what="order",
        )
    if len(thoughts) > 1 or not all(map(str.strip, thoughts)):
        raise UnsayableError("a turn has one thought before its words", what="reasoning")
    if (thoughts or calls) and message.role != "assistant":
        raise UnsayableError(f"a turn of the {message.role}'s thinks or calls a tool", what="tools")
    words = replace(message, content=tuple(parts)) if parts else None
    return (thoughts[0] if thoughts else None), words, calls


def ending_of(conversation: Conversation) -> tuple[Sequence[Message], Sequence[Message]]:
    """Return the turns up to the last of the user's, and those after it.

    Raises:
        UnsayableError: there is none of the user's, or nothing follows it.
    """
    messages = conversation.messages
    asked = [number for number, message in enumerate(messages) if message.role == "user"]
    if not asked or asked[-1] == len(messages) - 1:
        raise UnsayableError("a pair is two endings after a question", what="rejected")
    return messages[: asked[-1] + 1], messages[asked[-1] + 1 :]


def options_for_thoughts(conversation: Conversation) -> dict[str, str]:
    """Return the options of a format that reads thoughts out of words, for a row that thinks."""
    messages = (*conversation.messages, *(conversation.rejected or ()))
    thinks = any(isinstance(part, Reasoning) for one in messages for part in one.content)
    return {"thoughts": "reasoning"} if thinks else {}


def think(thought: str | None, words: str) -> str:
    r"""Return words after what was thought, as reasoning models write it.

    >>> think("It has a handle.", "A cup.")
    '<think>\nIt has a handle.\n</think>\n\nA cup.'
    """
    return words if thought is None else f"<think>\n{thought}\n</think>\n\n{words}"


def spell_call(call: ToolCall) -> str:
    """Return a call as the JSON text that ms-swift and LLaMA-Factory have as the words of a turn.

    >>> spell_call(ToolCall("weather", '{"city": "Oslo"}'))
    '{"name": "weather", "arguments": {"city": "Oslo"}}'
    """
    if call.call_id is None:
        return str(call)
    name = msgspec.json.encode(call.call_id).decode()
    return f'{{"id": {name}, {str(call)[1:]}'


def require_words(text: str) -> str:
    """Return words, in which nothing is what models and their tools take for the mark of a medium,
    whoever reads the record.

    Raises:
        UnsayableError: something does.
    """
    if "<" not in text:
        return text

    # The room of formats takes as long to import as thousands of rows to write; few texts need it.
    from mmdata.formats._marks import has_marks

    if has_marks(text):
        raise UnsayableError(
            f"a text holds the mark of a medium, for which a trainer looks for one: {text[:60]!r}",
            what="marks",
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
    spelt = [(kind, words if kind is None else words or marks[kind]) for kind, words in pieces]
    if len(spelt) == 1:
        return spelt[0][1]
    spoken = [number for number, (kind, words) in enumerate(spelt) if kind is None and words]
    if not spoken:
        return separator.join(mark for kind, mark in spelt if kind is not None)
    first, last = spoken[0], spoken[-1]
    texts: list[str] = []
    for number, (kind, text) in enumerate(spelt):
        if kind is not None and number < first:
            texts.append(text + separator)
        elif kind is not None and number > last:
            texts.append(separator + text)
        else:
            texts.append(text)
    return "".join(texts)


def add_media(
    record: dict[str, Any], conversation: Conversation, media: Sequence[PlacedMedium]
) -> dict[str, Any]:
    """Return a record with lists of ``images`` and ``videos``, as its marks take them.

    Raises:
        UnsayableError: there is audio, or a medium has no place.
    """
    images, videos = split_media(conversation, media)
    found = dict(record)
    if images:
        found["images"] = [image.reference for image in images]
    if videos:
        found["videos"] = [video.reference for video in videos]
    return found


def add_extra(
    record: dict[str, Any], conversation: Conversation, fields: frozenset[str]
) -> dict[str, Any]:
    """Return a record with the fields of the source that had no column; ``fields`` are those of the
    target.

    Raises:
        UnsayableError: one of them would be read as something else.
    """
    return {**record, **check_extra(conversation.extra, record, fields)}


def check_extra(
    extra: Mapping[str, Any], record: Mapping[str, Any], fields: frozenset[str]
) -> Mapping[str, Any]:
    """Return the fields of the source that had no column.

    Raises:
        UnsayableError: one of them would be read as something else.
    """
    if not extra:
        return extra

    # As above: rows without such fields do not need the room of formats.
    from mmdata.formats._field_kinds import kinds_of
    from mmdata.formats._meaning import MEANING_FIELDS, is_bound, spell

    taken = [
        key
        for key in extra
        if key in record
        or key in fields
        or key.lower() in fields
        or spell(key) in MEANING_FIELDS
        or is_bound(spell(key))
        or any(kind.changes(extra[key]) for kind in kinds_of(spell(key)))
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
