from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmdata.formats import Origin, registry
from mmdata.rejects import Reject
from mmdata.schema import Conversation, Media, Text, Video, assistant, user
from mmdata.sources.record import Record
from tests.reference import cases

VIDEO178K = registry.get("video178k")()


def caption(**changes: Any) -> dict[str, Any]:
    return {
        "id": "RW587",
        "conversations": [
            {"from": "human", "value": "<image>\nDescribe the video."},
            {"from": "gpt", "value": "A man opens a door."},
        ],
        "data_source": "0_30_s_academic_v0_1",
        "video": "academic_source/Charades/RW587.mp4",
    } | changes


def test_a_caption_becomes_a_question_about_a_video() -> None:
    found = VIDEO178K.conversation(Record(caption(), "x.json", 0, "RW587"))

    assert found == Conversation(
        "RW587",
        (user(Video(0), "Describe the video."), assistant("A man opens a door.")),
        (Media("video", "academic_source/Charades/RW587.mp4"),),
        "llava_video_178k",
        extra={"data_source": "0_30_s_academic_v0_1"},
    )


def test_options_of_a_multiple_choice_question_stay_byte_for_byte() -> None:
    question = (
        "What next?\nOptions:\nA. Sleep\nB. Run\nPlease provide your answer by stating the letter."
    )
    turns = [
        {"from": "human", "value": f"<image>\n{question}"},
        {"from": "gpt", "value": "A. Sleep"},
    ]

    found = VIDEO178K.conversation(Record(caption(conversations=turns), "x.json", 0, "RW587"))

    assert found.messages[0].content == (Video(0), Text(question))


def test_a_video_is_looked_for_in_its_bucket_then_in_the_root_then_where_data_source_says() -> None:
    extra = json.dumps({"data_source": caption()["data_source"]})
    origin = Origin("data/bucket/cap.json", extra_json=extra, folders=("data/bucket", ""))

    assert tuple(VIDEO178K.candidates("a/RW587.mp4", origin)) == (
        "data/bucket/a/RW587.mp4",
        "a/RW587.mp4",
        "0_30_s_academic_v0_1/a/RW587.mp4",
    )


def test_a_folder_of_frames_is_a_video_too() -> None:
    value = caption(video="shareVideoGPTV/train_300k/v_abc", data_source="llava_hound")

    found = VIDEO178K.conversation(Record(value, "llava_hound/qa.json", 0))

    assert found.media == (Media("video", "shareVideoGPTV/train_300k/v_abc"),)


def test_several_buckets_are_read_at_once(tmp_path: Path) -> None:
    for bucket in ("0_30_s_academic_v0_1", "1_2_m_nextqa"):
        (tmp_path / bucket).mkdir()
        (tmp_path / bucket / f"{bucket}_cap_processed.json").write_text(
            json.dumps([caption(data_source=bucket)])
        )

    found = [item for item in VIDEO178K.records([tmp_path]) if isinstance(item, Record)]

    assert [item.value["data_source"] for item in found] == ["0_30_s_academic_v0_1", "1_2_m_nextqa"]
    assert (
        VIDEO178K.media_root([tmp_path / "0_30_s_academic_v0_1", tmp_path / "1_2_m_nextqa"])
        == tmp_path
    )


def test_what_mindformers_loses_is_a_row_or_a_reject_here(golden: Path, tmp_path: Path) -> None:
    for number, case in enumerate(cases(golden, "mf_data_process.json", "cases")):
        folder = tmp_path / str(number)
        for path, content in case["files"].items():
            place = folder / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(content if isinstance(content, str) else json.dumps(content))
        named = [entry["json_path"] for entry in case["datasets"]]
        sources = [folder / path for path in named if isinstance(case["files"].get(path), list)]
        written = sum(len(case["files"][path.relative_to(folder).as_posix()]) for path in sources)

        found = list(VIDEO178K.records(sources))

        assert len(found) == written
        assert not any(isinstance(item, Reject) for item in found)


def test_a_path_present_in_two_data_sets_is_found_in_the_records_own() -> None:
    for folders in (("d2", ""), ("", "d2")):
        origin = Origin("/r/d2/b.json", folders=folders)
        assert next(iter(VIDEO178K.candidates("x/p.jpg", origin))) == "d2/x/p.jpg"
