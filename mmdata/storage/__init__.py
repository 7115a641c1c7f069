"""Where files are: on this machine, in object storage, behind a URL; read alike wherever that is.

:func:`path_of` makes a path of what a call names. Of a URL it is a
:class:`mmdata.storage._path.RemotePath`, which has of :class:`pathlib.Path` what reading takes.
:func:`fetch` gets one file over HTTP.
"""

from mmdata.storage._access import Access
from mmdata.storage._http import fetch
from mmdata.storage._path import path_of, remote_path

__all__ = ["Access", "fetch", "path_of", "remote_path"]
