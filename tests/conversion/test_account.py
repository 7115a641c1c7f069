"""Every record of a source is a row or a reject, whatever is done to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mmdata
from mmdata.errors import DataError, UsageError
from mmdata.rejects import Reason
from tests.formats.dirt import FORMATS, Layout, assemble, faults, good
from tests.mangling import mangle
from tests.source_files import record, source, write_images, write_records

GOOD = [record(number) for number in range(12)]
ARRAY = ("[\n" + ",\n".join(map(json.dumps, GOOD)) + "\n]\n").encode()
LINES = ("\n".join(map(json.dumps, GOOD)) + "\n").encode()


def account(path: Path, store: Path) -> None:
    try:
        report = mmdata.convert("llava", path, store, check="none", overwrite=True)
    except (DataError, UsageError) as error:
        assert "no record was found" in str(error) or "not JSON" in str(error)
        return

    opened = mmdata.open(store)
    lines = list(opened.rejects())
    assert report.records_in == report.rows + sum(report.rejects.values())
    assert report.rows == len(opened)
    assert sum(report.rejects.values()) == len(lines)
    assert {line["reason"] for line in lines} <= {reason.value for reason in Reason}
    numbers = [line["record"] for line in lines]
    assert numbers == sorted(set(numbers))
    assert mmdata.check(store) == []


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.sampled_from([ARRAY, LINES]).flatmap(mangle))
def test_the_account_balances_for_any_mangled_file(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "source.json").write_bytes(data)

    account(tmp_path / "source.json", tmp_path / "store")


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100)
@given(st.binary(max_size=300))
def test_the_account_balances_for_any_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "source.json").write_bytes(data)

    account(tmp_path / "source.json", tmp_path / "store")


MEDIA_FAULTS = {
    "missing": ({"image": "images/none.jpg"}, "missing_media"),
    "empty": ({"image": "images/empty.jpg"}, "empty_media"),
    "a folder": ({"image": "images"}, "missing_media"),
    "a loop": ({"image": "images/loop.jpg"}, "missing_media"),
    "above the root": ({"image": "../images/0.jpg"}, "outside_media_root"),
    "absolute": ({"image": "/etc/hostname"}, "outside_media_root"),
    "a long name": ({"image": "x" * 5000 + ".jpg"}, "missing_media"),
    "the same again": ({"id": "r0", "image": "images/0.jpg"}, "duplicate_id"),
}


@pytest.mark.parametrize("fault", MEDIA_FAULTS)
def test_a_fault_of_media_costs_its_record_alone(tmp_path: Path, fault: str) -> None:
    changes, reason = MEDIA_FAULTS[fault]
    source(tmp_path, 4)
    (tmp_path / "images" / "empty.jpg").touch()
    (tmp_path / "images" / "loop.jpg").symlink_to("loop.jpg")
    good = [record(number) for number in range(4)]
    bad = {**record(0), "id": "bad", **changes}
    write_records(tmp_path / "clean.json", good)
    write_records(tmp_path / "mixed.json", [*good[:2], bad, *good[2:]])

    mmdata.convert("llava", tmp_path / "clean.json", tmp_path / "clean")
    report = mmdata.convert("llava", tmp_path / "mixed.json", tmp_path / "mixed")

    assert report.rejects == {reason: 1}
    (line,) = mmdata.open(tmp_path / "mixed").rejects()
    assert (line["record"], line["id"]) == (2, bad["id"])
    assert list(mmdata.open(tmp_path / "mixed")) == list(mmdata.open(tmp_path / "clean"))


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["array", "lines"])
@pytest.mark.parametrize("name", FORMATS)
def test_every_kind_of_dirt_at_once_is_accounted_for_and_costs_no_good_row(
    tmp_path: Path, name: str, layout: Layout
) -> None:
    bad = list(faults(name))
    goods = [good(name, number) for number in range(len(bad))]
    mixed = [
        each for pair in zip(goods, (fault.data for fault in bad), strict=True) for each in pair
    ]
    (tmp_path / "clean.json").write_bytes(assemble(name, goods, layout))
    (tmp_path / "mixed.json").write_bytes(assemble(name, mixed, layout))

    mmdata.convert(name, tmp_path / "clean.json", tmp_path / "clean", check="none")
    report = mmdata.convert(name, tmp_path / "mixed.json", tmp_path / "mixed", check="none")

    store = mmdata.open(tmp_path / "mixed")
    lines = list(store.rejects())
    assert [(line["record"], line["reason"]) for line in lines] == [
        (2 * number + 1, fault.reason) for number, fault in enumerate(bad)
    ]
    assert report.records_in == len(mixed)
    assert [row.messages for row in store] == [
        row.messages for row in mmdata.open(tmp_path / "clean")
    ]


@pytest.mark.slow
def test_a_record_may_be_fifty_megabytes_long(tmp_path: Path) -> None:
    write_images(tmp_path, ["images/0.jpg", "images/2.jpg"])
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a" * 50_000_000}]
    path = write_records(
        tmp_path / "s.json", [record(0), record(1, image=None, conversations=turns), record(2)]
    )

    report = mmdata.convert("llava", path, tmp_path / "store")

    assert report.rows == 3
    assert len(mmdata.open(tmp_path / "store")[1].messages[1].text) == 50_000_000
