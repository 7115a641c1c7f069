"""Bad records among good ones cost themselves alone, in every format."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.errors import RecordError, SchemaError
from mmdata.formats import make
from mmdata.rejects import Reject
from mmdata.schema import Conversation
from tests.formats.dirt import FORMATS, Fault, Layout, assemble, faults, good
from tests.mangling import mangle

Outcome = Conversation | tuple[int, str]
CASES = [(name, fault) for name in FORMATS for fault in faults(name)]


def outcomes(name: str, file: Path) -> list[Outcome]:
    """What becomes of each record:
    its conversation, or its number and the reason it is refused for.
    """
    reader = make(name)
    found: list[Outcome] = []
    for item in reader.records([file]):
        if isinstance(item, Reject):
            found.append((item.record, item.reason.value))
            continue
        try:
            found.append(reader.conversation(item))
        except (RecordError, SchemaError) as error:
            found.append((item.number, error.reason))
    return found


def convert(name: str, folder: Path, records: list[bytes], layout: Layout) -> list[Outcome]:
    file = folder / "source.json"
    file.write_bytes(assemble(name, records, layout))
    return outcomes(name, file)


@pytest.mark.parametrize("name", FORMATS)
def test_there_are_thirty_kinds_of_bad_record(name: str) -> None:
    kinds = [fault.kind for fault in faults(name)]

    assert len(set(kinds)) == len(kinds) >= 30


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["array", "lines"])
@pytest.mark.parametrize(
    ("name", "fault"), CASES, ids=[f"{name}-{fault.kind}" for name, fault in CASES]
)
def test_a_bad_record_costs_itself_alone(
    tmp_path: Path, name: str, fault: Fault, layout: Layout
) -> None:
    records = [good(name, number) for number in range(4)]
    clean = convert(name, tmp_path, records, layout)

    mixed = convert(name, tmp_path, [*records[:2], fault.data, *records[2:]], layout)

    assert mixed == [*clean[:2], (2, fault.reason), *clean[2:]]


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["array", "lines"])
@pytest.mark.parametrize("name", FORMATS)
def test_all_kinds_at_once_are_all_accounted_for(tmp_path: Path, name: str, layout: Layout) -> None:
    bad = list(faults(name))
    whole = [good(name, number) for number in range(len(bad) + 1)]
    records = [
        whole[0],
        *(
            data
            for fault, after in zip(bad, whole[1:], strict=True)
            for data in (fault.data, after)
        ),
    ]

    found = convert(name, tmp_path, records, layout)

    assert found[1::2] == [(2 * index + 1, fault.reason) for index, fault in enumerate(bad)]
    assert found[::2] == convert(name, tmp_path, whole, layout)


def _mangled_file(name: str) -> st.SearchStrategy[tuple[str, bytes]]:
    layouts: tuple[Layout, ...] = ("array", "lines")
    files = [
        assemble(name, [good(name, number) for number in range(5)], layout) for layout in layouts
    ]
    return st.tuples(st.just(name), st.sampled_from(files).flatmap(mangle))


@pytest.mark.slow
@given(st.sampled_from(FORMATS).flatmap(_mangled_file))
@settings(max_examples=300)
def test_whatever_is_done_to_a_file_its_records_are_numbered_and_end(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, bytes]
) -> None:
    name, data = case
    file = tmp_path_factory.mktemp("dirt") / "source.json"
    file.write_bytes(data)

    numbers = [
        item.record if isinstance(item, Reject) else item.number
        for item in make(name).records([file])
    ]

    assert numbers == sorted(set(numbers))
