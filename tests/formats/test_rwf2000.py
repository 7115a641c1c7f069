from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mmdata
from mmdata.errors import UsageError
from mmdata.formats import registry
from mmdata.rejects import Reject
from mmdata.schema import CompactTimes, Conversation, Media, Video, assistant, user
from mmdata.sources.record import Record
from mmdata.testing import check_format
from tests.reference import files

RWF = registry.get("rwf2000")()
QUESTION = "判断视频中是否包含暴力内容，输出1为包含暴力内容，输出0为不包含暴力内容。"


def lay(root: Path, *paths: str) -> Path:
    for path in paths:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"clip")
    return root


def conversations(root: Path, **options: Any) -> list[Conversation]:
    reader = registry.get("rwf2000")(**options)
    return [
        reader.conversation(item) for item in reader.records([root]) if isinstance(item, Record)
    ]


def rejects(root: Path) -> list[Reject]:
    return [item for item in RWF.records([root]) if isinstance(item, Reject)]


def test_a_clip_becomes_a_question_about_a_video(tmp_path: Path) -> None:
    lay(tmp_path, "train/Fight/0_DzLlklZa0_3.avi")

    assert conversations(tmp_path) == [
        Conversation(
            "train/Fight/0_DzLlklZa0_3.avi",
            (user(Video(0), QUESTION), assistant("1")),
            (Media("video", "train/Fight/0_DzLlklZa0_3.avi"),),
            "rwf2000",
            "train",
            {
                "label": "Fight",
                "source_id": "0_DzLlklZa0",
                "clip_index": 3,
                "name": "0_DzLlklZa0_3.avi",
            },
        )
    ]


def test_every_path_of_the_reference_is_taken_or_refused_as_it_says(
    golden: Path, tmp_path: Path
) -> None:
    for number, file in enumerate(files(golden, "rwf2000_paths.json")):
        for index, case in enumerate(json.loads(file.read_text())):
            name = case["path"]
            root = tmp_path / f"{number}-{index}"
            try:
                lay(root, name)
            except OSError:  # a name that this file system cannot hold
                name = name[: name.rindex("/") + 1] + name[-60:]
                lay(root, name)
                case["source_id"] = name[name.rindex("/") + 1 :].rpartition("_")[0]
            found = conversations(root)

            assert len(found) == case["accept"], case
            if case["accept"]:
                (one,) = found
                assert one.messages[-1].text == case["response"]
                assert (one.split, one.extra["label"]) == (case["split"], case["label"])
                assert (one.extra["source_id"], one.extra["clip_index"]) == (
                    case["source_id"],
                    case["clip_index"],
                )


HOSTILE = [
    "with space_1.avi",
    "quote'\"_2.avi",
    "中文监控_3.avi",
    "emoji 🥊_4.avi",
    "new\nline_5.avi",
    "#hash%20_6.avi",
    "UPPER_7.AVI",
    "upper_7.AVI",
    "-dash_8.mp4",
    "no number.mov",
    "two..dots_9.avi",
    "trailing _10.avi",
    "a" * 240 + "_11.avi",
]


def test_hostile_names_are_kept_as_they_are(tmp_path: Path) -> None:
    lay(tmp_path, *(f"train/Fight/{name}" for name in HOSTILE))

    found = conversations(tmp_path)

    assert {one.extra["name"] for one in found} == set(HOSTILE)
    assert [one.id for one in found] == sorted(one.id for one in found)
    assert all((tmp_path / str(one.media[0].path)).is_file() for one in found)
    assert rejects(tmp_path) == []


@given(
    st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1, max_size=60
    )
)
@settings(max_examples=100)
def test_any_name_that_a_file_may_have_is_kept(tmp_path_factory: Any, name: str) -> None:
    root = tmp_path_factory.mktemp("rwf")
    lay(root, f"val/NonFight/x{name}.avi")

    (one,) = conversations(root)

    assert one.extra["name"] == f"x{name}.avi"


def test_a_path_deeper_than_255_bytes_is_kept(tmp_path: Path) -> None:
    deep = "/".join(["a" * 100] * 4)
    lay(tmp_path, f"{deep}/train/Fight/x_1.avi")

    assert len(conversations(tmp_path)[0].id) > 400


