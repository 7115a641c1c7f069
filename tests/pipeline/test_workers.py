from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.pipeline.workers import background, map_in_order


def square(number: int) -> int:
    time.sleep(0.001 * (number % 3))
    return number * number


def late(number: int) -> int:
    return -number


OTHERS = set(threading.enumerate())


@pytest.fixture(autouse=True)
def _others() -> Iterator[None]:
    OTHERS.update(threading.enumerate())
    yield


def alive() -> bool:
    """Whether threads of this test are left, but for those that are about to end."""
    left = [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("mmdata") and thread not in OTHERS
    ]
    for thread in left:
        thread.join(1)
    return any(thread.is_alive() for thread in left)


@given(st.integers(0, 4), st.integers(1, 9), st.integers(0, 20))
def test_results_come_in_order_whoever_makes_them(workers: int, ahead: int, total: int) -> None:
    results = map_in_order(
        square, range(total), workers=workers, ahead=ahead, deadline=9, late=late
    )

    assert list(results) == [number * number for number in range(total)]
    assert not alive()


def test_no_more_items_are_taken_than_there_is_room_for() -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in count():
            taken.append(number)
            yield number

    results = map_in_order(square, items(), workers=2, ahead=5, deadline=9, late=late)
    first = list(islice(results, 3))
    results.close()

    assert first == [0, 1, 4]
    assert len(taken) <= 3 + 5
    assert not alive()


def test_an_error_is_raised_at_its_turn() -> None:
    def inverse(number: int) -> float:
        return 1 / (3 - number)

    results = map_in_order(inverse, range(10), workers=3, ahead=6, deadline=9, late=late)

    assert list(islice(results, 3)) == [1 / 3, 1 / 2, 1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert not alive()


def test_work_beyond_its_deadline_is_given_up_and_the_rest_goes_on() -> None:
    release = threading.Event()

    def work(number: int) -> int:
        if number in (2, 3):
            release.wait(30)
        return number

    results = list(map_in_order(work, range(8), workers=2, ahead=4, deadline=0.2, late=late))
    release.set()

    assert results == [0, 1, -2, -3, 4, 5, 6, 7]


@pytest.mark.parametrize("stuck", [{0}, {0, 1}, {1, 3, 4}], ids=str)
def test_a_single_worker_that_is_stuck_holds_up_none_of_those_behind_it(stuck: set[int]) -> None:
    release = threading.Event()

    def work(number: int) -> int:
        if number in stuck:
            release.wait(30)
        return number

    results = map_in_order(
        work, range(6), workers=1, ahead=4, deadline=0.15, late=lambda number: ~number
    )
    found: list[int] = []
    consumer = threading.Thread(target=lambda: found.extend(results), daemon=True)
    consumer.start()
    consumer.join(8)  # it takes 0.15 s for each that is stuck
    came = list(found)
    release.set()

    assert came == [~number if number in stuck else number for number in range(6)]
    assert not alive()


def test_what_waits_long_for_its_turn_is_not_late() -> None:
    def work(number: int) -> int:
        time.sleep(0.05)
        return number

    # The last begins after 0.55 s.
    results = map_in_order(work, range(12), workers=1, ahead=12, deadline=0.4, late=late)

    assert list(results) == list(range(12))


def test_a_thread_that_was_given_up_ends_when_it_lets_go() -> None:
    release = threading.Event()

    def work(number: int) -> int:
        if number < 3:
            release.wait(30)
        return number

    results = map_in_order(work, range(9), workers=1, ahead=2, deadline=0.1, late=late)
    first = [next(results) for _ in range(4)]
    crew = [
        thread
        for thread in threading.enumerate()
        if thread.name == "mmdata-worker" and thread not in OTHERS
    ]
    release.set()
    for thread in crew[:-1]:  # the last one is there for the others
        thread.join(3)
    began = time.monotonic()
    rest = list(results)

    assert [*first, *rest] == [0, -1, -2, 3, 4, 5, 6, 7, 8]
    assert len(crew) == 4
    assert sum(thread.is_alive() for thread in crew) == 0
    assert time.monotonic() - began < 4  # closing waits for nobody


def test_the_background_is_no_more_than_its_depth_ahead() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for number in count():
            made.append(number)
            yield number

    results = background(items(), depth=2)
    first = list(islice(results, 3))
    time.sleep(0.1)
    results.close()

    assert first == [0, 1, 2]
    assert len(made) <= 3 + 2 + 2
    assert not alive()


def test_an_error_of_the_background_comes_after_what_was_made() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise ValueError("no more")

    results = background(items(), depth=3)

    assert next(results) == 1
    with pytest.raises(ValueError, match="no more"):
        next(results)


def test_leaving_early_closes_what_the_background_reads_from() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            yield from count()
        finally:
            closed.set()

    results = background(items(), depth=1)
    next(results)
    results.close()

    assert closed.is_set()
