"""Real annotation files, real few-shot data and an RWF-2000 tree of real clips, from source to store."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import mmdata


def test_the_few_shot_records_without_image_are_the_rejects(fixtures: Path, tmp_path: Path) -> None:
    source = fixtures / "fewshot-data" / "fewshot-data" / "dataset.json"
    records = json.loads(source.read_text(encoding="utf-8"))
    absent = [n for n, each in enumerate(records) if not (source.parent.parent / each["img"]).exists()]

    report = mmdata.convert("fewshot", source, tmp_path / "store", check="decode")

    store = mmdata.open(tmp_path / "store")
    assert [line["record"] for line in store.rejects()] == absent
    assert {line["reason"] for line in store.rejects()} <= {"missing_media"}
    assert report.records_in == len(records)
    kept = [each for n, each in enumerate(records) if n not in absent]
    assert [row.messages[0].text for row in store] == [each["prompt"] for each in kept]
    assert [row.messages[1].text for row in store] == [each["label"] for each in kept]
    assert all(row.media[0].width for row in store)


def test_a_tree_of_real_clips_keeps_the_sound_ones_and_says_what_ails_the_others(
    fixtures: Path, tmp_path: Path
) -> None:
    truth = json.loads((fixtures / "videos" / "ffprobe.json").read_text())
    clips = sorted(path for path in (fixtures / "videos").iterdir() if path.suffix not in (".json", ".md"))
    for number, clip in enumerate(clips):
        split, label = ("train", "val")[number % 2], ("Fight", "NonFight")[number // 2 % 2]
        (tmp_path / "RWF-2000" / split / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, tmp_path / "RWF-2000" / split / label / clip.name)

    report = mmdata.convert("rwf2000", tmp_path / "RWF-2000", tmp_path / "store", check="decode")

    store = mmdata.open(tmp_path / "store")
    assert report.records_in == len(clips)
    assert {line["reason"] for line in store.rejects()} <= {"damaged_media"}
    assert sum(report.rejects.values()) < len(clips) / 2
    for row in store:
        (medium,) = row.media
        assert medium.num_frames == len(truth[Path(medium.path or "").name]["times"]), medium.path
        assert row.split == (medium.path or "").split("/")[0]
        assert row.messages[1].text == ("1" if "/Fight/" in (medium.path or "") else "0")


ANNOTATIONS = [
    ("llama_factory/mllm_demo.json", "sharegpt"),
    ("llama_factory/mllm_video_demo.json", "sharegpt"),
    ("llama_factory/v1_multimodal_demo.jsonl", "messages"),
    ("data_juicer/demo-dataset-chatml.jsonl", "messages"),
    ("ms_swift/chatml.jsonl", "swift"),
    ("ms_swift/conversations.jsonl", "swift"),
    ("ms_swift/sharegpt.jsonl", "swift"),
    ("ms_swift/swift_multi.json", "swift"),
    ("ms_swift/swift_multi.jsonl", "swift"),
    ("ms_swift/swift_single.jsonl", "swift"),
    ("ms_swift/multi_modal_1.jsonl", "swift"),
    ("ms_swift/multi_modal_2.jsonl", "swift"),
    ("ms_swift/multi_modal_3.jsonl", "swift"),
]


@pytest.mark.parametrize(("name", "format_name"), ANNOTATIONS)
def test_real_annotations_convert_without_a_reject(fixtures: Path, tmp_path: Path, name: str, format_name: str) -> None:
    source = fixtures / "annotations" / name
    text = source.read_text(encoding="utf-8")
    count = len(json.loads(text)) if source.suffix == ".json" else len(list(filter(str.strip, text.splitlines())))

    report = mmdata.convert(format_name, source, tmp_path / "store", check="none")

    assert report.rejects == {}
    assert report.rows == count


def test_records_that_need_audio_are_rejects(fixtures: Path, tmp_path: Path) -> None:
    source = fixtures / "annotations" / "llama_factory" / "mllm_video_audio_demo.json"

    report = mmdata.convert("sharegpt", source, tmp_path / "store", check="none")

    assert report.rejects == {"unsupported_media": len(json.loads(source.read_text()))}
