"""Converting a LLaVA-shaped JSON array, and reading rows back at random, beside Hugging Face `datasets`.

    python -m benchmarks.convert [--records 200000] [--json]

The file is generated: 200,000 records, some 250 MB. `datasets` loads it with `load_dataset("json")` and brings it to
the same shape with `.map` (batched); we convert it into a store without looking for the images. One core each. Then an
epoch's worth of conversations is read in random order, of `datasets` a tenth of it.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.measure import PYTHON, interleaved, options, print_row, run

WORDS = """the a person image shows standing near table with several objects including cup bottle chair background there
also large window light coming through seems cozy living room where people gather spend time together enjoying city
street car traffic bus red blue two men woman child playing ball field green grass sky cloud dog cat on of in and is are
to visible scene suggests appears while another located left right side front behind various positions""".split()


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        CHILDREN[arguments.child[0]](*map(Path, arguments.child[1:]))
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments.records, arguments.runs, arguments.json)


def compare(folder: Path, records: int, runs: int, as_json: bool) -> None:
    """Print the rows of this benchmark."""
    source, double = folder / "llava.json", folder / "double.json"
    write_source(source, records)
    write_source(double, 2 * records)
    megabytes = source.stat().st_size / 1e6
    print(f"{records:,} records, {megabytes:.0f} MB", file=sys.stderr)
    outputs = {"mmdata": folder / "store", "datasets": folder / "datasets"}
    taken = interleaved(
        {name: child(name, source, output) for name, output in outputs.items()},
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
        "convert, CPU", ours.cpu, {"datasets": theirs.cpu}, "s", ["datasets"], more_is_better=False, as_json=as_json
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
    twice = run(child("mmdata", double, folder / "store2"), cores=1)
    print_row(
        "convert of twice the input, peak memory", twice.peak / 1e6, {}, "MB", [], more_is_better=False, as_json=as_json
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


def child(name: str, *paths: Path) -> list[str]:
    return [PYTHON, "-m", "benchmarks.convert", "--child", name, *map(str, paths)]


def write_source(path: Path, records: int) -> None:
    """Write a JSON array of records shaped like LLaVA-Instruct's: one image, one to four rounds."""
    chance = random.Random(0)

    def words(fewest: int, most: int) -> str:
        return " ".join(chance.choices(WORDS, k=chance.randint(fewest, most)))

    with path.open("w") as file:
        for number in range(records):
            rounds = chance.choice([1, 1, 2, 3, 4])
            turns = []
            for turn in range(rounds):
                turns.append({"from": "human", "value": ("<image>\n" if turn == 0 else "") + words(6, 20)})
                turns.append({"from": "gpt", "value": words(20, 105)})
            record = {"id": f"{number:012d}", "image": f"coco/train2017/{number:012d}.jpg", "conversations": turns}
            file.write(("[\n" if number == 0 else ",\n") + json.dumps(record))
        file.write("\n]\n")


def convert_with_mmdata(source: Path, store: Path) -> None:
    import mmdata

    mmdata.convert("llava", source, store, check="none")


def convert_with_datasets(source: Path, out: Path) -> None:
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset("json", data_files=str(source), split="train", cache_dir=str(out / "cache"))
    mapped = loaded.map(normalised, batched=True, remove_columns=loaded.column_names, features=our_features())
    mapped.save_to_disk(str(out / "saved"))


def our_features():
    """Return the columns of a store as `datasets` spells them, dictionaries as strings."""
    import datasets
    import pyarrow as pa

    from mmdata.store.encode import arrow_schema

    fields = [pa.field(f.name, pa.string()) if pa.types.is_dictionary(f.type) else f for f in arrow_schema()]
    return datasets.Features.from_arrow_schema(pa.schema(fields))


PART = {"type": None, "text": None, "media": None, "boxes": None, "start": None, "end": None}
MEDIUM = dict.fromkeys(
    "type path bytes width height duration fps num_frames start end times frame_times frames".split()
)


def normalised(batch: dict[str, list]) -> dict[str, list]:
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
            rows.append({"role": roles[turn["from"]], "content": content, "train": turn["from"] == "gpt"})
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
CHILDREN: dict[str, Callable[..., None]] = {"mmdata": convert_with_mmdata, "datasets": convert_with_datasets}


def random_access(store: Path, out: Path) -> tuple[float, float]:
    """Return rows per second read at random places: conversations of ours, rows of `datasets`."""
    import datasets

    import mmdata

    ours, theirs = mmdata.open(store), datasets.load_from_disk(str(out / "saved"))
    assert [ours.table.slice(n, 1).to_pylist() for n in (0, 777)] == [[theirs[n]] for n in (0, 777)], (
        "not the same rows"
    )
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
