"""The command in processes that begin where its imports have ended, to be killed at any moment, or
run with a package that is installed for it alone.

Each is forked from one that has imported everything and done nothing: half of a short run of the
command would else be imports, during which there is nothing that a kill could hurt.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Forks", "run_forks"]

_ROOT: Final = Path(__file__).parents[1]
_SILENCE: Final = Path(os.devnull)
_SERVER: Final = """
import json, os, sys
import mmdata.cli, mmdata.conversion, mmdata.pipeline, mmdata.store, pyarrow.fs, boto3

for line in sys.stdin:
    arguments, environment, folder, paths, outputs = json.loads(line)
    child = os.fork()
    if not child:
        for descriptor, file in enumerate(outputs, 1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
        os.environ.update(environment)
        os.chdir(folder)
        sys.path[:0] = paths
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

    def complete(
        self, folder: Path, paths: Sequence[Path], *arguments: str
    ) -> subprocess.CompletedProcess[str]:
        """Run the command to its end in a folder, with more places to import from; return what it
        said.
        """
        with tempfile.TemporaryDirectory() as name:
            outputs = [Path(name, "stdout"), Path(name, "stderr")]
            self._start(arguments, folder, paths, outputs)
            code = self._wait()
            said = [output.read_text(encoding="utf-8") for output in outputs]
        return subprocess.CompletedProcess(arguments, code, *said)

    def kill(self, *arguments: str, after: float) -> None:
        """Start the command, and kill it after so many seconds."""
        process = self._start(arguments)
        time.sleep(after)
        os.kill(process, signal.SIGKILL)
        self._wait()

    def _start(
        self,
        arguments: tuple[str, ...],
        folder: Path = _ROOT,
        paths: Sequence[Path] = (),
        outputs: Sequence[Path] = (_SILENCE, _SILENCE),
    ) -> int:
        # Whatever the folder, it and the processes that it starts import what is here.
        places = [list(map(str, each)) for each in ((*paths, _ROOT), outputs)]
        return int(self._ask(json.dumps([arguments, dict(os.environ), str(folder), *places])))

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
        cwd=_ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        yield Forks(server)
