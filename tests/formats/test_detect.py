from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from mmdata.conversion import convert
from mmdata.errors import UsageError
from mmdata.formats import Sample, detect, look_into, registry
from mmdata.sources.parquet import sample_groups
from tests.formats.dirt import FORMATS, GOOD, assemble, good
from tests.reference import some
from tests.sources.tables import write_tar


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


@pytest.mark.parametrize("name", ["messages", "llava", "swift", "lavis", "sharegpt"])
def test_fields_of_other_formats_that_are_null_hide_none(tmp_path: Path, name: str) -> None:
    others = ("messages", "conversations", "images", "image", "video", "question", "model", "texts")
    records = [json.loads(good(name, number)) for number in range(3)]

    assert detect([write(tmp_path, [dict.fromkeys(others) | one for one in records])]) == name


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


# --- records from all over a source
# ---------------------------------------------------------------------------------------------


def with_video(number: int) -> dict[str, Any]:
    return GOOD["video178k"](number) | {"id": f"v{number}"}


def with_text(number: int) -> dict[str, Any]:
    turns = [{"from": "human", "value": "Why?"}, {"from": "gpt", "value": "So."}]
    return {"id": f"t{number}", "conversations": turns}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["array", "printed", "lines"])
@pytest.mark.parametrize("place", [0.5, 1.0])
def test_a_source_that_goes_on_in_another_format_is_said_to_be_mixed(
    tmp_path: Path, layout: str, place: float
) -> None:
    records = [GOOD["llava"](number) | {"pad": "x" * 300} for number in range(2000)]
    at = int(place * len(records))
    records[at - 400 : at + 400] = map(GOOD["messages"], range(400))
    text = {
        "array": json.dumps(records),
        "printed": json.dumps(records, indent=1),
        "lines": "\n".join(map(json.dumps, records)),
    }[layout]
    file = tmp_path / "source.json"
    file.write_text(text)

    with pytest.raises(UsageError, match=r"is mixed, made of llava \(.*\) and messages \(.*\)"):
        detect([file])


def test_files_of_two_formats_in_one_folder_are_said_to_be_mixed(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps([GOOD["llava"](0)]))
    (tmp_path / "b.json").write_text(json.dumps([GOOD["swift"](0)]))

    with pytest.raises(UsageError) as caught:
        detect([tmp_path])

    for words in ("llava (1 of 2", "swift (1 of 2", "a.json", "b.json", "2 records", "2 files"):
        assert words in str(caught.value)


def test_a_file_of_coco_beside_files_of_records_is_seen(tmp_path: Path) -> None:
    annotations = [{"id": number, "caption": "words " * 20} for number in range(3000)]
    (tmp_path / "a.json").write_text(json.dumps([GOOD["llava"](0), GOOD["llava"](1)]))
    (tmp_path / "b.json").write_text(json.dumps({"images": [], "annotations": annotations}))

    with pytest.raises(UsageError, match=r"made of llava .* and coco"):
        detect([tmp_path])


@pytest.mark.parametrize(
    ("records", "name"),
    [
        ([GOOD["llava"](0), with_video(1)], "llava"),
        ([GOOD["llava"](0), with_video(1), with_text(2)], "llava"),
        ([with_video(0), with_text(1)], "video178k"),
        ([with_text(0), with_video(1) | {"image": "a.jpg"}], "llava"),
        ([GOOD["llava"](0), with_text(1) | {"images": ["b.jpg"]}], "llava"),
        ([with_text(0), with_text(1) | {"images": ["b.jpg"]}], "sharegpt"),
        ([with_text(0) | {"model": ""}], "llava"),
    ],
)
def test_images_videos_and_text_in_one_file_are_one_formats(
    tmp_path: Path, records: list[dict[str, Any]], name: str
) -> None:
    for order in (records, records[::-1]):
        assert detect([write(tmp_path, order)]) == name


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"coco"}))
def test_a_few_records_of_no_format_do_not_hide_the_format_of_the_others(
    tmp_path: Path, name: str
) -> None:
    records = [GOOD[name](number) for number in range(8)]

    odd = write(tmp_path, [{"license": "MIT"}, *records, {"deleted": True}, 3])

    assert detect([odd]) == name
    # ms-swift asks for its fields among all records together.
    assert name == "swift" or "2 of no format" in look_into([odd]).seen


@pytest.mark.slow
def test_of_many_files_some_are_looked_into_the_last_too_and_that_is_said(tmp_path: Path) -> None:
    for number in range(300):
        (tmp_path / f"{number:03}.json").write_text(json.dumps([GOOD["llava"](number)]))

    found = look_into([tmp_path])
    (tmp_path / "299.json").write_text(json.dumps([GOOD["messages"](0)]))

    assert (found.format, found.seen) == (
        "llava",
        "100 records (head, middle, end) of 100 of 300 files",
    )
    with pytest.raises(UsageError, match="mixed"):
        detect([tmp_path])


