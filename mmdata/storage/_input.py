"""Files as Arrow reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mmdata.storage._file import Spool
from mmdata.storage._path import RemotePath

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["open_input", "open_mapped"]


def open_input(path: Path) -> pa.NativeFile:
    """Open a file for Arrow to read."""
    import pyarrow as pa

    if isinstance(path, RemotePath):
        # Through our own reader and not through Arrow's: it tries again, and tells a fault of the
        # network from one of the file.
        return pa.PythonFile(path.open_range(), "r")
    return pa.OSFile(str(path))


def open_mapped(path: Path, *, keep: int = 0) -> pa.NativeFile:
    """Open a file for Arrow to read, mapped into memory where it is on this machine; of another,
    up to ``keep`` bytes that were fetched are kept on the disk of this one.
    """
    import pyarrow as pa

    if not isinstance(path, RemotePath):
        return pa.memory_map(str(path))
    return pa.PythonFile(path.open_range(spool=Spool(keep) if keep else None), "r")
