"""A process that has imported what workers need, and forks them: to start one takes milliseconds.

Python takes half a second to start and to import what decodes, and each worker would take it again.
The process that asks for workers may have threads, with which it must not fork; this one has none,
and reads nothing that is not its own. It ends with whoever started it.

A worker that asks for workers itself does so of the same process. Each comes with a channel, on
which whoever asked for it learns how it has ended, as a parent does, and can end it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from typing import Final, NamedTuple

__all__ = [
    "Process",
    "environment_of_workers",
    "fork_worker",
    "import_all",
    "serve_forks",
]

_STATUS: Final = struct.Struct("i")
_MOST_BYTES: Final = 1 << 16  # of a request, which has the names of a few modules
_FILES: Final = 4  # with it: the pipe, where the end is told, standard output and error
_END: Final = b"end"
_SECONDS_TO_END: Final = 5.0
_SERVE: Final = (
    "from mmdata.engine.fork_server import serve_forks\n"
    "from mmdata.engine.local import serve_jobs\n"
    "serve_forks({}, serve_jobs)"
)


class Process:
    """A worker that another process has forked, as :class:`subprocess.Popen` has its own.

    ``server`` is that other one, where this process has started it.
    """

    def __init__(self, channel: socket.socket, server: subprocess.Popen[bytes] | None) -> None:
        self._channel = channel
        self._server = server
        self._status: int | None = None

    def wait(self) -> int:
        """Return the exit status, negative for a signal, when the process has ended."""
        if self._status is None:
            try:
                told = self._channel.recv(_STATUS.size)
            except ConnectionResetError:  # it was not read any more that it shall end
                told = self._channel.recv(_STATUS.size)
            self._channel.close()
            if told:
                [self._status] = _STATUS.unpack(told)
            else:  # nobody is left to tell
                self._status = -signal.SIGKILL
                with suppress(subprocess.TimeoutExpired):
                    if self._server is not None:
                        self._status = self._server.wait(_SECONDS_TO_END)
        return self._status

    def kill(self) -> None:
        """End the process, whatever it does."""
        if self._status is None:
            with suppress(OSError):
                self._channel.send(_END)


class _Server(NamedTuple):
    """The way to the process that forks, and that process, where this one has started it; ``owner``
    is this one, which may be forked with all that it has.
    """

    requests: socket.socket
    process: subprocess.Popen[bytes] | None = None
    owner: int | None = None

    def ask(self, descriptor: int, modules: Sequence[str]) -> Process:
        """Ask for a worker.

        Raises:
            OSError: the process that forks is gone.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ExitStack() as stack:
            stack.enter_context(theirs)
            files = [descriptor, theirs.fileno(), *(_standard(number, stack) for number in (1, 2))]
            try:
                socket.send_fds(self.requests, [json.dumps(modules).encode()], files)
            except OSError:
                ours.close()
                raise
        return Process(ours, self.process)

    def close(self) -> None:
        """End the process that forks, if it is this one's."""
        if self.process is not None and self.owner == os.getpid():
            self.requests.close()
            self.process.kill()
            self.process.wait()


def fork_worker(descriptor: int, modules: Sequence[str] = ()) -> Process:
    """Return a new process that calls :func:`mmdata.engine.local.serve_jobs` with a descriptor of
    this one, the other end of a pipe. It has imported the ``modules`` already.
    """
    servers, path = _servers(), _path()
    if path in servers:
        with suppress(OSError):
            return servers[path].ask(descriptor, modules)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:  # while it is open here too, one that ends at its start can still be asked
        servers[path] = _start_server(ours, theirs)
        return servers[path].ask(descriptor, modules)


def _path() -> tuple[str, ...]:
    """Return the folders that this process imports from."""
    with suppress(FileNotFoundError):  # it stands in a folder that was removed
        return tuple(map(os.path.abspath, sys.path))
    return tuple(sys.path)


@cache
def _servers() -> dict[tuple[str, ...], _Server]:
    """Return the servers of this process, by the folders that they import from: what was imported
    from others is not to be shared.
    """
    return {}


def _start_server(ours: socket.socket, theirs: socket.socket) -> _Server:
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE.format(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        env=environment_of_workers(),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is the parent's to handle
    )
    server = _Server(ours, process, os.getpid())
    atexit.register(server.close)
    return server


def import_all(modules: Sequence[str]) -> None:
    """Import modules, as far as they can be: the job that needs one says better why it cannot."""
    for name in modules:
        with suppress(Exception):
            importlib.import_module(name)


