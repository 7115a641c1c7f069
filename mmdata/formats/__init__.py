"""Source formats, one file each; see :mod:`mmdata.formats._format` for what one is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmdata._tools.options import defaults, typed
from mmdata._tools.registry import Registry
from mmdata.formats import _detect
from mmdata.formats._format import Format, Origin, Sample
from mmdata.sources.record import Record

__all__ = ["Format", "Origin", "Record", "Sample", "describe", "detect", "make", "registry"]

registry: Registry[type[Format]] = Registry("mmdata.formats", "format", besides=frozenset({"export"}))


def make(name: str, options: Mapping[str, Any] | None = None) -> Format:
    """Return the format ``name`` with ``options``; text is read as the type an option has.

    Raises:
        UnknownNameError: there is no such format.
        UsageError: an option is unknown, or its value is not of its type.
    """
    kind = registry.get(name)
    return kind(**typed(kind, name, options or {}))


def describe(name: str) -> str:
    """Return what a format is, the shape of its sources, and its options with their defaults, as text."""
    kind = registry.get(name)
    options = [f"  {option}={default}" for option, default in defaults(kind).items()]
    return "\n".join([kind.summary, "", kind.shape, "", "options:", *options])


def detect(sources: Sequence[str | Path]) -> str:
    """Return the name of the one format that recognises the sources, files or folders, by their first records.

    Raises:
        UsageError: there is none, or there are several; the message says what was seen.
    """
    return _detect.detect(registry, [Path(source) for source in sources])
