from __future__ import annotations

import errno
import gc
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from PIL import Image as Image_

import mmdata
from mmdata.conversion import Check
from mmdata.errors import DataError, RecordError, UsageError
from mmdata.formats import Format, Record
from mmdata.formats._format import undeclared
from mmdata.formats.llava import Llava
from mmdata.formats.toolkit import RecordSource
from mmdata.schema import Conversation, Image, Text, replace
from tests.source_files import record, source, write_images, write_records


def rejects(store: Path) -> list[tuple[int, str, str]]:
    return [(line["record"], line["id"], line["reason"]) for line in mmdata.open(store).rejects()]


def test_a_source_becomes_a_store_with_an_account(tmp_path: Path) -> None:
    report = mmdata.convert("llava", source(tmp_path, 5), tmp_path / "store")

    assert (report.records_in, report.rows, report.rejects) == (5, 5, {})
    store = mmdata.open(tmp_path / "store")
    assert [row.id for row in store] == [f"r{n}" for n in range(5)]
    assert store[3].messages[0].content == (Image(0), Text("What is 3?"))
    assert store[3].media[0].path == "images/3.jpg"
    assert store.locate(store[3].media[0]) == str(tmp_path / "images" / "3.jpg")


def test_the_manifest_says_where_a_store_came_from(tmp_path: Path) -> None:
    mmdata.convert("llava", source(tmp_path, 2), tmp_path / "store")

    manifest = mmdata.open(tmp_path / "store").manifest
    assert manifest.format == "llava"
    assert manifest.media_root == str(tmp_path)
    (file,) = manifest.files
    assert file.path == str(tmp_path / "source.json")
    assert file.bytes == (tmp_path / "source.json").stat().st_size
    assert manifest.splits == {"train": 2}


@pytest.mark.parametrize("enabled", [True, False])
def test_the_cycle_collector_is_as_it_was_after_a_conversion(tmp_path: Path, enabled: bool) -> None:
    path = source(tmp_path, 2)
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        mmdata.convert("llava", path, tmp_path / "store")
        assert gc.isenabled() == enabled
        with pytest.raises(UsageError):
            mmdata.convert("llava", path, tmp_path / "store")
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("check", ["none", "exists", "probe"])
def test_the_manifest_notes_how_media_were_looked_at_and_how_many_ids_were_numbered(
    tmp_path: Path, check: Check
) -> None:
    Image_.new("RGB", (8, 8)).save(tmp_path / "a.png")
    path = write_records(
        tmp_path / "a.json", [{**record(n, image="a.png"), "id": "x"} for n in range(3)]
    )

    mmdata.convert("llava", path, tmp_path / "store", check=check)

    assert mmdata.open(tmp_path / "store").manifest.notes == {
        "check": check,
        "renamed_ids": 2,
        "extra": {"id": 2},
    }


def test_records_whose_media_are_missing_or_empty_are_rejects(tmp_path: Path) -> None:
    path = source(tmp_path, 4)
    (tmp_path / "images" / "1.jpg").unlink()
    (tmp_path / "images" / "2.jpg").write_bytes(b"")

    report = mmdata.convert("llava", path, tmp_path / "store")

    assert report.rejects == {"empty_media": 1, "missing_media": 1}
    assert rejects(tmp_path / "store") == [(1, "r1", "missing_media"), (2, "r2", "empty_media")]
    assert [row.id for row in mmdata.open(tmp_path / "store")] == ["r0", "r3"]


def test_without_a_check_media_need_not_be_there(tmp_path: Path) -> None:
    path = write_records(tmp_path / "source.json", [record(0)])

    assert mmdata.convert("llava", path, tmp_path / "store", check="none").rows == 1


