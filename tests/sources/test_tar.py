"""A WebDataset's samples become records: which member is the record, and which are its media."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import mmdata
from mmdata.errors import UsageError
from mmdata.formats import make
from mmdata.rejects import Reject
from mmdata.sources.record import Record
from mmdata.sources.tar import _StrictHeader, has_records, tar_runs
from mmdata.testing import check_format
from tests.sources.tables import chat, picture, sample, write_tar

TURNS = [{"from": "human", "value": "<image>\nColour?"}, {"from": "gpt", "value": "Red."}]


def records(path: Path, *samples: Mapping[str, bytes]) -> list[Record | Reject]:
    return [item for run in tar_runs(write_tar(path, samples)) for item in run]


def dumped(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def test_what_a_record_names_is_its_own_and_what_it_does_not_name_is_added(tmp_path: Path) -> None:
    one, two = picture(1), picture(2)

    named, unnamed, several, caption = records(
        tmp_path / "s.tar",
        {"a.jpg": one, "a.json": dumped(image="a.jpg")},
        {"dir/b.jpg": one, "dir/b.json": dumped(conversations=TURNS)},
        {"c.0.jpg": one, "c.1.jpg": two, "c.json": dumped(id=7)},
        {"d.jpg": one, "d.txt": b"A red square."},
    )

    assert isinstance(named, Record)
    assert isinstance(unnamed, Record)
    assert isinstance(several, Record)
    assert isinstance(caption, Record)
    assert (named.value, named.id, named.files["a.jpg"]) == ({"image": "a.jpg"}, "a", one)
    assert unnamed.value == {"conversations": TURNS, "image": "dir/b.jpg"}
    assert (unnamed.id, unnamed.files["b.jpg"]) == ("dir/b", one)
    assert (several.value, several.id) == ({"id": 7, "image": ["c.0.jpg", "c.1.jpg"]}, "7")
    assert several.files["1.jpg"] == two
    assert caption.value == {"caption": "A red square.", "image": "d.jpg"}


def test_the_one_picture_of_a_sample_is_its_records_however_that_spells_it(tmp_path: Path) -> None:
    write_tar(
        tmp_path / "s.tar",
        [
            {"a.jpg": picture(1), "a.json": dumped(image="coco/9.jpg", conversations=TURNS)},
            {"b.jpg": picture(2), "b.png": picture(3), "b.json": dumped(conversations=TURNS)},
            {
                "c.jpg": picture(2),
                "c.png": picture(3),
                "c.json": dumped(image="c.png", conversations=TURNS),
            },
        ],
    )

    report = mmdata.convert("auto", tmp_path / "s.tar", tmp_path / "store")

    [row] = mmdata.open(tmp_path / "store")
    assert (row.media[0].path, row.media[0].bytes) == ("coco/9.jpg", picture(1))
    # one mark for two pictures, and a picture that nobody names
    assert report.rejects == {"media_mismatch": 2}


def test_other_members_are_fields_of_their_record(tmp_path: Path) -> None:
    [record] = records(
        tmp_path / "s.tar",
        {"a.json": dumped(x=1), "a.cls": b"3", "a.npy": b"\x93NUMPY", "a.meta.json": b'{"y": 2}'},
    )

    assert isinstance(record, Record)
    assert record.value == {"x": 1, "cls": "3", "npy": b"\x93NUMPY", "meta.json": {"y": 2}}


def test_what_is_no_record_is_a_reject_in_its_place(tmp_path: Path) -> None:
    found = records(
        tmp_path / "s.tar",
        {"a.json": b"{"},
        {"b.jpg": picture(1)},
        {"c.json": dumped(x=1)},
        {"README": b"words"},
        {"._d.json": b"\0"},
        {"e.json": dumped(txt="a"), "e.txt": b"b"},
    )

    reasons = [None if isinstance(item, Record) else item.reason.value for item in found]
    assert reasons == ["bad_json", "no_conversation", None, None, "malformed"]
    assert [item.id for item in found] == ["a", "b", "c", "README", "e"]


def test_a_link_costs_its_sample(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        link = tarfile.TarInfo("a.jpg")
        link.type, link.linkname = tarfile.LNKTYPE, "b.jpg"
        archive.addfile(link)
        text = tarfile.TarInfo("a.txt")
        text.size = 5
        archive.addfile(text, io.BytesIO(b"words"))

    [[reject]] = tar_runs(tmp_path / "s.tar")

    assert isinstance(reject, Reject)
    assert "a.jpg is a link" in reject.detail


def test_a_header_that_is_damaged_is_not_taken_for_the_end(tmp_path: Path) -> None:
    source = tmp_path / "s.tar"
    write_tar(source, [sample(chat(number)) for number in range(4)])
    with tarfile.open(source) as archive:
        place = archive.getmembers()[5].offset
    data = bytearray(source.read_bytes())
    data[place + 3] ^= 1
    source.write_bytes(data)

    report = mmdata.convert("messages", source, tmp_path / "store")

    assert (report.rows, report.rejects) == (2, {"bad_source": 1})
    [reject] = mmdata.open(tmp_path / "store").rejects()
    assert reject["record"] == 2
    assert "cannot be read to its end, from sample 'r2' on" in reject["detail"]


@given(
    name=st.text("ab./é \\", min_size=1, max_size=99),
    size=st.integers(0, 8**11 - 1),
    dialect=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    change=st.none() | st.tuples(st.integers(0, 511), st.integers(0, 255)),
    with_checksum=st.booleans(),
)
def test_a_header_is_read_as_tarfile_reads_it_or_refused_as_tarfile_refuses_it(
    name: str, size: int, dialect: Any, change: tuple[int, int] | None, with_checksum: bool
) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    header = bytearray(member.tobuf(dialect, "utf-8", "surrogateescape")[-tarfile.BLOCKSIZE :])
    if change is not None:
        place, value = change
        header[place] = value
    if with_checksum:  # else tarfile refuses it for that already
        header[148:156] = b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)

    assert read_header(_StrictHeader, bytes(header)) == read_header(tarfile.TarInfo, bytes(header))


def read_header(kind: type[tarfile.TarInfo], header: bytes) -> tuple[object, ...]:
    try:
        found = kind.frombuf(header, "utf-8", "surrogateescape")
    except tarfile.TarError as error:
        return type(error), str(error)
    return found.name, found.size, found.type


@settings(max_examples=50)
@given(
    names=st.lists(st.text("ab./é", min_size=1, max_size=120), min_size=1, max_size=4),
    dialect=st.sampled_from([tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]),
    comment=st.sampled_from([{}, {"comment": "of all"}, {"path": "z.txt"}]),
    change=st.none() | st.tuples(st.integers(0, 4000), st.integers(0, 255)),
    cut=st.integers(0, 4000) | st.just(1 << 20),
)
@example(["a", "b"], tarfile.PAX_FORMAT, {"path": "z.txt"}, None, 1 << 20)
def test_an_archive_is_read_as_the_same_in_gzip_whose_headers_tarfile_reads(
    names: list[str],
    dialect: Any,
    comment: dict[str, str],
    change: tuple[int, int] | None,
    cut: int,
) -> None:
    plain = io.BytesIO()
    longest = 99 if dialect == tarfile.USTAR_FORMAT else None
    headers = comment if dialect == tarfile.PAX_FORMAT else None
    with tarfile.open(fileobj=plain, mode="w", format=dialect, pax_headers=headers) as archive:
        for number, name in enumerate(names):
            member = tarfile.TarInfo(f"{name}.txt"[:longest])
            member.size = 400 * number
            archive.addfile(member, io.BytesIO(b"a" * member.size))
    data = bytearray(plain.getvalue())
    if change is not None:
        place, value = change
        data[place] = value

    with tempfile.TemporaryDirectory() as folder:
        one, other = Path(folder, "s.tar"), Path(folder, "s.tar.gz")
        one.write_bytes(data[:cut])
        other.write_bytes(gzip.compress(data[:cut], 1))
        assert list_records(one) == list_records(other)


def list_records(file: Path) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for item in chain.from_iterable(tar_runs(file)):
        if isinstance(item, Reject):
            found.append((item.record, item.reason, item.detail))
        else:
            found.append((item.number, item.id, item.raw, item.files))
    return found


def test_an_archive_of_media_alone_holds_no_records(tmp_path: Path) -> None:
    assert not has_records(write_tar(tmp_path / "a.tar", [{"a.jpg": b"1"}, {"b.json": b"{}"}]))
    assert has_records(write_tar(tmp_path / "b.tar", [{"a.jpg": b"1", "a.txt": b"words"}]))


@pytest.mark.parametrize("name", ["s.tar", "s.tar.gz", "s.tgz"])
def test_a_format_keeps_its_laws_with_a_tar(name: str, tmp_path: Path) -> None:
    samples = [sample(chat(number)) for number in range(5)]

    check_format(make("messages"), [write_tar(tmp_path / name, samples)])


def test_shards_in_braces_are_read_in_order(tmp_path: Path) -> None:
    for number in range(8, 12):
        write_tar(tmp_path / f"s-{number:03}.tar", [sample(chat(number))])

    report = mmdata.convert("auto", tmp_path / "s-{008..010}.tar", tmp_path / "store")

    assert report.rows == 3
    assert [row.id for row in mmdata.open(tmp_path / "store")] == ["r8", "r9", "r10"]
    with pytest.raises(UsageError, match=r"not found: .*s-012\.tar"):
        mmdata.convert("auto", tmp_path / "s-{010..012}.tar", tmp_path / "other")


def test_memory_does_not_grow_with_the_archive(tmp_path: Path) -> None:
    samples: Sequence[Mapping[str, bytes]] = [
        {f"{number}.jpg": bytes(1 << 20), f"{number}.txt": b"words"} for number in range(40)
    ]
    source = write_tar(tmp_path / "s.tar", samples)

    runs = [len(run) for run in tar_runs(source)]

    assert sum(runs) == 40
    assert max(runs) <= 5


def test_a_gzip_that_is_damaged_inside_costs_what_follows(tmp_path: Path) -> None:
    plain = io.BytesIO()
    write_tar(tmp_path / "s.tar", [sample(chat(number)) for number in range(200)])
    plain.write((tmp_path / "s.tar").read_bytes())
    data = bytearray(gzip.compress(plain.getvalue()))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "s.tar.gz").write_bytes(data)

    report = mmdata.convert("messages", tmp_path / "s.tar.gz", tmp_path / "store")

    assert report.rows
    assert report.rejects["bad_source"] == 1


def test_samples_without_a_caption_are_refused_by_what_they_lack(tmp_path: Path) -> None:
    shown = picture(1)
    samples = [
        {"a.jpg": shown, "a.json": dumped(url="https://a", status="success", caption=None)},
        {"b.jpg": shown},
        {"c.jpg": shown, "c.cls": b"3"},
        {
            "d.jpg": shown,
            "d.txt": b"A cup.",
            "d.json": dumped(url="https://d", caption=None),
            "d.cls": b"3",
        },
    ]

    report = mmdata.convert("lavis", write_tar(tmp_path / "s.tar", samples), tmp_path / "store")

    details = [reject["detail"] for reject in mmdata.open(tmp_path / "store").rejects()]
    assert report.rejects == {"no_conversation": 3}
    assert details == [
        "'caption' is absent or empty: there is nothing to learn from in url, status, image",
        "the sample has neither a record (.json) nor a text (.txt): b.jpg",
        "'caption' is absent or empty: there is nothing to learn from in cls, image",
    ]
    (row,) = mmdata.open(tmp_path / "store")
    assert dict(row.extra) == {"url": "https://d", "cls": "3"}
