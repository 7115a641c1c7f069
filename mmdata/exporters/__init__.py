"""Stores to the formats of other tools, one file a target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any

from mmdata._tools.options import defaults, typed
from mmdata._tools.registry import Registry
from mmdata.errors import MMDataError, PluginError, UsageError
from mmdata.exporters._exporter import Exporter, Row
from mmdata.exporters._features import FEATURES, Feature, UnsayableError
from mmdata.exporters._media import FramesMode, MediaMode, Paths, PlacedMedium
from mmdata.exporters._plain import PlainRows
from mmdata.exporters._writers import JsonWriter, Writer

__all__ = [
    "FEATURES",
    "Exporter",
    "Feature",
    "FramesMode",
    "JsonWriter",
    "MediaMode",
    "Paths",
    "PlacedMedium",
    "PlainRows",
    "Row",
    "UnsayableError",
    "Writer",
    "describe",
    "make",
    "registry",
    "summaries",
]

registry: Registry[type[Exporter]] = Registry(
    "mmdata.exporters", "exporter", besides=frozenset({"run"})
)


def make(name: str, options: Mapping[str, Any] | None = None) -> Exporter:
    """Return the exporter ``name`` with ``options``; text is read as the type an option has.

    Raises:
        UnknownNameError: there is no such exporter.
        UsageError: an option is unknown, or its value is not of its type.
        PluginError: another package brings the exporter, and it cannot be imported or made.
    """
    kind = registry.get(name)
    if options and not is_dataclass(kind):
        raise UsageError(f"{name} has no options, found {', '.join(options)}")
    settings = typed(kind, name, options) if options else {}
    try:
        return kind(**settings)
    except MMDataError:
        raise
    except Exception as error:  # of another package's class; ours check their options
        if (plugin := registry.plugin_of(kind)) is None:
            raise
        raise PluginError(f"{plugin} cannot be made: {type(error).__name__}: {error}") from error


def describe(name: str) -> str:
    """Return what an exporter writes, what it can say, and its options with their defaults, as
    text.

    Raises:
        UnknownNameError: there is no such exporter.
    """
    kind: Any = registry.get(name)
    unsaid = [feature for feature in FEATURES if feature not in kind.says]
    lines = [kind.summary, "", kind.shape, ""]
    lines.append(f"media: {', '.join(kind.media_modes)}")
    lines.append(f"can say: {', '.join(sorted(kind.says)) or 'texts and media alone'}")
    lines.append(f"cannot say (--drop leaves it out): {', '.join(unsaid) or 'nothing'}")
    if kind.read_by is not None:
        lines.append(f"read back by: mmdata convert {kind.read_by}")
    if is_dataclass(kind) and (options := defaults(kind)):
        lines += ["options:", *(f"  {option}={default}" for option, default in options.items())]
    return "\n".join(lines)


def summaries() -> dict[str, str]:
    """Return one line for every exporter by its name; of one that cannot be imported the line says
    why.
    """
    return {name: _summary(name) for name in registry.names()}


def _summary(name: str) -> str:
    try:
        return registry.get(name).summary
    except PluginError as error:
        return f"not available: {error}"
