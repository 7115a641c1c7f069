"""Faults in formats that other packages bring: they are told apart from ours, and name the
package.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from mmdata._tools.registry import blame
from mmdata.formats import registry
from mmdata.formats._format import Format

__all__ = ["blame_plugin", "plugin_of"]


def plugin_of(reader: Format) -> str | None:
    """Return which package and entry point a format comes from; None for a format of ours."""
    kind = type(reader)
    if kind.__module__.partition(".")[0] == "mmdata":
        return None
    return (
        registry.plugin_of(kind)
        or f"the format {kind.__qualname__} of the module {kind.__module__}"
    )


def blame_plugin(reader: Format) -> AbstractContextManager[None]:
    """Return a context that turns what a format of another package stumbles over into an error that
    names it.

    Raises:
        PluginError: with the format's own exception as its cause.
    """
    return blame(lambda: plugin_of(reader))
