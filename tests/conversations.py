"""Arbitrary conversations, as hypothesis strategies,
and a plain one for tests that only need some.
"""

from __future__ import annotations

from functools import cache
from typing import Any, get_args

from hypothesis import strategies as st

from mmdata.schema import (
    Audio,
    CompactTimes,
    Conversation,
    Image,
    Media,
    MediaType,
    Message,
    Part,
    Reasoning,
    Region,
    Role,
    Split,
    Text,
    Time,
    ToolCall,
    Video,
    assistant,
    replace,
    user,
)

USUAL: list[Role] = ["system", "user", "assistant", "user", "assistant"]

_characters = st.characters(exclude_categories=["Cs"])
texts = st.text(_characters, max_size=20)
words = st.text(_characters, min_size=1, max_size=20)
seconds = st.floats(0, 1e6)
fractions = st.floats(0, 1, width=32)
_coin = st.booleans()
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    x1, x2 = sorted([draw(fractions), draw(fractions)])
    y1, y2 = sorted([draw(fractions), draw(fractions)])
    return (x1, y1, x2, y2)


@st.composite
def spans(draw: st.DrawFn) -> tuple[float, float | None]:
    start, end = sorted([draw(seconds), draw(seconds)])
    return start, end if draw(_coin) else None


json_texts = st.sampled_from(
    ['{"city": "Z\u00fcrich", "days": [1, 2]}', "{}", "[]", "null", '"\U0001f321"', " 1.50 "]
)
any_role: st.SearchStrategy[Role] = st.sampled_from(get_args(Role))
trains = st.sampled_from([None, None, True, False])
places = {
    "first_tick": st.none() | st.integers(-(2**40), 2**40),
    "keyframes": st.none() | st.sets(st.integers(0, 2**40), max_size=3).map(sorted).map(tuple),
}
clocks = st.builds(CompactTimes, seconds, step=seconds.filter(bool), **places) | st.builds(
    CompactTimes,
    seconds,
    deltas=st.lists(st.integers(0, 2**31 - 1), max_size=3).map(tuple),
    unit=st.sampled_from([1.0, 1 / 90000, 1001 / 30000]),
    **places,
)


sides = st.none() | st.integers(1, 2**31 - 1)
amounts = st.none() | st.integers(0, 2**40)
# Strategies stand outside of what draws from them: making them is most of their cost.
_kinds: st.SearchStrategy[MediaType] = st.sampled_from(get_args(MediaType))
_any = {
    "bytes": st.none() | st.binary(max_size=8),
    "width": sides,
    "height": sides,
    "duration": st.none() | seconds,
    "fps": st.none() | seconds,
    "num_frames": amounts,
    "times": st.sampled_from([None, "stream", "derived"]),
    "size": amounts,
    "hash": st.none() | st.sampled_from(["xxh3:0123456789abcdef", "xxh3-ends:fedcba9876543210"]),
}
_of_videos = {
    "frame_paths": st.none() | st.lists(words, min_size=1, max_size=3).map(tuple),
    "clock": st.none() | clocks,
    "oddities": st.sampled_from([None, ("trimmed", "fields")]),
}
_frame_times = st.none() | st.lists(seconds, max_size=3).map(sorted).map(tuple)


@st.composite
def media(draw: st.DrawFn) -> Media:
    kind = draw(_kinds)
    drawn = _any | _of_videos if kind == "video" else _any
    fields: dict[str, Any] = {name: draw(strategy) for name, strategy in drawn.items()}
    if (times := draw(_frame_times)) is not None:
        fields |= {"frame_times": times, "frames": tuple(b"frame" for _ in times)}
    return Media(kind, draw(words), **fields)


def _time(span: tuple[float, float | None], medium: int, train: bool | None) -> Time:
    start, end = span
    return Time(start, end, medium, train)


@cache
def parts(media: tuple[MediaType, ...]) -> st.SearchStrategy[Part]:
    """Parts of a message, of all kinds that media of these types allow;
    making strategies is most of their cost.
    """
    of = {
        kind: [n for n, other in enumerate(media) if other == kind] for kind in get_args(MediaType)
    }
    kinds: list[st.SearchStrategy[Part]] = [
        *[st.builds(Text, texts, trains)] * 2,
        st.builds(Reasoning, texts, trains),
        st.builds(ToolCall, words, json_texts, st.none() | words, trains),
    ]
    if media:
        anything = st.integers(0, len(media) - 1)
        kinds.append(
            st.builds(Region, texts, st.lists(boxes(), max_size=2).map(tuple), anything, trains)
        )
    if of["image"]:
        kinds.append(st.builds(Image, st.sampled_from(of["image"]), trains))
    if of["video"]:
        videos = st.sampled_from(of["video"])
        kinds.append(st.builds(Video, videos, trains))
        kinds.append(st.builds(_time, spans(), videos, trains))
    if of["audio"]:
        kinds.append(st.builds(Audio, st.sampled_from(of["audio"]), trains))
    return st.one_of(kinds)


_roles = st.sampled_from([USUAL, USUAL[1:], None])
_odd_roles = st.lists(any_role, min_size=4, max_size=4)


@cache
def contents(media: tuple[MediaType, ...], count: int) -> st.SearchStrategy[list[tuple[Part, ...]]]:
    """What up to ``count`` messages of a conversation with these media say."""
    part = parts(media)
    return st.lists(st.lists(part, min_size=1, max_size=3).map(tuple), min_size=1, max_size=count)


@st.composite
def messages(draw: st.DrawFn, media: tuple[MediaType, ...], count: int) -> tuple[Message, ...]:
    """Messages of roles in any order, or as most are:
    a system's, if any, then user and assistant by turns.
    """
    roles = draw(_roles) or draw(_odd_roles)
    said = draw(contents(media, count))
    return tuple(
        Message(role, content, draw(_coin)) for role, content in zip(roles, said, strict=False)
    )


_media = st.lists(media(), max_size=3)
_desirable = st.sampled_from([None, True, False])
_splits: st.SearchStrategy[Split] = st.sampled_from(get_args(Split))
_extras = st.dictionaries(texts, json_values, max_size=3)
_tools = st.none() | json_texts


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    pictures = tuple(draw(_media))
    types = tuple(medium.type for medium in pictures)
    said = draw(messages(types, 4))
    desirable = draw(_desirable)
    return Conversation(
        id=draw(words),
        messages=said if desirable is not False else tuple(map(untrained, said)),
        media=pictures,
        source=draw(texts),
        split=draw(_splits),
        extra=draw(_extras),
        tools=draw(_tools),
        rejected=draw(messages(types, 2)) if draw(_coin) else None,
        desirable=desirable,
    )


def untrained(message: Message) -> Message:
    """Return a message that nothing of is a training target."""
    content = tuple(
        replace(part, train=None if part.train is None else False) for part in message.content
    )
    return replace(message, content=content, train=False)


def plain(number: int, words: int = 4) -> Conversation:
    """Return an ordinary conversation that says its number."""
    answer = " ".join(f"word{number}" for _ in range(words))
    picture = Media("image", f"images/{number:06d}.jpg")
    return Conversation(
        f"c{number}",
        (user(Image(0), f"What is {number}?"), assistant(answer)),
        (picture,),
        "numbers",
    )
