"""The command in the process of the test: what it prints, where, and how it leaves."""

from __future__ import annotations

import atexit
import gc
import io
import signal
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from mmdata.cli import _spare_last_collection, main


def mmdata(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in this process, from its arguments to its exit code."""
    command = ["mmdata", *arguments]
    printed, complained = io.StringIO(), io.StringIO()
    # These the command takes over.
    on_sigterm = signal.getsignal(signal.SIGTERM)
    thresholds = gc.get_threshold()

    with (
        pytest.MonkeyPatch.context() as patch,
        redirect_stdout(printed),
        redirect_stderr(complained),
        pytest.raises(SystemExit) as left,
    ):
        patch.chdir(folder)
        patch.setattr(sys, "argv", command)
        patch.setenv("MIMALLOC_PURGE_DELAY", "-1")
        try:
            main()
        finally:
            signal.signal(signal.SIGTERM, on_sigterm)
            gc.set_threshold(*thresholds)
            atexit.unregister(_spare_last_collection)

    code = left.value.code
    assert isinstance(code, int)
    return subprocess.CompletedProcess(command, code, printed.getvalue(), complained.getvalue())
