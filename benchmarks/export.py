"""Stores to the formats of other tools, beside what ``datasets`` takes for the same records.

The same conversations are a store of ours and a ``datasets.Dataset`` on disk. Each contestant is a
process that opens its own and writes: LLaVA's JSON beside ``Dataset.to_json``, and Parquet beside
``Dataset.to_parquet``, of the same rows, columns, features, row groups and compression. The latter
runs as it is called, and without the page index and the pages cut by content that it adds.
Peak memory is said of two sizes, of which one is four times the other.

Ours waits until the files are on the disk, which the other does not.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import mmdata
from benchmarks.measure import PYTHON, interleave, options, print_row
from benchmarks.measure import run as measure
from benchmarks.sources import conversations, llava

LLAVA = "LLaVA JSON"
PARQUET = "Parquet"
OURS_JSON = "mmdata.export(folder + '/store', 'llava', folder + '/out', overwrite=True)"
OURS_PARQUET = (
    "mmdata.export(folder + '/store', 'datasets', folder + '/out', media='reference', "
    "overwrite=True)"
)
PEER_JSON = "load_from_disk(folder + '/json').to_json(folder + '/out.json')"
# As many rows in a row group as ours has; else it asks how large each of the pictures is.
PEER_PARQUET = (
    "Dataset.from_file(folder + '/rows.arrow').to_parquet(folder + '/out.parquet', "
    "batch_size=12_288"
)
LEAN = ", use_content_defined_chunking=False, write_page_index=False"
OURS = "import sys, mmdata; folder = sys.argv[1]; "
PEER = (
    "import sys; from datasets import Dataset, disable_progress_bars, load_from_disk; "
    "folder = sys.argv[1]; disable_progress_bars(); "
)
PROGRAMS = {
    "ours-json": OURS + OURS_JSON,
    "datasets-json": PEER + PEER_JSON,
    "ours-parquet": OURS + OURS_PARQUET,
    "datasets-parquet": PEER + PEER_PARQUET + ")",
    "datasets-parquet-lean": PEER + PEER_PARQUET + LEAN + ")",
}


def records(count: int) -> Iterator[dict[str, Any]]:
    """Yield LLaVA's records."""
    for number, rounds in conversations(count):
        yield llava(number, rounds)


def make(folder: Path, rows: int) -> None:
    """Write the records as a store and as two data sets of ``datasets``: one of LLaVA's records,
    and one of the columns and features that our Parquet has.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset

    source = folder / "source.jsonl"
    with source.open("w", encoding="utf-8") as lines:
        for record in records(rows):
            lines.write(json.dumps(record) + "\n")
    mmdata.convert("llava", source, folder / "store", check="none")

    left = records(rows)
    tables = []
    while some := list(islice(left, 10_000)):
        tables.append(pa.Table.from_pylist(some))
    Dataset(pa.concat_tables(tables)).save_to_disk(str(folder / "json"))

    # ``save_to_disk`` would read the pictures, of which there are the names alone.
    write_ours(folder)
    table = pq.read_table(folder / "out" / "data")
    with (
        pa.OSFile(str(folder / "rows.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as stream,
    ):
        stream.write_table(table, max_chunksize=1000)  # as many as ``datasets`` has in a batch


def write_ours(folder: Path) -> None:
    """Write our Parquet."""
    mmdata.export(folder / "store", "datasets", folder / "out", media="reference", overwrite=True)


def contest(folder: Path) -> dict[str, list[str]]:
    """Return the command of each contestant: the program that a user would write."""
    return {name: [PYTHON, "-c", code, str(folder)] for name, code in PROGRAMS.items()}


def check(folder: Path) -> None:
    """Compare what was written last: the same rows and columns, read by ``datasets`` with the same
    features.
    """
    import pyarrow.parquet as pq
    from datasets import Dataset

    write_ours(folder)
    ours, peer = pq.read_table(folder / "out" / "data"), pq.read_table(folder / "out.parquet")
    assert ours.equals(peer), "the two files do not hold the same"
    assert Dataset(ours).features == Dataset(peer).features, "the features are not the same"


def main() -> None:
    """Measure, and print a row for each claim."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the store")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        # What is installed has its bytecode. A checkout may be told to keep none: it would be
        # compiled in each run, which takes as long as a quarter of an export.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(Path(name) / "bytecode")
        folder, small = Path(name) / "whole", Path(name) / "small"
        for place, rows in ((folder, asked.rows), (small, asked.rows // 4)):
            place.mkdir()
            # In a process of its own: what one holds at its most, those that it starts seem to.
            measure([PYTHON, __file__, "make", str(place), str(rows)])
        taken = interleave(contest(folder), runs=asked.runs)
        fewer = interleave(contest(small), runs=1)
        measure([PYTHON, __file__, "check", str(folder)])
        for what, kind in ((LLAVA, "json"), (PARQUET, "parquet")):
            ours = taken[f"ours-{kind}"]
            peers = {each: taken[each] for each in taken if each.startswith(f"datasets-{kind}")}
            for figure in ("wall", "cpu"):
                print_row(
                    f"{what}, {figure} seconds",
                    getattr(ours, figure),
                    {each: getattr(peer, figure) for each, peer in peers.items()},
                    "s",
                    ["datasets", "pyarrow"],
                    more_is_better=False,
                    as_json=asked.json,
                )
            print_row(
                f"{what}, peak memory beside a quarter of the rows",
                ours.peak / 1e6,
                {
                    "a quarter": fewer[f"ours-{kind}"].peak / 1e6,
                    **{each: peer.peak / 1e6 for each, peer in peers.items()},
                },
                "MB",
                ["datasets", "pyarrow"],
                more_is_better=False,
                as_json=asked.json,
            )
        shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["check"]:
        check(Path(sys.argv[2]))
    else:
        main()
