"""Converting every JSON format, and tables and archives with pictures in them, beside DuckDB,
Hugging Face `datasets` and `webdataset`; and reading rows back at random.

    python -m benchmarks.convert [--each 50000] [--shapes llava …] [--records 200000]
                                 [--pictures 20000] [--json]

All files are generated. First 20,000 conversations with their pictures, of a Parquet file and of a
tar (`benchmarks/tables.py` says how); to compare with `webdataset`, install it.

Then 200,000 LLaVA-shaped records, some 250 MB: `datasets` loads them with `load_dataset("json")`
and brings them to the same shape with `.map` (batched); we convert them into a store. We look for
no images. One core each. Then an epoch's worth of conversations is read in random order, of
`datasets` a tenth.

At the end 50,000 conversations, some 61 MB, in the shape of each format of records with turns, and
250,000 captions and 84,000 objects as COCO has them; DuckDB brings the LLaVA-shaped file to
messages of the same roles, texts and media, and the result to an Arrow file. CPU seconds, the start
of the interpreter included.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from benchmarks import tables
from benchmarks.measure import PYTHON, Run, interleave, options, print_row, run
from benchmarks.sources import COCO, TURNS, write_turns

_ROUNDS: Final = 7
"""How often at the least each contestant converts a table: the time of one may vary by a third."""


def main() -> None:
    parser = options(__doc__)
    parser.add_argument(
        "--records", type=int, default=200_000, help="beside datasets; 0 leaves this out"
    )
    parser.add_argument(
        "--pictures",
        type=int,
        default=20_000,
        help="records with their picture, in Parquet and in tar; 0 leaves this out",
    )
    parser.add_argument("--each", type=int, default=50_000, help="records of each shape")
    parser.add_argument("--shapes", nargs="*", default=[*TURNS, *COCO], choices=[*TURNS, *COCO])
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, *rest = arguments.child
        CHILDREN[name](*rest)
        return
    compile_package()
    with tempfile.TemporaryDirectory() as folder:
        # A child's peak memory counts what this process held when it was started: first what
        # measures it.
        if arguments.pictures:
            compare_tables(Path(folder), arguments.pictures, arguments.runs, arguments.json)
        if arguments.records:
            compare(Path(folder), arguments.records, arguments.runs, arguments.json)
        if arguments.shapes:
            compare_shapes(
                Path(folder), arguments.shapes, arguments.each, arguments.runs, arguments.json
            )


def compare_tables(folder: Path, records: int, runs: int, as_json: bool) -> None:
    """Print what conversions of a Parquet file and of a tar take, pictures in them; those of a tar
    beside `webdataset` where it is installed.
    """
    for kind, format_name, peer in (
        ("parquet", "messages", "datasets"),
        ("tar", "llava", "webdataset"),
    ):
        source = folder / f"source.{kind}"
        run(child(f"write_{kind}", source, records))
        outputs = {"mmdata": folder / f"{kind} mmdata"}
        convert = [PYTHON, "-m", "mmdata", "convert", format_name, str(source)]
        calls = {"mmdata": [*convert, "--output", str(outputs["mmdata"])]}
        peers = [peer] if importlib.util.find_spec(peer) else []
        for name in peers:
            outputs[name] = folder / f"{kind} {name}"
            calls[name] = child(f"{name}_{kind}", source, outputs[name])

        # Most of what they do is moving memory and writing, of which the time varies most: also
        # with what the others have left, of which the system holds some gigabytes in memory.
        rounds = max(runs, _ROUNDS)
        taken = interleave(calls, runs=rounds, cores=1, before=partial(remove, outputs))

        remove(outputs)
        for call in calls.values() if peers else ():
            run(call)
        for name in peers:
            run(child("same_rows", outputs["mmdata"], outputs[name]))
        print(f"{kind}: {source.stat().st_size / 1e6:,.0f} MB", file=sys.stderr)
        print_rows(kind, taken, as_json)
        source.unlink()
        remove(outputs)


def remove(outputs: Mapping[str, Path], _: str = "") -> None:
    """Remove what all contestants have written, whichever is to run."""
    for output in outputs.values():
        shutil.rmtree(output, ignore_errors=True)


def print_rows(kind: str, taken: Mapping[str, Run], as_json: bool) -> None:
    """Print the figures of the conversions of a kind of source, ours beside the others'."""
    figures: dict[str, Callable[[Run], float]] = {
        "CPU": lambda one: one.cpu,
        "wall": lambda one: one.wall,
        "peak memory": lambda one: one.peak / 1e6,
    }
    peers = [name for name in taken if name != "mmdata"]
    for figure, read in figures.items():
        print_row(
            f"convert {kind}, {figure}",
            read(taken["mmdata"]),
            {name: read(taken[name]) for name in peers},
            "MB" if figure == "peak memory" else "s",
            peers,
            more_is_better=False,
            as_json=as_json,
        )


def compile_package() -> None:
    """Compile our modules where they are not: the peers' were when they were installed, and ours
    would be, too, but not in a checkout under `PYTHONDONTWRITEBYTECODE`.
    """
    import mmdata

    folders = [str(Path(module).parent) for module in (mmdata.__file__, __file__)]
    run([PYTHON, "-m", "compileall", "-q", *folders])


