from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from mmdata.errors import UsageError
from mmdata.formats import detect, registry
from tests.formats.dirt import FORMATS, GOOD, assemble, good
from tests.reference import some


def write(folder: Path, value: Any) -> Path:
    file = folder / "source.json"
    file.write_text(json.dumps(value))
    return file


@pytest.mark.parametrize("name", FORMATS)
def test_the_good_records_of_a_format_are_recognised_as_its(tmp_path: Path, name: str) -> None:
    file = tmp_path / "source.json"
    file.write_bytes(assemble(name, [good(name, number) for number in range(3)]))

    assert detect([file]) == name


@pytest.mark.parametrize(
    "name", [name for name in registry.names() if name not in {"rwf2000", "cogvlm_sft"}]
)
def test_the_shape_that_a_format_shows_is_recognised(tmp_path: Path, name: str) -> None:
    shape = re.sub(r"^[\w/]+\.json: ", "", registry.get(name).shape)

    assert detect([write(tmp_path, json.loads(shape, strict=False))]) == name


def test_json_lines_and_folders_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps(GOOD["llava"](number)) for number in range(3))
    )

    assert detect([tmp_path]) == "llava"


def test_a_coco_file_is_recognised_without_reading_it_whole(tmp_path: Path) -> None:
    annotations = [{"id": number, "caption": "words " * 20} for number in range(10_000)]

    assert (
        detect([write(tmp_path, {"info": {}, "images": [], "annotations": annotations})]) == "coco"
    )


@pytest.mark.parametrize("tree", ["RWF-2000/train/Fight", "val/Val_NonFight"])
def test_a_tree_of_clips_is_recognised(tmp_path: Path, tree: str) -> None:
    (tmp_path / tree).mkdir(parents=True)

    assert detect([str(tmp_path)]) == "rwf2000"


@pytest.mark.parametrize("value", [[], [1, 2], [{"colour": "red"}], {"colour": "red"}, "text"])
def test_what_is_of_no_format_is_said_to_be(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UsageError, match="Name the format"):
        detect([write(tmp_path, value)])


def test_a_source_that_is_not_there_is_the_callers_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file or folder not found"):
        detect([tmp_path / "absent.json"])


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("fewshot-data/**/dataset.json", "fewshot"),
        ("annotations/llama_factory/mllm_*.json", "messages"),
        ("annotations/llama_factory/v1_*.jsonl", "messages"),
        ("annotations/ms_swift/swift_*.json*", "swift"),
        ("annotations/ms_swift/multi_*.jsonl", "swift"),
        ("annotations/ms_swift/[sc]*gpt.jsonl", "sharegpt"),
        ("annotations/ms_swift/conversations.jsonl", "sharegpt"),
        ("annotations/data_juicer/*chatml.jsonl", "messages"),
    ],
)
def test_real_files_are_recognised(fixtures: Path, pattern: str, name: str) -> None:
    for file in some(sorted(fixtures.glob(pattern)), pattern, fixtures):
        assert detect([file]) == name
