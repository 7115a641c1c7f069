"""Faults in formats that other packages bring: they are told apart from ours, and name the
package.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from mmdata.errors import MMDataError, PluginError
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


@contextmanager
def blame_plugin(reader: Format) -> Iterator[None]:
    """Turn what a format of another package stumbles over into an error that names it.

    Raises:
        PluginError: with the format's own exception as its cause.
    """
    try:
        yield
    except (MMDataError, OSError):
        raise  # it says already what is wrong, and where
    except Exception as error:  # another package's code: whatever it stumbles over is its own fault
        plugin = plugin_of(reader)
        if plugin is None:
            raise
        raise PluginError(
            f"{plugin} is at fault: {type(error).__name__}: {error}. --strict shows its traceback."
        ) from error
