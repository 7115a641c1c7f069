"""Chat records: turns whose text or parts speak of media that stand beside them, as ms-swift,
LLaMA-Factory and OpenAI write them.

Media listed beside the turns go to their placeholders in order. Where there are fewer placeholders
than media, the first media stand before what the first user says, which is ms-swift's rule; where
there are more, the record is refused.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

from mmdata.errors import RecordError
from mmdata.formats._parts import (
    KIND_OF,
    TEXT,
    body_of,
    is_object,
    leftovers_of_parts,
    medium_in,
    medium_of,
)
from mmdata.formats._placeholders import fill
from mmdata.formats._sources import conversation_id, json_type
from mmdata.formats._turns import (
    IMAGE,
    VIDEO,
    MediaCursor,
    add_turn_fields,
    insert_before_question,
    require_answer,
    require_turns,
    role_of,
)
from mmdata.schema import Conversation, Image, Media, MediaType, Message, Part, Role, Text, Video
from mmdata.sources.record import Record

__all__ = ["Chat", "Turn", "converse", "read_pairs", "read_turns"]

_TAGS: Final = re.compile(r"(<image>|<video>|<audio>|<img>[^<>]+</img>)")
_TAG_OF: Final[dict[MediaType, str]] = {"image": IMAGE, "video": VIDEO}


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the source: its role, its text or list of parts, whether it is trained on, and
    its other fields.
    """

    role: Role
    content: Any
    train: bool | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Chat:
    """What a chat record says: its turns, the media listed beside them, and the unmapped fields as
    ``extra``.
    """

    turns: Sequence[Turn]
    images: Sequence[Media] = ()
    videos: Sequence[Media] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


def converse(chat: Chat, record: Record, dataset_name: str) -> Conversation:
    """Return the conversation of a chat record; its column ``source`` is ``dataset_name``.

    >>> from mmdata.schema import Media
    >>> turns = [Turn("user", "What is it?"), Turn("assistant", "A cup.")]
    >>> chat = Chat(turns, images=[Media("image", "cup.jpg")])
    >>> converse(chat, Record({}, "a.json", 0, "1"), "cups").messages[0].content
    (Image(media=0, train=None), Text(text='What is it?', train=None))

    Raises:
        RecordError: there are more placeholders than media, audio is asked for, or no assistant
            speaks.
    """
    gallery = _Gallery(chat)
    lead = gallery.without_placeholder(chat.turns)
    messages = [
        Message(
            turn.role,
            gallery.content(turn),
            turn.role == "assistant" if turn.train is None else turn.train,
        )
        for turn in chat.turns
        if not _is_blank_system(turn)
    ]
    if gallery.cursor.surplus:
        listed = len(chat.images) + len(chat.videos)
        raise RecordError(
            f"{listed + gallery.cursor.surplus} placeholders for {listed} media",
            reason="media_mismatch",
        )
    if not messages:
        raise RecordError("the record has no turns", reason="no_conversation")
    require_answer(messages)
    if lead:
        insert_before_question(messages, lead)
    extra = add_turn_fields(
        chat.extra, {str(number): dict(t.extra) for number, t in enumerate(chat.turns) if t.extra}
    )
    name = conversation_id(record)
    require_turns(messages, name)
    return Conversation(name, tuple(messages), tuple(gallery.media), dataset_name, extra=extra)


def _is_blank_system(turn: Turn) -> bool:
    blank = not turn.content or (isinstance(turn.content, str) and turn.content.isspace())
    return turn.role == "system" and blank


def read_turns(value: object, role_key: str, content_key: str) -> list[Turn]:
    """Return the turns of a list of objects that hold a speaker and a text or list of parts.

    >>> read_turns([{"who": "human", "says": "Hi"}], "who", "says")[0].role
    'user'
    """
    if not isinstance(value, list):
        raise RecordError(f"the turns must be an array, found {json_type(value)}")
    return [_turn(turn, role_key, content_key) for turn in value]


def read_pairs(value: object, user_key: str | int, assistant_key: str | int) -> list[Turn]:
    """Return the turns of a list of questions and answers; each pair an object or an array.

    >>> [turn.content for turn in read_pairs([["Hi", "Hello"]], 0, 1)]
    ['Hi', 'Hello']
    """
    if not isinstance(value, list):
        raise RecordError(f"the turns must be an array, found {json_type(value)}")
    found = []
    for pair in value:
        if isinstance(pair, (list, tuple)) and len(pair) != 2:
            raise RecordError(f"a pair of turns has two texts, found {len(pair)}")
        if not isinstance(pair, (list, tuple, dict)):
            raise RecordError(
                f"a pair of turns must be an array or an object, found {json_type(pair)}"
            )
        try:
            question, answer = pair[user_key], pair[assistant_key]  # type: ignore[index]
        except (TypeError, KeyError):
            raise RecordError(f"a pair of turns needs {user_key!r} and {assistant_key!r}") from None
        train, extra = (
            _read_train_flag(pair, "assistant", {user_key, assistant_key})
            if is_object(pair)
            else (None, {})
        )
        found += [Turn("user", question, extra=leftovers_of_parts(user_key, question))]
        found += [
            Turn("assistant", answer, train, {**extra, **leftovers_of_parts(assistant_key, answer)})
        ]
    return found


