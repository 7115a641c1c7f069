"""Rows are held out by hash of what they are about, or are in the split that names say."""

from __future__ import annotations

import json
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mmdata
from mmdata.conversion import convert
from mmdata.conversion.split import HeldOut, MediaGroups, read_shares, split_named
from mmdata.errors import UsageError
from tests.source_files import record, source, write_images, write_records

SHARES = {"train": 0.5, "val": 0.3, "test": 0.2}


def splits(store: Path) -> dict[str, str]:
    return {row.id: row.split for row in mmdata.open(store)}


def shared_images(count: int, generator: random.Random) -> list[dict[str, Any]]:
    """Return records about one to three of a few images each."""
    rows = []
    for number in range(count):
        images = generator.sample(
            [f"images/{n}.jpg" for n in range(60)], generator.choice([1, 1, 3])
        )
        turns = [
            {"from": "human", "value": "<image>" * len(images) + f"What is {number}?"},
            {"from": "gpt", "value": f"It is {number}."},
        ]
        rows.append({"id": f"r{number}", "image": images, "conversations": turns})
    return rows


# --- held out by hash
# ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["id", "media"])
def test_which_rows_are_held_out_depends_on_no_order(tmp_path: Path, by: Any) -> None:
    rows = shared_images(60, random.Random(0))
    write_images(tmp_path, [f"images/{number}.jpg" for number in range(60)])

    for number in range(3):
        random.Random(number).shuffle(rows)
        file = write_records(tmp_path / "rows.json", rows)
        convert("llava", file, tmp_path / str(number), split=SHARES, split_by=by, seed=3)

    assert splits(tmp_path / "0") == splits(tmp_path / "1") == splits(tmp_path / "2")


@pytest.mark.slow
def test_which_rows_are_held_out_depends_on_no_batch(tmp_path: Path) -> None:
    """Where media are looked into, batches are smaller."""
    from PIL import Image

    (tmp_path / "images").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "images" / "0.jpg")
    rows = [record(n, image="images/0.jpg" if n % 2 else None) for n in range(600)]
    for row in rows[::2]:
        row["conversations"] = [
            {"from": "human", "value": row["id"]},
            {"from": "gpt", "value": "A"},
        ]
    file = write_records(tmp_path / "rows.json", rows)

    for store, check in (("a", "exists"), ("b", "probe")):
        convert("llava", file, tmp_path / store, split=SHARES, check=check, workers=1)  # type: ignore[arg-type]

    assert splits(tmp_path / "a") == splits(tmp_path / "b")
    assert len({splits(tmp_path / "a")[f"r{n}"] for n in range(1, 600, 2)}) == 1


def test_no_image_is_in_two_splits_whatever_rows_hold_it(tmp_path: Path) -> None:
    write_images(tmp_path, [f"images/{number}.jpg" for number in range(200)])
    rows = [record(n, image=f"images/{n % 200}.jpg") for n in range(300)]
    for row, (first, second) in zip(rows, [(0, 1), (1, 2), (7, 8), (2, 9)], strict=False):
        row["image"] = [f"images/{first}.jpg", f"./images/{second}.jpg"]
        row["conversations"][0]["value"] = "<image><image>What?"
    file = write_records(tmp_path / "rows.json", rows)

    convert("llava", file, tmp_path / "store", split={"train": 0.6, "val": 0.4})

    homes: dict[Any, set[str]] = {}
    for found in mmdata.open(tmp_path / "store"):
        for medium in found.media:
            homes.setdefault(medium.path, set()).add(found.split)
    assert all(len(names) == 1 for names in homes.values())
    assert {split for names in homes.values() for split in names} == {"train", "val"}


def test_rows_without_an_id_go_by_what_they_say(tmp_path: Path) -> None:
    rows = [{"conversations": [{"from": "human", "value": f"Q{n}"}, {"from": "gpt", "value": "A"}]}
            for n in range(40)]  # fmt: skip
    said = []
    for store in ("a", "b"):
        rows.reverse()
        convert("llava", write_records(tmp_path / "r.json", rows), tmp_path / store, split=SHARES)
        said.append({row.messages[0].text: row.split for row in mmdata.open(tmp_path / store)})

    assert said[0] == said[1]
    assert len(set(said[0].values())) == 3