def compare_shapes(
    folder: Path, shapes: Sequence[str], records: int, runs: int, as_json: bool
) -> None:
    """Print a row for each shape of source:
    CPU seconds, and beside llava's for as many megabytes.
    """
    sources = {shape: write_shape(folder, shape, records) for shape in shapes}
    stores = {shape: folder / f"{shape} store" for shape in shapes}
    formats = {shape: TURNS[shape][0] if shape in TURNS else "coco" for shape in shapes}
    children = {
        shape: child("mmdata", formats[shape], sources[shape], stores[shape]) for shape in shapes
    }
    peer = folder / "duckdb.arrow"
    if "llava" in shapes:
        children["DuckDB"] = child("duckdb", sources["llava"], peer)

    taken = interleave(
        children,
        runs=runs,
        cores=1,
        before=lambda name: shutil.rmtree(stores.get(name, peer), ignore_errors=True),
    )

    if "llava" in shapes:
        assert_same_messages(stores["llava"], peer)
        beside = {"DuckDB": taken["DuckDB"].cpu}
        print_row(
            "convert llava, CPU",
            taken["llava"].cpu,
            beside,
            "s",
            ["duckdb"],
            more_is_better=False,
            as_json=as_json,
        )
    pace = {shape: taken[shape].cpu / sources[shape].stat().st_size for shape in shapes}
    for shape in shapes:
        ratio = pace[shape] / pace["llava"] if "llava" in pace else None
        print_shape(shape, taken[shape], sources[shape], stores[shape], ratio, as_json)


def write_shape(folder: Path, shape: str, records: int) -> Path:
    """Write the source of a shape into a folder of its own,
    where its format knows it by its name.
    """
    name, annotations, write = COCO.get(shape, ("records.json", 1, None))
    path = folder / shape / name
    path.parent.mkdir()
    if write is None:
        write_turns(path, shape, records)
    else:
        write(path, int(annotations * records))
    return path


def print_shape(
    shape: str, taken: Run, source: Path, store: Path, ratio: float | None, as_json: bool
) -> None:
    """Print what a conversion took; every record must have become a row."""
    import mmdata

    opened = mmdata.open(store)
    assert not list(opened.rejects()), f"{shape}: {next(iter(opened.rejects()))}"
    megabytes, rate = source.stat().st_size / 1e6, len(opened) / taken.cpu
    if as_json:
        row = {
            "name": f"convert {shape}",
            "cpu": taken.cpu,
            "megabytes": megabytes,
            "rows": len(opened),
        }
        print(json.dumps(row | {"rows_per_second": rate, "ratio_to_llava_per_megabyte": ratio}))
        return
    beside = f"   {ratio:.2f}x llava a megabyte" if ratio is not None else ""
    print(
        f"convert {shape}, CPU: {taken.cpu:.2f} s for {megabytes:.1f} MB and {len(opened):,} rows"
        f"   {rate:,.0f} rows/s{beside}"
    )


def assert_same_messages(store: Path, peer: Path) -> None:
    """See that DuckDB's first rows have the roles, texts and media of ours."""
    import pyarrow as pa

    import mmdata

    rows = pa.ipc.open_file(pa.memory_map(str(peer))).get_batch(0).slice(0, 100).to_pylist()
    for row, ours in zip(rows, mmdata.open(store), strict=False):
        theirs = [
            (each["role"], each["train"], [part["text"] for part in each["content"]])
            for each in row["messages"]
        ]
        assert theirs == [
            (each.role, each.train, [getattr(part, "text", None) for part in each.content])
            for each in ours.messages
        ], row["id"]
        assert (row["id"], row["media"][0]["path"]) == (ours.id, ours.media[0].path)


def compare(folder: Path, records: int, runs: int, as_json: bool) -> None:
    """Print the rows of this benchmark."""
    source, double = folder / "llava.json", folder / "double.json"
    write_turns(source, "llava", records)
    write_turns(double, "llava", 2 * records)
    megabytes = source.stat().st_size / 1e6
    print(f"{records:,} records, {megabytes:.0f} MB", file=sys.stderr)
    outputs = {"mmdata": folder / "store", "datasets": folder / "datasets"}
    taken = interleave(
        {
            "mmdata": child("mmdata", "llava", source, outputs["mmdata"]),
            "datasets": child("datasets", source, outputs["datasets"]),
        },
        runs=runs,
        cores=1,
        before=lambda name: shutil.rmtree(outputs[name], ignore_errors=True),
    )
    ours, theirs = taken["mmdata"], taken["datasets"]
    print_row(
        "convert, wall",
        megabytes / ours.wall,
        {"datasets": megabytes / theirs.wall},
        "MB/s",
        ["datasets"],
        more_is_better=True,
        as_json=as_json,
    )
    print_row(
        "convert, CPU",
        ours.cpu,
        {"datasets": theirs.cpu},
        "s",
        ["datasets"],
        more_is_better=False,
        as_json=as_json,
    )
    print_row(
        "convert, peak memory",
        ours.peak / 1e6,
        {"datasets": theirs.peak / 1e6},
        "MB",
        ["datasets"],
        more_is_better=False,
        as_json=as_json,
    )
    twice = run(child("mmdata", "llava", double, folder / "store2"), cores=1)
    print_row(
        "convert of twice the input, peak memory",
        twice.peak / 1e6,
        {},
        "MB",
        [],
        more_is_better=False,
        as_json=as_json,
    )
    ours_rate, their_rate = random_access(folder / "store", folder / "datasets")
    print_row(
        "random access",
        ours_rate,
        {"datasets": their_rate},
        "rows/s",
        ["datasets"],
        more_is_better=True,
        as_json=as_json,
    )


