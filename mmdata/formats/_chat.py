"""Chat records: turns whose text or parts speak of media that stand beside them, as LLaVA,
ms-swift, LLaMA-Factory, OpenAI and many others write them.

:class:`Chat` is what such a record says, whatever its spelling; :func:`converse` makes a
conversation of it. Where the media of the turns go is the business of
:mod:`mmdata.formats._placement`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from mmdata.errors import RecordError
from mmdata.formats._boxes import Size
from mmdata.formats._grounding import BoxStyle, ground
from mmdata.formats._listed_files import TEXT_MARK, place_listed_files
from mmdata.formats._marks import has_marks
from mmdata.formats._objects import Objects
from mmdata.formats._parts import Piece, read_part
from mmdata.formats._placement import Missing, place_media
from mmdata.formats._sources import add_fields, conversation_id, json_type
from mmdata.formats._turns import (
    add_turn_fields,
    insert_before_question,
    require_answer,
    require_turns,
)
from mmdata.schema import Conversation, Media, Message, Part, Reasoning, Role, Text
from mmdata.sources.record import Record

__all__ = ["Chat", "Thoughts", "Turn", "converse"]

Thoughts: TypeAlias = Literal["text", "reasoning"]
"""What ``<think>…</think>`` before an answer is: words like others, or a part of its own."""

_THOUGHT: Final = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the source: its role, its text or list of parts, whether it is trained on, and
    its other fields.

    ``before`` and ``after`` are parts that the turn has besides its content, such as tool calls,
    and ``media`` what stands beside its content; it comes before the words unless marks place it.
    """

    role: Role
    content: Any
    train: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    before: Sequence[Part] = ()
    after: Sequence[Part] = ()
    media: Sequence[Media] = ()


@dataclass(frozen=True, slots=True)
class Chat:
    """What a chat record says: its turns, the media listed beside them, and the unmapped fields as
    ``extra``.

    ``image_names`` are the marks that stand for each of the images, where the record says so.
    ``objects`` are those that ms-swift's marks of phrases and boxes stand for, ``sizes`` those that
    the record says its images have. ``tools`` is the JSON of what may be called, ``rejected`` the
    worse ending of a preference pair, and ``desirable`` says of a judged answer whether it is good.
    """

    turns: Sequence[Turn]
    images: Sequence[Media] = ()
    videos: Sequence[Media] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)
    image_names: Sequence[str] = ()
    tools: str | None = None
    rejected: Sequence[Turn] | None = None
    desirable: bool | None = None
    objects: Objects | None = None
    sizes: Sequence[Size | None] = ()


def converse(
    chat: Chat,
    record: Record,
    dataset_name: str,
    *,
    missing: Missing = "lead",
    thoughts: Thoughts = "text",
    boxes: BoxStyle = "auto",
) -> Conversation:
    """Return the conversation of a chat record; its column ``source`` is ``dataset_name``.

    ``missing`` says what happens where there are fewer marks than media, see
    :func:`mmdata.formats._placement.place_media`; ``thoughts`` what ``<think>…</think>`` before an
    answer is; ``boxes`` which boxes in texts are read, see :func:`ground`.

    >>> from mmdata.schema import Media
    >>> turns = [Turn("user", "What is it?"), Turn("assistant", "A cup.")]
    >>> chat = Chat(turns, images=[Media("image", "cup.jpg")])
    >>> converse(chat, Record({}, "a.json", 0, "1"), "cups").messages[0].content
    (Image(media=0, train=None), Text(text='What is it?', train=None))

    Raises:
        RecordError: marks and media do not fit each other, audio is asked for, or no assistant
            speaks.
        SchemaError: a turn says nothing, or another rule of the schema is broken.
    """
    turns = [turn for turn in chat.turns if not _is_blank_system(turn)]
    contents = place_listed_files([turn.content for turn in turns])
    turns = [
        _read_thoughts(replace(turn, content=content), thoughts)
        for turn, content in zip(turns, contents, strict=True)
    ]
    if not turns:
        raise RecordError("the record has no turns", reason="no_conversation")

    # Which medium is whose is settled for all turns at once: the number of marks decides.
    placed = place_media(
        [_pieces(turn) for turn in turns],
        [turn.role for turn in turns],
        images=chat.images,
        videos=chat.videos,
        image_names=chat.image_names,
        missing=missing,
    )
    messages = [
        Message(turn.role, (*turn.before, *content, *turn.after), _is_trained(turn, chat))
        for turn, content in zip(turns, placed.contents, strict=True)
    ]

    messages = _join_wordless(messages)
    require_answer(messages)
    if placed.leading:
        insert_before_question(messages, placed.leading)
    rejected = None
    if chat.rejected is not None:
        # The worse ending follows the same turns, and its marks take the same objects.
        ending = list(_read_ending(chat.rejected, thoughts))
        prompt = list(messages)
        while prompt[-1].role == "assistant" and len(prompt) > 1:
            prompt.pop()
        whole = ground(
            [*prompt, *ending], placed.media, objects=chat.objects, boxes=boxes, sizes=chat.sizes
        )
        rejected = whole[len(prompt) :]
    messages = list(
        ground(messages, placed.media, objects=chat.objects, boxes=boxes, sizes=chat.sizes)
    )

    extra = add_turn_fields(
        chat.extra, {str(number): dict(t.extra) for number, t in enumerate(chat.turns) if t.extra}
    )
    worse = {str(n): dict(turn.extra) for n, turn in enumerate(chat.rejected or ()) if turn.extra}
    if worse:
        extra = add_fields(extra, turns_of_rejected=worse)
    name = conversation_id(record)
    require_turns(messages, name)
    return Conversation(
        name,
        tuple(messages),
        tuple(placed.media),
        dataset_name,
        extra=extra,
        tools=chat.tools,
        rejected=rejected,
        desirable=chat.desirable,
    )


