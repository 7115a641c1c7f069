"""Arbitrary rows that a target can say, as hypothesis strategies."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from hypothesis import strategies as st

from mmdata.exporters import Feature
from mmdata.formats._grounding import may_have_boxes
from mmdata.formats._marks import ALL_MARKS
from mmdata.formats._meaning import is_said
from mmdata.schema import (
    Conversation,
    Image,
    Media,
    MediaType,
    Message,
    Part,
    Reasoning,
    Region,
    Text,
    ToolCall,
    Video,
    assistant,
    replace,
    system,
    tool,
)

PNG = b"\x89PNG\r\n\x1a\n"
MP4 = b"\0\0\0\x18ftyp"

characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
said = (
    st.text(characters, min_size=1, max_size=20)
    .map(str.strip)
    .filter(lambda text: is_said(text) and not ALL_MARKS.search(text) and "<" not in text)
    .filter(lambda text: not may_have_boxes([text]))
)
"""Words that stand as they are: nothing is trimmed off them, and nothing in them is a mark or
a place in a picture.
"""
boxes = st.sampled_from([(0.0, 0.25, 0.5, 1.0), (0.125, 0.125, 0.125, 0.125), (0.0, 0.0, 1.0, 1.0)])
names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=8)
values = st.none() | st.booleans() | st.integers() | st.floats(0, 1e9) | said
extras = st.dictionaries(
    st.sampled_from(["license", "area", "Ort"]), values | st.lists(values, max_size=2), max_size=2
)
arguments = st.sampled_from(['{"city": "Z\u00fcrich", "days": [1, 2]}', "{}", '{"a": 1.5}'])


@st.composite
def media(draw: st.DrawFn, kind: MediaType, says: Collection[Feature], *, embedded: bool) -> Media:
    data = draw(st.binary(max_size=8))
    suffix, magic = ("jpg", PNG) if kind == "image" else ("mp4", MP4)
    start, end = None, None
    if kind == "video" and "clips" in says:
        start, end = draw(st.sampled_from([(None, None), (1.5, None), (None, 2.0), (0.5, 3.25)]))
    if embedded:
        return Media(kind, bytes=magic + data, start=start, end=end)
    path = f"{draw(names)}/{draw(names)}.{suffix}"
    return Media(kind, path, start=start, end=end)


@st.composite
def rows(
    draw: st.DrawFn,
    says: Collection[Feature],
    *,
    embedded: bool = False,
    kinds: Sequence[MediaType] = ("image", "video"),
    most_videos: int = 2,
    mixed: bool = True,
    listed: bool = True,
    calls_alone: bool = False,
    last_shown: bool = False,
    leading: bool = False,
    first: bool = False,
) -> Conversation:
    """One row; ``kinds`` are the media it may show, ``mixed`` whether both in one row. Its media
    are in the order in which they are shown, or, as records have it that have them ``listed``,
    images and then videos; ``leading`` are those before all words, ``first`` those of the first
    question.
    """
    if not mixed:
        kinds = [draw(st.sampled_from(kinds))]
    shown: list[Media] = []
    messages: list[Message] = []
    if "system" in says and draw(st.booleans()):
        messages.append(system(draw(said)))
    for _ in range(draw(st.integers(1, 3))):
        question: list[Part] = []
        allowed = [] if (leading or first) and messages else kinds
        for kind in draw(st.lists(st.sampled_from([None, *allowed]), max_size=3)):
            videos = sum(medium.type == "video" for medium in shown)
            if kind is not None and (kind == "image" or videos < most_videos):
                show = Image if kind == "image" else Video
                question.append(show(len(shown)))
                shown.append(draw(media(kind, says, embedded=embedded)))
            elif not (question and isinstance(question[-1], Text)):
                question.append(Text(draw(said)))
        if leading:  # all words are then behind the media, and are one text
            question = [part for part in question if not isinstance(part, Text)]
        if not any(isinstance(part, Text) for part in question):
            question.append(Text(draw(said)))
        messages += [Message("user", tuple(question), False), draw(answers(says))]
        if "tools" in says and draw(st.booleans()):
            name = draw(st.none() | names)
            call = ToolCall(draw(names), draw(arguments), name)
            before = () if calls_alone else messages[-1].content
            messages[-1] = replace(messages[-1], content=(*before, call))
            messages += [tool(draw(said)), draw(answers(says))]

    pictures = [number for number, medium in enumerate(shown) if medium.type == "image"]
    if "boxes" in says and pictures and draw(st.booleans()):
        pictures = pictures[-1:] if last_shown else pictures
        phrase, about = draw(said), draw(st.sampled_from(pictures))
        region = Region(phrase, draw(st.lists(boxes, min_size=1, max_size=2).map(tuple)), about)
        content = (*messages[-1].content, region, Text("."))
        messages[-1] = replace(messages[-1], content=content)

    found = Conversation(
        draw(names),
        tuple(messages),
        tuple(shown),
        extra=draw(extras) if "extra" in says else {},
        tools='[{"name": "weather"}]' if "tools" in says and draw(st.booleans()) else None,
    )
    is_answer = len(messages[-1].content) == 1 and found.messages[-2].role == "user"
    if "rejected" in says and is_answer and draw(st.booleans()):
        found = replace(found, rejected=(assistant(draw(said)),))
    if "judgement" in says and found.rejected is None:
        judged = draw(st.sampled_from([None, True, False]))
        if judged is False:
            untrained = tuple(replace(message, train=False) for message in found.messages)
            found = replace(found, messages=untrained)
        found = replace(found, desirable=judged)
    return in_order(found) if listed else found


@st.composite
def answers(draw: st.DrawFn, says: Collection[Feature]) -> Message:
    content: list[Part] = [Text(draw(said))]
    if "reasoning" in says and draw(st.booleans()):
        content.insert(0, Reasoning(draw(said)))
    trained = draw(st.sampled_from([True, True, False])) if "training" in says else True
    return Message("assistant", tuple(content), trained)


def in_order(row: Conversation) -> Conversation:
    """Return a row whose media are images, then videos."""
    order = sorted(range(len(row.media)), key=lambda number: row.media[number].type)
    place = {number: position for position, number in enumerate(order)}

    def move(part: Part) -> Part:
        if not isinstance(part, (Image, Video, Region)):
            return part
        return replace(part, media=place[part.media])

    messages = tuple(
        replace(message, content=tuple(map(move, message.content))) for message in row.messages
    )
    return replace(row, messages=messages, media=tuple(row.media[number] for number in order))