class _Gallery:
    """The media of one record: those listed, and those that turns bring with them."""

    def __init__(self, chat: Chat) -> None:
        self.media = [*chat.images, *chat.videos]
        self.cursor = MediaCursor(len(chat.images), len(chat.videos))
        self._listed = {IMAGE: len(chat.images), VIDEO: len(chat.videos)}

    def without_placeholder(self, turns: Iterable[Turn]) -> list[Part]:
        """Return the parts for the first media, as many as no placeholder in the turns is
        left for.
        """
        asked = [tag for turn in turns for tag in _tags(turn.content)]
        if not all(self._listed.values()):  # of one kind: any placeholder will do
            return self.cursor.take_all(IMAGE, max(0, sum(self._listed.values()) - len(asked)))
        missing = {tag: max(0, count - asked.count(tag)) for tag, count in self._listed.items()}
        return [part for tag, count in missing.items() for part in self.cursor.take_all(tag, count)]

    def content(self, turn: Turn) -> tuple[Part, ...]:
        """Return the parts of a turn."""
        if isinstance(turn.content, str):
            return fill(turn.content, _TAGS, self._part_for)
        if isinstance(turn.content, list):
            return _without_edges([part for item in turn.content for part in self._parts(item)])
        if turn.content is None:
            return ()
        raise RecordError(
            f"a turn's content must be a string or an array, found {json_type(turn.content)}"
        )

    def _part_for(self, tag: str) -> Part | None:
        if tag == "<audio>":
            raise RecordError("the record asks for audio", reason="unsupported_media")
        if tag.startswith("<img>"):
            return self._add(medium_of(tag.removeprefix("<img>").removesuffix("</img>"), "image"))
        return self.cursor.take(tag)

    def _parts(self, item: object) -> tuple[Part, ...]:
        """Return the parts that one item of a list of parts stands for."""
        if isinstance(item, str):
            return self._words(item)
        if not is_object(item):
            raise RecordError(f"a part must be an object, found {json_type(item)}")
        what = item.get("type")
        if what in TEXT:
            if not isinstance(words := body_of(item), str):
                raise RecordError(f"a part's text must be a string, found {json_type(words)}")
            return (
                self._words(words)
                if any(self._listed.values())
                else (Text(words),)
                if words
                else ()
            )
        if what not in KIND_OF:
            raise RecordError(
                f"a part of type {what!r} is neither text, image nor video",
                reason="unsupported_media",
            )
        medium = medium_in(item, KIND_OF[what])
        part = self._part_for(_TAG_OF[KIND_OF[what]]) if medium is None else self._add(medium)
        return (part,) if part else ()

    def _words(self, text: str) -> tuple[Part, ...]:
        """Return the parts of a text in a list of parts; white space alone, too, may stand between
        words.
        """
        return (Text(text),) if text.isspace() else fill(text, _TAGS, self._part_for)

    def _add(self, medium: Media) -> Part:
        self.media.append(medium)
        index = len(self.media) - 1
        return Image(index) if medium.type == "image" else Video(index)


def _without_edges(parts: list[Part]) -> tuple[Part, ...]:
    """Return parts without texts of white space, or none, but for those between words."""
    kept: list[Part] = []
    for is_text, run in groupby(parts, lambda part: type(part) is Text):
        some = list(run)
        spoken = [number for number, part in enumerate(some) if not is_text or part.text.strip()]  # type: ignore[union-attr]
        kept += some[spoken[0] : spoken[-1] + 1] if spoken else []
    return tuple(kept)


def _tags(content: object) -> list[str]:
    """Return the placeholders in a turn's content that stand for media listed beside the turns."""
    if isinstance(content, str):
        return [tag for tag in _TAGS.findall(content) if tag in {IMAGE, VIDEO}]
    if not isinstance(content, list):
        return []
    found = []
    for item in content:
        if isinstance(item, str):
            found += _tags(item)
        elif is_object(item) and item.get("type") in TEXT:
            found += _tags(body_of(item))
        elif is_object(item) and item.get("type") in KIND_OF and body_of(item) is None:
            found.append(_TAG_OF[KIND_OF[item["type"]]])
    return found


def _turn(turn: object, role_key: str, content_key: str) -> Turn:
    if not is_object(turn):
        raise RecordError(f"a turn must be an object, found {json_type(turn)}")
    if role_key not in turn or content_key not in turn:
        raise RecordError(
            f"a turn needs {role_key!r} and {content_key!r}, found {', '.join(turn) or 'neither'}"
        )
    role = role_of(turn[role_key])
    train, extra = _read_train_flag(turn, role, {role_key, content_key})
    return Turn(
        role, turn[content_key], train, extra | leftovers_of_parts(content_key, turn[content_key])
    )


def _read_train_flag(
    turn: dict[str, Any], role: Role, mapped_fields: Container[object]
) -> tuple[bool | None, dict[str, Any]]:
    """Return whether a turn says that it is trained on, and its fields that are not mapped.

    ``loss`` says so, as ms-swift has it, or else an assistant's ``weight``, as OpenAI has it.
    """
    extra = {key: found for key, found in turn.items() if key not in mapped_fields}
    if isinstance(loss := turn.get("loss"), (str, list, dict)):
        raise RecordError(
            f"a turn's 'loss' must be true, false or a number, found {json_type(loss)}"
        )
    weighs = loss is None and role == "assistant" and isinstance(turn.get("weight"), (int, float))
    says = "weight" if weighs else "loss"
    flag = turn.get(says)
    if flag in (None, True, False):  # any other number is more than a flag
        extra.pop(says, None)
    return None if flag is None else bool(flag), extra
