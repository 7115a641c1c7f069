"""Run a job in another process, under a deadline and a memory cap,
so that what hangs or crashes costs one job.

Workers are started once and used for many jobs. A job is a function that can be imported; its
arguments and its result can be pickled. No worker outlives its parent: it ends when the pipe
between them closes, and a job that does not let go of the interpreter is ended by the kernel's
alarm soon after its deadline.
"""

from __future__ import annotations

import atexit
import math
import os
import pickle
import platform
import signal
import struct
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from time import monotonic, sleep
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeVar

from mmdata._tools.limits import how_to_raise
from mmdata._tools.options import PositiveFloat, PositiveInt, checked
from mmdata._tools.requirements import load_posix
from mmdata.engine.engine import LostWorkerError
from mmdata.engine.fork_server import (
    Process,
    environment_of_workers,
    fork_worker,
    import_all,
)
from mmdata.errors import MediaError, PluginError, UsageError

__all__ = [
    "LocalEngine",
    "Pool",
    "answer_message",
    "lend_pool",
    "rebuild_outcome",
    "run",
    "serve_jobs",
]

T = TypeVar("T")

# Seconds past its deadline after which the kernel ends a job whose parent is gone.
_GRACE: Final = 2.0
_AHEAD: Final = 4  # jobs a worker that may be done before the first result is taken
# Jobs that a worker of a pool has: one that it does, and one that it goes on with. On a machine
# that has other work, this process is woken only after as long as a small clip takes.
_IN_HAND: Final = 2
_SMALL: Final = 1 << 15  # bytes that a pipe takes whole while nobody reads from it
_LEAST: Final = 64 << 20  # bytes without which a process may not even start
_LARGEST: Final = (1 << 63) - 1
_NO_DEADLINE: Final = 1e9
_MOST_MILLISECONDS: Final = (1 << 31) - 1
_LATE: Final = b"late"  # in place of an answer, which is a pickle
# What decodes media, and takes long to import; none of it starts a thread.
_DECODERS: Final = ("numpy", "av", "PIL.Image", "xxhash")
# Before a job: the seconds that it may take, and after which the kernel ends it.
_DEADLINES: Final = struct.Struct("dd")


@checked
def run(
    job: Callable[..., T], *args: Any, deadline: PositiveFloat = 60.0, memory: PositiveInt = 4 << 30
) -> T:
    """Return ``job(*args)``, computed in a process of its own;
    for more than a few jobs, make one :class:`Pool`.

    Raises:
        MediaError: as :meth:`Pool.run`.
    """
    with Pool(1, deadline=deadline, memory=memory) as pool:
        return pool.run(job, *args)


class _Handful(NamedTuple):
    """Of short jobs a worker has more in hand: so many at the ``most``, of about as many
    ``seconds`` together, whose answers may wait for the ``nap`` until they are taken.

    Each time that this process wakes, it takes a core from a worker. But what one has in hand when
    there is no more to give out, no other can take over.
    """

    most: int
    seconds: float
    nap: float


_AMONG_OTHERS: Final = _Handful(most=6, seconds=0.05, nap=0.02)
_ALONE: Final = _Handful(most=16, seconds=0.25, nap=0.1)


