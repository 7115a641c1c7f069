"""Real annotation files, real few-shot data
and an RWF-2000 tree of real clips, from source to store.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import mmdata
from mmdata.schema import Part, Reasoning, Region, Text, ToolCall
from tests.reference import clips, file, files, read, references


def test_the_few_shot_records_without_image_are_the_rejects(fixtures: Path, tmp_path: Path) -> None:
    source = files(fixtures / "fewshot-data", "dataset.json")[0]
    records = json.loads(source.read_text(encoding="utf-8"))
    pictures = [source.parent.parent / each["img"] for each in records]
    absent = [n for n, picture in enumerate(pictures) if not picture.exists()]

    report = mmdata.convert("fewshot", source, tmp_path / "store", check="decode")

    store = mmdata.open(tmp_path / "store")
    assert [line["record"] for line in store.rejects()] == absent
    assert {line["reason"] for line in store.rejects()} <= {"missing_media"}
    assert report.records_in == len(records)
    kept = [each for n, each in enumerate(records) if n not in absent]
    assert [row.messages[0].text for row in store] == [each["prompt"] for each in kept]
    assert [row.messages[1].text for row in store] == [each["label"] for each in kept]
    assert all(row.media[0].width for row in store)


@pytest.mark.slow
def test_a_tree_of_real_clips_keeps_the_sound_ones_and_says_what_ails_the_others(
    fixtures: Path, tmp_path: Path
) -> None:
    truth = {path.name: told for path, told in clips(fixtures).items()}
    there = sorted(clips(fixtures))
    for number, clip in enumerate(there):
        split, label = ("train", "val")[number % 2], ("Fight", "NonFight")[number // 2 % 2]
        (tmp_path / "RWF-2000" / split / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, tmp_path / "RWF-2000" / split / label / clip.name)

    report = mmdata.convert("rwf2000", tmp_path / "RWF-2000", tmp_path / "store", check="decode")

    store = mmdata.open(tmp_path / "store")
    assert report.records_in == len(there)
    assert {line["reason"] for line in store.rejects()} <= {"damaged_media"}
    rejected = {Path(line["id"]).name for line in store.rejects()}
    assert rejected == {name for name, told in truth.items() if told["errors"]}
    for row in store:
        (medium,) = row.media
        assert medium.num_frames == len(truth[Path(medium.path or "").name]["times"]), medium.path
        assert row.split == (medium.path or "").split("/")[0]
        assert row.messages[1].text == ("1" if "/Fight/" in (medium.path or "") else "0")


SHAPES = {
    "llama_factory/*.json": "sharegpt",
    "llama_factory/*.jsonl": "messages",
    "data_juicer/*chatml*.jsonl": "messages",
    "ms_swift/*.json*": "swift",
}


def annotated(*, audio: bool) -> list[Any]:
    """Parameters for a test: every annotation file of the folders,
    with or without audio, and its format's name.
    """
    folders = {each.name: each.fixtures / "annotations" for each in references() if each.fixtures}
    found = [
        pytest.param(path, name, id=f"{place}-{path.parent.name}/{path.name}")
        for place, folder in folders.items()
        for pattern, name in SHAPES.items()
        for path in sorted(folder.glob(pattern))
        if (records := records_of(path)) and any("audios" in record for record in records) == audio
        if name == "swift"
        or all({"messages", "conversations"} & record.keys() for record in records)
    ]
    places = ", ".join(map(str, folders.values()))
    skipped = pytest.mark.skip(
        reason=f"no annotation file {'with' if audio else 'without'} audio in {places}"
    )
    return found or [pytest.param(None, None, marks=skipped)]


def records_of(path: Path) -> list[dict[str, Any]]:
    """The records of a JSON array or of JSON lines; none where a file holds something else."""
    text = path.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        found = json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in lines]
    except ValueError:
        return []
    return (
        found if isinstance(found, list) and all(isinstance(each, dict) for each in found) else []
    )


@pytest.mark.parametrize(("source", "format_name"), annotated(audio=False))
def test_real_annotations_convert_without_a_reject(
    source: Path, tmp_path: Path, format_name: str
) -> None:
    report = mmdata.convert(format_name, source, tmp_path / "store", check="none")

    assert report.rejects == {}
    assert report.rows == len(records_of(source))


def test_annotations_of_our_own_say_what_their_words_say(fixtures: Path, tmp_path: Path) -> None:
    for number, (name, expected) in enumerate(
        read(file(fixtures, "annotations", "expected.json")).items()
    ):
        source, target = fixtures / "annotations" / name, tmp_path / str(number)
        mmdata.convert(expected["format"], source, target, check="none")
        store = mmdata.open(target)

        wanted = expected["records"]
        assert [line["reason"] for line in store.rejects()] == [
            each["reason"] for each in wanted if "reason" in each
        ], name
        assert [shown(row) for row in store] == [each for each in wanted if "reason" not in each], (
            name
        )


def shown(row: mmdata.Conversation) -> dict[str, Any]:
    """A row as ``expected.json`` writes it."""
    turns = [
        [message.role, [shown_part(part) for part in message.content]] for message in row.messages
    ]
    return {"turns": turns, "media": [[medium.type, medium.path] for medium in row.media]}


def shown_part(part: Part) -> Any:
    if isinstance(part, Text):
        return part.text
    if isinstance(part, Region):
        return {
            "region": part.text,
            "boxes": [list(box) for box in part.boxes],
            "image": part.media,
        }
    assert not isinstance(part, Reasoning | ToolCall), part
    return {type(part).__name__.lower(): part.media}


@pytest.mark.parametrize(("source", "format_name"), annotated(audio=True))
def test_records_that_need_audio_are_rejects(
    source: Path, tmp_path: Path, format_name: str
) -> None:
    report = mmdata.convert(format_name, source, tmp_path / "store", check="none")

    assert report.rejects == {
        "unsupported_media": sum("audios" in record for record in records_of(source))
    }
