from __future__ import annotations

from itertools import accumulate, pairwise

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mmdata.store.arrays import sparse

pictures = st.lists(st.binary(max_size=9), min_size=1, max_size=9)


def views_of(values: list[bytes]) -> list[memoryview]:
    """Return views of a buffer of Arrow's in which the values stand end to end."""
    whole = memoryview(pa.py_buffer(b"".join(values))).cast("B")
    return [whole[start:end] for start, end in pairwise(accumulate(map(len, values), initial=0))]


@given(pictures, st.data())
def test_bytes_are_the_same_whatever_they_are_views_of(
    values: list[bytes], data: st.DataObject
) -> None:
    views = views_of(values)
    others = views_of(values)
    places = st.lists(st.sampled_from(range(len(values))), min_size=1, max_size=9)
    chosen = [(place, data.draw(st.booleans())) for place in data.draw(places)]

    mixed = [others[place] if is_other else views[place] for place, is_other in chosen]

    expected = [values[place] for place, _ in chosen]
    for some in (mixed, [views[place] for place, _ in chosen], expected):
        array = sparse(some, bytes([1]) * len(some), pa.binary())
        array.validate(full=True)
        assert array.to_pylist() == expected


@given(pictures.filter(any), st.data())
def test_views_that_follow_one_another_are_not_copied(
    values: list[bytes], data: st.DataObject
) -> None:
    views = views_of(values)
    start = data.draw(st.integers(0, len(values) - 1))
    stop = data.draw(st.integers(start + 1, len(values)))

    array = sparse(views[start:stop], b"\1" * (stop - start), pa.binary())

    whole = pa.py_buffer(views[0].obj)
    assert array.to_pylist() == values[start:stop]
    assert array.buffers()[2].address == whole.address + sum(map(len, values[:start]))


def test_a_gap_between_views_is_not_kept() -> None:
    first, _, last = views_of([b"cup", b"hat", b"jug"])

    array = sparse([first, last], b"\1\0\1", pa.binary())

    assert array.to_pylist() == [b"cup", None, b"jug"]
    assert array.buffers()[2].size == 6