class Pool:
    """Worker processes for jobs on untrusted files:
    ``deadline`` seconds a job that has none of its own, ``memory`` bytes a worker.

    Use it as a context manager, from one thread at a time.

    >>> with Pool(deadline=10) as pool:
    ...     pool.run(len, "four")
    4
    """

    @checked
    def __init__(
        self,
        workers: PositiveInt = 1,
        *,
        deadline: PositiveFloat = 60.0,
        memory: PositiveInt = 4 << 30,
    ) -> None:
        handful = _ALONE if workers == 1 else _AMONG_OTHERS
        self._workers = [_Worker(deadline, memory, handful, _DECODERS) for _ in range(workers)]
        self._maps = 0

    @checked
    def run(self, job: Callable[..., T], *args: Any, deadline: PositiveFloat | None = None) -> T:
        """Return ``job(*args)``; what the job raises is raised here. ``deadline`` is that of this
        job, by default the pool's.

        Raises:
            MediaError: with the reason ``media_limit`` if the job met its deadline or the memory
                cap, and with ``unreadable_media`` if its process died.
        """
        own = None if deadline is None else lambda *_: deadline
        [outcome] = self.map(job, [args], deadline_of=own)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def map(
        self,
        job: Callable[..., T],
        arguments: Iterable[tuple[Any, ...]],
        *,
        deadline_of: Callable[..., float] | None = None,
    ) -> Iterator[T | Exception]:
        """Yield, in order, ``job(*args)`` for each of ``arguments``,
        or the exception that :meth:`run` would raise.

        Arguments are taken as workers come free, a few jobs ahead of the result that is wanted
        next. ``deadline_of(*args)`` are the seconds that a job may take, where it is given. What
        all jobs have in common belongs into ``job``, a :class:`functools.partial` with it: that is
        pickled once, and each worker reads it once.
        """
        self._maps += 1
        shared = _Shared.of(self._maps, job)
        pending: deque[_Task] = deque()  # started and not yet yielded, in order
        waiting = iter(arguments)

        while True:
            # However many the slowest has in hand, the others are not to wait for it.
            more = min(worker.room for worker in self._workers) - _IN_HAND
            most = (_AHEAD + more) * len(self._workers)
            while len(pending) < most:
                free = [worker for worker in self._workers if worker.jobs < worker.room]
                if not free or (args := next(waiting, None)) is None:
                    break
                deadline = None if deadline_of is None else deadline_of(*args)
                worker = min(free, key=_count_jobs)  # one that has nothing to do, if there is one
                pending.append(worker.begin(shared, args, deadline))
            if not pending:
                return
            if pending[0].done:
                yield pending.popleft().outcome
            else:
                self._wait()

    def _wait(self) -> None:
        """Wait until a job ends or meets its deadline, and note how."""
        busy = [worker for worker in self._workers if worker.jobs]
        nearest = min(worker.expires for worker in busy)
        # Those that are starting have no deadline yet.
        seconds = None if nearest == math.inf else max(0.0, nearest - monotonic())
        channels = [worker.channel for worker in busy]
        ready = _wait(channels, 0.0)
        if not ready:
            # Workers that have more to do wait for nobody: answers to short jobs come together.
            nap = min(worker.seconds_to_spare for worker in busy)
            if nap > 0.0:
                sleep(nap if seconds is None else min(nap, seconds))
            ready = _wait(channels, seconds)
        for worker in busy:
            if worker.channel.fileno() in ready:
                worker.finish()
            elif worker.expires <= monotonic():
                worker.expire()

    def close(self) -> None:
        """End the workers, whatever they do."""
        for worker in self._workers:
            worker.kill()

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


@checked
@contextmanager
def lend_pool(*, deadline: PositiveFloat, memory: PositiveInt) -> Iterator[Pool]:
    """Give the pool of one process that a worker of an engine has for all of its jobs: to start one
    takes as long as to probe a hundred clips, which a job may have no more of.

    It ends with this process, or where the block is left by an exception: its process may be in the
    middle of something.
    """
    pool = _open_pool(deadline, memory)
    try:
        yield pool
    except BaseException:
        _open_pool.cache_clear()
        pool.close()
        raise


@cache
def _open_pool(deadline: float, memory: int) -> Pool:
    pool = Pool(1, deadline=deadline, memory=memory)
    atexit.register(pool.close)
    return pool