def test_shares_are_kept_about_and_stated_with_seed_and_counts(tmp_path: Path) -> None:
    report = convert("llava", source(tmp_path, 400), tmp_path / "store", split=SHARES, seed=7)

    manifest = mmdata.open(tmp_path / "store").manifest
    assert report.splits == manifest.splits
    assert sum(report.splits.values()) == 400
    assert all(abs(report.splits[name] / 400 - share) < 0.1 for name, share in SHARES.items())
    assert manifest.notes["split"] == {"shares": SHARES, "by": "media", "seed": 7}


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ({"train": 0.9}, "add up to 1"),
        ({"train": 0.9, "val": 0.2}, "add up to 1"),
        ({}, "add up to 1"),
        ({"train": 0.9, "vall": 0.1}, "Did you mean 'val'"),
        ({"train": 1.0, "val": 0.0}, "share of val"),
        ({"train": 1, "val": True}, "share of val"),
        ({"train": "all"}, "share of train"),
        ("vall", "Did you mean 'val'"),
        (0.1, "must be"),
    ],
)
def test_a_split_that_cannot_be_is_refused_before_anything_is_read(
    tmp_path: Path, split: Any, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        convert("llava", source(tmp_path, 1), tmp_path / "store", split=split)

    assert not (tmp_path / "store").exists()


def test_tenths_add_up_however_they_are_added() -> None:
    assert HeldOut({"train": 0.7, "val": 0.2, "test": 0.1}).shares
    assert read_shares("train=0.8, val=0.1,test=0.1") == {"train": 0.8, "val": 0.1, "test": 0.1}


@pytest.mark.parametrize("text", ["train=", "=1", "train=0.5,val", "train=a", "train=.5,train=.5"])
def test_shares_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(UsageError):
        HeldOut(read_shares(text))  # type: ignore[arg-type]


@given(
    st.lists(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=3), max_size=8),
    st.randoms(),
)
def test_groups_are_the_same_in_any_order(rows: list[list[str]], generator: random.Random) -> None:
    names = []
    for _ in range(2):
        groups = MediaGroups()
        for row in rows:
            groups.add(row)
        names.append({key: groups.name(key) for key in "abcdefgh"})
        generator.shuffle(rows)

    assert names[0] == names[1]
    assert all(names[0][key] <= key for key in "abcdefgh")
    assert all(len({names[0][key] for key in row}) == 1 for row in rows)


# --- read from names
# ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "split"),
    [
        ("train.json", "train"),
        ("val.json", "val"),
        ("valid.jsonl", "val"),
        ("validation.json.gz", "val"),
        ("dev.json", "val"),
        ("Test.JSON", "test"),
        ("data_train.jsonl", "train"),
        ("my-val-set.json", "val"),
        ("train-00000-of-00010.parquet", "train"),
        ("validation-00001-of-00002.parquet", "val"),
        ("captions_val2017.json", "val"),
        ("eval.json", "test"),
        ("contest.json", None),
        ("latest_values.json", None),
        ("train_val.json", None),
        ("data.json", None),
        ("val/a.json", "val"),
        ("valid/_annotations.coco.json", "val"),
        ("test/part1/a.json", "test"),
        ("val/train.json", "val"),
        ("train/part/valid/a.json", "val"),
        ("contest/a.json", None),
    ],
)
def test_names_say_a_split_by_the_rules_of_datasets(file: str, split: str | None) -> None:
    assert split_named(f"/home/test/my-set/{file}", ["/home/test/my-set"]) == split


@pytest.mark.parametrize(
    ("file", "sources", "split"),
    [
        ("/data/val/a.json", ["/data/val"], "val"),
        ("/data/val/a.json", [], "val"),
        ("/home/dev/a.json", [], None),
        ("/test/my-set/a.json", ["/test/my-set"], None),
        ("/test/my-set/a.json", [], None),
        ("/data/my-test/a.json", [], None),
    ],
)
def test_of_the_folders_above_one_is_believed_and_only_by_its_whole_name(
    file: str, sources: list[str], split: str | None
) -> None:
    assert split_named(file, sources) == split


def test_splits_by_name_are_those_of_datasets(tmp_path: Path) -> None:
    """Where one file names one split, ``datasets`` and we say the same."""
    from datasets.data_files import get_data_patterns, resolve_pattern

    names = {"train": "train", "validation": "val", "test": "test"}
    for number, files in enumerate(
        [
            ["train.json", "val.json", "test.json"],
            ["data_train.jsonl", "data.valid.jsonl", "eval_1.json"],
            ["train/1.json", "dev/1.json", "testing/1.json"],
            ["a/training_set/1.json", "a/validation/1.json"],
            ["x.json", "y.json"],
            ["train-00000-of-00002.json", "train-00001-of-00002.json", "test-00000-of-00001.json"],
        ]
    ):
        root = tmp_path / f"set{number}"
        for file in files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text("[]")

        theirs = {}
        for split, patterns in get_data_patterns(root.as_posix()).items():
            for pattern in patterns:
                with suppress(FileNotFoundError):  # of a pattern that no file has
                    for found in resolve_pattern(pattern, root.as_posix()):
                        theirs[found] = names[str(split)]
        ours = {file: split_named(file, [root.as_posix()]) or "train" for file in theirs}

        assert len(theirs) == len(files)
        assert ours == theirs


def test_what_was_believed_is_said_and_a_split_that_is_given_is_stronger(tmp_path: Path) -> None:
    write_images(tmp_path, ["ds/images/0.jpg"])
    for number, name in enumerate(("train", "val", "part-val", "other")):
        write_records(tmp_path / "ds" / f"{name}.json", [record(number, image="images/0.jpg")])

    report = convert("llava", tmp_path / "ds", tmp_path / "a")
    convert("llava", tmp_path / "ds", tmp_path / "b", split="test")

    assert splits(tmp_path / "a") == {"r0": "train", "r1": "val", "r2": "val", "r3": "train"}
    assert report.notes["split_names"]["val"] == {
        "files": 2,
        "first": str(tmp_path / "ds" / "part-val.json"),
    }
    assert set(splits(tmp_path / "b").values()) == {"test"}
    assert "split_names" not in mmdata.open(tmp_path / "b").manifest.notes


