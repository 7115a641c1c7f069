"""What an installation may lack: the packages of extras,
and what Linux has and other systems have not.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

from mmdata._tools.options import checked
from mmdata.errors import UsageError

__all__ = ["load_optional", "load_posix", "processors"]


@checked
def load_optional(module: str, *, needed_by: str) -> Any:
    """Return a module of a package that is installed with the extra of its name.

    Raises:
        UsageError: it is not installed.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{needed_by} needs {package}: pip install 'mmdata-arrow[{package}]' ({error})"
        ) from error


@checked
def load_posix(module: str, *, needed_by: str) -> Any:
    """Return a module of the standard library that Windows has not.

    Raises:
        UsageError: this system has not got it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{needed_by} needs Linux: this system has no {module}. Under Windows, use WSL."
        ) from error


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