@pytest.mark.parametrize(
    "name",
    ["../outside.jpg", "/etc/hostname", "images/../../outside.jpg", "./images/../../outside.jpg"],
)
@pytest.mark.parametrize("check", ["none", "exists"])
def test_a_path_that_leaves_the_media_root_is_a_reject_unless_allowed(
    tmp_path: Path, name: str, check: Check
) -> None:
    write_images(tmp_path, ["outside.jpg"])
    path = write_records(tmp_path / "data" / "source.json", [record(0, image=name)])

    report = mmdata.convert("llava", path, tmp_path / "store", check=check)
    assert report.rejects == {"outside_media_root": 1}

    report = mmdata.convert("llava", path, tmp_path / "allowed", check=check, allow_outside=True)
    assert report.rows == 1
    assert Path(mmdata.open(tmp_path / "allowed").located(0).media[0].path or "").is_absolute()


def test_an_absolute_path_inside_the_media_root_becomes_relative(tmp_path: Path) -> None:
    write_images(tmp_path, ["images/0.jpg"])
    path = write_records(
        tmp_path / "source.json", [record(0, image=str(tmp_path / "images" / "0.jpg"))]
    )

    mmdata.convert("llava", path, tmp_path / "store")

    assert mmdata.open(tmp_path / "store")[0].media[0].path == "images/0.jpg"


@pytest.mark.slow
@pytest.mark.parametrize(
    "url", ["https://host.invalid/a.jpg", "s3://bucket/a.jpg", "hf://datasets/a/b.jpg"]
)
@pytest.mark.parametrize(
    ("check", "embed"),
    [("none", True), ("exists", False), ("probe", False), ("decode", False), ("decode", True)],
)
def test_what_is_behind_a_url_is_refused_where_it_would_have_to_be_seen(
    tmp_path: Path, url: str, check: Check, embed: bool
) -> None:
    write_images(tmp_path, ["images/1.jpg"])
    Image_.new("RGB", (8, 8)).save(tmp_path / "images" / "1.jpg")
    path = write_records(tmp_path / "source.json", [record(0, image=url), record(1)])

    report = mmdata.convert("llava", path, tmp_path / "store", check=check, embed=embed)

    assert (report.rows, report.rejects) == (1, {"remote_media": 1})
    (line,) = mmdata.open(tmp_path / "store").rejects()
    assert url in line["detail"]
    assert "--check none" in line["detail"]


def test_without_a_check_urls_are_kept_by_name_and_never_fetched(tmp_path: Path) -> None:
    path = write_records(tmp_path / "source.json", [record(0, image="https://host.invalid/a.jpg")])

    mmdata.convert("llava", path, tmp_path / "store", check="none")

    assert mmdata.open(tmp_path / "store")[0].media[0].path == "https://host.invalid/a.jpg"


def test_a_file_url_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"x")
    turns = [
        {"role": "user", "content": "<image>What?"},
        {"role": "assistant", "content": "A cup."},
    ]
    (tmp_path / "a.json").write_text(
        json.dumps([{"messages": turns, "images": [f"file://{tmp_path}/a.jpg"]}])
    )

    mmdata.convert("messages", tmp_path / "a.json", tmp_path / "store")

    assert mmdata.open(tmp_path / "store")[0].media[0].path == "a.jpg"


def test_what_cannot_be_written_costs_its_record_alone(tmp_path: Path) -> None:
    class Odd(Llava):
        def conversation(self, record: Record) -> Conversation:
            said = super().conversation(record)
            return replace(said, extra={"odd": {1, 2}}) if record.number == 1 else said

    report = mmdata.convert(Odd(), source(tmp_path, 3), tmp_path / "store")

    assert (report.rows, report.rejects) == (2, {"malformed": 1})


def test_a_file_that_appears_while_a_folder_is_converted_is_in_no_part_of_it(
    tmp_path: Path,
) -> None:
    class Late(Llava):
        def media_root(self, sources: Sequence[Path]) -> Path:
            found = super().media_root(sources)
            write_records(tmp_path / "late.json", [record(2)])
            return found

    source(tmp_path, 2)

    report = mmdata.convert(Late(), tmp_path, tmp_path / "store")

    assert report.records_in == 2
    files = mmdata.open(tmp_path / "store").manifest.files
    assert [file.path for file in files] == [str(tmp_path / "source.json")]


