"""Several processes of MindSpore on this machine, started by msrun."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def start(count: int, command: Sequence[str], logs: Path) -> subprocess.Popen[str]:
    """Start so many Python processes with the same arguments; msrun calls the first `python` on the
    path, and writes what each says to a file in `logs`.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = [f"--worker_num={count}", f"--local_worker_num={count}", f"--master_port={port}"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.Popen(
        ["msrun", *options, f"--log_dir={logs}", "--join=True", "python", *command],
        cwd=ROOT,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(count: int, command: Sequence[str], logs: Path, timeout: float = 500) -> list[str]:
    """What each of so many processes has said, once all have ended well."""
    job = start(count, command, logs)
    try:
        said, _ = job.communicate(timeout=timeout)
    finally:
        job.terminate()  # which ends the workers of an msrun that hangs
    heard = [(logs / f"worker_{rank}.log").read_text() for rank in range(count)]
    assert job.returncode == 0, (said[-1000:], [each[-3000:] for each in heard])
    return heard
