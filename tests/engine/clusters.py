"""A Ray cluster that is there before those who use it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@contextmanager
def ray_cluster(patch: pytest.MonkeyPatch) -> Iterator[str]:
    """Give the address of a cluster that ``ray start`` has started and that ends with the block.

    In the block Ray keeps its files in a folder of its own, where ``auto`` finds the cluster, and
    asks for no token, which it would leave in the user's home.
    """
    # Not pytest's folder: a socket's path has at most 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="ray"))
    patch.setenv("RAY_TMPDIR", str(folder))
    patch.setenv("RAY_AUTH_MODE", "disabled")
    patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    patch.delenv("RAY_ADDRESS", raising=False)
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0"),
        *("--num-cpus=4", "--include-dashboard=false", f"--object-store-memory={80 << 20}"),
    ]
    # Its workers see the tests, whose jobs they do.
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    said = (folder / "said").open("wb")
    with said, subprocess.Popen(command, env=environment, stdout=said, stderr=said) as head:
        try:
            yield f"127.0.0.1:{port_of(head, folder)}"
        finally:
            head.terminate()  # with all that it has started
            head.wait(60)
    shutil.rmtree(folder)


def port_of(head: subprocess.Popen[bytes], folder: Path) -> int:
    """Return the port of a cluster, as soon as it says where it is."""
    address = folder / "ray" / "ray_current_cluster"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and head.poll() is None:
        if address.exists() and (text := address.read_text()):
            return int(text.rpartition(":")[2])
        time.sleep(0.05)
    raise RuntimeError((folder / "said").read_text())
