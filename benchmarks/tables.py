"""Tables and archives with the pictures in them, for `benchmarks.convert`: the sources, and what
converts them, beside `datasets` and `webdataset`.

All is generated: conversations as long as LLaVA-Instruct's, each with a picture of some 30 kB,
random bytes as JPEG's are to any packer. The same records stand in a Parquet file as the Hub has
them (`messages`, `images` as `{bytes, path}`, 1,000 rows a row group), and in a tar of `.jpg` and
`.json` (LLaVA's shape).

Each contestant brings them to the columns of a store, the pictures embedded and none decoded, in
files on disk, each in the way that its own documentation shows:

- `datasets` by `load_dataset("parquet")`, `.map` in batches and `save_to_disk`. The first two write
  Arrow files into its cache, the last one the folder that is kept: the pictures are written three
  times, as they are for whoever calls these.
- `webdataset` reads the samples of the tar as bytes, without its decoders; what it yields is
  written as Arrow record batches of 1,000 rows, once.
- We, by the command `mmdata convert`, write once, too, and do besides what neither does: the hash
  of the source and of what is written, ids that are unique, an account of every record, and all of
  it on disk (`fsync`) when the command ends.
"""

from __future__ import annotations

import importlib
import io
import json
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.sources import conversations

__all__ = ["CHILDREN", "our_features"]

GROUP = 1000
PICTURE = 30_000
PART = dict.fromkeys("type text media boxes start end name arguments call_id train".split())
MEDIUM = dict.fromkeys(
    "type path bytes width height duration fps num_frames start end times frame_times frames size "
    "hash frame_paths clock oddities".split()
)


def assert_same_rows(store: str, saved: str) -> None:
    """See that a peer's first rows have the roles, texts and pictures of ours."""
    import datasets

    import mmdata

    ours, peer = mmdata.open(store), Path(saved)
    assert not list(ours.rejects())
    rows = (
        datasets.load_from_disk(str(peer / "saved"))
        if (peer / "saved").exists()
        else datasets.Dataset.from_file(str(peer / "rows.arrow"))
    )
    assert len(rows) == len(ours)
    for number in range(20):
        one, other = ours[number], rows[number]
        assert (one.id, one.media[0].bytes) == (other["id"], other["media"][0]["bytes"])
        assert [
            (message.role, message.train, [getattr(part, "text", None) for part in message.content])
            for message in one.messages
        ] == [
            (message["role"], message["train"], [part["text"] for part in message["content"]])
            for message in other["messages"]
        ]


# --- sources
# ---------------------------------------------------------------------------------------------


def pictures() -> Iterator[bytes]:
    chance = random.Random(0)
    some = [chance.randbytes(PICTURE) for _ in range(256)]
    number = 0
    while True:
        yield number.to_bytes(4, "big") + some[number % len(some)]
        number += 1


