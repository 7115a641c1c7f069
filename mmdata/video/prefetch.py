"""Several clips at a time on threads, in order:
the decoder lets go of the interpreter while it works.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from mmdata._tools.options import PositiveInt, check_arguments, checked
from mmdata.errors import VideoError
from mmdata.video.frames import Frames
from mmdata.video.pictures import VideoSource
from mmdata.video.sample import sample
from mmdata.video.sampling import Strategy

__all__ = ["sample_many"]


@checked
def sample_many(
    sources: Iterable[VideoSource],
    strategy: str | Strategy,
    *,
    threads: PositiveInt = 4,
    **options: Any,
) -> Iterator[Frames | VideoError]:
    """Yield for every source, in order,
    what :func:`mmdata.video.sample` gives or the error that it raises.

    ``options`` are those of ``sample``. At most ``2 * threads`` results wait to be taken.
    """
    check_arguments(sample, options)
    return _in_order(
        sources, partial(_outcome, strategy=Strategy.parse(strategy), **options), threads
    )


def _in_order(
    sources: Iterable[VideoSource], job: Callable[[VideoSource], Frames | VideoError], threads: int
) -> Iterator[Frames | VideoError]:
    remaining = iter(sources)
    with ThreadPoolExecutor(threads) as pool:
        ahead: deque[Future[Frames | VideoError]] = deque()
        ahead.extend(pool.submit(job, source) for source in islice(remaining, 2 * threads))
        while ahead:
            yield ahead.popleft().result()
            ahead.extend(pool.submit(job, source) for source in islice(remaining, 1))


def _outcome(source: VideoSource, **options: Any) -> Frames | VideoError:
    try:
        return sample(source, **options)
    except VideoError as error:
        return error