def test_a_name_that_is_not_utf8_is_a_reject_that_can_be_printed(tmp_path: Path) -> None:
    lay(tmp_path, "train/Fight/ok_1.avi")
    (tmp_path / "train/Fight" / os.fsdecode(b"caf\xe9_1.avi")).write_bytes(b"clip")

    (found,) = rejects(tmp_path)

    assert found.reason.value == "bad_encoding"
    assert found.file.encode().endswith(rb"caf\xe9_1.avi")
    assert len(conversations(tmp_path)) == 1


def test_links_that_lead_back_do_not_hang(tmp_path: Path) -> None:
    lay(tmp_path, "train/Fight/a_1.avi")
    (tmp_path / "train" / "again").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "train" / "Fight" / "self").symlink_to(".", target_is_directory=True)
    (tmp_path / "val").symlink_to("train", target_is_directory=True)

    assert [one.id for one in conversations(tmp_path)] == [
        "train/Fight/a_1.avi",
        "val/Fight/a_1.avi",
    ]


def test_what_is_no_clip_in_a_class_folder_is_a_reject(tmp_path: Path) -> None:
    lay(
        tmp_path,
        "train/Fight/readme.txt",
        "train/Fight/._a_1.avi",
        "train/Fight/a_1.avi",
        "train/Fight/noise",
    )

    assert [(Path(found.file).name, found.reason.value) for found in rejects(tmp_path)] == [
        ("._a_1.avi", "unsupported_media"),
        ("noise", "unsupported_media"),
        ("readme.txt", "unsupported_media"),
    ]


def test_files_of_operating_systems_and_files_beside_the_tree_are_passed_over(
    tmp_path: Path,
) -> None:
    lay(tmp_path, "README.md", "train/list.txt", "train/Fight/Thumbs.db", "train/Fight/.DS_Store")
    lay(tmp_path, "__MACOSX/train/Fight/._a_1.avi", "train/Fight/a_1.avi")

    assert (len(conversations(tmp_path)), rejects(tmp_path)) == (1, [])


@pytest.mark.parametrize(
    "path", ["train/Other/x_1.avi", "train/x_1.avi", "Fight/x_1.avi", "train/Val_Fight/x_1.avi"]
)
def test_a_clip_whose_folders_do_not_tell_class_and_split_is_a_reject(
    tmp_path: Path, path: str
) -> None:
    (found,) = rejects(lay(tmp_path, path))

    assert (found.reason.value, found.id) == ("malformed", path)


def test_the_label_comes_from_the_folder_and_never_from_the_name(tmp_path: Path) -> None:
    lay(
        tmp_path,
        "train/NonFight/Fight_clip_2.avi",
        "val/val_Fight/NonFight_1.avi",
        "train/Train_NonFight/valley_1.avi",
    )

    assert [(one.split, one.messages[1].text) for one in conversations(tmp_path)] == [
        ("train", "0"),
        ("train", "0"),
        ("val", "1"),
    ]


def test_the_source_may_be_one_split(tmp_path: Path) -> None:
    lay(tmp_path, "RWF-2000/val/Fight/a_1.avi")

    (one,) = conversations(tmp_path / "RWF-2000" / "val")

    assert (one.split, one.id) == ("val", "Fight/a_1.avi")


@pytest.mark.parametrize(
    ("source", "split"),
    [("data/val/Fight", "val"), ("data/train/Train_Fight", "train"), ("data/Val_Fight", "val")],
)
def test_the_source_may_be_one_class_of_one_split(tmp_path: Path, source: str, split: str) -> None:
    lay(tmp_path, f"{source}/a_1.avi")

    (one,) = conversations(tmp_path / source)

    assert (one.split, one.id, one.media[0].path) == (split, "a_1.avi", "a_1.avi")


def test_folders_above_the_data_say_nothing_of_it(tmp_path: Path) -> None:
    lay(tmp_path, "train/Fight/data/Fight/a_1.avi", "train/Fight/data/b_1.avi")

    found = rejects(tmp_path / "train" / "Fight" / "data")

    assert [(one.id, one.reason.value) for one in found] == [
        ("Fight/a_1.avi", "malformed"),
        ("b_1.avi", "malformed"),
    ]


