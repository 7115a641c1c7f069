"""Boxes in pixels wait for the size of their picture, and no store holds one that still waits."""

from __future__ import annotations

import io
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures

import mmdata
from mmdata.conversion import Check, convert
from mmdata.conversion.boxes import scale_boxes
from mmdata.conversion.media import MediaOptions
from mmdata.errors import StoreError, TokenError
from mmdata.formats.toolkit import Record, RecordSource
from mmdata.schema import (
    Box,
    Conversation,
    Image,
    Media,
    Message,
    Part,
    Region,
    Video,
    assistant,
    replace,
    user,
)
from mmdata.store.batch import ConversationBatch
from mmdata.store.builder import BatchBuilder
from mmdata.templates.toolkit import refuse_region, render_content
from tests.conversations import conversations
from tests.stores import write

WIDTH, HEIGHT = 64, 48
LOOK, BELIEVE = (MediaOptions("/nowhere", look, False) for look in (True, False))


def picture(folder: Path, name: str = "a.png", **options: object) -> bytes:
    buffer = io.BytesIO()
    Pictures.new("RGB", (WIDTH, HEIGHT)).save(buffer, "JPEG" if options else "PNG", **options)
    (folder / name).write_bytes(buffer.getvalue())
    return buffer.getvalue()


def fractions(box: Box, width: float = WIDTH, height: float = HEIGHT) -> Box:
    x1, y1, x2, y2 = box
    found = struct.pack("4f", x1 / width, y1 / height, x2 / width, y2 / height)
    return struct.unpack("4f", found)


def pointing(*boxes: Box, media: Media, id: str = "1") -> Conversation:  # noqa: A002
    region = Region("cup", boxes, unit="pixel")
    return Conversation(id, (user(Image(0), "Q"), assistant(region)), (media,), "numbers")


def sized(width: int = WIDTH, height: int = HEIGHT) -> Media:
    return Media("image", "a.png", width=width, height=height)


pixels = st.tuples(*[st.integers(0, 24) | st.floats(0, 24)] * 2).flatmap(
    lambda low: st.tuples(
        st.just(low[0]), st.just(low[1]), st.floats(low[0], 48), st.floats(low[1], 48)
    )
)