def test_a_conversion_says_what_was_seen(tmp_path: Path) -> None:
    file = write(tmp_path, [GOOD["llava"](0)])

    report = convert("auto", file, tmp_path / "store", check="none")

    assert report.notes["detected"] == "llava, by 1 record (head, middle, end) of 1 file"


@pytest.mark.parametrize("empty", [None, "", " ", "[]", [], {}, [None], float("nan")])
def test_a_field_that_says_nothing_is_not_said_in_a_sample(empty: Any) -> None:
    silent, telling = {"image": empty}, {"image": "1.jpg"}

    assert not Sample([], [silent, {}]).some_said("image", "video")
    assert Sample([], [silent, telling]).some_said("video", "image")


@pytest.mark.parametrize(
    ("asks", "answers", "name"),
    [
        ("Human", "GPT", "llava"),
        ("HUMAN", "gpt", "llava"),
        ("User", "Assistant", "sharegpt"),
        ("USER", "assistant", "sharegpt"),
    ],
)
def test_speakers_are_known_in_any_case(tmp_path: Path, asks: str, answers: str, name: str) -> None:
    turns = [{"from": asks, "value": "<image>Why?"}, {"from": answers, "value": "So."}]
    file = write(tmp_path, [{"image": "1.jpg", "conversations": turns}])

    assert detect([file]) == name
    assert convert("auto", file, tmp_path / "store", check="none").rows == 1


# --- why there is none
# ---------------------------------------------------------------------------------------------

CHAT = json.dumps([GOOD["messages"](0) | {"id": "杯"}], ensure_ascii=False)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (CHAT.encode("utf-16"), "UTF-16"),
        (CHAT.encode("gbk"), "not UTF-8"),
        (("// records\n" + CHAT).encode(), "Expecting value.*// records"),
        (CHAT.replace("杯", "\\u0000").encode(), "a NUL"),
        (CHAT.replace('"杯"', "Infinity").encode(), "Infinity is not JSON"),
        (CHAT.replace('"id"', '"id": 1, "id"').encode(), "the key 'id' stands twice"),
    ],
)
def test_where_no_record_can_be_read_auto_says_what_is_wrong_with_the_first(
    tmp_path: Path, data: bytes, why: str
) -> None:
    file = tmp_path / "source.json"
    file.write_bytes(data)

    with pytest.raises(UsageError, match=rf"no record of {file} can be read: .*{why}") as caught:
        detect([file])

    assert "is none of" not in str(caught.value)


def test_where_one_format_comes_near_auto_quotes_what_it_has_against_the_records(
    tmp_path: Path,
) -> None:
    file = write(tmp_path, [{"caption": "A cup.", "key": str(number)} for number in range(3)])

    with pytest.raises(UsageError, match=r"lavis comes nearest.*found none or several") as caught:
        detect([file])

    assert "[media_mismatch]" in str(caught.value)


@pytest.mark.slow
def test_of_a_table_the_row_groups_at_the_head_the_middle_and_the_end_are_looked_at(
    tmp_path: Path,
) -> None:
    schema = pa.Table.from_pylist(
        [GOOD["messages"](0) | {"question": "", "image": "", "answer": ""}]
    )
    chats = [GOOD["messages"](number) for number in range(100)]
    others = [{"question": "Why?", "image": "1.jpg", "answer": "So."}] * 50
    table = pa.Table.from_pylist([*chats, *others], schema.schema)
    pq.write_table(table, tmp_path / "source.parquet", row_group_size=25)

    with pytest.raises(UsageError, match="is mixed, made of"):
        detect([tmp_path / "source.parquet"])
    assert [len(rows) for rows in sample_groups(tmp_path / "source.parquet", 10)] == [10, 10, 10]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csv", "arrow"])
@pytest.mark.parametrize("place", [50, 99])
def test_of_a_table_that_is_not_large_all_places_are_looked_at(
    tmp_path: Path, kind: str, place: int
) -> None:
    turns = json.dumps(GOOD["messages"](0)["messages"])
    rows: list[dict[str, str | None]] = [{"messages": turns, "image": None, "caption": None}] * 100
    rows[place - 9 : place + 1] = [{"messages": None, "image": "1.jpg", "caption": "A cup."}] * 10
    file, table = tmp_path / f"source.{kind}", pa.Table.from_pylist(rows)
    if kind == "csv":
        pa_csv.write_csv(table, file)
    else:
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    with pytest.raises(UsageError, match=r"is mixed, made of messages .* and lavis"):
        detect([file])


def test_of_many_shards_the_head_of_each_is_looked_at(tmp_path: Path) -> None:
    for number in range(3):
        record = GOOD["llava" if number < 2 else "messages"](0)
        write_tar(tmp_path / f"{number}.tar", [{"0.json": json.dumps(record).encode()}])

    with pytest.raises(UsageError, match=r"is mixed, made of llava .* and messages .*2\.tar"):
        detect([tmp_path])
