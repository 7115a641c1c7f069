"""What a row may say that not every target can: found, and left out where the user says so.

A target that has no way to say a thing gets no row that says it, unless the user drops the thing by
name. So nothing is lost that nobody spoke of.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal, TypeAlias, get_args

from mmdata.errors import RecordError
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Media,
    Message,
    Part,
    Reasoning,
    Region,
    Text,
    Time,
    ToolCall,
    replace,
)

__all__ = ["FEATURES", "Feature", "UnsayableError", "drop_echo", "drop_features", "find_features"]

Feature: TypeAlias = Literal[
    "boxes",
    "clips",
    "extra",
    "judgement",
    "marks",
    "reasoning",
    "rejected",
    "seconds",
    "system",
    "times",
    "tools",
    "training",
]
"""What may be left out of a row, and leaves one that still makes sense:

- ``boxes``: the boxes of a phrase; the phrase stays, as words
- ``clips``: the bounds of a clip; the whole video stays
- ``extra``: fields of the source that have no column of their own
- ``judgement``: that an answer was judged good; one judged bad is no answer to learn, and is kept
  from a target that cannot say so
- ``marks``: that words which spell a mark, a box or a thought are words; they leave as they are,
  and are read as what they spell
- ``reasoning``: what is thought before something is said
- ``rejected``: the worse ending of a preference pair
- ``seconds``: when each of the pictures is that a video is given as; a target that has a rate says
  the mean rate, another none
- ``system``: what the system says
- ``times``: moments and spans of a video
- ``tools``: tools that were declared, their calls, and what they gave back
- ``training``: which turns are trained on, where that is not all of the assistant's and no other
"""
FEATURES: Final[tuple[Feature, ...]] = get_args(Feature)


_ECHO: Final = "rejected_response"


class UnsayableError(RecordError):
    """A row says something that the target of an export has no way to say; ``what`` names it."""

    def __init__(self, message: str, *, what: str = "shape") -> None:
        super().__init__(message, reason="unsayable")
        self.what = what


def drop_echo(conversation: Conversation) -> Conversation:
    """Return a row without the field of its source that its column ``rejected`` was read from, and
    which stays in ``extra``: what is said in a column is not said again.
    """
    if conversation.rejected is None or _ECHO not in conversation.extra:
        return conversation
    extra = {name: value for name, value in conversation.extra.items() if name != _ECHO}
    return replace(conversation, extra=extra)


def find_features(conversation: Conversation) -> set[Feature]:
    """Return what a row says that not every target can; of ``marks`` no row tells by itself, but
    who reads it back (:mod:`mmdata.exporters._read_back`).

    >>> from mmdata.schema import assistant, system, user
    >>> said = system("Be brief."), user("Hi"), assistant("Hello")
    >>> find_features(Conversation("1", said))
    {'system'}
    """
    found: set[Feature] = set()
    for message in (*conversation.messages, *(conversation.rejected or ())):
        if message.role == "system":
            found.add("system")
        elif message.role == "tool":
            found.add("tools")
        if message.train != (message.role == "assistant"):
            found.add("training")
        for part in message.content:
            if part.train is not None and part.train != message.train:
                found.add("training")
            if (feature := _PARTS.get(type(part))) is not None:
                found.add(feature)

    if conversation.tools is not None:
        found.add("tools")
    if conversation.rejected is not None:
        found.add("rejected")
    if conversation.desirable is not None:
        found.add("judgement")
        if conversation.desirable is False:  # which says itself that nothing is trained on
            found.discard("training")
    if conversation.extra:
        found.add("extra")
    if any(medium.start is not None or medium.end is not None for medium in conversation.media):
        found.add("clips")
    if any(medium.frame_paths and medium.clock for medium in conversation.media):
        found.add("seconds")
    return found


_PARTS: Final[dict[type, Feature]] = {
    Region: "boxes",
    Time: "times",
    Reasoning: "reasoning",
    ToolCall: "tools",
}


def drop_features(conversation: Conversation, features: Collection[Feature]) -> Conversation:
    """Return a row without some of what it says.

    Raises:
        UnsayableError: nothing would be left of it, or its answer was judged bad and that is to be
            dropped.
    """
    if not features:
        return conversation
    if "judgement" in features and conversation.desirable is False:
        raise UnsayableError(
            "the answer was judged bad; without that it would be learned", what="judgement"
        )

    messages = _drop_from_messages(conversation.messages, features)
    if not any(message.role == "assistant" for message in messages):
        raise UnsayableError(f"without {', '.join(sorted(features))} no answer is left")
    rejected = conversation.rejected
    if rejected is not None:
        rejected = None if "rejected" in features else _drop_from_messages(rejected, features)
        if rejected == ():
            raise UnsayableError(f"without {', '.join(sorted(features))} no worse ending is left")
    media = conversation.media
    if "clips" in features:
        media = tuple(replace(medium, start=None, end=None) for medium in media)
    if "seconds" in features:
        media = tuple(map(_with_mean_rate, media))
    return replace(
        conversation,
        messages=messages,
        rejected=rejected,
        media=media,
        extra={} if "extra" in features else conversation.extra,
        tools=None if "tools" in features else conversation.tools,
        desirable=None if "judgement" in features else conversation.desirable,
    )


def _with_mean_rate(medium: Media) -> Media:
    """Return a video that is given as pictures with no more of their times than the mean rate."""
    clock = medium.clock
    if medium.frame_paths is None or clock is None:
        return medium
    step = clock.step
    if clock.deltas and clock.unit is not None:
        step = sum(clock.deltas) * clock.unit / len(clock.deltas)
    return replace(medium, clock=CompactTimes(step=step) if step else None, frame_times=None)


def _drop_from_messages(
    messages: Collection[Message], features: Collection[Feature]
) -> tuple[Message, ...]:
    kept: list[Message] = []
    for message in messages:
        if message.role == "system" and "system" in features:
            continue
        if message.role == "tool" and "tools" in features:
            continue
        content = tuple(
            part
            for said in message.content
            if (part := _drop_from_part(said, features)) is not None
        )
        train = message.role == "assistant" if "training" in features else message.train
        if content:  # an assistant's turn may have been nothing but the call of a tool
            kept.append(Message(message.role, content, train))
    return tuple(kept)


def _drop_from_part(part: Part, features: Collection[Feature]) -> Part | None:
    """Return what is left of a part, or None."""
    if "training" in features and part.train is not None:
        part = replace(part, train=None)
    if _PARTS.get(type(part)) not in features:
        return part
    if isinstance(part, Region) and part.text:
        return Text(part.text, part.train)
    return None