def test_a_format_that_does_not_declare_its_contract_is_told_what_is_missing(
    tmp_path: Path,
) -> None:
    class Half:
        summary = "Half of a format"
        dataset_name = "half"

    with pytest.raises(
        UsageError, match=r"format must be .*a Format.* lacks .*recognises, .*candidates"
    ):
        mmdata.convert(cast(Format, Half()), source(tmp_path, 1), tmp_path / "store")


def test_what_a_format_does_not_say_has_a_default_in_the_contract() -> None:
    assert undeclared(Format) == ["shape", "summary"]
    assert undeclared(RecordSource) == ["shape", "summary"]
    assert (Format.splits_by_name, RecordSource.splits_by_name) == (False, True)
    assert Llava().without_splits() == Llava()


def test_the_same_files_under_another_media_root(tmp_path: Path) -> None:
    write_images(tmp_path / "elsewhere", ["images/0.jpg"])
    path = write_records(tmp_path / "source.json", [record(0)])

    report = mmdata.convert("llava", path, tmp_path / "store", media_root=tmp_path / "elsewhere")

    assert report.rows == 1


def test_a_repeated_id_gets_a_number_and_keeps_its_own_in_extra(tmp_path: Path) -> None:
    write_images(tmp_path, [f"images/{n}.jpg" for n in range(4)])
    records = [record(0, id="x"), record(1, id="x"), record(2, id="x#2"), record(3, id="x")]
    path = write_records(tmp_path / "source.json", records)

    report = mmdata.convert("llava", path, tmp_path / "store")

    assert report.renamed_ids == 3
    assert [row.id for row in mmdata.open(tmp_path / "store")] == ["x", "x#2", "x#2#2", "x#3"]
    assert mmdata.open(tmp_path / "store")[3].extra["id"] == "x"


@pytest.mark.parametrize(
    "question", ["<image>\nWhat?", "What is <image> here?"], ids=["plain", "read one by one"]
)
def test_every_row_whose_id_was_taken_keeps_its_own_in_extra(tmp_path: Path, question: str) -> None:
    turns = [
        [{"from": "human", "value": question}, {"from": "gpt", "value": f"It is {n}."}]
        for n in range(4)
    ]
    records = [record(n, id="x", views=n, conversations=turns[n]) for n in range(4)]

    mmdata.convert(
        "llava", write_records(tmp_path / "source.json", records), tmp_path / "store", check="none"
    )

    rows = list(mmdata.open(tmp_path / "store"))
    assert [row.id for row in rows] == ["x", "x#2", "x#3", "x#4"]
    assert [row.extra for row in rows] == [
        {"views": 0},
        *({"id": "x", "views": n} for n in (1, 2, 3)),
    ]


def test_a_record_that_repeats_id_and_content_is_a_reject(tmp_path: Path) -> None:
    write_images(tmp_path, ["images/0.jpg", "images/1.jpg"])
    path = write_records(tmp_path / "source.json", [record(0), record(1), record(0)])

    mmdata.convert("llava", path, tmp_path / "store")

    assert rejects(tmp_path / "store") == [(2, "r0", "duplicate_id")]


def test_a_record_that_repeats_a_numbered_one_is_a_reject_too(tmp_path: Path) -> None:
    first, second = record(0), {**record(0), "conversations": record(1)["conversations"]}
    file = write_records(tmp_path / "a.json", [first, second, second, first])
    report = mmdata.convert("llava", file, tmp_path / "store", check="none")

    assert (report.rows, report.rejects, report.renamed_ids) == (2, {"duplicate_id": 2}, 1)