class LocalEngine:
    """Processes of this machine that work on jobs, without a deadline or a cap of their own: what
    decodes untrusted files in them does so in a :class:`Pool`.

    Use it as a context manager, from one thread at a time.
    """

    shares_files = True

    @checked
    def __init__(self, workers: PositiveInt = 1) -> None:
        self.workers = workers
        self._idle = [_Worker(_NO_DEADLINE, _LARGEST) for _ in range(workers)]
        self._busy: list[tuple[_Worker, int, _Task]] = []
        self._waiting: deque[tuple[int, _Shared, tuple[Any, ...]]] = deque()
        self._submitted = 0
        self._pickled: tuple[Any, _Shared] | None = None  # the last job

    def submit(self, job: Callable[..., Any], *args: Any) -> int:
        """Take a job; return the number by which its result will be called."""
        self._submitted += 1
        # The same for many tasks: a worker reads it once, with the store that may be part of it.
        if self._pickled is None or self._pickled[0] is not job:
            self._pickled = job, _Shared.of(self._submitted, job)
        self._waiting.append((self._submitted, self._pickled[1], args))
        self._begin()
        return self._submitted

    def next_result(self) -> tuple[int, Any]:
        """Return the number of a job that has ended, and what it returned or raised."""
        while True:
            for place, (worker, number, task) in enumerate(self._busy):
                if task.done:
                    del self._busy[place]
                    self._idle.append(worker)
                    self._begin()  # before its result is worked on
                    return number, task.outcome
            ready = _wait([worker.channel for worker, _, _ in self._busy])
            for worker, _, _ in self._busy:
                if worker.channel.fileno() in ready:
                    try:
                        worker.finish()
                    except _StartError as error:
                        worker.settle(LostWorkerError(str(error)))

    def _begin(self) -> None:
        """Give jobs to the workers that are idle."""
        while self._idle and self._waiting:
            worker = self._idle.pop()
            number, job, args = self._waiting.popleft()
            self._busy.append((worker, number, worker.begin(job, args)))

    def close(self) -> None:
        """End the workers, whatever they do."""
        for worker in (*self._idle, *(worker for worker, _, _ in self._busy)):
            worker.kill()

    def __enter__(self) -> LocalEngine:
        """Return the engine."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the engine."""
        self.close()


def _wait(channels: Iterable[Connection], seconds: float | None = None) -> frozenset[int]:
    """Return the descriptors of the channels that have a message, or are closed; waits until one
    does, so many ``seconds`` at most.
    """
    import select

    # A small clip takes so little that multiprocessing's own `wait`, which makes a selector of all
    # of them each time, would be a tenth of what it costs this process.
    poll = select.poll()
    for channel in channels:
        poll.register(channel.fileno(), select.POLLIN)
    # Of milliseconds it takes no more than a C int holds: whoever waits longer asks again.
    longest = None if seconds is None else min(1000 * seconds, _MOST_MILLISECONDS)
    return frozenset(found for found, _ in poll.poll(longest))


def _count_jobs(worker: _Worker) -> int:
    return worker.jobs


class _StartError(RuntimeError):
    """A worker process that ended before it was ready."""


class _RemoteTracebackError(Exception):
    """What an exception of another process was caused by: the traceback, as text.

    It is the ``__cause__`` of such an exception, whose own cause cannot travel.
    """

    def __str__(self) -> str:
        """Return the traceback, on lines of its own."""
        return f"\n{self.args[0]}"


@dataclass(frozen=True, slots=True)
class _Raised:
    """An exception on its way out of a worker, and the traceback of its cause, empty if none."""

    error: Exception
    trace: str

    def rebuild(self) -> Exception:
        # Pickling keeps an exception's arguments and fields, and leaves its cause behind.
        self.error.__cause__ = _RemoteTracebackError(self.trace) if self.trace else None
        return self.error


class _Task:
    """A job that was given to a worker, and in the end what came of it."""

    def __init__(self) -> None:
        self.done = False
        self.outcome: Any = None

    def settle(self, outcome: Any) -> None:
        self.outcome = outcome
        self.done = True


@dataclass(slots=True)
class _Job:
    """A job as it travels, how many seconds it may take, in which module it is, and whether it was
    sent.
    """

    task: _Task
    message: bytes
    deadline: float
    module: str
    is_sent: bool = False


