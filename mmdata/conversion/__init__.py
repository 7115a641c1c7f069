"""From a source to a store: media found and looked into,
ids settled, every record accounted for.

The names below are loaded when they are first used: a worker that looks into files needs none of
them, nor the formats that they load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmdata.conversion._convert import Check, ConvertReport, DuplicateIds, convert

__all__ = ["Check", "ConvertReport", "DuplicateIds", "convert"]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in __all__:
        raise AttributeError(f"module 'mmdata.conversion' has no attribute {name!r}")
    from mmdata.conversion import _convert

    return getattr(_convert, name)