def test_what_we_wrote_below_a_source_is_none_of_it(tmp_path: Path) -> None:
    good, bad = (
        [record(number) for number in range(3)],
        [{"id": f"b{number}"} for number in range(3000)],
    )
    write_records(tmp_path / "a.json", good + bad)

    for name in ("one", "two"):
        report = mmdata.convert("llava", tmp_path, tmp_path / "stores" / name, check="none")

        assert (report.rows, report.records_in) == (3, 3003)


@pytest.mark.parametrize("name", ["manifest.json", "rejects.jsonl"])
def test_a_folder_with_a_file_that_stores_have_too_is_no_store(tmp_path: Path, name: str) -> None:
    (tmp_path / "source" / "part").mkdir(parents=True)
    for file, number in (("a.json", 0), (name, 1)):
        (tmp_path / "source" / "part" / file).write_text(json.dumps([record(number)]))

    assert mmdata.convert("llava", tmp_path / "source", tmp_path / "store", check="none").rows == 2


def test_linked_folders_and_capital_suffixes_are_sources(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "loop").symlink_to(tmp_path / "source")
    (tmp_path / "source" / "itself").symlink_to("itself")
    for number, file in enumerate(("elsewhere/a.json", "source/B.JSON")):
        (tmp_path / file).write_text(json.dumps([record(number)]))

    assert mmdata.convert("llava", tmp_path / "source", tmp_path / "store", check="none").rows == 2


def test_a_number_beyond_what_can_be_kept_costs_its_record(tmp_path: Path) -> None:
    text = json.dumps([record(0), {**record(1), "score": "?"}]).replace('"?"', "1e999")
    (tmp_path / "a.json").write_text(text)
    report = mmdata.convert("llava", tmp_path / "a.json", tmp_path / "store", check="none")

    assert (report.rows, report.rejects) == (1, {"bad_json": 1})


def test_folders_and_files_whose_names_are_not_utf_8_have_stores_that_open(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"n\xb2")
    folder.mkdir()
    unnamed = {key: value for key, value in record(0).items() if key != "id"}
    (folder / os.fsdecode(b"\xb2\xe2.json")).write_text(json.dumps([unnamed]))
    mmdata.convert("llava", folder, tmp_path / "store", check="none")

    store = mmdata.open(tmp_path / "store")
    assert store[0].id == r"\xb2\xe2:0"
    assert store.manifest.media_root == str(folder)