def environment_of_workers() -> dict[str, str]:
    """Return the environment of a worker that is started now."""
    return {
        # The threads that numpy's OpenBLAS starts go round for 25 ms to begin with, and have
        # nothing to do: there is a process for each core.
        "OPENBLAS_NUM_THREADS": "1",
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }


def _standard(number: int, stack: ExitStack) -> int:
    """Return the descriptor of standard output or error; one of nothing where it is closed."""
    try:
        os.fstat(number)
    except OSError:
        return stack.enter_context(open(os.devnull, "wb")).fileno()  # noqa: PTH123
    return number


# --- in the process that forks
# --------------------------------------------------------------------------------------------------


def serve_forks(descriptor: int, work: Callable[[int], None]) -> None:
    """Fork workers for whoever asks, until nobody is left who may; in a worker, work: on what comes
    through a pipe.
    """
    sys.path[:] = _path()
    os.chdir("/")  # it holds on to no folder, and knows where it imports from wherever it stands
    pipe = _Forks(socket.socket(fileno=descriptor)).run()
    if pipe is not None:
        work(pipe)


class _Child(NamedTuple):
    """A worker, and the channel on which its end is told."""

    pid: int
    channel: socket.socket


class _Forks:
    """The workers that have been forked, and who may ask for more, by their descriptors."""

    def __init__(self, owner: socket.socket) -> None:
        self._owner = owner
        self._asking = {owner.fileno(): owner}
        self._children: dict[int, _Child] = {}
        self._wake, self._woken = os.pipe()
        os.set_blocking(self._woken, False)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # what is ignored wakes nobody
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._poll.register(owner, select.POLLIN)

    def run(self) -> int | None:
        """Return None when whoever has started this process is gone; in a worker, the pipe on which
        its jobs come.
        """
        while True:
            # One at a time: what is done for it may close a descriptor, which is then another's.
            descriptor, _ = self._poll.poll()[0]
            if descriptor == self._wake:
                os.read(self._wake, _MOST_BYTES)
                self._reap()
            elif descriptor in self._children:
                self._end(descriptor)
            else:
                pipe = self._answer(self._asking[descriptor])
                if pipe is not None:
                    return pipe
                if self._owner.fileno() == -1:
                    return None

    def _answer(self, asking: socket.socket) -> int | None:
        """Do as a request says; in the worker that it makes, return its pipe."""
        message, files, _, _ = socket.recv_fds(asking, _MOST_BYTES, _FILES)
        if message:
            import_all(json.loads(message))
            return self._fork(*files)

        self._poll.unregister(asking)
        del self._asking[asking.fileno()]
        asking.close()
        return None

    def _fork(self, pipe: int, end: int, out: int, errors: int) -> int | None:
        """Make a worker; in it, return its pipe."""
        channel = socket.socket(fileno=end)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        gc.freeze()  # what the collector marks it would copy
        try:
            pid = os.fork()
        except OSError as error:
            print(f"no worker can be started: {error}", file=sys.stderr, flush=True)  # noqa: T201
            with suppress(OSError):  # whoever asked is gone
                channel.send(_STATUS.pack(os.EX_OSERR))
            for one in (channel, ours, theirs):
                one.close()
            _close_all(pipe, out, errors)
            return None
        if pid == 0:
            others = [child.channel for child in self._children.values()]
            for one in (*self._asking.values(), *others, channel, ours):
                one.close()
            self._become_worker(out, errors)
            _servers()[_path()] = _Server(theirs)
            return pipe

        theirs.close()
        _close_all(pipe, out, errors)
        self._asking[ours.fileno()] = ours
        self._children[channel.fileno()] = _Child(pid, channel)
        self._poll.register(ours, select.POLLIN)
        self._poll.register(channel, select.POLLIN)
        return None

    def _become_worker(self, out: int, errors: int) -> None:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _close_all(self._wake, self._woken)
        os.setsid()
        for here, standard in ((out, 1), (errors, 2)):
            os.dup2(here, standard)
            os.close(here)

    def _end(self, descriptor: int) -> None:
        """End a worker: whoever asked for it wants so, or is gone."""
        pid, channel = self._children[descriptor]
        with suppress(ConnectionResetError):
            channel.recv(len(_END))
        os.kill(pid, signal.SIGKILL)
        self._poll.modify(descriptor, 0)

    def _reap(self) -> None:
        """Tell of the workers that have ended."""
        for descriptor, (pid, channel) in list(self._children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                with suppress(OSError):
                    channel.send(_STATUS.pack(os.waitstatus_to_exitcode(status)))
                self._poll.unregister(descriptor)
                del self._children[descriptor]
                channel.close()


def _close_all(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
