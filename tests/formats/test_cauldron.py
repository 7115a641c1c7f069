"""The Cauldron's and FineVision's records: images, and texts of user and assistant about them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mmdata
from mmdata.formats import detect, make
from mmdata.schema import Image, Text
from mmdata.testing import check_format
from tests.sources.tables import picture, write, write_lines

PAIRS = [
    {"user": "What is it?", "assistant": "A cup.", "source": "vqa"},
    {"user": "What colour?", "assistant": "Red.", "source": "vqa"},
]


def record(number: int, images: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a record about so many pictures, in it as tables hold them."""
    shown = [{"bytes": picture(number * 9 + one), "path": None} for one in range(images)]
    return {"images": shown, "texts": PAIRS, **changes}


@pytest.mark.parametrize("kind", ["parquet", "lines"])
def test_images_lead_and_texts_are_turns(kind: str, tmp_path: Path) -> None:
    records = [record(0), record(1, 2), record(2, 0)]
    source = tmp_path / "source"
    if kind == "parquet":
        write(source, "parquet", records)
    else:
        write_lines(source, records)

    report = mmdata.convert("auto", source, tmp_path / "store")

    assert (report.rows, report.rejects) == (3, {})
    one, two, none = mmdata.open(tmp_path / "store")
    assert [(message.role, message.train) for message in one.messages] == [
        ("user", False),
        ("assistant", True),
    ] * 2
    assert one.messages[0].content == (Image(0), Text("What is it?"))
    assert two.messages[0].content == (Image(0), Image(1), Text("What is it?"))
    assert none.messages[0].content == (Text("What is it?"),)
    assert [medium.bytes for medium in two.media] == [picture(9), picture(10)]
    assert one.extra == {"turns": {"1": {"source": "vqa"}, "3": {"source": "vqa"}}}


def test_the_laws_of_formats_are_kept(tmp_path: Path) -> None:
    records = [
        record(0, relevance_ratings=[4, 5]),
        record(1, 2, texts=[{"user": "Left <image>, right <image>?", "assistant": "Both."}]),
        record(2, texts=[]),
        record(3, texts=[{"user": "Why?"}]),
        record(4, 1, texts=[{"user": "<image><image>?", "assistant": "Two."}]),
        record(5, images=0),
    ]

    check_format(make("cauldron"), [write_lines(tmp_path / "s.jsonl", records)])
    check_format(make("cauldron"), [write(tmp_path / "s.parquet", "parquet", records)])

    report = mmdata.convert("cauldron", tmp_path / "s.jsonl", tmp_path / "store")
    assert (report.rows, report.rejects) == (
        3,
        {"malformed": 1, "media_mismatch": 1, "no_conversation": 1},
    )


def test_texts_that_are_something_else_are_another_format(tmp_path: Path) -> None:
    source = write_lines(tmp_path / "s.jsonl", [{"texts": [{"q": "a"}], "images": []}])

    with pytest.raises(mmdata.errors.UsageError):
        detect([source])
