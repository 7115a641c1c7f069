"""How far reading is, is known of every kind of source, for no further look at it."""

from __future__ import annotations

import csv
import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from mmdata.formats import make
from mmdata.formats._batches import read_batches
from mmdata.sources.files import Sources
from mmdata.sources.meter import Meter
from tests.source_files import record


def records(count: int, letters: str = "0123456789abcdef") -> list[dict[str, Any]]:
    """Records of about one size, with 200 letters by chance, so that none packs better."""
    chance = random.Random(0)
    notes = ["".join(chance.choices(letters, k=200)) for _ in range(count)]
    # With a picture each: what is sound is read at once, and many times as fast.
    return [record(number, note=note) for number, note in enumerate(notes)]


def lines(rows: Sequence[Any]) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def as_csv(rows: Sequence[Any]) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["id", "note"])
    writer.writerows([row["id"], row["note"]] for row in rows)
    return out.getvalue().encode()


def as_parquet(rows: Sequence[Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), out, row_group_size=700)
    return out.getvalue()


def as_arrow(rows: Sequence[Any], *, stream: bool) -> bytes:
    out = io.BytesIO()
    table = pa.Table.from_pylist(list(rows))
    opened = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opened(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=1500)
    return out.getvalue()


def as_tar(rows: Sequence[Any]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for row in rows:
            data = lines([row])
            member = tarfile.TarInfo(f"{row['id']}.json")
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()


WRITERS: Final[dict[str, Callable[[Sequence[Any]], bytes]]] = {
    "a.json": lambda rows: json.dumps(rows).encode(),
    "a.jsonl": lines,
    "a.jsonl.gz": lambda rows: gzip.compress(lines(rows), 1),
    "a.jsonl.zst": lambda rows: zstandard.compress(lines(rows)),
    "a.csv": as_csv,
    "a.parquet": as_parquet,
    "a.arrow": lambda rows: as_arrow(rows, stream=False),
    "stream.arrow": lambda rows: as_arrow(rows, stream=True),
    "a.tar": as_tar,
}


def read_through(sources: Sequence[Path], name: str = "llava") -> tuple[Meter, int]:
    """What a meter has been told of sources that were read, and how many records these have."""
    meter = Meter()
    batches = read_batches(make(name), Sources(sources).measured_by(meter))
    return meter, sum(batch.num_records for batch in batches)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("letters", ["0123456789abcdef", "私你好的是在不了有和"])
def test_of_records_of_one_size_their_share_is_that_of_their_number(
    kind: str, letters: str, tmp_path: Path
) -> None:
    # A packed file is read ahead, 128 KiB by Python 3.12 and later: it is not to be much of it.
    is_packed = kind.endswith(("gz", "zst"))
    total, within = (12_000, 0.1) if is_packed else (3000, 0.02)
    (tmp_path / kind).write_bytes(WRITERS[kind](records(total, letters)))

    meter, count = read_through([tmp_path / kind])

    assert count == total
    for some in range(total // 6, total, total // 6):
        assert meter.share_of(some) == pytest.approx(some / total, abs=within)
    assert meter.share_of(count) == 1.0


def test_a_file_counts_as_much_as_it_has_bytes(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.jsonl" for number in range(3)]
    for file, each in zip(files, (100, 300, 600), strict=True):
        file.write_bytes(lines(records(each)))

    meter, _ = read_through(files)

    assert meter.share_of(100) == pytest.approx(0.1, abs=0.01)
    assert meter.share_of(400) == pytest.approx(0.4, abs=0.01)


def test_of_a_packed_archive_the_end_alone_is_known(tmp_path: Path) -> None:
    for name in ("a.tar.gz", "b.tar.gz"):
        (tmp_path / name).write_bytes(gzip.compress(as_tar(records(600)), 0))

    meter, count = read_through([tmp_path / "a.tar.gz", tmp_path / "b.tar.gz"])

    assert meter.share_of(count // 2) == pytest.approx(0.5, abs=0.02)
    assert meter.share_of(count) == 1.0


def test_objects_of_coco_are_counted_where_its_file_has_been_read(tmp_path: Path) -> None:
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 9, "height": 9} for n in range(4000)]
    captions = [{"id": n, "image_id": n, "caption": "A cup."} for n in range(4000)]
    whole = {"images": images, "annotations": captions}
    (tmp_path / "captions.json").write_text(json.dumps(whole))

    meter, count = read_through([tmp_path / "captions.json"], "coco")

    assert meter.share_of(count // 4) == pytest.approx(0.25, abs=0.01)


def test_clips_of_folders_are_counted(tmp_path: Path) -> None:
    for number in range(10):
        clip = tmp_path / "RWF-2000" / "train" / "Fight" / f"v_{number}.avi"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.touch()

    meter, count = read_through([tmp_path / "RWF-2000"], "rwf2000")

    assert count == 10
    assert meter.share_of(3) == pytest.approx(0.3)


def test_what_no_reader_tells_of_has_no_share() -> None:
    meter = Meter()
    meter.take(50)

    assert meter.share_of(50) is None


@given(
    runs=st.lists(st.tuples(st.integers(0, 50), st.floats(0, 1)), max_size=30),
    asked=st.lists(st.integers(0, 1500), max_size=30),
)
def test_a_share_never_becomes_less_and_is_one_at_most(
    runs: list[tuple[int, float]], asked: list[int]
) -> None:
    meter = Meter()
    for share in sorted(share for _, share in runs):
        meter.tell(share)
        meter.take(runs.pop()[0])

    shares = [meter.share_of(records) or 0.0 for records in sorted(asked)]

    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