@st.composite
def waiting(draw: st.DrawFn) -> Conversation:
    """Any conversation, some of whose regions are in pixels of a picture of a size that is said."""
    row = draw(conversations())
    pictures = [
        replace(one, width=draw(st.integers(48, 4000)), height=draw(st.integers(48, 4000)))
        if one.type == "image"
        else one
        for one in row.media
    ]

    def change(part: Part) -> Part:
        if not isinstance(part, Region) or pictures[part.media].type != "image":
            return part
        if not draw(st.booleans()):
            return part
        return replace(part, boxes=tuple(draw(st.lists(pixels, max_size=3))), unit="pixel")

    def change_all(messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return tuple(replace(one, content=tuple(map(change, one.content))) for one in messages)

    return replace(
        row,
        messages=change_all(row.messages),
        rejected=None if row.rejected is None else change_all(row.rejected),
        media=tuple(pictures),
    )


def scaled(row: Conversation) -> Conversation:
    """What should become of a conversation."""

    def change(part: Part) -> Part:
        if not isinstance(part, Region) or part.unit == "fraction":
            return part
        medium = row.media[part.media]
        assert medium.width and medium.height
        boxes = tuple(fractions(box, medium.width, medium.height) for box in part.boxes)
        return replace(part, boxes=boxes, unit="fraction")

    def change_all(messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return tuple(replace(one, content=tuple(map(change, one.content))) for one in messages)

    return replace(
        row,
        messages=change_all(row.messages),
        rejected=None if row.rejected is None else change_all(row.rejected),
    )


# --- batches


@settings(max_examples=20)
@given(st.lists(waiting(), max_size=2))
def test_a_batch_holds_boxes_in_pixels_exactly(rows: list[Conversation]) -> None:
    batch = ConversationBatch.from_conversations(rows)

    assert list(batch.conversations()) == rows
    assert list(pickle.loads(pickle.dumps(batch)).conversations()) == rows

    builder = BatchBuilder()
    for number, row in enumerate(rows):
        builder.append(row, file="a.json", record=number, id=None)
    assert list(builder.build().conversations()) == rows


@settings(max_examples=20)
@given(st.lists(waiting() | conversations(), min_size=1, max_size=3), st.data())
def test_boxes_go_with_their_rows(rows: list[Conversation], data: st.DataObject) -> None:
    batch = ConversationBatch.from_conversations(rows)
    start = data.draw(st.integers(0, len(rows)))
    stop = data.draw(st.integers(start, len(rows)))
    some = data.draw(st.sets(st.sampled_from(range(len(rows)))).map(sorted))

    assert list(batch.slice(start, stop).conversations()) == rows[start:stop]
    assert list(batch.head(start).conversations()) == rows[:start]
    assert list(batch.select(some).conversations()) == [rows[row] for row in some]
    joined = ConversationBatch.concatenate([batch.slice(start, stop), batch])
    assert list(joined.conversations()) == [*rows[start:stop], *rows]


@settings(max_examples=20)
@given(st.lists(waiting() | conversations(), max_size=3), st.integers(0, 3))
def test_every_box_becomes_the_fractions_that_it_is_and_nothing_else_changes(
    rows: list[Conversation], start: int
) -> None:
    batch = ConversationBatch.from_conversations(rows)
    start = min(start, len(rows))

    assert list(scale_boxes(batch, BELIEVE).conversations()) == list(map(scaled, rows))
    part = scale_boxes(batch.slice(start, len(rows)), BELIEVE)
    assert list(part.conversations()) == list(map(scaled, rows[start:]))
    assert not any(part.pixel_boxes)


def test_each_box_is_scaled_by_its_own_picture_in_a_part_of_a_batch() -> None:
    pictures = sized(10, 10), sized(100, 100)
    region = Region("cup", ((1, 2, 3, 4),), 1, unit="pixel")
    rows = [
        Conversation(
            str(number),
            (user(*[Image(0)] * (9 - number)), assistant(region)),
            pictures,
            "numbers",
        )
        for number in range(3)
    ]

    part = scale_boxes(ConversationBatch.from_conversations(rows).slice(1, 3), BELIEVE)

    assert [row.messages[1] for row in part.conversations()] == [
        assistant(Region("cup", ((0.01, 0.02, 0.03, 0.04),), 1))
    ] * 2


def test_boxes_of_a_rejected_ending_are_scaled_too() -> None:
    chosen = pointing((0, 0, 32, 24), media=sized(), id="pair")
    region = Region("mug", ((32, 24, 64, 48),), unit="pixel")
    rows = [replace(chosen, id="lone"), replace(chosen, rejected=(assistant(region),))]

    found = list(scale_boxes(ConversationBatch.from_conversations(rows), BELIEVE).conversations())

    assert [row.messages[1] for row in found] == [assistant(Region("cup", ((0, 0, 0.5, 0.5),)))] * 2
    assert [row.rejected for row in found] == [
        None,
        (assistant(Region("mug", ((0.5, 0.5, 1, 1),))),),
    ]


def test_a_row_that_a_box_leaves_is_a_reject_in_its_place() -> None:
    rows = [
        pointing((0, 0, WIDTH + 0.5, HEIGHT), media=sized(), id="clipped"),
        pointing((0, 0, WIDTH, HEIGHT + 2), media=sized(), id="leaves"),
        pointing((1, 2, 3, 4), media=sized(), id="inside"),
    ]

    found = scale_boxes(ConversationBatch.from_conversations(rows), BELIEVE)

    assert [row.id for row in found.conversations()] == ["clipped", "inside"]
    assert [part.boxes for row in found.conversations() for part in row.messages[1].content] == [  # type: ignore[union-attr]
        ((0, 0, 1, 1),),
        (fractions((1, 2, 3, 4)),),
    ]
    [(position, reject)] = found.rejects
    assert (position, reject.reason.value) == (1, "bad_box")
    assert "leaves the picture of 64 x 48 pixels" in reject.detail


def test_a_store_refuses_boxes_in_pixels(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"record 0: its boxes are in pixels"):
        write(tmp_path / "store", [pointing((1, 2, 3, 4), media=sized())])

    assert not (tmp_path / "store").exists()


def test_a_template_refuses_boxes_in_pixels() -> None:
    with pytest.raises(TokenError, match="'cup' are in pixels"):
        render_content([Region("cup", ((1, 2, 3, 4),), unit="pixel")], refuse_region)


# --- sizes


def test_the_header_of_a_file_says_the_size(tmp_path: Path) -> None:
    picture(tmp_path)
    row = pointing((16, 12, 32, 24), media=Media("image", "a.png"))

    found = scale_boxes(
        ConversationBatch.from_conversations([row]), MediaOptions(str(tmp_path), True, False)
    )

    (said,) = found.conversations()
    assert said.messages[1] == assistant(Region("cup", ((0.25, 0.25, 0.5, 0.5),)))


def test_the_header_of_embedded_bytes_says_the_size(tmp_path: Path) -> None:
    row = pointing((16, 12, 32, 24), media=Media("image", bytes=picture(tmp_path)))

    (said,) = scale_boxes(ConversationBatch.from_conversations([row]), LOOK).conversations()

    assert said.messages[1] == assistant(Region("cup", ((0.25, 0.25, 0.5, 0.5),)))


def test_the_size_is_that_of_the_picture_as_presented(tmp_path: Path) -> None:
    exif = Pictures.Exif()
    exif[0x0112] = 6  # lies on its side
    data = picture(tmp_path, "a.jpg", exif=exif)
    row = pointing((0, 0, HEIGHT, WIDTH), media=Media("image", bytes=data))

    (said,) = scale_boxes(ConversationBatch.from_conversations([row]), LOOK).conversations()

    assert said.messages[1] == assistant(Region("cup", ((0, 0, 1, 1),)))


@pytest.mark.parametrize(
    ("media", "place", "reason", "words"),
    [
        (Media("image", "a.png"), BELIEVE, "bad_box", "--check exists"),
        (Media("image", bytes=b"no picture"), BELIEVE, "bad_box", "--check exists"),
        (Media("image", bytes=b"no picture"), LOOK, "unreadable_media", "decoded"),
        (Media("image", "gone.png"), LOOK, "missing_media", "gone.png"),
    ],
)
def test_a_size_that_cannot_be_had_is_a_reject_that_says_what_to_do(
    media: Media, place: MediaOptions, reason: str, words: str
) -> None:
    row = pointing((1, 2, 3, 4), media=media)

    found = scale_boxes(ConversationBatch.from_conversations([row]), place)

    [(_, reject)] = found.rejects
    assert (len(found), reject.reason.value) == (0, reason)
    assert words in reject.detail


def test_a_box_in_pixels_of_a_video_is_a_reject() -> None:
    region = Region("cup", ((1, 2, 3, 4),), unit="pixel")
    row = Conversation(
        "1", (user(Video(0), "Q"), assistant(region)), (Media("video", "a.mp4"),), "numbers"
    )

    [(_, reject)] = scale_boxes(ConversationBatch.from_conversations([row]), LOOK).rejects

    assert reject.reason.value == "unsupported_media"


# --- a whole conversion


@dataclass(frozen=True)
class Pointing(RecordSource):
    """Records of a picture and a box in pixels."""

    summary: ClassVar[str] = "pictures with a box in pixels"
    shape: ClassVar[str] = '[{"image": "a.png", "box": [1, 2, 3, 4]}]'
    dataset_name: str = "pointing"

    def conversation(self, record: Record) -> Conversation:
        x1, y1, x2, y2 = record.value["box"]
        return replace(
            pointing((x1, y1, x2, y2), media=Media("image", record.value["image"])),
            id=str(record.number),
            source="pointing",
        )


@pytest.mark.parametrize("check", ["exists", "probe", "decode"])
@pytest.mark.parametrize("embed", [False, True])
def test_a_conversion_finds_the_sizes(tmp_path: Path, check: Check, embed: bool) -> None:
    picture(tmp_path)
    (tmp_path / "a.jsonl").write_text(
        '{"image": "a.png", "box": [16, 12, 32, 24]}\n'
        '{"image": "a.png", "box": [16, 12, 99, 24]}\n'
        '{"image": "b.png", "box": [16, 12, 32, 24]}\n'
        '{"image": "a.png", "box": [0, 0, 64, 48]}\n'
    )

    report = convert(Pointing(), tmp_path / "a.jsonl", tmp_path / "store", check=check, embed=embed)

    assert (report.records_in, report.rows) == (4, 2)
    assert report.rejects == {"bad_box": 1, "missing_media": 1}
    assert [row.messages[1].content for row in mmdata.open(tmp_path / "store")] == [
        (Region("cup", ((0.25, 0.25, 0.5, 0.5),)),),
        (Region("cup", ((0, 0, 1, 1),)),),
    ]


def test_a_conversion_that_does_not_look_keeps_no_box_in_pixels(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"image": "a.png", "box": [16, 12, 32, 24]}\n')

    report = convert(Pointing(), tmp_path / "a.jsonl", tmp_path / "store", check="none")

    assert (report.rows, report.rejects) == (0, {"bad_box": 1})