@dataclass(frozen=True, slots=True)
class _Shared:
    """The job of many messages, pickled once for all of them; a worker that reads one of these has
    the job in its place, the same for as long as they have one ``number``. ``module`` is where the
    job is.

    Without the number another job that is pickled alike would be taken for it, and the store that
    is part of it for the one that is there now.
    """

    number: int
    data: bytes
    module: str

    @classmethod
    def of(cls, number: int, job: Callable[..., Any]) -> _Shared:
        function = job
        while isinstance(function, partial):
            function = function.func
        module = getattr(function, "__module__", None)  # which not all that can be called have
        return cls(number, pickle.dumps(job), module or "builtins")

    def __reduce__(self) -> tuple[Callable[[int, bytes], Any], tuple[int, bytes]]:
        return _load_shared, (self.number, self.data)


class _Worker:
    """One process, started when first needed and again after it died, and the jobs that it has."""

    def __init__(
        self,
        deadline: float,
        memory: int,
        handful: _Handful = _AMONG_OTHERS,
        modules: Sequence[str] = (),
    ) -> None:
        self._deadline = deadline
        self._memory = memory
        self._handful = handful
        self._modules = modules
        self._process: Process | None = None
        self._is_ready = False
        self._jobs: deque[_Job] = deque()
        self.channel: Connection
        self.expires = math.inf  # when the first of its jobs meets its deadline
        self.jobs = 0  # that have not ended
        self._bytes = 0  # of their messages
        self._since = 0.0  # when its last answer was taken, or it began
        self._pace = math.inf  # seconds that its jobs take, about
        self._room = _IN_HAND  # how many such jobs it may have

    @property
    def room(self) -> int:
        """How many jobs it may have."""
        return self._room if self._bytes <= _SMALL else _IN_HAND

    @property
    def seconds_to_spare(self) -> float:
        """How long it has enough to do, about, without anybody taking its answers."""
        spare = self.jobs - _IN_HAND
        # Whatever its pace is held for: one job that took long says nothing of the next.
        return min(self._handful.nap, spare * self._pace) if spare > 0 else 0.0

    def begin(
        self,
        job: _Shared,
        args: tuple[Any, ...],
        deadline: float | None = None,
    ) -> _Task:
        """Give the process a job; its deadline, by default that of the pool, counts from when the
        process comes to it.
        """
        task = _Task()
        granted = self._deadline if deadline is None else deadline
        if not self._jobs and self._process is not None and _wait([self.channel], 0.0):
            self.kill()  # it died with nothing to do, for which this job is not to blame
        message = pickle.dumps((job, args))
        self._jobs.append(_Job(task, message, granted, job.module))
        self.jobs += 1
        self._bytes += len(message)
        self._send()
        if self.jobs == 1:
            self._start_clock()
        return task

    def _send(self) -> None:
        """Send the first job, and of the others those for which nobody has to wait."""
        if self._process is None:
            self._start()
        for place, each in enumerate(self._jobs):
            if each.is_sent or (place and len(each.message) > _SMALL):
                continue
            each.is_sent = True
            try:
                deadlines = _DEADLINES.pack(each.deadline, each.deadline + _GRACE)
                if len(each.message) <= _SMALL:
                    self.channel.send_bytes(deadlines + each.message)
                else:  # apart from the job, which is not copied for it
                    self.channel.send_bytes(deadlines)
                    self.channel.send_bytes(each.message)
            except (BrokenPipeError, ConnectionResetError):
                return  # it is dead, which is what comes out of the pipe

    def _start_clock(self) -> None:
        # What a process needs to start counts for no deadline.
        self._since = monotonic()
        self.expires = self._since + self._jobs[0].deadline if self._is_ready else math.inf

    def finish(self) -> None:
        """Take the outcome that the process sent, or that it is ready; or note that it died.

        Raises:
            UsageError, _StartError: it died before it was ready.
        """
        try:
            message = self.channel.recv_bytes()
        except (EOFError, ConnectionResetError):
            self._report_death()
            return
        if message == _LATE:
            self._settle_late()
            return
        if self._is_ready:
            self.settle(rebuild_outcome(message))
            return

        self._is_ready = True
        self._start_clock()

    def expire(self) -> None:
        """End the process: its job met the deadline."""
        self.kill()
        self._settle_late()

    def _settle_late(self) -> None:
        within = f"no result within {self._jobs[0].deadline:g} seconds"
        self.settle(_limit(f"{within}; {how_to_raise('deadline')}"))

    def kill(self) -> int:
        """End the process and return its exit status, negative for a signal."""
        if self._process is None:
            return 0
        self._process.kill()
        self.channel.close()
        status = self._process.wait()
        self._process = None
        self._is_ready = False
        for job in self._jobs:
            job.is_sent = False
        return status

    def _start(self) -> None:
        """Start the process, which says when it is ready: several that start do so at once."""
        # `resource` caps the memory of the process.
        load_posix("resource", needed_by="reading media in a process of its own")
        self.channel, theirs = Pipe()
        modules = (*self._modules, self._jobs[0].module)
        with theirs:
            self._process = fork_worker(theirs.fileno(), _imported_once(modules))
        setting = _Setting.here(self._memory, modules)
        with suppress(BrokenPipeError, ConnectionResetError):  # it did not start, as the pipe says
            self.channel.send_bytes(pickle.dumps(setting))

    def _report_death(self) -> None:
        assert self._process is not None
        if not self._is_ready:
            what = f"a worker process ended at its start with status {self.kill()}"
            if self._memory < _LEAST:
                raise UsageError(
                    f"{what}: {self._memory} bytes of memory are too few; {how_to_raise('memory')}"
                )
            raise _StartError(what)

        status = self._process.wait()  # it closed its end of the pipe, so it is about to end
        self.kill()
        if status == -signal.SIGKILL:
            self.settle(
                LostWorkerError(
                    "the process was killed, most likely because the machine has no memory left; "
                    "take fewer workers, or a smaller memory (--memory, Limits(memory=...))",
                    reason="media_limit",
                )
            )
        elif status == -signal.SIGALRM:  # nobody was there to end it sooner
            self._settle_late()
        else:
            cause = signal.Signals(-status).name if status < 0 else f"exit status {status}"
            self.settle(LostWorkerError(f"the decoding process died: {cause}"))

    def settle(self, outcome: Any) -> None:
        """Say what came of the first job, and go on with the next; with another process where this
        one is gone.
        """
        job = self._jobs.popleft()
        self.jobs -= 1
        self._bytes -= len(job.message)
        job.task.settle(outcome)
        took = monotonic() - self._since
        # Answers that came together are taken one right after the other: over a few it is right.
        self._pace = took if self._pace == math.inf else 0.75 * self._pace + 0.25 * took
        most, seconds, _ = self._handful
        self._room = int(min(most, max(_IN_HAND, seconds / max(self._pace, 1e-6))))
        if self._jobs:
            self._send()
            self._start_clock()


