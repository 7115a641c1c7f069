"""What is no JSON at all is refused as what it is, once; what is JSON, however damaged, is read."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.orc
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import mmdata
from mmdata.errors import UsageError
from mmdata.formats import registry
from mmdata.sources._sniff import binary_kind
from tests.source_files import record
from tests.video.clips import clip

RECORDS = [record(number) for number in range(50)]
TEXT = json.dumps(RECORDS).encode()
TABLE = pa.table({"id": ["a", "b"], "n": [1, 2]})


def tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        info = tarfile.TarInfo("source.json")
        info.size = len(TEXT)
        archive.addfile(info, io.BytesIO(TEXT))
    return file.getvalue()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("source.json", TEXT)
    return file.getvalue()


def written_by_arrow(kind: str) -> bytes:
    file = io.BytesIO()
    match kind:
        case "parquet":
            pq.write_table(TABLE, file)
        case "orc":
            pyarrow.orc.write_table(TABLE, file)
        case _:
            new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
            with new(file, TABLE.schema) as writer:
                writer.write_table(TABLE)
    return file.getvalue()


def database(folder: Path) -> bytes:
    with sqlite3.connect(folder / "database") as opened:
        opened.execute("create table t (id)")
    opened.close()
    return (folder / "database").read_bytes()


def saved(kind: str) -> bytes:
    file = io.BytesIO()
    if kind == "numpy":
        np.save(file, np.zeros(3))
    else:
        Image.new("RGB", (8, 8)).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return {
        "a tar archive": tar(),
        "a zip archive": zipped(),
        "a Parquet file": written_by_arrow("parquet"),
        "an Arrow file": written_by_arrow("file"),
        "an Arrow stream": written_by_arrow("stream"),
        "a Feather file": b"FEA1" + random.Random(0).randbytes(100),
        "an ORC file": written_by_arrow("orc"),
        "an SQLite database": database(tmp_path_factory.mktemp("sqlite")),
        "a NumPy array": saved("numpy"),
        "packed with bzip2": bz2.compress(TEXT),
        "packed with xz": lzma.compress(TEXT),
        "a PNG picture": saved("png"),
        "a JPEG picture": saved("jpeg"),
        "a GIF picture": saved("gif"),
        "a RIFF file": saved("webp"),
        "an MP4 video": clip("h264", "mp4", range(3)),
        "a Matroska or WebM video": clip("h264", "matroska", range(3)),
        "packed twice with gzip": gzip.compress(gzip.compress(TEXT)),
        "nothing but zero bytes": bytes(10_000),
        "a binary file": random.Random(0).randbytes(10_000),
    }


def test_a_binary_source_is_named_as_what_it_is_and_nothing_is_written(
    binaries: dict[str, bytes], tmp_path: Path
) -> None:
    for kind, data in binaries.items():
        for name, packed in (
            ("x.json", data),
            ("x.jsonl.gz", gzip.compress(data)),
            ("x", zstandard.compress(data)),
        ):
            (tmp_path / name).write_bytes(packed)
            with pytest.raises(UsageError, match=rf"{name} is .*not JSON") as caught:
                mmdata.convert("llava", tmp_path / name, tmp_path / "store", check="none")
            assert kind in str(caught.value)
            assert not (tmp_path / "store").exists()


def test_every_format_that_reads_json_refuses_it(
    binaries: dict[str, bytes], tmp_path: Path
) -> None:
    (tmp_path / "x.json").write_bytes(binaries["a Parquet file"])

    for name in sorted({*registry.names(), "auto"} - {"rwf2000"}):
        with pytest.raises(UsageError, match="is a Parquet file, not JSON"):
            mmdata.convert(name, tmp_path / "x.json", tmp_path / "store", check="none")


def test_a_binary_file_in_a_folder_costs_one_reject_that_names_it(
    binaries: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "sound.json").write_bytes(TEXT)
    for number, data in enumerate(binaries.values()):
        (folder / f"{number:02}.json").write_bytes(data)

    report = mmdata.convert("llava", folder, tmp_path / "store", check="none")

    assert (report.rows, sum(report.rejects.values())) == (len(RECORDS), len(binaries))
    for kind, reject in zip(binaries, mmdata.open(tmp_path / "store").rejects(), strict=True):
        assert kind in reject["detail"]


@given(st.data())
def test_damaged_json_stays_json(data: st.DataObject) -> None:
    text = bytearray(
        json.dumps(RECORDS[:3], ensure_ascii=False).encode(
            data.draw(st.sampled_from(["utf-8", "gbk"]))
        )
    )
    for place in data.draw(st.lists(st.integers(0, len(text) - 1), max_size=16, unique=True)):
        text[place] = data.draw(st.integers(0, 255))

    assert binary_kind(bytes(text)) is None or bytes(text).startswith((b"BZh", b"ORC", b"\x1f\x8b"))


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gbk", "latin-1"],
)
@pytest.mark.parametrize(
    "text",
    ["[]", "", " ", '\n [{"a": 1}]', '{"a": "\\u0000"}', "hello", '[ {"ftyp": 1}]', "{}\n{}"],
)
def test_text_in_any_encoding_is_not_binary(text: str, encoding: str) -> None:
    assert binary_kind(text.encode(encoding)) is None


def test_json_that_holds_the_letters_of_a_tar_header_is_json() -> None:
    text = json.dumps([{"a": "x" * 249 + "ustar"}]).encode()
    assert text[257:].startswith(b"ustar")

    assert binary_kind(text) is None
