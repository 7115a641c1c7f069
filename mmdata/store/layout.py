"""What a store is called on disk, and one that is being written:
enough to know them from outside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["EXPORT", "EXPORT_REJECTS", "MANIFEST", "REJECTS", "RUNS", "is_store", "partial_path"]

MANIFEST: Final = "manifest.json"
REJECTS: Final = "rejects.jsonl"
RUNS: Final = "runs"
"""Where in object storage the files of a store are, below the name of the run that wrote them."""
EXPORT: Final = "mmdata-export.json"
"""The account of an export, beside the files that another tool reads."""
EXPORT_REJECTS: Final = "mmdata-rejects.jsonl"
"""The rows that an export has not written, where there are any."""
_PREFIX, _SUFFIX = ".", ".partial"


def partial_path(path: Path) -> Path:
    """Return where the store ``path`` is filled before it is published."""
    return path.with_name(f"{_PREFIX}{path.name}{_SUFFIX}")


def is_store(folder: Path) -> bool:
    """Return whether ``folder`` looks like a store, or like one that is being written."""
    is_partial = folder.name.startswith(_PREFIX) and folder.name.endswith(_SUFFIX)
    return is_partial or ((folder / MANIFEST).is_file() and (folder / REJECTS).is_file())
