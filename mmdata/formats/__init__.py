"""Source formats, one file each; see :mod:`mmdata.formats._format` for what one is."""

from __future__ import annotations

from mmdata.formats._format import Format
from mmdata.registry import Registry

__all__ = ["Format", "registry"]

registry: Registry[type[Format]] = Registry("mmdata.formats", "format", besides=frozenset({"export"}))
