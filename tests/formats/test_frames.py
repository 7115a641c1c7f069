"""Videos that a record holds as their pictures, with the seconds of each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import mmdata
from mmdata.errors import RecordError, SchemaError
from mmdata.formats import registry
from mmdata.schema import Conversation, Image, Media, Video, assistant, user
from mmdata.sources.record import Record

ONE = {"images": [{"bytes": b"a"}, {"bytes": b"b"}], "seconds": [0.0, 0.4]}
OTHER = {"images": [{"bytes": b"c", "path": "c.jpg"}], "seconds": [8]}
FRAMES = {"type": "frames"}
WORDS = {"type": "text", "text": "What happens?"}


def record(*parts: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A record with a question of such parts, and other fields."""
    asked = {"role": "user", "content": [*parts, WORDS]}
    return {"messages": [asked, {"role": "assistant", "content": "It falls."}], **fields}


def read(value: dict[str, Any], name: str = "messages") -> Conversation:
    return registry.get(name)().conversation(Record(value, "a.json", 0))


@pytest.mark.parametrize("name", ["messages", "swift", "sharegpt"])
def test_each_part_takes_the_next_video_with_its_pictures_and_seconds(name: str) -> None:
    image = {"type": "image"}

    found = read(record(FRAMES, image, FRAMES, images=["1.jpg"], frames=[ONE, OTHER]), name)

    assert found.messages == (
        user(Video(1), Image(0), Video(2), "What happens?"),
        assistant("It falls."),
    )
    assert found.media == (
        Media("image", "1.jpg"),
        Media("video", frames=(b"a", b"b"), frame_times=(0.0, 0.4)),
        Media("video", frames=(b"c",), frame_times=(8.0,)),
    )
    assert found.extra == {}


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([ONE, {"images": ["c.jpg"], "seconds": [0.0]}], "video 1 .* of 0 of them are in the rec"),
        ([{"images": [{"bytes": b"a"}, "b.jpg"], "seconds": [0.0, 1.0]}], "bytes of 1 of them"),
        ([{"images": [], "seconds": []}, ONE], "video 0 of 'frames' has 0 pictures"),
        ([{"images": [{"bytes": b"a"}]}], "of each when it is shown, found None"),
        ([{**ONE, "seconds": [0.0]}], "has 2 pictures, and 'seconds' must say of each"),
        ([{**ONE, "seconds": [0.0, None]}], r"found \[0.0, None\]"),
        ([{**ONE, "seconds": [0.0, True]}], r"found \[0.0, True\]"),
    ],
)
def test_pictures_that_are_not_there_or_not_timed_are_refused(frames: Any, words: str) -> None:
    with pytest.raises(RecordError, match=words):
        read(record(FRAMES, frames=frames))


def test_seconds_that_decrease_are_refused() -> None:
    with pytest.raises(SchemaError, match="must not decrease"):
        read(record(FRAMES, frames=[{**ONE, "seconds": [1.0, 0.0]}]))


def test_videos_in_two_lists_are_refused_for_nobody_knows_their_order() -> None:
    with pytest.raises(RecordError, match="'frames' and 'videos' both list videos"):
        read(record(FRAMES, FRAMES, frames=[ONE], videos=["1.mp4"]))


def test_fewer_parts_than_videos_are_refused_as_of_any_media() -> None:
    with pytest.raises(RecordError, match="2 marks of media for 1 media"):
        read(record(FRAMES, FRAMES, frames=[ONE]))


@pytest.mark.parametrize("frames", [["1.jpg", "2.jpg"], 16, [{"images": ["1.jpg"], "of": "clip"}]])
def test_a_field_of_that_name_that_says_something_else_is_a_reject_that_names_it(
    frames: Any, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(json.dumps([record(frames=frames)]))

    mmdata.convert("messages", tmp_path / "a.json", tmp_path / "store", check="none")

    (reject,) = mmdata.open(tmp_path / "store").rejects()
    assert reject["reason"] == "unsupported_field"
    assert "'frames'" in reject["detail"]


def test_a_table_whose_column_is_empty_in_some_rows_is_read_alike_at_once_and_one_by_one(
    tmp_path: Path,
) -> None:
    said = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    frames: list[list[Any] | None] = [[], None, []]
    rows = [{"messages": said, "frames": none} for none in frames]
    videos = pa.list_(
        pa.struct(
            [
                ("images", pa.list_(pa.struct([("bytes", pa.binary()), ("path", pa.string())]))),
                ("seconds", pa.list_(pa.float64())),
            ]
        )
    )
    turns = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
    schema = pa.schema([("messages", turns), ("frames", videos)])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), tmp_path / "a.parquet")

    report = mmdata.convert("messages", tmp_path / "a.parquet", tmp_path / "store", check="none")

    flat = registry.get("messages")().flatten(  # type: ignore[attr-defined]
        [Record(row, "a.parquet", number) for number, row in enumerate(rows)]
    )
    assert report.rows == len(rows)
    assert [row.extra for row in mmdata.open(tmp_path / "store")] == [{}] * len(rows)
    assert flat is not None
    assert list(flat.extras) == [{}] * len(rows)
