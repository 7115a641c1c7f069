"""Where files are: on this machine, in object storage, behind a URL; read alike wherever that is.

:func:`path_of` makes a path of what a call names. Of a URL it is a
:class:`mmdata.storage._path.RemotePath`, which has of :class:`pathlib.Path` what reading takes.
:func:`fetch` gets one file over HTTP. A :class:`MediaCache` keeps what was fetched of media.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mmdata.storage._access import Access
from mmdata.storage._cache import MediaCache
from mmdata.storage._path import path_of, remote_path

if TYPE_CHECKING:
    from mmdata.storage._http import fetch

__all__ = ["Access", "MediaCache", "fetch", "path_of", "remote_path"]


def __getattr__(name: str) -> Any:
    """Load what asks over HTTP when it is first used: it is a tenth of what a start takes."""
    if name == "fetch":
        from mmdata.storage._http import fetch

        return fetch
    raise AttributeError(f"module 'mmdata.storage' has no attribute {name!r}")
