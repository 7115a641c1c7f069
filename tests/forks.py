"""The command in processes that begin where its imports have ended, to be killed at any moment.

Each is forked from one that has imported everything and done nothing: half of a short run of the
command would else be imports, during which there is nothing that a kill could hurt.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Forks", "run_forks"]

_SERVER: Final = """
import json, os, sys, mmdata.cli, mmdata.conversion, mmdata.store, pyarrow.fs, boto3

silence = os.open(os.devnull, os.O_WRONLY)
for line in sys.stdin:
    arguments, environment = json.loads(line)
    child = os.fork()
    if not child:
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        os.environ.update(environment)
        sys.argv = ["mmdata", *arguments]
        mmdata.cli.main()
    print(child, flush=True)
    sys.stdin.readline()  # until then what has ended keeps its number
    print(os.waitpid(child, 0)[1], flush=True)
"""


@dataclass(frozen=True)
class Forks:
    """Starts the command, one process after the other."""

    server: subprocess.Popen[str]

    def run(self, *arguments: str) -> float:
        """Run the command to its end; return how many seconds it took."""
        started = time.monotonic()
        self._start(arguments)
        code = self._wait()
        assert code == 0, arguments
        return time.monotonic() - started

    def kill(self, *arguments: str, after: float) -> None:
        """Start the command, and kill it after so many seconds."""
        process = self._start(arguments)
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
        self._wait()

    def _start(self, arguments: tuple[str, ...]) -> int:
        return int(self._ask(json.dumps([arguments, dict(os.environ)])))

    def _wait(self) -> int:
        return os.waitstatus_to_exitcode(int(self._ask("")))

    def _ask(self, line: str) -> str:
        assert self.server.stdin is not None and self.server.stdout is not None
        self.server.stdin.write(f"{line}\n")
        self.server.stdin.flush()
        return self.server.stdout.readline()


@contextmanager
def run_forks() -> Iterator[Forks]:
    """Run the process that others are forked from."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        cwd=Path(__file__).parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        yield Forks(server)