def write_parquet(path: str, count: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    turn = pa.struct([("role", pa.string()), ("content", pa.string())])
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema(
        [("id", pa.string()), ("messages", pa.list_(turn)), ("images", pa.list_(image))]
    )
    rows: list[dict[str, Any]] = []
    records = int(count)
    with pq.ParquetWriter(path, schema) as writer:
        for (number, rounds), picture in zip(conversations(records), pictures(), strict=False):
            turns = said(rounds, "role", "content", ("user", "assistant"))
            images = [{"bytes": picture, "path": f"{number}.jpg"}]
            rows.append({"id": str(number), "messages": turns, "images": images})
            if len(rows) == GROUP or number == records - 1:
                writer.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows = []


def write_tar(path: str, count: str) -> None:
    with tarfile.open(path, "w") as archive:
        for (number, rounds), picture in zip(conversations(int(count)), pictures(), strict=False):
            key = f"{number:09d}"
            turns = said(rounds, "from", "value", ("human", "gpt"))
            record = {"id": key, "image": f"{key}.jpg", "conversations": turns}
            for suffix, data in (("jpg", picture), ("json", json.dumps(record).encode())):
                member = tarfile.TarInfo(f"{key}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def said(
    rounds: list[tuple[str, str]], speaker: str, words: str, roles: tuple[str, str]
) -> list[dict[str, str]]:
    """Return rounds as turns, the mark of the picture before the first question."""
    turns = [
        {speaker: role, words: text}
        for pair in rounds
        for role, text in zip(roles, pair, strict=True)
    ]
    turns[0][words] = f"<image>\n{turns[0][words]}"
    return turns


# --- contestants
# ---------------------------------------------------------------------------------------------


def convert_with_datasets(source: str, out: str) -> None:
    import datasets

    datasets.disable_progress_bars()
    loaded = datasets.load_dataset(
        "parquet", data_files=source, split="train", cache_dir=f"{out}/cache"
    )
    mapped = loaded.map(
        normalized,
        batched=True,
        remove_columns=loaded.column_names,
        features=our_features(),
    )
    mapped.save_to_disk(f"{out}/saved")


def normalized(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Bring a batch of records to our columns, as a user of `datasets` would."""
    messages = [
        [our_message(turn["role"], turn["content"]) for turn in turns]
        for turns in batch["messages"]
    ]
    media = [[our_medium(image["bytes"]) for image in images] for images in batch["images"]]
    return our_columns(batch["id"], messages, media)


def convert_with_webdataset(source: str, out: str) -> None:
    import pyarrow as pa

    Path(out).mkdir()
    samples = importlib.import_module("webdataset").WebDataset(source, shardshuffle=False)
    roles = {"human": "user", "gpt": "assistant"}
    schema = our_features().arrow_schema
    some: list[tuple[str, list[Any], list[Any]]] = []
    with pa.ipc.new_stream(f"{out}/rows.arrow", schema) as writer:

        def write() -> None:
            ids, messages, media = map(list, zip(*some, strict=True))
            columns = our_columns(ids, messages, media)
            arrays = [pa.array(columns[field.name], field.type) for field in schema]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
            some.clear()

        for sample in samples:
            record = json.loads(sample["json"])
            turns = record["conversations"]
            messages = [our_message(roles[turn["from"]], turn["value"]) for turn in turns]
            some.append((record["id"], messages, [our_medium(sample["jpg"])]))
            if len(some) == GROUP:
                write()
        if some:
            write()


def our_features() -> Any:
    """Return the columns of a store as `datasets` spells them, dictionaries as strings."""
    import datasets
    import pyarrow as pa

    from mmdata.store.encode import arrow_schema

    fields = [
        pa.field(f.name, pa.string()) if pa.types.is_dictionary(f.type) else f
        for f in arrow_schema()
    ]
    return datasets.Features.from_arrow_schema(pa.schema(fields))


def our_message(role: str, text: str) -> dict[str, Any]:
    content = []
    for number, words in enumerate(text.split("<image>")):
        if number:
            content.append({**PART, "type": "image", "media": 0})
        if words.strip():
            content.append({**PART, "type": "text", "text": words.strip()})
    return {"role": role, "content": content, "train": role == "assistant"}


def our_medium(data: bytes) -> dict[str, Any]:
    return {**MEDIUM, "type": "image", "bytes": data}


def our_columns(ids: list[Any], messages: list[Any], media: list[Any]) -> dict[str, list[Any]]:
    count = len(ids)
    return {
        "id": ids,
        "source": ["llava"] * count,
        "split": ["train"] * count,
        "messages": messages,
        "media": media,
        "extra": ["{}"] * count,
        "tools": [None] * count,
        "rejected": [None] * count,
        "desirable": [None] * count,
    }


CHILDREN: dict[str, Callable[..., None]] = {
    "write_parquet": write_parquet,
    "write_tar": write_tar,
    "datasets_parquet": convert_with_datasets,
    "webdataset_tar": convert_with_webdataset,
    "same_rows": assert_same_rows,
}
