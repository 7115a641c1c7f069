"""Telling which format a source is."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from mmdata._tools.registry import Registry
from mmdata.errors import PluginError, UsageError
from mmdata.formats._format import Format, Sample
from mmdata.formats._sources import json_files
from mmdata.sources._json import has_whole_lines, records
from mmdata.sources._window import Window
from mmdata.sources.record import Record

__all__ = ["detect"]

_log: Final = logging.getLogger("mmdata")
_RECORDS: Final = 20
_HEAD: Final = 1000


def detect(registry: Registry[type[Format]], sources: Sequence[Path]) -> str:
    """Return the name of the one format that recognises the sources.

    Raises:
        UsageError: there is none, or there are several.
    """
    sample = _sample(sources)
    names = registry.names()
    found = [name for name in names if _recognises(registry, name, sample)]
    refined = {general for name in found for general in _refined_by(registry.get(name))}
    found = [name for name in found if name not in refined]
    if len(found) == 1:
        return found[0]
    which = f"could be {' or '.join(found)}" if found else "is none of " + ", ".join(names)
    keys = sorted({key for record in sample.records for key in record})
    seen = f"; its records have the fields {', '.join(keys)[:300]}" if keys else ""
    raise UsageError(f"{', '.join(map(str, sources))} {which}{seen}. Name the format.")


def _refined_by(kind: Any) -> frozenset[str]:
    """Return the formats of which one is a special case, which recognise what it recognises."""
    return kind.refines if hasattr(kind, "refines") else frozenset()


def _recognises(registry: Registry[type[Format]], name: str, sample: Sample) -> bool:
    """Return whether a format recognises a sample; what another package's stumbles over is logged,
    and counts as no.
    """
    try:
        kind: Any = registry.get(name)
    except PluginError as error:
        _log.warning("passed over: %s", error)
        return False
    if not hasattr(kind, "recognises"):
        return False  # a format need not: it is then found by its name alone
    try:
        return bool(kind.recognises(sample))
    except Exception as error:  # another package's code, which must not keep ours from being found
        plugin = registry.plugin_of(kind)
        if plugin is None:
            raise
        _log.warning(
            "passed over: %s cannot tell whether it recognises the sources: %r", plugin, error
        )
        return False


def _sample(sources: Sequence[Path]) -> Sample:
    try:
        file = json_files(sources)[0]
    except UsageError:
        if not all(source.is_dir() for source in sources):
            raise
        return Sample(sources)
    with Window(file) as window:
        head, whole = window.text[:_HEAD], _first_is_whole(window.text)
    first = (
        item.value
        for item in islice(records(file), _RECORDS if whole else 0)
        if isinstance(item, Record)
    )
    return Sample(sources, [value for value in first if isinstance(value, dict)], head)


def _first_is_whole(text: str) -> bool:
    """Return whether the file's records are smaller than the window: one object as large as a file
    is no record.
    """
    if not text.lstrip().startswith("{") or has_whole_lines(text):
        return True
    try:
        json.JSONDecoder().raw_decode(text.lstrip())
    except (ValueError, RecursionError):
        return False
    return True
