"""Makes the store of this folder. It was run once,
by the last library that wrote schema version 2.

    python -m tests.store.stores_v2.make FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

from mmdata.schema import SCHEMA_VERSION
from mmdata.store.writer import Origin, StoreWriter
from tests.store.stores_v2.rows import ROWS


def main(folder: Path) -> None:
    """Write the store."""
    version: int = SCHEMA_VERSION
    assert version == 2, "the store of version 2 was made by the code of then"
    with StoreWriter(
        folder / "arrow", sources=["a"], origin=Origin("test", {}, media_root="/data")
    ) as writer:
        writer.write_conversations(ROWS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
