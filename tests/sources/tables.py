"""Records written as every kind of source, so that tests can compare what comes of each."""

from __future__ import annotations

import base64
import csv
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mmdata.sources.kinds import Kind

SUFFIX: dict[str, str] = {
    "parquet": ".parquet",
    "arrow file": ".arrow",
    "arrow stream": ".arrow",
    "csv": ".csv",
    "tar": ".tar",
    "tar.gz": ".tar.gz",
}
KIND_OF: dict[str, Kind] = {
    "parquet": "parquet",
    "arrow file": "arrow",
    "arrow stream": "arrow",
    "csv": "csv",
    "tar": "tar",
    "tar.gz": "tar",
}


def picture(number: int) -> bytes:
    """Return a small PNG that is another for every number."""
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (number % 256, number // 256 % 256, 9)).save(file, "PNG")
    return file.getvalue()


def chat(number: int, **changes: Any) -> dict[str, Any]:
    """Return a chat record that says its number, with its picture in it as a table holds it."""
    turns = [
        {"role": "user", "content": f"<image>What is {number}?"},
        {"role": "assistant", "content": f"It is {number}."},
    ]
    images = [{"bytes": picture(number), "path": f"{number}.png"}]
    return {"id": f"r{number}", "messages": turns, "images": images, **changes}


def as_json(value: Any) -> Any:
    """Return a value with its bytes in base64."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value


def write_lines(path: Path, records: Sequence[Mapping[str, Any]]) -> Path:
    """Write records as JSON Lines."""
    lines = [json.dumps(as_json(dict(record)), ensure_ascii=False) + "\n" for record in records]
    path.write_text("".join(lines), encoding="utf-8")
    return path


def write(path: Path, kind: str, records: Sequence[Mapping[str, Any]], *, rows: int = 3) -> Path:
    """Write records as a file of a kind; ``rows`` are in each row group or record batch."""
    match kind:
        case "csv":
            write_csv(path, records)
        case "tar" | "tar.gz":
            write_tar(path, [sample(record) for record in records])
        case "parquet":
            pq.write_table(pa.Table.from_pylist(list(records)), path, row_group_size=rows)
        case _:
            table = pa.Table.from_pylist(list(records))
            new = pa.ipc.new_file if kind == "arrow file" else pa.ipc.new_stream
            with new(path, table.schema) as writer:
                writer.write_table(table, max_chunksize=rows)
    return path


def write_csv(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    names = list(dict.fromkeys(name for record in records for name in record))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        for record in records:
            spelled = as_json(dict(record))
            writer.writerow(
                {
                    name: cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False)
                    for name, cell in spelled.items()
                }
            )


def sample(record: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the members of the sample that a chat record is in a WebDataset."""
    key = record["id"]
    pictures = {
        f"{key}.{number}.png": image["bytes"]
        for number, image in enumerate(record.get("images") or ())
    }
    value = {**record, "images": list(pictures)}
    return {**pictures, f"{key}.json": json.dumps(value).encode()}


def write_tar(path: Path, samples: Sequence[Mapping[str, bytes]]) -> Path:
    """Write samples, each a mapping from names to bytes, as an archive."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for members in samples:
            for name, data in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path