def test_a_source_may_be_named_from_below(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bucket" / "below").mkdir(parents=True)
    (tmp_path / "bucket" / "a.mp4").write_bytes(b"a clip")
    monkeypatch.chdir(tmp_path / "bucket" / "below")
    turns = record(0)["conversations"]
    Path("../cap.json").write_text(
        json.dumps([{"id": "1", "video": "a.mp4", "conversations": turns}])
    )

    assert mmdata.convert("video178k", "../cap.json", tmp_path / "store").rows == 1


def test_a_place_that_is_taken_is_refused_before_any_source_is_read(tmp_path: Path) -> None:
    class Slow(Llava):
        def files(self, sources: Sequence[Path]) -> list[Path]:
            raise AssertionError("to hash the sources may take hours")

    mmdata.convert("llava", source(tmp_path, 1), tmp_path / "store")

    with pytest.raises(UsageError, match="--overwrite"):
        mmdata.convert(Slow(), tmp_path / "source.json", tmp_path / "store")


def test_a_link_to_nothing_is_no_place_for_a_store(tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to(tmp_path / "nowhere")

    with pytest.raises(UsageError, match="link to nothing"):
        mmdata.convert("llava", source(tmp_path, 1), tmp_path / "store")


def test_repeated_ids_are_rejects_when_that_is_asked_for(tmp_path: Path) -> None:
    write_images(tmp_path, ["images/0.jpg", "images/1.jpg"])
    path = write_records(tmp_path / "source.json", [record(0, id="x"), record(1, id="x")])

    report = mmdata.convert("llava", path, tmp_path / "store", duplicate_ids="reject")

    assert report.rejects == {"duplicate_id": 1}


def test_media_can_be_embedded(tmp_path: Path) -> None:
    mmdata.convert("llava", source(tmp_path, 2), tmp_path / "store", embed=True)

    assert (
        mmdata.open(tmp_path / "store")[1].media[0].bytes
        == (tmp_path / "images" / "1.jpg").read_bytes()
    )


@pytest.mark.slow
@pytest.mark.parametrize("missing", [set(), {0}, {1, 2}, {3}, {0, 1, 2, 3, 4, 5}])
@pytest.mark.parametrize("limit", [1, 3, 4, 8])
@pytest.mark.parametrize("check", ["exists", "probe"])
def test_a_limit_counts_rejects(
    tmp_path: Path, missing: set[int], limit: int, check: Check
) -> None:
    broken = {**record(7), "conversations": "none"}
    path = write_records(
        tmp_path / "source.json", [*(record(n) for n in range(7)), broken, record(8)]
    )
    (tmp_path / "images").mkdir()
    for number in {*range(9)} - missing:
        Image_.new("RGB", (8, 8)).save(tmp_path / "images" / f"{number}.jpg")

    report = mmdata.convert("llava", path, tmp_path / "store", limit=limit, check=check)

    rejected = len(missing & {*range(limit)}) + (limit > 7)
    assert (report.records_in, report.rows) == (limit, limit - rejected)


@pytest.mark.parametrize("records", [1, 2, 4096])
def test_a_limit_counts_what_cannot_even_be_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    """However many records a batch has: a limit may end in one, or many batches on."""
    monkeypatch.setattr("mmdata.conversion.steps.BATCH_RECORDS", records)
    lines = [
        json.dumps(record(0)),
        '{"id": nope}',
        "]",
        json.dumps(record(3)),
        json.dumps(record(4)),
    ]
    (tmp_path / "source.jsonl").write_text("\n".join(lines))

    for limit in range(1, 6):
        report = mmdata.convert(
            "llava",
            tmp_path / "source.jsonl",
            tmp_path / "store",
            limit=limit,
            check="none",
            overwrite=True,
        )
        assert report.records_in == limit


def test_a_limit_reads_only_so_many_records(tmp_path: Path) -> None:
    report = mmdata.convert("llava", source(tmp_path, 9), tmp_path / "store", limit=4)

    assert report.records_in == 4


def test_strict_stops_at_the_first_reject_and_writes_nothing(tmp_path: Path) -> None:
    path = write_records(tmp_path / "source.json", [record(0)])

    with pytest.raises(RecordError, match=r"source\.json, record 0, id 'r0'.*missing_media"):
        mmdata.convert("llava", path, tmp_path / "store", strict=True)
    assert not (tmp_path / "store").exists()


def test_a_split_can_be_given_to_every_row(tmp_path: Path) -> None:
    mmdata.convert("llava", source(tmp_path, 2), tmp_path / "store", split="val")

    assert mmdata.open(tmp_path / "store").manifest.splits == {"val": 2}


def test_parquet_stores_hold_the_same_rows(tmp_path: Path) -> None:
    path = source(tmp_path, 7)
    mmdata.convert("llava", path, tmp_path / "arrow")
    mmdata.convert("llava", path, tmp_path / "parquet", parquet=True)

    assert list(mmdata.open(tmp_path / "arrow")) == list(mmdata.open(tmp_path / "parquet"))


def test_two_conversions_of_one_source_write_the_same_bytes(tmp_path: Path) -> None:
    path = source(tmp_path, 600)
    stores = [tmp_path / "one", tmp_path / "two"]
    for store in stores:
        mmdata.convert("llava", path, store)

    first, second = ((store / "data-00000.arrow").read_bytes() for store in stores)
    assert first == second


def test_wrong_calls_say_what_is_wrong(tmp_path: Path) -> None:
    path = source(tmp_path, 1)

    with pytest.raises(UsageError, match=r"nowhere\.json"):
        mmdata.convert("llava", tmp_path / "nowhere.json", tmp_path / "store")
    with pytest.raises(UsageError, match=r"'lava'.*Did you mean 'llava'"):
        mmdata.convert("lava", path, tmp_path / "store")
    with pytest.raises(UsageError, match=r"'exist'.*Did you mean 'exists'"):
        mmdata.convert("llava", path, tmp_path / "store", check="exist")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no source"):
        mmdata.convert("llava", [], tmp_path / "store")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: no record was found"):
        mmdata.convert("rwf2000", tmp_path / "empty", tmp_path / "store")
    assert not (tmp_path / "store").exists()


def test_a_symlink_loop_is_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "0.jpg").symlink_to("0.jpg")
    path = write_records(tmp_path / "source.json", [record(0)])

    assert mmdata.convert("llava", path, tmp_path / "store").rejects == {"missing_media": 1}


@pytest.mark.parametrize(
    "name",
    [
        "a b.jpg",
        "it's.jpg",
        'say "hi".jpg',
        "图片.jpg",
        "😀.jpg",
        "new\nline.jpg",
        "#1.jpg",
        "100%.jpg",
        "-o.jpg",
    ],
)
def test_odd_names_are_found_and_kept(tmp_path: Path, name: str) -> None:
    write_images(tmp_path, [name])
    path = write_records(tmp_path / "source.json", [record(0, image=name)])

    mmdata.convert("llava", path, tmp_path / "store")

    assert mmdata.open(tmp_path / "store")[0].media[0].path == name


def test_names_that_differ_only_in_case_stay_apart(tmp_path: Path) -> None:
    write_images(tmp_path, ["A.jpg", "a.jpg"])
    path = write_records(
        tmp_path / "source.json", [record(0, image="A.jpg"), record(1, image="a.jpg")]
    )

    mmdata.convert("llava", path, tmp_path / "store")

    assert [row.media[0].path for row in mmdata.open(tmp_path / "store")] == ["A.jpg", "a.jpg"]


def test_a_name_no_file_system_holds_is_a_missing_file(tmp_path: Path) -> None:
    path = write_records(tmp_path / "source.json", [record(0, image="x" * 300 + ".jpg")])

    assert mmdata.convert("llava", path, tmp_path / "store").rejects == {"missing_media": 1}


def test_a_full_disk_leaves_the_old_store_and_nothing_else(tmp_path: Path) -> None:
    mmdata.convert("llava", source(tmp_path, 3), tmp_path / "store")
    before = sorted(tmp_path.iterdir())
    large = write_records(
        tmp_path / "source.json",
        [record(n, image=None, conversations=long_turns()) for n in range(3000)],
    )

    with small_files(1 << 20), pytest.raises(OSError) as caught:
        mmdata.convert("llava", large, tmp_path / "store", overwrite=True)

    assert caught.value.errno in (errno.EFBIG, errno.ENOSPC)
    assert len(mmdata.open(tmp_path / "store")) == 3
    assert sorted(tmp_path.iterdir()) == before


def long_turns() -> list[dict[str, str]]:
    return [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a" * 1000}]


class small_files:  # noqa: N801
    """No file may grow beyond so many bytes: what a full disk looks like to a writer."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __enter__(self) -> None:
        import resource
        import signal

        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.limits[1]))

    def __exit__(self, *_: object) -> None:
        import resource
        import signal

        resource.setrlimit(resource.RLIMIT_FSIZE, self.limits)
        signal.signal(signal.SIGXFSZ, self.handler)


def test_the_account_is_also_written_for_programs(tmp_path: Path) -> None:
    path = write_records(tmp_path / "source.json", [record(0)])
    mmdata.convert("llava", path, tmp_path / "store")

    lines = (tmp_path / "store" / "rejects.jsonl").read_text().splitlines()
    (line,) = map(json.loads, lines)
    assert set(line) == {"record", "file", "id", "reason", "detail"}
    assert "images/0.jpg" in line["detail"]
