"""Annotation files that other projects publish, converted, exported and converted again."""

from __future__ import annotations

from pathlib import Path

import pytest

import mmdata
from mmdata.exporters import registry
from mmdata.exporters._features import drop_echo
from mmdata.schema import Conversation, replace
from tests.reference import file

PUBLISHED = [
    ("messages", "llama_factory/mllm_demo.json", ("swift", "messages", "llamafactory")),
    ("messages", "llama_factory/mllm_video_demo.json", ("swift", "messages", "mindspeed_mm")),
    ("messages", "llama_factory/v1_multimodal_demo.jsonl", ("swift", "messages", "datasets")),
    ("swift", "ms_swift/multi_modal_2.jsonl", ("swift", "messages")),
    ("swift", "ms_swift/conversations.jsonl", ("swift", "messages", "llamafactory")),
]


def said(row: Conversation) -> Conversation:
    """Return what a row says, without what the reader calls the data set."""
    return replace(drop_echo(row), source="")


@pytest.mark.parametrize(("reader", "name", "targets"), PUBLISHED, ids=str)
def test_a_published_file_says_the_same_after_each_export(
    reader: str, name: str, targets: tuple[str, ...], fixtures: Path, tmp_path: Path
) -> None:
    source = file(fixtures, "annotations", name)
    mmdata.convert(reader, source, tmp_path / "store", check="none")
    rows = list(map(said, mmdata.open(tmp_path / "store")))

    for target in targets:
        out, again = tmp_path / target, tmp_path / f"{target}.again"
        report = mmdata.export(tmp_path / "store", target, out, media="reference")
        back = registry.get(target).read_by
        assert back is not None
        mmdata.convert(back, out, again, check="none")

        assert report.rejects == {}
        assert list(map(said, mmdata.open(again))) == rows
