"""What an installation may lack: the packages of extras,
and what Linux has and other systems have not.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import Any

from mmdata._tools.options import checked
from mmdata.errors import UsageError

__all__ = ["load_optional", "load_posix", "processors"]


@checked
def load_optional(module: str, *, needed_by: str, extra: str | None = None) -> Any:
    """Return a module of a package that is installed with an ``extra``, by default that of its
    name.

    Raises:
        UsageError: it is not installed, or it is MindSpore and decord has been imported before it.
    """
    package = module.partition(".")[0]
    # decord 0.6 brings a C++ runtime of its own. If it is loaded first, importing MindSpore 2.10
    # aborts the interpreter ("random_device could not be read"); the other order works.
    if package == "mindspore" and package not in sys.modules and sys.modules.get("decord"):
        raise UsageError(
            f"{needed_by} cannot import mindspore in a process that has imported decord, which "
            "would end it: import mindspore before decord is used, or decode by backend='av'"
        )

    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"{needed_by} needs {package}: pip install 'mmdata-arrow[{extra or package}]' ({error})"
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
