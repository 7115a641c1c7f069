"""Arbitrary conversations, as hypothesis strategies, and a plain one for tests that only need some."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from mmdata.schema import (
    Conversation,
    Image,
    Media,
    MediaType,
    Message,
    Part,
    Region,
    Text,
    Time,
    Video,
    assistant,
    user,
)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
words = texts.filter(bool)
seconds = st.floats(0, 1e6)
fractions = st.floats(0, 1, width=32)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
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
    return start, draw(st.sampled_from([None, end]))


@st.composite
def media(draw: st.DrawFn) -> Media:
    kinds: list[MediaType] = ["image", "video"]
    kind = draw(st.sampled_from(kinds))
    times = sorted(draw(st.lists(seconds, max_size=3)))
    cached = draw(st.booleans())
    return Media(
        kind,
        path=draw(words),
        bytes=draw(st.none() | st.binary(max_size=8)),
        width=draw(st.none() | st.integers(1, 2**31 - 1)),
        height=draw(st.none() | st.integers(1, 2**31 - 1)),
        duration=draw(st.none() | seconds),
        fps=draw(st.none() | seconds),
        num_frames=draw(st.none() | st.integers(0, 2**40)),
        times=draw(st.sampled_from([None, "stream", "derived"])),
        frame_times=tuple(times) if cached else None,
        frames=tuple(b"frame" for _ in times) if cached else None,
        size=draw(st.none() | st.integers(0, 2**40)),
        hash=draw(st.none() | st.sampled_from(["xxh3:0123456789abcdef", "xxh3-ends:fedcba9876543210"])),
    )


@st.composite
def parts(draw: st.DrawFn, media: tuple[Media, ...]) -> Any:
    images = [n for n, medium in enumerate(media) if medium.type == "image"]
    videos = [n for n, medium in enumerate(media) if medium.type == "video"]
    kinds: list[st.SearchStrategy[Part]] = [st.builds(Text, texts)]
    if media:
        anything = st.integers(0, len(media) - 1)
        kinds.append(st.builds(Region, texts, st.lists(boxes(), max_size=2).map(tuple), anything))
    if images:
        kinds.append(st.builds(Image, st.sampled_from(images)))
    if videos:
        kinds.append(st.builds(Video, st.sampled_from(videos)))
        kinds.append(st.builds(lambda span, medium: Time(span[0], span[1], medium), spans(), st.sampled_from(videos)))
    return draw(st.one_of(kinds))


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    pictures = tuple(draw(st.lists(media(), max_size=3)))
    contents = draw(st.lists(st.lists(parts(pictures), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4))
    roles: list[Any] = ["user", "assistant"] * 2
    if draw(st.booleans()):
        roles = ["system", *roles]
    messages = tuple(
        Message(role, content, draw(st.booleans())) for role, content in zip(roles, contents, strict=False)
    )
    return Conversation(
        id=draw(words),
        messages=messages,
        media=pictures,
        source=draw(texts),
        split=draw(st.sampled_from(["train", "val", "test"])),
        extra=draw(st.dictionaries(texts, json_values, max_size=3)),
    )


def plain(number: int, words: int = 4) -> Conversation:
    """Return an ordinary conversation that says its number."""
    answer = " ".join(f"word{number}" for _ in range(words))
    picture = Media("image", f"images/{number:06d}.jpg")
    return Conversation(f"c{number}", (user(Image(0), f"What is {number}?"), assistant(answer)), (picture,), "numbers")
