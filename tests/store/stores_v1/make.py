"""Makes the stores of this folder. It was run once,
by the last library that wrote schema version 1.

    python -m tests.store.stores_v1.make FOLDER

``FOLDER`` gets what lies beside this file: stores as they are on people's disks, which later
versions must open.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from mmdata import writer
from mmdata.frame_cache import cache_frames
from mmdata.schema import SCHEMA_VERSION
from mmdata.store.manifest import SourceFile
from mmdata.store.writer import Origin, StoreWriter
from tests.store.stores_v1.rows import CLIPS, REJECTS, ROWS
from tests.video.clips import clip


def main(folder: Path) -> None:
    """Write every store; run in a folder whose absolute name may be kept in them."""
    version: int = SCHEMA_VERSION
    assert version == 1, "the stores of version 1 were made by the code of then"
    writer._BATCH_ROWS = 2  # several batches
    writer._SHARD_BYTES = 2000  # and shards
    (folder / "clip.mp4").write_bytes(clip("h264", "mp4", range(10), b_frames=2))
    for name in ("arrow", "parquet"):
        _write(folder / name, ROWS, REJECTS)
    _write(folder / "empty", (), ())
    _write(folder / "clips", CLIPS, ())
    os.chdir(folder)
    cache_frames("clips", "frames", "uniform:4", codec="webp", media_root="/data")


def _write(path: Path, rows: tuple[object, ...], rejects: tuple[object, ...]) -> None:
    origin = Origin(
        "messages",
        {"source": "a"},
        media_root="/data",
        files=(SourceFile("/data/source.json", 1234, "0123456789abcdef"),),
        notes={"check": "none", "renamed_ids": 0},
    )
    store = StoreWriter(
        path, sources=["a", "b", "clips"], origin=origin, parquet=path.name == "parquet"
    )
    with store:
        for row in rows:
            store.write(row)  # type: ignore[arg-type]
        for reject in rejects:
            store.reject(reject)  # type: ignore[arg-type]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
