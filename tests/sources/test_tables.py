"""Records come out of tables and tars as they come out of JSON, and what is damaged is accounted
for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mmdata
from mmdata.conversion import ConvertReport
from mmdata.errors import RecordError
from mmdata.formats import make
from mmdata.formats.messages import Messages
from mmdata.schema import Conversation, Image, Message, Text
from mmdata.sources.parquet import parquet_runs
from mmdata.sources.record import Record
from mmdata.testing import check_format
from tests.sources.tables import SUFFIX, as_json, chat, picture, write, write_lines, write_tar

RECORDS = [chat(number) for number in range(10)]


def convert(source: Path, store: Path, format: str = "messages", **options: Any) -> ConvertReport:  # noqa: A002
    return mmdata.convert(format, source, store, **options)


def said(row: Conversation) -> tuple[Any, ...]:
    """Return what a row says, and not where its pictures were called what."""
    media = [(medium.type, medium.bytes) for medium in row.media]
    return row.id, row.messages, media, row.source, row.split


@pytest.mark.parametrize("kind", SUFFIX)
def test_a_source_of_any_kind_gives_the_rows_that_json_lines_give(
    kind: str, tmp_path: Path
) -> None:
    source = write(tmp_path / f"source{SUFFIX[kind]}", kind, RECORDS)
    convert(write_lines(tmp_path / "source.jsonl", RECORDS), tmp_path / "wanted")

    report = convert(source, tmp_path / "store")

    assert (report.rows, report.rejects) == (len(RECORDS), {})
    rows, wanted = mmdata.open(tmp_path / "store"), mmdata.open(tmp_path / "wanted")
    assert list(map(said, rows)) == list(map(said, wanted))
    if kind not in ("tar", "tar.gz"):
        assert [row.extra for row in rows] == [row.extra for row in wanted]


@pytest.mark.parametrize("kind", SUFFIX)
def test_auto_knows_the_format_of_a_source_of_any_kind(kind: str, tmp_path: Path) -> None:
    source = write(tmp_path / f"source{SUFFIX[kind]}", kind, RECORDS)

    assert mmdata.formats.detect([source]) == "messages"


@pytest.mark.parametrize("kind", SUFFIX)
def test_a_limit_ends_the_reading_and_strict_stops_at_the_first_reject(
    kind: str, tmp_path: Path
) -> None:
    records = [*RECORDS[:4], chat(4, messages=[]), *RECORDS[5:]]
    source = write(tmp_path / f"source{SUFFIX[kind]}", kind, records)

    limited = convert(source, tmp_path / "limited", limit=7)
    assert (limited.records_in, limited.rows, limited.rejects) == (7, 6, {"no_conversation": 1})
    [reject] = mmdata.open(tmp_path / "limited").rejects()
    assert (reject["record"], reject["id"], Path(reject["file"])) == (4, "r4", source)

    with pytest.raises(RecordError, match="record 4, id 'r4'"):
        convert(source, tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


@pytest.mark.parametrize("kind", SUFFIX)
def test_a_conversion_that_was_stopped_and_resumed_gives_the_rows_of_one_that_was_not(
    kind: str, tmp_path: Path
) -> None:
    source = write(tmp_path / f"source{SUFFIX[kind]}", kind, RECORDS)
    convert(source, tmp_path / "whole")

    def stop(rows: int, rejects: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "store", progress=stop)
    assert not (tmp_path / "store").exists()
    convert(source, tmp_path / "store", resume=True)

    assert list(mmdata.open(tmp_path / "store")) == list(mmdata.open(tmp_path / "whole"))


@pytest.mark.parametrize("kind", ["parquet", "arrow file", "csv", "tar"])
def test_a_format_keeps_its_laws_with_a_source_of_any_kind(kind: str, tmp_path: Path) -> None:
    """Bulk = single among them: what is read column by column is what is read one by one."""
    records = [*RECORDS[:3], chat(3, messages=[]), chat(4, license="MIT"), *RECORDS[5:]]

    check_format(make("messages"), [write(tmp_path / f"source{SUFFIX[kind]}", kind, records)])


@pytest.mark.slow
@pytest.mark.parametrize("kind", SUFFIX)
def test_of_a_source_that_is_cut_anywhere_what_is_whole_is_kept_and_the_rest_is_a_reject(
    kind: str, tmp_path: Path
) -> None:
    whole = write(tmp_path / f"whole{SUFFIX[kind]}", kind, RECORDS).read_bytes()
    convert(tmp_path / f"whole{SUFFIX[kind]}", tmp_path / "whole")
    rows = list(map(said, mmdata.open(tmp_path / "whole")))

    cut = tmp_path / f"cut{SUFFIX[kind]}"
    for part in range(1, 12):
        cut.write_bytes(whole[: len(whole) * part // 12 + 1])
        report = convert(cut, tmp_path / "store", overwrite=True)

        kept = list(map(said, mmdata.open(tmp_path / "store")))
        assert report.records_in == report.rows + sum(report.rejects.values())
        # tar fills its last block of twenty with zeros, of which some may be missing
        is_whole = kind == "tar" and len(kept) == len(rows)
        assert dict(report.rejects) == ({} if is_whole else {"bad_source": 1}) or kind == "csv"
        assert sum(report.rejects.values()) == (not is_whole)
        assert kept == rows[: len(kept)]
    if kind != "parquet":  # whose rows cannot be found without its end
        assert len(kept) > 5


def test_an_arrow_file_without_its_index_has_all_its_rows_and_says_that_it_was_cut(
    tmp_path: Path,
) -> None:
    source = write(tmp_path / "s.arrow", "arrow file", RECORDS)
    data = source.read_bytes()
    end_of_stream = data.rindex(b"\xff\xff\xff\xff\0\0\0\0") + 8
    source.write_bytes(data[:end_of_stream])

    report = convert(source, tmp_path / "store")

    assert (report.rows, report.rejects) == (len(RECORDS), {"bad_source": 1})
    [reject] = mmdata.open(tmp_path / "store").rejects()
    assert "its index is missing: was it cut?" in reject["detail"]


def test_bytes_come_before_the_path_beside_them_in_json_and_in_tables(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"another picture")
    records = [chat(0), chat(1, images=[{"bytes": None, "path": "0.png"}])]

    for source in (
        write_lines(tmp_path / "source.jsonl", records),
        write(tmp_path / "source.parquet", "parquet", records),
    ):
        convert(source, tmp_path / "store", overwrite=True)
        first, second = mmdata.open(tmp_path / "store")

        assert (first.media[0].path, first.media[0].bytes) == (None, picture(0))
        assert first.extra == {"images": {"0": {"path": "0.png"}}}
        assert (second.media[0].path, second.media[0].bytes) == ("0.png", None)


def test_llava_takes_the_one_image_that_a_table_holds_as_a_struct(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "<image>\nColour?"},
        {"from": "gpt", "value": "Red."},
    ]
    records: list[dict[str, Any]] = [
        {"id": "a", "image": {"bytes": picture(1), "path": None}, "conversations": turns},
        {"id": "b", "image": None, "conversations": [{**turns[0], "value": "Hello"}, turns[1]]},
    ]

    report = convert(write(tmp_path / "s.parquet", "parquet", records), tmp_path / "store", "auto")

    assert (report.rows, report.rejects) == (2, {})
    first, second = mmdata.open(tmp_path / "store")
    assert first.media[0].bytes == picture(1)
    assert (second.media, second.extra) == ((), {})
    assert as_json(records[0])["image"]["bytes"] not in str(first.extra)


PARTS = [
    {
        "role": "user",
        "content": [{"type": "image", "text": None}, {"type": "text", "text": "Colour?"}],
    },
    {"role": "assistant", "content": [{"type": "text", "text": "Red."}]},
]
WORDS = [{"role": "user", "content": "Colour?"}, {"role": "assistant", "content": "Red."}]


@pytest.mark.parametrize(
    "record",
    [
        {"messages": PARTS},
        {"messages": WORDS},
        {"prompt": PARTS[:1], "completion": PARTS[1:]},
        {"prompt": WORDS[:1], "completion": WORDS[1:]},
    ],
    ids=["messages of parts", "messages", "prompt of parts", "prompt"],
)
def test_auto_reads_the_vision_sets_of_trl(record: dict[str, Any], tmp_path: Path) -> None:
    images = [{"bytes": picture(1), "path": None}]
    source = write(tmp_path / "s.parquet", "parquet", [{**record, "images": images}])

    report = convert(source, tmp_path / "store", "auto")

    assert (report.rows, report.rejects) == (1, {})
    [row] = mmdata.open(tmp_path / "store")
    assert row.messages == (
        Message("user", (Image(0), Text("Colour?")), train=False),
        Message("assistant", (Text("Red."),), train=True),
    )
    assert ([medium.bytes for medium in row.media], row.extra) == ([picture(1)], {})


def test_a_tar_of_pictures_and_captions_is_one_of_captions(tmp_path: Path) -> None:
    samples = [
        {f"{number}.jpg": picture(number), f"{number}.txt": b"A square."} for number in (1, 2)
    ]

    report = convert(write_tar(tmp_path / "s.tar", samples), tmp_path / "store", "auto")

    assert (report.rows, report.rejects) == (2, {})
    first, second = mmdata.open(tmp_path / "store")
    assert (first.id, second.id) == ("1", "2")
    assert second.messages[-1] == Message("assistant", (Text("A square."),), train=True)
    assert second.media[0].bytes == picture(2)


def test_the_pictures_of_a_table_are_read_many_at_a_time(tmp_path: Path) -> None:
    """Their names go to ``extra``, and change nothing that a record means."""
    source = write(tmp_path / "s.parquet", "parquet", RECORDS)
    [run, *_] = parquet_runs(source)
    records = [item for item in run if isinstance(item, Record)]

    rows = Messages().flatten(records)

    assert rows is not None
    assert len(rows) == len(records) == len(RECORDS[:3])
