"""Multimodal fine-tuning data:
any source in, one Arrow conversation store out, every record accounted for.

The names below are loaded when they are first used, so that importing the package costs next to
nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from mmdata.conversion import ConvertReport, convert
    from mmdata.errors import MMDataError
    from mmdata.exporters.run import ExportReport, export
    from mmdata.hub import to_datasets
    from mmdata.mixture import Mixture
    from mmdata.report import preview, stats
    from mmdata.schema import Conversation
    from mmdata.store import Store, check, open  # noqa: A004

__version__ = "0.2.0"

__all__ = [
    "Conversation",
    "ConvertReport",
    "ExportReport",
    "MMDataError",
    "Mixture",
    "Store",
    "check",
    "convert",
    "export",
    "open",
    "preview",
    "stats",
    "to_datasets",
]

_HOMES: Final = {
    "Conversation": "mmdata.schema",
    "ConvertReport": "mmdata.conversion",
    "ExportReport": "mmdata.exporters.run",
    "MMDataError": "mmdata.errors",
    "Mixture": "mmdata.mixture",
    "Store": "mmdata.store",
    "check": "mmdata.store",
    "convert": "mmdata.conversion",
    "export": "mmdata.exporters.run",
    "open": "mmdata.store",
    "preview": "mmdata.report",
    "stats": "mmdata.report",
    "to_datasets": "mmdata.hub",
}
_ROOMS: Final = frozenset(
    (
        "exporters",
        "formats",
        "image",
        "mixture",
        "pipeline",
        "schema",
        "templates",
        "tokenizers",
        "video",
    )
)


def __getattr__(name: str) -> Any:
    """Load a public name, or a room, when it is first used."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return import_module(f"mmdata.{name}")
    raise AttributeError(f"module 'mmdata' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names and the rooms."""
    return sorted({*globals(), *__all__, *_ROOMS})
