"""CogVLM-SFT-311K: labels and images joined by the names of their files."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

import mmdata
from mmdata.errors import UsageError
from mmdata.formats import Origin, detect, make
from mmdata.schema import Image, Media, assistant, user
from mmdata.testing import check_format

TALK = {
    "conversations": [
        {"role": "user", "content": "Which colour?"},
        {"role": "assistant", "content": "Red."},
    ]
}
CAPTION = {"captions": [{"role": "caption", "content": "A red square."}]}


def lay(folder: Path, labels: dict[str, Any], *images: str) -> Path:
    for name, label in labels.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(label))
    for name in images:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"picture")
    return folder


def media(store: Path) -> list[str | None]:
    return [row.media[0].path for row in mmdata.open(store)]


def test_a_label_is_about_the_image_of_its_name(tmp_path: Path) -> None:
    data = lay(tmp_path / "ds", {"labels_en/01.json": TALK, "labels_en/02.json": CAPTION},
               "images/01.jpg", "images/02.jpg")  # fmt: skip

    report = mmdata.convert("auto", data, tmp_path / "store")
    first, second = mmdata.open(report.store)

    assert first.messages == (user(Image(0), "Which colour?"), assistant("Red."))
    assert first.media == (Media("image", "images/01.jpg"),)
    assert second.messages == (
        user(Image(0), "Describe the image in detail."),
        assistant("A red square."),
    )
    assert second.media == (Media("image", "images/02.jpg"),)


def test_labels_of_both_languages_are_about_the_same_image(tmp_path: Path) -> None:
    labels = {"labels_en/1.json": TALK, "labels_zh/1.json": CAPTION}
    data = lay(tmp_path / "ds", labels, "images/1.jpg")

    both = mmdata.convert("cogvlm_sft", data, tmp_path / "both")
    one = mmdata.convert("cogvlm_sft", data / "labels_zh", tmp_path / "one")

    assert media(both.store) == ["images/1.jpg", "images/1.jpg"]
    assert media(one.store) == ["images/1.jpg"]


def test_sets_side_by_side_keep_to_their_own_images(tmp_path: Path) -> None:
    names = ["single", "multi"]
    labels = {f"{name}/labels/1.json": {**TALK, "set": name} for name in names}
    data = lay(tmp_path, labels, "single/images/1.jpg", "multi/images/1.png", "images/1.jpg")

    report = mmdata.convert("auto", [data / name for name in names], tmp_path / "store")

    assert [(row.extra["set"], row.media[0].path) for row in mmdata.open(report.store)] == [
        ("single", "single/images/1.jpg"),
        ("multi", "multi/images/1.png"),
    ]


def test_the_spelling_of_the_source_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = lay(tmp_path / "ds", {"labels/1.json": TALK}, "images/1.jpg")
    monkeypatch.chdir(data)

    spellings = [str(data), ".", "labels", "../ds", "labels/1.json"]
    for number, source in enumerate(spellings):
        report = mmdata.convert("cogvlm_sft", source, tmp_path / str(number))
        assert media(report.store) == ["images/1.jpg"]


def test_an_image_that_is_not_there_is_missing(tmp_path: Path) -> None:
    data = lay(tmp_path / "ds", {"labels/1.json": TALK, "labels/2.json": TALK}, "images/1.jpg")

    report = mmdata.convert("cogvlm_sft", data, tmp_path / "store")

    assert (report.rows, report.rejects) == (1, {"missing_media": 1})


def test_other_json_files_beside_the_labels_are_none_of_the_data(tmp_path: Path) -> None:
    data = lay(tmp_path / "ds", {"labels/1.json": TALK, "meta.json": {}}, "images/1.jpg")

    assert [file.name for file in make("cogvlm_sft").files([data])] == ["1.json"]
    assert mmdata.convert("cogvlm_sft", data, tmp_path / "store").records_in == 1


def test_a_folder_without_labels_is_the_callers_fault(tmp_path: Path) -> None:
    lay(tmp_path, {"meta.json": TALK})

    with pytest.raises(UsageError, match="no JSON file in a folder labels"):
        mmdata.convert("cogvlm_sft", tmp_path, tmp_path / "store")


def test_conversations_without_such_folders_are_sharegpts(tmp_path: Path) -> None:
    file = lay(tmp_path, {"all.json": TALK}) / "all.json"

    assert detect([file]) == "sharegpt"


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        ({}, "no_conversation"),
        ({"captions": "A square."}, "malformed"),
        ({"captions": CAPTION["captions"] * 2}, "malformed"),
        ({"captions": [{"role": "user", "content": "A square."}]}, "unknown_role"),
        ({"captions": [{"role": "caption"}]}, "empty_turn"),
        ({"conversations": TALK["conversations"][:1]}, "no_conversation"),
    ],
)
def test_a_label_that_says_nothing_is_a_reject(tmp_path: Path, label: Any, reason: str) -> None:
    data = lay(tmp_path / "ds", {"labels/1.json": label}, "images/1.jpg")

    assert mmdata.convert("cogvlm_sft", data, tmp_path / "store").rejects == {reason: 1}


def test_labels_keep_the_laws_of_formats(tmp_path: Path) -> None:
    label = {**CAPTION, "captions": [{**CAPTION["captions"][0], "by": "v2"}], "license": "x"}
    data = lay(tmp_path / "ds", {"labels/1.json": TALK, "labels/2.json": label}, "images/1.jpg")

    check_format(make("cogvlm_sft"), [data], said_otherwise=(r"^caption$",))


def test_the_name_of_a_packed_label_is_that_of_its_image(tmp_path: Path) -> None:
    data = lay(tmp_path / "ds", {"labels/1.json": TALK}, "images/1.jpeg")
    label = data / "labels" / "1.json"
    (data / "labels" / "1.json.gz").write_bytes(gzip.compress(label.read_bytes()))
    label.unlink()

    report = mmdata.convert("cogvlm_sft", data, tmp_path / "store")

    assert media(report.store) == ["images/1.jpeg"]


def test_an_image_is_below_the_folder_of_its_labels_then_below_the_media_root() -> None:
    places = list(make("cogvlm_sft").candidates("images/1.jpg", Origin("/data/ds/labels/1.json")))

    assert places[:2] == ["ds/images/1.jpg", "ds/images/1.jpeg"]
    assert places[3:] == ["images/1.jpg", "images/1.jpeg", "images/1.png"]
