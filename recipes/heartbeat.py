"""What a worker tells the launcher that started it: that it goes on, and where it stands.

Alone, without `recipes.launch`, a process has nobody to tell, and nothing happens here.
"""

from __future__ import annotations

import faulthandler
import os
import signal
from pathlib import Path

VARIABLE = "RECIPES_HEARTBEAT"  # the environment's name for the file that a worker writes to


def watched_file() -> Path | None:
    """The file that the launcher looks at; None for a process that none has started."""
    file = os.environ.get(VARIABLE)
    return None if file is None else Path(file)


def begin() -> None:
    """Let the launcher ask where this process hangs:
    at SIGUSR1 the stack of every thread goes to the log.
    """
    if watched_file() is not None:
        # In C, so that it answers inside a collective too, where Python's own handlers never run.
        faulthandler.register(signal.SIGUSR1, all_threads=True)


def beat(step: int) -> None:
    """Say that this process has made so many steps."""
    if (file := watched_file()) is not None:
        file.write_text(str(step))