def child(name: str, *arguments: str | Path | int) -> list[str]:
    return [PYTHON, "-m", "benchmarks.convert", "--child", name, *map(str, arguments)]


def convert_with_mmdata(name: str, source: str, store: str) -> None:
    import mmdata

    mmdata.convert(name, source, store, check="none")


NORMALIZE = """
    SELECT
        id, 'llava' AS source, 'train' AS split,
        list_transform(conversations, lambda turn: {
            'role': CASE turn."from" WHEN 'human' THEN 'user' ELSE 'assistant' END,
            'content': list_concat(
                CASE WHEN contains(turn.value, '<image>')
                    THEN [{'type': 'image', 'text': NULL, 'media': 0}] ELSE [] END,
                [{
                    'type': 'text',
                    'text': trim(replace(turn.value, '<image>', ''), e' \\n'),
                    'media': NULL
                }]
            ),
            'train': turn."from" = 'gpt'
        }) AS messages,
        [{'type': 'image', 'path': image}] AS media
    FROM read_json(?, format = 'array', columns = {
        id: 'VARCHAR', image: 'VARCHAR', conversations: 'STRUCT("from" VARCHAR, "value" VARCHAR)[]'
    })
"""


def normalize_with_duckdb(source: str, out: str) -> None:
    import duckdb
    import pyarrow as pa

    connection = duckdb.connect(config={"threads": 1})
    reader = connection.execute(NORMALIZE, [source]).to_arrow_reader(65_536)
    assert reader is not None
    with pa.OSFile(out, "wb") as file, pa.ipc.new_file(file, reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)


def convert_with_datasets(source: str, out: str) -> None:
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "json", data_files=source, split="train", cache_dir=f"{out}/cache"
    )
    mapped = loaded.map(
        normalize, batched=True, remove_columns=loaded.column_names, features=tables.our_features()
    )
    mapped.save_to_disk(f"{out}/saved")


PART = {"type": None, "text": None, "media": None, "boxes": None, "start": None, "end": None}
MEDIUM = dict.fromkeys(
    "type path bytes width height duration fps num_frames start end times frame_times "
    "frames".split()
)


def normalize(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Bring a batch of LLaVA records to our columns, as a user of `datasets` would."""
    roles = {"human": "user", "gpt": "assistant"}
    messages = []
    for turns in batch["conversations"]:
        rows = []
        for turn in turns:
            content = []
            for number, text in enumerate(turn["value"].split("<image>")):
                if number:
                    content.append({**PART, "type": "image", "media": 0})
                if text.strip():
                    content.append({**PART, "type": "text", "text": text.strip()})
            rows.append(
                {"role": roles[turn["from"]], "content": content, "train": turn["from"] == "gpt"}
            )
        messages.append(rows)
    return {
        "id": batch["id"],
        "source": ["llava"] * len(messages),
        "split": ["train"] * len(messages),
        "messages": messages,
        "media": [[{**MEDIUM, "type": "image", "path": path}] for path in batch["image"]],
        "extra": ["{}"] * len(messages),
    }


PARTS = 20
CHILDREN: dict[str, Callable[..., None]] = {
    "mmdata": convert_with_mmdata,
    "datasets": convert_with_datasets,
    "duckdb": normalize_with_duckdb,
    **tables.CHILDREN,
}


def random_access(store: Path, out: Path) -> tuple[float, float]:
    """Return rows per second read at random places: conversations of ours, rows of `datasets`."""
    import datasets

    import mmdata

    ours, theirs = mmdata.open(store), datasets.load_from_disk(str(out / "saved"))
    assert [ours.table.slice(n, 1).to_pylist() for n in (0, 777)] == [
        [theirs[n]] for n in (0, 777)
    ], "not the same rows"
    places = random.Random(1).sample(range(len(ours)), len(ours))
    for read in (ours.__getitem__, theirs.__getitem__):
        seconds(read, places[:100])
    spent = [0.0, 0.0]
    for part in range(PARTS):  # by turns: a machine's speed changes within seconds
        some = places[part::PARTS]
        spent[0] += seconds(ours.__getitem__, some)
        spent[1] += 10 * seconds(theirs.__getitem__, some[: len(some) // 10])
    return len(places) / spent[0], len(places) / spent[1]


def seconds(read: Callable[[int], object], places: Sequence[int]) -> float:
    started = time.process_time()
    for place in places:
        read(place)
    return time.process_time() - started


if __name__ == "__main__":
    main()
