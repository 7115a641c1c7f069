"""What works on partitions: processes of this machine, or a cluster, behind one small interface.

An engine takes jobs and gives back what became of each, as they end. What is the same for all of
them is here: results in the order of the tasks, and another attempt where a worker was lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeVar

from mmdata._tools.options import PositiveInt, checked
from mmdata.errors import MediaError

__all__ = ["Engine", "LostWorkerError", "raise_errors", "run_jobs"]

T = TypeVar("T")
R = TypeVar("R")

_ATTEMPTS: Final = 2
_AHEAD: Final = 2  # jobs a worker that may be done before the first result is taken


class LostWorkerError(MediaError):
    """The process that worked on a job is gone, and the job with it."""


class Engine(Protocol):
    """Works on jobs: functions that can be imported, with arguments that can be pickled.

    ``workers`` jobs run at a time. ``shares_files`` says whether all workers see the files of this
    process, under the same names.
    """

    workers: int
    shares_files: bool

    def submit(self, job: Callable[..., Any], *args: Any) -> int:
        """Take a job; return the number by which its result will be called."""

    def next_result(self) -> tuple[int, Any]:
        """Return the number of a job that has ended, and what it returned or raised;
        :class:`LostWorkerError` where its worker was lost. Waits until there is one.
        """

    def close(self) -> None:
        """End all workers, whatever they do."""

    def __enter__(self) -> Engine:
        """Return the engine."""

    def __exit__(self, *_: object) -> None:
        """Close the engine."""


@checked
def run_jobs(
    engine: Engine,
    job: Callable[..., R],
    tasks: Iterable[tuple[Any, ...]],
    *,
    attempts: PositiveInt = _ATTEMPTS,
) -> Iterator[R | Exception]:
    """Yield, in order, ``job(*task)`` for each of the tasks, or the exception that it raised.

    A job whose worker was lost is done once more, or until there were so many ``attempts``;
    :class:`LostWorkerError` is what became of one that lost all of its workers. Tasks are taken as
    workers come free, a few jobs ahead of the result that is wanted next.
    """
    waiting = iter(tasks)
    order: deque[int] = deque()  # the first numbers of jobs whose results are not yielded, in order
    running: dict[int, tuple[int, tuple[Any, ...], int]] = {}  # first number, task, attempt
    done: dict[int, R | Exception] = {}
    most = (1 + _AHEAD) * engine.workers

    while True:
        while len(order) < most and (task := next(waiting, None)) is not None:
            number = engine.submit(job, *task)
            order.append(number)
            running[number] = (number, task, 1)
        if not order:
            return
        if order[0] in done:
            yield done.pop(order.popleft())
            continue

        number, outcome = engine.next_result()
        if number not in running:  # a job of somebody who has not waited for all of them
            continue
        first, task, attempt = running.pop(number)
        if isinstance(outcome, LostWorkerError) and attempt < attempts:
            running[engine.submit(job, *task)] = (first, task, attempt + 1)
        else:
            done[first] = outcome


def raise_errors(outcomes: Iterable[R | Exception]) -> Iterator[R]:
    """Yield the results among what :func:`run_jobs` yields, and raise the first exception."""
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
        yield outcome