def _limit(what: str) -> MediaError:
    return MediaError(what, reason="media_limit")


# --- in the worker process
# ---------------------------------------------------------------------------------------


def _imported_once(modules: Iterable[str]) -> list[str]:
    """Return those that a process may have imported from which others are forked: of all the rest
    nobody knows which threads they start.
    """
    return [name for name in modules if name in _DECODERS or name.partition(".")[0] == "mmdata"]


@dataclass(frozen=True, slots=True)
class _Setting:
    """What a process takes over from the one that it works for, which may have changed since the
    one that it was forked from began; how many bytes of memory it may have, and which modules it
    will need: what it takes to import them is not a job's time.
    """

    memory: int
    modules: tuple[str, ...]
    environment: dict[str, str]
    folder: str | None
    cores: frozenset[int] | None

    @classmethod
    def here(cls, memory: int, modules: tuple[str, ...]) -> _Setting:
        try:
            folder = str(Path.cwd())
        except FileNotFoundError:  # it was removed
            folder = None
        cores = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
        return cls(memory, modules, environment_of_workers(), folder, cores)

    def take(self) -> None:
        for name in os.environ.keys() - self.environment.keys():
            del os.environ[name]
        os.environ.update(self.environment)
        if self.folder is not None:
            with suppress(OSError):  # it was removed: whoever opens a file there will say so
                os.chdir(self.folder)
        if self.cores is not None:
            os.sched_setaffinity(0, self.cores)
        import_all(self.modules)


