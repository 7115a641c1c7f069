"""Files as Arrow reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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


def open_mapped(path: Path) -> pa.NativeFile:
    """Open a file for Arrow to read, mapped into memory where it is on this machine."""
    import pyarrow as pa

    return open_input(path) if isinstance(path, RemotePath) else pa.memory_map(str(path))