def _is_blank_system(turn: Turn) -> bool:
    blank = not turn.content or (isinstance(turn.content, str) and turn.content.isspace())
    return turn.role == "system" and blank


def _is_trained(turn: Turn, chat: Chat) -> bool:
    """Return whether a turn is trained on: an assistant's, unless it says otherwise or was judged
    bad.
    """
    if chat.desirable is False:
        return False
    return turn.role == "assistant" if turn.train is None else turn.train


def _read_thoughts(turn: Turn, thoughts: Thoughts) -> Turn:
    """Return a turn without what stands before its words and is none of them."""
    content = turn.content
    if turn.role != "assistant" or not isinstance(content, str) or "<t" not in content:
        return turn
    if mark := TEXT_MARK.match(content):
        return _read_thoughts(replace(turn, content=content[mark.end() :]), thoughts)
    if thoughts == "reasoning" and (thought := _THOUGHT.match(content)):
        before = (*turn.before, Reasoning(thought[1].strip("\n")))
        return replace(turn, content=content[thought.end() :], before=before)
    return turn


def _pieces(turn: Turn) -> str | list[Piece]:
    """Return what a turn says: its text, or its parts."""
    content = turn.content
    if isinstance(content, str) and not turn.media:
        return content

    if content is None:
        parts: list[Piece] = []
    elif isinstance(content, str):
        parts = [content]
    elif isinstance(content, list):
        parts = [read_part(item) for item in content]
    elif isinstance(content, dict):
        parts = [read_part(content)]
    else:
        raise RecordError(
            f"a turn's content must be a string or an array, found {json_type(content)}"
        )

    return [*turn.media, *parts]


def _join_wordless(messages: Sequence[Message]) -> list[Message]:
    """Return messages in which what a user shows without a word belongs to the user's words beside
    it: several turns of one role stay several, but a picture alone is no question.
    """
    joined: list[Message] = []
    for message in messages:
        last = joined[-1] if joined else None
        if (
            last is not None
            and last.role == message.role == "user"
            and last.content
            and message.content
            and not (_has_words(last) and _has_words(message))
        ):
            joined[-1] = Message("user", (*last.content, *message.content), last.train)
        else:
            joined.append(message)
    return joined


def _has_words(message: Message) -> bool:
    return any(isinstance(part, Text) for part in message.content)


def _read_ending(turns: Sequence[Turn], thoughts: Thoughts) -> Iterator[Message]:
    """Yield the messages of the worse ending of a pair, which shows nothing new."""
    for turn in (_read_thoughts(turn, thoughts) for turn in turns):
        pieces = _pieces(turn)
        said: list[Part] = []
        for piece in [pieces] if isinstance(pieces, str) else pieces:
            if isinstance(piece, str):
                if has_marks(piece):
                    raise RecordError(
                        "the rejected answer has marks of media", reason="media_mismatch"
                    )
                said += [Text(piece)] if piece else []
            elif isinstance(piece, Part):
                said.append(piece)
            else:
                raise RecordError("the rejected answer shows media", reason="unsupported_field")
        trained = turn.role == "assistant" if turn.train is None else turn.train
        yield Message(turn.role, (*turn.before, *said, *turn.after), trained)
