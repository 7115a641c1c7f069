"""Memory is used again when nobody holds it, and never before."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Any

import numpy as np
import pytest

from mmdata.pipeline.memory import Memory

ROWS = 5 << 20  # of four bytes: enough for the system to be asked for memory


def place(array: Any) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


def test_memory_that_nobody_holds_is_given_again() -> None:
    memory = Memory()
    first = memory.empty((ROWS,), np.float32)
    begins = place(first)
    del first
    gc.collect()

    assert place(memory.empty((ROWS // 2, 2), np.float32)) == begins


@pytest.mark.parametrize("hold", [lambda array: array, lambda array: array[7:9, :1].T])
def test_memory_that_an_array_or_a_view_holds_is_not_given_again(hold: Any) -> None:
    memory = Memory()
    held = hold(memory.empty((ROWS // 2, 2), np.float32))
    held[...] = 7

    others = [memory.empty((ROWS,), np.float32) for _ in range(3)]
    for other in others:
        other[...] = 1

    assert (held == 7).all()


def test_memory_that_a_tensor_shares_is_not_given_again() -> None:
    torch = pytest.importorskip("torch")
    memory = Memory()
    tensor = torch.from_numpy(memory.empty((ROWS,), np.float32)).view(2, -1)
    tensor.fill_(7)
    gc.collect()

    memory.empty((ROWS,), np.float32)[...] = 1

    assert bool((tensor == 7).all())


def test_arrays_have_the_shape_and_the_type_that_are_asked_for() -> None:
    memory = Memory()
    for shape in [(3,), (ROWS,), (0, 4), (ROWS // 4, 2, 2)]:
        for dtype in (np.uint8, np.float32):
            found = memory.empty(shape, dtype)
            assert (found.shape, found.dtype) == (shape, np.dtype(dtype))
            assert found.flags.c_contiguous and found.flags.writeable


def test_arrays_of_other_sizes_do_not_drive_each_other_out() -> None:
    memory = Memory()
    large, small = memory.empty((4 * ROWS,), np.float32), memory.empty((ROWS,), np.float32)
    places = {place(large), place(small)}
    del large, small
    gc.collect()

    again = [memory.empty((ROWS,), np.float32), memory.empty((4 * ROWS,), np.float32)]

    assert {place(array) for array in again} == places


def test_memory_that_is_far_larger_is_not_given() -> None:
    memory = Memory()
    large = memory.empty((4 * ROWS,), np.float32)
    begins = place(large)
    del large
    gc.collect()

    assert place(memory.empty((ROWS,), np.float32)) != begins


def test_no_more_pieces_are_kept_than_asked_for() -> None:
    tracemalloc.start()
    try:
        memory = Memory(kept=1)
        held = [memory.empty((ROWS,), np.float32) for _ in range(3)]
        held.clear()
        gc.collect()
        left, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert 4 * ROWS <= left < 8 * ROWS
