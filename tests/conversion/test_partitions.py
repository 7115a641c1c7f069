"""A source that is converted in parts gives the bytes that it gives as a whole, whoever works on
the parts, how many they are, and whatever becomes of the workers.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import signal
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import mmdata
from mmdata._tools.limits import Limits
from mmdata.conversion.prober import media_faults
from mmdata.engine.local import LocalEngine, answer_message, rebuild_outcome
from mmdata.errors import PluginError, RecordError
from mmdata.formats import registry
from mmdata.formats.llava import Llava
from mmdata.schema import Conversation
from mmdata.sources.record import Record
from tests.engines import Here, Losing, bytes_of
from tests.source_files import record, write_images, write_records

Write = Callable[[Path, Sequence[Any]], Path]


@pytest.fixture(scope="module")
def processes() -> Iterator[LocalEngine]:
    with LocalEngine(2) as engine:
        yield engine


def convert(source: Path | Sequence[Path], store: Path, **options: Any) -> dict[str, bytes]:
    options = {"format": "llava", "check": "none", "overwrite": True, **options}
    mmdata.convert(options.pop("format"), source, store, **options)
    return bytes_of(store)


def write_lines(folder: Path, records: Sequence[Any]) -> Path:
    return write_records(folder / "source.jsonl", records, lines=True)


def write_array(folder: Path, records: Sequence[Any]) -> Path:
    return write_records(folder / "source.json", records)


def write_parquet(folder: Path, records: Sequence[Any]) -> Path:
    columns = {name: [each.get(name) for each in records] for name in records[0]}
    pq.write_table(pa.table(columns), folder / "source.parquet", row_group_size=7)
    return folder / "source.parquet"


def write_arrow(folder: Path, records: Sequence[Any]) -> Path:
    table = pa.table({name: [each.get(name) for each in records] for name in records[0]})
    with pa.ipc.new_file(folder / "source.arrow", table.schema) as writer:
        writer.write_table(table, max_chunksize=9)
    return folder / "source.arrow"


def write_tars(folder: Path, records: Sequence[Any]) -> Path:
    shards = folder / "shards"
    shards.mkdir()
    for number, start in enumerate(range(0, len(records), 11)):
        with tarfile.open(shards / f"{number:03}.tar", "w") as archive:
            for place, each in enumerate(records[start : start + 11], start):
                for suffix, data in (("json", json.dumps(each).encode()), ("jpg", b"\xff\xd8\xff")):
                    header = tarfile.TarInfo(f"{place:04}.{suffix}")
                    header.size = len(data)
                    archive.addfile(header, io.BytesIO(data))
    return shards


SOURCES: dict[str, Write] = {
    "lines": write_lines,
    "array": write_array,
    "Parquet": write_parquet,
    "Arrow": write_arrow,
    "tar": write_tars,
}


def mixed(count: int) -> list[dict[str, Any]]:
    """Return records of which some have no id, an id of others, or no conversation."""
    records = [record(number, note="é😀" * (number % 5)) for number in range(count)]
    for number in range(0, count, 5):
        records[number]["id"] = ""
    for number in range(3, count, 7):
        records[number]["id"] = "the same"
    for number in range(4, count, 9):
        records[number]["conversations"] = []
    return records


@pytest.mark.parametrize("shares_files", [True, False])
@pytest.mark.parametrize("kind", SOURCES)
def test_any_number_of_partitions_gives_the_same_bytes(
    tmp_path: Path, kind: str, shares_files: bool
) -> None:
    source = SOURCES[kind](tmp_path, mixed(120))
    whole = convert(source, tmp_path / "whole")

    for count in (1, 2, 3, 17, 50):
        engine = Here(shares_files=shares_files)
        found = convert(source, tmp_path / "parts", engine=engine, partitions=count)

        assert found == whole
        assert engine.submitted >= min(count, 11)


@pytest.mark.parametrize("kind", SOURCES)
def test_processes_of_this_machine_give_the_same_bytes(
    tmp_path: Path, kind: str, processes: LocalEngine
) -> None:
    source = SOURCES[kind](tmp_path, mixed(120))
    whole = convert(source, tmp_path / "whole")

    for count in (2, 13):
        assert convert(source, tmp_path / "parts", engine=processes, partitions=count) == whole


LINES = st.lists(
    st.sampled_from(
        [
            "record", "record", "record", "record", "", "  ", '{"id": ', "[1, 2]", '"text"', "nope",
            '{"id": "r1"} {"id": "r2"}', '{"id":\n"over two lines"}', '{"id": 1, "id": 2}', "\x00",
            '{"data": [{"id": "inside"}, {"id": "too"}]}', "é😀", '{"id": "lone \\ud800"}', "]",
            "},",
        ]
    ),
    min_size=1,
    max_size=30,
)  # fmt: skip
NEAR = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.slow
@NEAR
@given(lines=LINES, count=st.integers(2, 9), end=st.sampled_from(["\n", "\r\n"]), cut=st.booleans())
def test_whatever_json_lines_hold_their_parts_give_the_same_bytes(
    tmp_path: Path, lines: list[str], count: int, end: str, cut: bool
) -> None:
    texts = [
        json.dumps(record(number)) if line == "record" else line
        for number, line in enumerate(lines)
    ]
    data = end.join([json.dumps(record(0)), *texts]).encode()
    source = tmp_path / "source.jsonl"
    source.write_bytes(data[:-3] + b"\xff" if cut else data)

    whole = convert(source, tmp_path / "whole")

    assert convert(source, tmp_path / "parts", engine=Here(), partitions=count) == whole


@NEAR
@given(lines=LINES, count=st.integers(2, 9))
def test_whatever_an_array_holds_its_parts_give_the_same_bytes(
    tmp_path: Path, lines: list[str], count: int
) -> None:
    texts = [
        json.dumps(record(number)) if line == "record" else line
        for number, line in enumerate(lines)
    ]
    source = tmp_path / "source.json"
    source.write_text("[" + ",\n".join([json.dumps(record(0)), *texts]) + "]", encoding="utf-8")

    whole = convert(source, tmp_path / "whole")

    assert convert(source, tmp_path / "parts", engine=Here(), partitions=count) == whole


@pytest.mark.slow
def test_records_larger_than_what_is_read_at_once_are_found_at_the_edges(tmp_path: Path) -> None:
    records = [record(number, note=f"{number}é" * 60_000) for number in range(12)]
    for write in (write_lines, write_array):
        source = write(tmp_path, records)

        whole = convert(source, tmp_path / "whole")

        for count in (2, 5, 30):
            assert convert(source, tmp_path / "parts", engine=Here(), partitions=count) == whole


def test_a_byte_order_mark_shifts_nothing(tmp_path: Path) -> None:
    for write in (write_lines, write_array):
        source = write(tmp_path, [*mixed(30), {"id": "no turns"}])
        # A broken record says at which character of the file it stands.
        broken = b"\n{nope}" if write is write_lines else b""
        source.write_bytes(b"\xef\xbb\xbf" + source.read_bytes() + broken)

        whole = convert(source, tmp_path / "whole")

        for count in (2, 5, 11):
            assert convert(source, tmp_path / "parts", engine=Here(), partitions=count) == whole


def test_records_that_are_several_are_numbered_through(tmp_path: Path) -> None:
    for number in range(3):
        captions = [
            {"image": f"{place}.jpg", "caption": [f"{number} {place}", "another"]}
            for place in range(5)
        ]
        write_records(tmp_path / "captions" / f"{number}.json", captions)
    packed = [[record(number), record(number + 100)] for number in range(20)]
    sources = {"lavis": tmp_path / "captions", "llava": write_array(tmp_path, packed)}

    for name, source in sources.items():
        whole = convert(source, tmp_path / "whole", format=name)

        engine = Here()
        found = convert(source, tmp_path / "parts", format=name, engine=engine, partitions=4)
        assert found == whole
        assert mmdata.open(tmp_path / "parts").manifest.rows > 20


@pytest.mark.slow
def test_rows_of_many_bytes_come_in_the_same_batches(tmp_path: Path) -> None:
    write_images(tmp_path, [f"images/{number}.jpg" for number in range(40)])
    for number in range(40):
        (tmp_path / f"images/{number}.jpg").write_bytes(bytes([number]) * (1 << 20))
    source = write_lines(tmp_path, [record(number) for number in range(40)])

    whole = convert(source, tmp_path / "whole", check="exists", embed=True)

    for count in (2, 7):
        found = convert(
            source, tmp_path / "parts", check="exists", embed=True, engine=Here(), partitions=count
        )
        assert found == whole
    assert len(mmdata.open(tmp_path / "whole").manifest.shards[0].batches) > 2


@pytest.mark.parametrize(
    "options",
    [
        {"split": {"train": 0.5, "val": 0.5}},
        {"split": {"train": 0.5, "val": 0.5}, "split_by": "id", "seed": 3},
        {"split": "test"},
        {"duplicate_ids": "reject"},
        {"check": "exists"},
        {"check": "probe"},
        {"parquet": True},
    ],
    ids=str,
)
def test_every_way_of_converting_gives_the_same_bytes_in_parts(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    records = [record(number, image=f"images/{number % 9}.jpg") for number in range(40)]
    write_images(tmp_path, [f"images/{number}.jpg" for number in range(7)])
    files = [tmp_path / "val" / "a.jsonl", tmp_path / "train.jsonl", tmp_path / "b.json"]
    for file in files:
        write_records(file, records, lines=file.suffix == ".jsonl")

    whole = convert(files, tmp_path / "whole", media_root=tmp_path, **options)

    engine = Here()
    found = convert(
        files, tmp_path / "parts", media_root=tmp_path, engine=engine, partitions=6, **options
    )
    assert found == whole
    assert engine.submitted > 6


def test_the_memory_cap_of_media_holds_in_partitions(tmp_path: Path) -> None:
    Image.new("L", (12_000, 7_000)).save(tmp_path / "large.png", compress_level=1)
    Image.new("L", (8, 8)).save(tmp_path / "small.png")
    names = ["small", "large", "small", "small"]
    records = [record(number, image=f"{name}.png") for number, name in enumerate(names)]
    source = write_lines(tmp_path, records)
    options = {"check": "decode", "limits": Limits(memory=96 << 20)}

    whole = convert(source, tmp_path / "whole", workers=1, **options)

    found = convert(source, tmp_path / "parts", engine=Here(), partitions=2, **options)
    assert found == whole
    [reject] = found["rejects.jsonl"].splitlines()
    assert json.loads(reject)["reason"] == "media_limit"
    assert json.loads(reject)["record"] == 1


def test_a_reject_that_stops_a_strict_conversion_is_the_first_of_the_source(
    tmp_path: Path,
) -> None:
    records = [record(number) for number in range(30)]
    records[7]["conversations"] = records[20]["conversations"] = []
    source = write_lines(tmp_path, records)

    with pytest.raises(RecordError, match="record 7, id 'r7'"):
        convert(source, tmp_path / "store", engine=Here(), partitions=9, strict=True)


# --- what becomes of workers
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deadly(Llava):
    """LLaVA, with records that end the process which reads them."""

    summary: ClassVar[str] = "records that end processes"

    def flatten(self, records: Sequence[Record]) -> None:
        """Read one by one."""

    def conversation(self, record: Record) -> Conversation:
        if isinstance(record.value, dict) and record.value.get("note") == "deadly":
            os.abort()
        return super().conversation(record)


@pytest.mark.slow
def test_a_partition_that_kills_its_workers_costs_the_record_that_does_it(tmp_path: Path) -> None:
    records = [record(number) for number in range(60)]
    sound = write_lines(tmp_path, records)
    for number in (13, 14):
        records[number]["note"] = "deadly"
    (tmp_path / "deadly").mkdir()
    deadly = write_lines(tmp_path / "deadly", records)

    mmdata.convert(Deadly(), deadly, tmp_path / "found", check="none", workers=2, partitions=4)
    mmdata.convert(Deadly(), sound, tmp_path / "all", check="none")

    found = mmdata.open(tmp_path / "found")
    rejects = [json.loads(line) for line in (found.path / "rejects.jsonl").read_text().splitlines()]
    assert [(each["record"], each["id"]) for each in rejects] == [(13, "r13"), (14, "r14")]
    assert all("died: SIGABRT" in each["detail"] for each in rejects)
    rest = [row for row in mmdata.open(tmp_path / "all") if row.id not in ("r13", "r14")]
    assert list(found) == rest


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lines", "Parquet"])
def test_workers_that_are_lost_change_nothing(tmp_path: Path, kind: str) -> None:
    source = SOURCES[kind](tmp_path, mixed(80))
    whole = convert(source, tmp_path / "whole")

    for seed in range(3):
        chance = random.Random(seed)
        # One of two attempts at a partition may fail, not both: who loses two is divided.
        lost = [place % 2 == 0 and chance.random() < 0.5 for place in range(60)]
        engine = Losing(lost, workers=1)
        assert convert(source, tmp_path / "parts", engine=engine, partitions=12) == whole


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    """A source of 3,000 records, and what is in the store of it."""
    folder = tmp_path_factory.mktemp("long")
    source = write_lines(folder, mixed(3000))
    return source, convert(source, folder / "whole")


def kill_children_at_random(seed: int, stop: threading.Event) -> None:
    chance = random.Random(seed)
    while not stop.wait(chance.uniform(0.05, 0.6)):
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        if children:
            with_luck = int(chance.choice(children))
            os.kill(with_luck, signal.SIGKILL)
            return


@pytest.mark.parametrize(
    "seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 30))]
)
def test_a_worker_that_is_killed_at_a_random_moment_changes_nothing(
    long: tuple[Path, dict[str, bytes]], tmp_path: Path, seed: int
) -> None:
    source, whole = long
    stop = threading.Event()
    killer = threading.Thread(target=kill_children_at_random, args=(seed, stop))

    killer.start()
    try:
        found = convert(source, tmp_path / "parts", workers=2, partitions=8)
    finally:
        stop.set()
        killer.join()

    assert found == whole


def test_a_conversion_that_was_stopped_goes_on_with_the_partitions_that_it_finished(
    tmp_path: Path,
) -> None:
    source = write_lines(tmp_path, mixed(100))
    whole = convert(source, tmp_path / "whole")
    interrupted = Here(shares_files=True, workers=1)
    done = 0

    def interrupt(rows: int, rejects: int) -> None:
        nonlocal done
        done += 1
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "store", engine=interrupted, partitions=10, progress=interrupt)

    resumed = Here(shares_files=True)
    found = convert(source, tmp_path / "store", engine=resumed, partitions=10, resume=True)
    assert found == whole
    assert resumed.submitted <= 10 + 10 - 4  # all are measured again
    assert not list(tmp_path.glob(".*.partial"))


def test_a_file_that_changed_is_converted_again(tmp_path: Path) -> None:
    source = write_lines(tmp_path, mixed(50))

    def interrupt(rows: int, rejects: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "store", engine=Here(), partitions=4, progress=interrupt)
    write_lines(tmp_path, [record(number, note="new") for number in range(50)])

    found = convert(source, tmp_path / "store", engine=Here(), partitions=4, resume=True)

    assert found == convert(source, tmp_path / "whole")


def test_a_format_that_no_worker_could_import_is_read_here(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Local(Llava):
        summary: ClassVar[str] = "one that is defined in a function"

    source = write_lines(tmp_path, mixed(30))
    whole = convert(source, tmp_path / "whole", format=Local())

    engine = Here()
    found = convert(source, tmp_path / "parts", format=Local(), engine=engine, partitions=3)
    assert found == whole
    assert engine.submitted == 0


def test_a_worker_without_a_package_says_which_it_lacks() -> None:
    message = pickle.dumps((len, ((),))).replace(b"builtins", b"a_plugin", 1)

    found = rebuild_outcome(answer_message(message))

    assert isinstance(found, PluginError)
    assert "No module named 'a_plugin'" in str(found)
    assert "Install that package there" in str(found)


# --- checking on an engine
# --------------------------------------------------------------------------------------------------


def test_a_format_of_ours_is_known_without_a_look_at_all_packages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def look(**_: object) -> None:
        raise AssertionError("each partition would look through all that is installed")

    monkeypatch.setattr("importlib.metadata.entry_points", look)

    assert "llava" in registry


def test_media_are_checked_on_an_engine_as_they_are_here(tmp_path: Path) -> None:
    names = [f"images/{number}.jpg" for number in range(150)]
    write_images(tmp_path, names)
    source = write_lines(tmp_path, [record(number) for number in range(150)])
    convert(source, tmp_path / "store", check="exists")
    for number in (3, 70, 149):
        (tmp_path / names[number]).unlink()
    store = mmdata.open(tmp_path / "store")

    here = list(media_faults(store, "compare", workers=1))

    engine = Here()
    assert list(media_faults(store, "compare", engine=engine)) == here
    assert [fault.row for fault in here] == [3, 70, 149]
    assert engine.submitted == 3

    assert list(media_faults(store, "compare", engine=engine, partitions=7)) == here
    assert engine.submitted == 3 + 7
