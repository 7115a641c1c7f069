"""Workers of a Ray cluster; the only module that imports Ray."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import mmdata
from mmdata._tools.options import PositiveInt, checked
from mmdata._tools.requirements import load_optional, processors
from mmdata.engine.engine import LostWorkerError
from mmdata.engine.local import answer_message, rebuild_outcome
from mmdata.errors import UsageError

__all__ = ["RayEngine"]

_OBJECT_STORE: Final = 256 << 20
"""Bytes of shared memory of a cluster on this machine; more results wait on disk."""


class RayEngine:
    """Tasks on a Ray cluster: the one at ``address``, or one that is started on this machine and
    ends with the engine.

    A worker needs nothing of this machine but the code of this package, which travels with the
    jobs. Plug-ins do not: they are to be installed there.

    Raises:
        UsageError: Ray is not installed, or there is no cluster at ``address``.
    """

    shares_files = False

    @checked
    def __init__(self, *, workers: PositiveInt | None = None, address: str | None = None) -> None:
        ray = self._ray = load_optional("ray", needed_by="--engine ray")
        # An engine that finds Ray started, by its caller, uses that and leaves it.
        self._is_own = not ray.is_initialized()
        if self._is_own:
            self._start(address, workers)
        resources: dict[str, float] = ray.cluster_resources()
        self.workers = workers or max(1, int(resources.get("CPU", 1)))
        # Ray would try again by itself, and never tell that a job kills its workers.
        self._remote = ray.remote(num_cpus=1, max_retries=0)(answer_message)
        self._running: dict[Any, int] = {}
        self._submitted = 0

    def _start(self, address: str | None, workers: int | None) -> None:
        options: dict[str, Any] = {
            "include_dashboard": False,
            "log_to_driver": False,
            "logging_level": logging.ERROR,
            "configure_logging": False,
        }
        if address is None:
            # Its workers see the modules that this process does.
            path = os.pathsep.join(filter(None, sys.path))
            options |= {
                # Without, Ray looks for a cluster that runs already, and refuses what follows.
                "address": "local",
                "num_cpus": workers or processors(),
                "object_store_memory": _OBJECT_STORE,
                "runtime_env": {"env_vars": {"PYTHONPATH": path}},
            }
        else:
            package = str(Path(mmdata.__file__).parent)
            options |= {"address": address, "runtime_env": {"py_modules": [package]}}
        try:
            self._ray.init(**options)
        except (ConnectionError, ValueError) as error:
            raise UsageError(f"no Ray cluster at {address}: {error}{_hint(error)}") from error

    def submit(self, job: Callable[..., Any], *args: Any) -> int:
        """Take a job; return the number by which its result will be called."""
        self._submitted += 1
        # Pickled here: what a worker lacks to read it is then said by us.
        self._running[self._remote.remote(pickle.dumps((job, args)))] = self._submitted
        return self._submitted

    def next_result(self) -> tuple[int, Any]:
        """Return the number of a job that has ended, and what it returned or raised."""
        (ready, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        number = self._running.pop(ready)
        faults = self._ray.exceptions
        try:
            return number, rebuild_outcome(self._ray.get(ready))
        except faults.OutOfMemoryError as error:
            return number, LostWorkerError(f"a worker was lost: {error}", reason="media_limit")
        except (faults.WorkerCrashedError, faults.NodeDiedError, faults.ObjectLostError) as error:
            return number, LostWorkerError(f"a worker was lost: {error}")

    def close(self) -> None:
        """Let go of the cluster; one that was started for this engine ends."""
        if self._is_own:
            self._ray.shutdown()

    def __enter__(self) -> RayEngine:
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        self.close()


def _hint(error: BaseException) -> str:
    """Return what to do about a cluster that wants a token: Ray says so in a cause of a cause."""
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(type(cause).__name__)
        cause = cause.__cause__
    if "AuthenticationError" not in causes:
        return ""
    return (
        ". It wants a token, and Ray sends none to an address unless RAY_AUTH_MODE=token is set in "
        "this process: https://docs.ray.io/en/latest/ray-security/token-auth.html"
    )