def test_folders_of_frames_are_clips(tmp_path: Path) -> None:
    frames = [f"train/Train_Fight/a.b_0/{number:05d}.jpg" for number in (1, 2, 3)]
    lay(tmp_path, *frames, "train/Train_Fight/a.b_1/frames/1.PNG", "train/Train_Fight/c_2.avi")

    first, second, file = conversations(tmp_path)

    assert [one.media[0].path for one in (first, second, file)] == [
        "train/Train_Fight/a.b_0", "train/Train_Fight/a.b_1/frames", "train/Train_Fight/c_2.avi"
    ]  # fmt: skip
    assert first.id == "train/Train_Fight/a.b_0"
    assert (first.extra["source_id"], first.extra["clip_index"]) == ("a.b", 0)
    assert first.media[0].clock == CompactTimes(step=1 / 30)
    assert file.media[0].clock is None
    assert rejects(tmp_path) == []


def test_the_rate_of_frames_can_be_said(tmp_path: Path) -> None:
    lay(tmp_path, "val/Fight/a_0/1.jpg")

    (one,) = conversations(tmp_path, frame_rate=10.0)

    assert one.media[0].clock == CompactTimes(step=0.1)


def test_what_is_no_frame_is_a_reject_beside_the_clip(tmp_path: Path) -> None:
    lay(tmp_path, "val/Fight/a_0/1.jpg", "val/Fight/a_0/notes.txt", "val/Fight/cover.jpg")

    assert [one.id for one in conversations(tmp_path)] == ["val/Fight/a_0"]
    assert [one.id for one in rejects(tmp_path)] == [
        "val/Fight/a_0/notes.txt",
        "val/Fight/cover.jpg",
    ]


def test_pictures_in_a_class_folder_below_another_are_no_clip(tmp_path: Path) -> None:
    lay(tmp_path, "Fight/train/NonFight/cover.jpg", "Fight/train/NonFight/a_0/1.jpg")

    assert [one.id for one in conversations(tmp_path)] == ["Fight/train/NonFight/a_0"]
    assert [one.id for one in rejects(tmp_path)] == ["Fight/train/NonFight/cover.jpg"]


def test_a_split_that_is_asked_for_needs_no_folder(tmp_path: Path) -> None:
    lay(tmp_path / "data", "Fight/a_1.avi", "train/Fight/b_1.avi", "val/Train_Fight/c_1.avi")

    # The folders of b_1 say a split, and those of c_1 two; what is asked for wins.
    asked = mmdata.convert("rwf2000", tmp_path / "data", tmp_path / "asked", split="test")
    unasked = mmdata.convert("rwf2000", tmp_path / "data", tmp_path / "unasked")

    assert [row.split for row in mmdata.open(asked.store)] == ["test"] * 3
    assert [row.split for row in mmdata.open(unasked.store)] == ["train"]
    assert unasked.rejects == {"malformed": 2}


def test_a_tree_of_clips_and_frames_keeps_the_laws_of_formats(tmp_path: Path) -> None:
    lay(tmp_path, "train/Fight/a_0.avi", "train/Fight/b_0/1.jpg", "val/NonFight/c.avi", "x/d.avi")

    check_format(RWF, [tmp_path], said_otherwise=("Fight|NonFight",))


def test_several_sources_share_one_root(tmp_path: Path) -> None:
    lay(tmp_path, "a/train/Fight/x_1.avi", "b/train/Fight/x_1.avi")

    found = [
        item.id
        for item in RWF.records([tmp_path / "a", tmp_path / "b"])
        if isinstance(item, Record)
    ]

    assert found == ["a/train/Fight/x_1.avi", "b/train/Fight/x_1.avi"]


@pytest.mark.parametrize("above", ["", "Fight", "NonFight", "Fight/train", "NonFight/val/Fight"])
@pytest.mark.parametrize("named", ["Fight", "NonFight", "Train_NonFight", "fight/more"])
def test_the_class_folder_nearest_the_clip_decides(tmp_path: Path, above: str, named: str) -> None:
    root = tmp_path / above
    root.mkdir(parents=True, exist_ok=True)
    lay(root, f"train/{named}/a_1.avi")

    (found,) = conversations(root)

    assert found.extra["label"] == ("NonFight" if "non" in named.lower() else "Fight")


def test_prompt_and_answers_can_be_chosen(tmp_path: Path) -> None:
    lay(tmp_path, "train/Fight/a_1.avi")

    (english,) = conversations(tmp_path, language="en")
    (own,) = conversations(tmp_path, prompt="Violent?", answers=("yes", "no"))

    assert english.messages[0].text.startswith("Decide whether the video contains violence")
    assert [message.text for message in own.messages] == ["Violent?", "yes"]


def test_a_source_that_is_no_folder_is_the_callers_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a folder"):
        list(RWF.records([tmp_path / "absent"]))