def serve_jobs(descriptor: int) -> None:
    """Do the jobs that come through a pipe, until it closes."""
    import resource

    channel = Connection(descriptor)
    try:
        setting: _Setting = pickle.loads(channel.recv_bytes())
    except EOFError:
        return
    setting.take()
    # A process may not have more than its parent, nor the kernel a larger number than a signed one.
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    cap = min(setting.memory, _LARGEST if hard == resource.RLIM_INFINITY else hard)
    resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _end_with_parent(descriptor)
    channel.send_bytes(b"ready")
    while True:
        try:
            first = channel.recv_bytes()
            deadline, alarm = _DEADLINES.unpack_from(first)
            message = first[_DEADLINES.size :] or channel.recv_bytes()
        except EOFError:
            return
        # SIGALRM's default is to end the process, whatever it does.
        signal.setitimer(signal.ITIMER_REAL, alarm)
        began = monotonic()
        answer = answer_message(message, setting.memory)
        is_late = monotonic() - began > deadline
        signal.setitimer(signal.ITIMER_REAL, 0)
        # The parent may have been busy at the deadline: what is late does not hang on that.
        channel.send_bytes(_LATE if is_late else answer)


def rebuild_outcome(answer: bytes) -> Any:
    """Return what :func:`answer_message` says that a job has returned, or raised."""
    outcome = pickle.loads(answer)
    return outcome.rebuild() if isinstance(outcome, _Raised) else outcome


@checked
def answer_message(message: bytes, memory: PositiveInt = _LARGEST) -> bytes:
    """Do one job; this is the border at which every exception of a decoder becomes an outcome."""
    try:
        job, args = _load_job(message)
        return pickle.dumps(job(*args))
    except Exception as error:
        if not _is_for_want_of_memory(error):
            return _pickle(error)
        needed = f"needs more than {memory} bytes of memory"
        return _pickle(_limit(f"{needed}; {how_to_raise('memory')}"))


def _load_job(message: bytes) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """Return a job and its arguments.

    Raises:
        PluginError: they are made of what is not installed here.
    """
    try:
        job, args = pickle.loads(message)
    except (ImportError, AttributeError) as error:
        if _is_for_want_of_memory(error):
            raise
        raise PluginError(
            f"a worker on {platform.node()} cannot load what its job is made of: {error}. "
            "Install that package there too, in the version that is here."
        ) from error
    return job, args


@lru_cache(maxsize=1)
def _load_shared(number: int, data: bytes) -> Any:
    return pickle.loads(data)


def _is_for_want_of_memory(error: Exception) -> bool:
    """Return whether an exception is how a process says that it may have no more memory; a library
    that no longer fits in is an ImportError with the linker's words.
    """
    words = ("failed to map segment", "cannot allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, ImportError) and any(each in str(error).lower() for each in words)
    )


def _pickle(error: Exception) -> bytes:
    cause = error.__cause__
    trace = "".join(traceback.format_exception(cause)).rstrip() if cause is not None else ""
    try:
        answer = pickle.dumps(_Raised(error, trace))
        pickle.loads(answer)
    except Exception:  # an exception of a foreign library that cannot travel: its words do
        return pickle.dumps(_Raised(MediaError(f"{type(error).__name__}: {error}"), trace))
    return answer


def _end_with_parent(descriptor: int) -> None:
    """End the process as soon as the other end of the pipe is gone, even in the middle of a job."""
    import select
    import threading

    def watch() -> None:
        poll = select.poll()
        poll.register(descriptor, 0)  # nothing but the hang-up, which is always reported
        poll.poll()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
