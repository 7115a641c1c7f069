"""Stores to the formats of other tools, beside what ``datasets`` takes for the same records.

The same conversations are a store of ours and a ``datasets.Dataset`` on disk. Each contestant is a
process that opens its own and writes: LLaVA's JSON beside ``Dataset.to_json``, and Parquet beside
``Dataset.to_parquet``, whose rows have the columns that ours has. Peak memory is said of two sizes,
of which one is twice the other.
"""

from __future__ import annotations

import json
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


def records(count: int) -> Iterator[dict[str, Any]]:
    """Yield LLaVA's records."""
    for number, rounds in conversations(count):
        yield llava(number, rounds)


def table_row(record: dict[str, Any]) -> dict[str, Any]:
    """Return a LLaVA record as a row of messages with parts."""
    names = {"human": "user", "gpt": "assistant"}
    messages = []
    for turn in record["conversations"]:
        words = turn["value"].removeprefix("<image>\n")
        content = [{"type": "text", "text": words}]
        if words != turn["value"]:
            content.insert(0, {"type": "image", "text": None})
        messages.append({"role": names[turn["from"]], "content": content})
    image = {"bytes": None, "path": record["image"]}
    return {"id": record["id"], "messages": messages, "images": [image], "videos": []}


def make(folder: Path, rows: int) -> None:
    """Write the records as a store and as two data sets of ``datasets``."""
    from datasets import Dataset

    source = folder / "source.jsonl"
    with source.open("w", encoding="utf-8") as file:
        for record in records(rows):
            file.write(json.dumps(record) + "\n")
    mmdata.convert("llava", source, folder / "store", check="none")

    def chunks() -> Iterator[list[dict[str, Any]]]:
        left = records(rows)
        while some := list(islice(left, 10_000)):
            yield some

    import pyarrow as pa

    for name, shape in (("json", dict), ("parquet", table_row)):
        tables = [pa.Table.from_pylist(list(map(shape, some))) for some in chunks()]
        whole = pa.concat_tables(tables, promote_options="permissive")
        Dataset(whole).save_to_disk(str(folder / name))


def contest(folder: Path) -> dict[str, list[str]]:
    """Return the command of each contestant."""
    return {
        name: [PYTHON, __file__, name, str(folder)]
        for name in ("ours-json", "datasets-json", "ours-parquet", "datasets-parquet")
    }


def run(name: str, folder: Path) -> None:
    """Be one contestant."""
    if name == "ours-json":
        mmdata.export(folder / "store", "llava", folder / "out", overwrite=True)
    elif name == "ours-parquet":
        mmdata.export(
            folder / "store", "datasets", folder / "out", media="reference", overwrite=True
        )
    else:
        from datasets import load_from_disk
        from datasets.utils.logging import disable_progress_bar

        disable_progress_bar()
        data = load_from_disk(str(folder / name.removeprefix("datasets-")))
        if name == "datasets-json":
            data.to_json(str(folder / "out.json"))
        else:
            data.to_parquet(str(folder / "out.parquet"))


def main() -> None:
    """Measure, and print a row for each claim."""
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the store")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, half = Path(name) / "whole", Path(name) / "half"
        for place, rows in ((folder, asked.rows), (half, asked.rows // 2)):
            place.mkdir()
            # In a process of its own: what one holds at its most, those that it starts seem to.
            measure([PYTHON, __file__, "make", str(place), str(rows)])
        taken = interleave(contest(folder), runs=asked.runs)
        fewer = interleave(contest(half), runs=1)
        for what, kind in ((LLAVA, "json"), (PARQUET, "parquet")):
            ours, peer = taken[f"ours-{kind}"], taken[f"datasets-{kind}"]
            for figure in ("wall", "cpu"):
                print_row(
                    f"{what}, {figure} seconds",
                    getattr(ours, figure),
                    {"datasets": getattr(peer, figure)},
                    "s",
                    ["datasets", "pyarrow"],
                    more_is_better=False,
                    as_json=asked.json,
                )
            print_row(
                f"{what}, peak memory beside half the rows",
                ours.peak / 1e6,
                {"half": fewer[f"ours-{kind}"].peak / 1e6, "datasets": peer.peak / 1e6},
                "MB",
                ["datasets", "pyarrow"],
                more_is_better=False,
                as_json=asked.json,
            )
        shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["make"]:
        make(Path(sys.argv[2]), int(sys.argv[3]))
    elif len(sys.argv) == 3 and sys.argv[1].startswith(("ours", "datasets")):
        run(sys.argv[1], Path(sys.argv[2]))
    else:
        main()
