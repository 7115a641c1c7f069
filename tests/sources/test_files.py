"""Which files a source is: by their bytes, their suffix, and by what a folder says of itself."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import datasets
import pytest

import mmdata
from mmdata.errors import UsageError
from mmdata.formats import make
from mmdata.sources.files import Sources, expand_names, find_files
from mmdata.sources.hub import split_of
from mmdata.sources.kinds import kind_of
from tests.sources.tables import KIND_OF, SUFFIX, chat, picture, write, write_lines, write_tar

RECORDS = [chat(number) for number in range(6)]


def names(folder: Path, *sources: Path) -> list[tuple[str, str | None]]:
    """Return the files of sources below a folder, each with its split."""
    return [
        (file.path.relative_to(folder).as_posix(), file.split)
        for file in find_files(sources or [folder])
    ]


def test_sources_list_their_files_once_for_each_set_of_kinds(tmp_path: Path) -> None:
    first = write(tmp_path / "first.json", "json", RECORDS)
    sources = Sources([tmp_path])

    assert [file.path for file in find_files(sources)] == [first]
    late = write(tmp_path / "late.json", "json", RECORDS)
    assert [file.path for file in find_files(sources)] == [first]
    assert [file.path for file in find_files(sources, {"json"})] == [first, late]
    assert sources == (tmp_path,)


@pytest.mark.parametrize("kind", SUFFIX)
def test_the_first_bytes_say_what_a_file_without_suffix_is(kind: str, tmp_path: Path) -> None:
    written = write(tmp_path / f"source{SUFFIX[kind]}", kind, RECORDS)

    assert kind_of(written) == KIND_OF[kind]
    bare = written.rename(tmp_path / "source")
    assert kind_of(bare) == ("json" if kind == "csv" else KIND_OF[kind])


def test_a_suffix_that_says_something_else_is_refused(tmp_path: Path) -> None:
    written = write(tmp_path / "source.parquet", "parquet", RECORDS)

    for suffix, found in ((".json", "JSON"), (".tar", "a tar archive"), (".csv", "CSV")):
        with pytest.raises(UsageError, match=rf"source{suffix} is .*Parquet.*, not {found}"):
            kind_of(written.rename(tmp_path / f"source{suffix}"))
        written = tmp_path / f"source{suffix}"


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".tar", ".csv", ".json", ""])
def test_a_pointer_of_git_lfs_is_named_with_what_fetches_the_file(
    suffix: str, tmp_path: Path
) -> None:
    pointer = tmp_path / f"train{suffix}"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")

    with pytest.raises(UsageError, match=r"Git LFS pointer.*git lfs pull"):
        mmdata.convert("messages", pointer, tmp_path / "store")


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".tar"])
def test_a_pointer_in_a_folder_costs_one_reject_that_says_so(suffix: str, tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    folder.mkdir()
    pointer = folder / f"train{suffix}"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")

    report = mmdata.convert("messages", folder, tmp_path / "store")

    assert report.rejects == {"bad_source": 1}
    assert "git lfs pull" in str(report.why_empty)


def test_auto_says_why_a_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", "parquet", RECORDS)
    write_lines(tmp_path / "b.jsonl", RECORDS)

    with pytest.raises(UsageError, match="files of several kinds"):
        mmdata.formats.detect([tmp_path])


def test_a_folder_has_the_files_of_one_kind_at_any_depth(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("b/train-0.parquet", "a/test-0.parquet", "c.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, "parquet", RECORDS)
    (tmp_path / "dataset_infos.json").write_text("{}")
    write_tar(tmp_path / "pictures.tar", [{"a.jpg": b"1"}])
    write(tmp_path / "about.csv", "csv", [{"name": "a"}])

    with caplog.at_level(logging.WARNING, "mmdata"):
        found = names(tmp_path)

    assert found == [
        ("a/test-0.parquet", None),
        ("b/train-0.parquet", None),
        ("c.parquet", None),
    ]
    assert "1 CSV files beside those of records are not read" in caplog.text
    write_lines(tmp_path / "more.jsonl", RECORDS)
    with pytest.raises(UsageError, match=r"several kinds \(1 json, 3 parquet\)"):
        names(tmp_path)


@pytest.mark.parametrize(
    "hidden",
    [".ipynb_checkpoints/a.jsonl", "__MACOSX/a.jsonl", "b/._a.jsonl", ".a.jsonl", "b/.c/d/a.jsonl"],
)
def test_what_is_hidden_in_a_folder_is_no_source_unless_it_is_named(
    hidden: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a.jsonl", hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_lines(tmp_path / name, RECORDS)

    with caplog.at_level(logging.WARNING, "mmdata"):
        assert names(tmp_path) == [("a.jsonl", None)]

    assert f"1 files that are hidden are not read (the first is {hidden})" in caplog.text
    assert names(tmp_path, tmp_path / hidden) == [(hidden, None)]


def test_a_hidden_folder_that_is_named_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    write_lines(tmp_path / ".cache" / "a.jsonl", RECORDS)

    assert names(tmp_path, tmp_path / ".cache") == [(".cache/a.jsonl", None)]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("training", "train"),
        ("my_validation", "val"),
        ("dev", "val"),
        ("test_sft", "test"),
        ("constraint", None),
        ("train_test", None),
        ("latest", None),
    ],
)
def test_a_split_is_a_word_of_a_name(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_braces_stand_for_ranges_and_choices_unless_a_file_is_called_so(tmp_path: Path) -> None:
    def expanded(name: str) -> list[str]:
        return [path.name for path in expand_names(tmp_path / name)]

    assert expanded("s-{08..11}.tar") == ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]
    assert expanded("{a,b}-{1..2}") == ["a-1", "a-2", "b-1", "b-2"]
    assert expanded("{a}.tar") == ["{a}.tar"]
    (tmp_path / "{1..2}.tar").touch()
    assert expanded("{1..2}.tar") == ["{1..2}.tar"]


def test_wildcards_stand_for_what_is_called_so_unless_a_file_is_called_by_them(
    tmp_path: Path,
) -> None:
    for name in ("a/s-10.tar", "a/s-9.tar", "b/s-1.tar", "b/c/s-2.tar", "b/t"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    def expanded(name: str) -> list[str]:
        return [path.relative_to(tmp_path).as_posix() for path in expand_names(tmp_path / name)]

    assert expanded("a/*.tar") == ["a/s-10.tar", "a/s-9.tar"]
    assert expanded("?/s-[12]*") == ["a/s-10.tar", "b/s-1.tar"]
    assert expanded("b/**/*.tar") == ["b/c/s-2.tar", "b/s-1.tar"]
    assert expanded("{b,a}/s-?.tar") == ["b/s-1.tar", "a/s-9.tar"]
    assert expanded("c/*.tar") == ["c/*.tar"]
    (tmp_path / "b/[t]").touch()
    assert expanded("b/[t]") == ["b/[t]"]


# --- what `datasets` saved


def test_a_saved_data_set_gives_the_rows_that_its_records_give(tmp_path: Path) -> None:
    features = datasets.Features(
        {
            "id": datasets.Value("string"),
            "messages": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
            "images": datasets.Sequence(datasets.Image()),
        }
    )
    part = {
        split: datasets.Dataset.from_list(records, features=features)
        for split, records in (("train", RECORDS[:4]), ("validation", RECORDS[4:]))
    }
    datasets.DatasetDict(part).save_to_disk(
        tmp_path / "saved", num_shards={"train": 2, "validation": 1}
    )

    report = mmdata.convert("auto", tmp_path / "saved", tmp_path / "store")
    alone = mmdata.convert("auto", tmp_path / "saved" / "validation", tmp_path / "alone")

    assert (report.rows, report.rejects, alone.rows) == (6, {}, 2)
    rows = list(mmdata.open(tmp_path / "store"))
    assert [(row.id, row.split) for row in rows] == [
        (record["id"], "train" if number < 4 else "val") for number, record in enumerate(RECORDS)
    ]
    assert [row.media[0].bytes for row in rows] == [picture(number) for number in range(6)]
    assert [row.split for row in mmdata.open(tmp_path / "alone")] == ["val", "val"]


def test_the_order_of_saved_files_is_the_one_that_is_written_down(tmp_path: Path) -> None:
    for number, name in enumerate(("data-b.arrow", "data-a.arrow")):
        write(tmp_path / name, "arrow stream", [RECORDS[number]])
    (tmp_path / "dataset_info.json").write_text("{}")
    state = {"_data_files": [{"filename": "data-b.arrow"}, {"filename": "data-a.arrow"}]}
    (tmp_path / "state.json").write_text(json.dumps(state))

    assert names(tmp_path) == [("data-b.arrow", None), ("data-a.arrow", None)]
    (tmp_path / "data-a.arrow").unlink()
    with pytest.raises(UsageError, match=r"state\.json: names .*data-a\.arrow, which is not there"):
        names(tmp_path)


# --- a clone of the Hub


def clone(folder: Path, header: str) -> Path:
    """Write a clone with three files and a README that begins with a header of YAML."""
    for name in ("data/part1.parquet", "data/part2.parquet", "other/held_out.parquet"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write(folder / name, "parquet", RECORDS)
    (folder / "README.md").write_text(f"---\n{header}\n---\n# Pictures\n")
    return folder


@pytest.mark.parametrize(
    "files",
    [
        "[{split: train, path: 'data/*.parquet'}, {split: test, path: other/held_out.parquet}]",
        "{train: ['data/part1.parquet', 'data/part2.parquet'], test: 'other/*'}",
    ],
)
def test_the_readme_of_a_clone_says_which_files_are_which_split(files: str, tmp_path: Path) -> None:
    clone(tmp_path, f"license: mit\nconfigs: [{{config_name: default, data_files: {files}}}]")

    assert names(tmp_path) == [
        ("data/part1.parquet", "train"),
        ("data/part2.parquet", "train"),
        ("other/held_out.parquet", "test"),
    ]


def test_hidden_files_are_data_only_where_the_readme_says_so(tmp_path: Path) -> None:
    clone(tmp_path, "configs: [{data_files: '**/*.parquet'}]")
    for name in (".cache/old.parquet", "data/.part3.parquet", "__pycache__/x.parquet"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, "parquet", RECORDS)

    assert {name for name, _ in names(tmp_path)} == {
        "data/part1.parquet", "data/part2.parquet", "other/held_out.parquet",
    }  # fmt: skip
    clone(tmp_path, "configs: [{data_files: '.cache/*'}]")
    assert names(tmp_path) == [(".cache/old.parquet", None)]


def test_of_several_configurations_the_default_one_is_read_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configs = (
        "configs: [{config_name: a, data_files: data/*}, {config_name: b, data_files: other/*%s}]"
    )
    clone(tmp_path, configs % ", default: true")

    with caplog.at_level(logging.WARNING, "mmdata"):
        assert names(tmp_path) == [("other/held_out.parquet", None)]
    assert "b is read, not a" in caplog.text

    clone(tmp_path, configs % "")
    with pytest.raises(UsageError, match=r"holds 2 data sets \(a, b\)"):
        names(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("configs: [{data_files: none/*}]", "no file is called 'none/.'; was it fetched"),
        ("configs: [{data_files: ../x}]", "not a file of this folder"),
        ("configs: [{data_files: 'hf://x/y'}]", "is a URL"),
        ("configs: 3", "must be a list"),
        ("configs: [", "YAML cannot be read"),
    ],
)
def test_a_readme_that_cannot_be_followed_is_refused(
    header: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        names(clone(tmp_path, header))


@pytest.mark.parametrize("header", ["license: mit", ""])
def test_a_readme_that_says_nothing_of_files_changes_nothing(header: str, tmp_path: Path) -> None:
    assert len(names(clone(tmp_path, header))) == 3


def test_a_format_of_one_object_reads_json_alone(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", "parquet", RECORDS)

    with pytest.raises(UsageError, match="is parquet, and this format reads json alone"):
        make("coco").files([tmp_path / "a.parquet"])