@pytest.mark.parametrize(
    ("said", "split"),
    [("train", "train"), ("Validation", "val"), ("val", "val"), ("dev", "val"), (" test ", "test")],
)
def test_the_split_that_a_record_says_is_believed_before_the_name_of_its_file(
    tmp_path: Path, said: str, split: str
) -> None:
    file = write_records(tmp_path / "test.json", [record(0, split=said, kind=1), record(1)])

    report = convert("llava", file, tmp_path / "store", check="none")

    assert splits(tmp_path / "store") == {"r0": split, "r1": "test"}
    assert report.notes["split_fields"] == {split: 1}
    assert [row.extra for row in mmdata.open(tmp_path / "store")] == [{"kind": 1}, {}]


@pytest.mark.parametrize("given", ["test", {"test": 1.0}])
def test_a_split_that_is_given_is_stronger_than_a_records_own(tmp_path: Path, given: Any) -> None:
    file = write_records(tmp_path / "a.json", [record(0, split="val")])

    report = convert("llava", file, tmp_path / "store", split=given, check="none")

    assert splits(tmp_path / "store") == {"r0": "test"}
    assert mmdata.open(tmp_path / "store")[0].extra == {"split": "val"}
    assert "split_fields" not in report.notes and report.notes["extra"] == {"split": 1}


@pytest.mark.parametrize("word", ["restval", "train,val", "", 1, ["val"]])
def test_a_field_that_names_no_split_stays_what_it_is(tmp_path: Path, word: object) -> None:
    file = write_records(tmp_path / "a.json", [record(0, split=word, of={"split": "val"})])

    convert("llava", file, tmp_path / "store", check="none")

    (row,) = mmdata.open(tmp_path / "store")
    assert row.split == "train" and row.extra == {"split": word, "of": {"split": "val"}}


def test_what_a_folder_declares_of_its_files_goes_before_their_names(tmp_path: Path) -> None:
    write_images(tmp_path, ["ds/images/0.jpg"])
    write_records(tmp_path / "ds" / "eval.json", [record(0, image="images/0.jpg")])
    (tmp_path / "ds" / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - split: train\n    path: eval.json\n---\n"
    )

    convert("llava", tmp_path / "ds", tmp_path / "store")

    assert splits(tmp_path / "store") == {"r0": "train"}


def test_media_are_grouped_by_rows_that_are_kept_for_an_allowed_field(tmp_path: Path) -> None:
    write_images(tmp_path, [f"images/{number}.jpg" for number in range(40)])
    rows = [record(number, image=f"images/{number}.jpg") for number in range(40)]
    together = record(40, image=[f"images/{number}.jpg" for number in range(40)], score=1)
    together["conversations"][0]["value"] = "<image>" * 40 + "What?"
    file = write_records(tmp_path / "rows.json", [*rows, together])

    convert("llava", file, tmp_path / "store", split=SHARES, allow_fields="score")

    assert len(set(splits(tmp_path / "store").values())) == 1


def test_a_format_that_knows_better_is_not_overruled(tmp_path: Path) -> None:
    file = tmp_path / "val.json"
    file.write_text(json.dumps([{"video_name": "v", "question": "Q?", "answer": "A."}]))

    convert("videochatgpt", file, tmp_path / "store", check="none")

    assert mmdata.open(tmp_path / "store")[0].split == "test"

    file.write_text(
        json.dumps([{"video_name": "v", "question": "Q?", "answer": "A.", "split": "val"}])
    )
    convert("videochatgpt", file, tmp_path / "said", check="none")

    (row,) = mmdata.open(tmp_path / "said")
    assert row.split == "test" and row.extra["split"] == "val"


@pytest.mark.parametrize("tree", ["Fight/a_0.avi", "train/Val_Fight/a_0.avi", "Fight/test_0.avi"])
def test_clips_whose_folders_say_no_split_are_rows_where_the_user_says_it(
    tmp_path: Path, tree: str
) -> None:
    write_images(tmp_path / "data", [tree])

    assert convert("rwf2000", tmp_path / "data", tmp_path / "none").rows == 0
    convert("rwf2000", tmp_path / "data", tmp_path / "store", split="val")
    convert("rwf2000", tmp_path / "data", tmp_path / "shares", split={"test": 1.0})

    assert set(splits(tmp_path / "store").values()) == {"val"}
    assert set(splits(tmp_path / "shares").values()) == {"test"}


def test_the_source_may_be_a_class_of_one_split(tmp_path: Path) -> None:
    write_images(tmp_path, ["RWF-2000/val/Fight/train_0.avi"])

    convert("rwf2000", tmp_path / "RWF-2000" / "val" / "Fight", tmp_path / "store")

    assert splits(tmp_path / "store") == {"train_0.avi": "val"}
