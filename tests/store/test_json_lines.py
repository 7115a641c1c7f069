"""Values that were read from JSON, written as lines of it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.store.encode import _spell_extras, encode_extra, encode_json_lines

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | numbers | st.text(st.characters(codec="utf-8"))
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


def one_by_one(found: list[Any]) -> bytes:
    return "".join(f"{encode_extra(value)}\n" for value in found).encode()


@given(st.lists(values, max_size=5))
def test_values_together_are_written_as_each_by_itself(found: list[Any]) -> None:
    assert encode_json_lines(found) == one_by_one(found)


@pytest.mark.parametrize(
    "value",
    [
        1e16,
        1e-5,
        0.00001234,
        -1.5e300,
        5e-324,
        1e15,
        -0.0,
        10.00001,
        2**64,
        -(2**70),
        "1e5,",
        "8186/4e622c_z.jpg",
        '\x1f\x7f\u2028\\"/',
    ],
)
def test_a_number_is_written_as_a_store_spells_it(value: Any) -> None:
    for found in ([value], [[value, 1]], [{"a": value}], [{"a": [value]}, 1]):
        assert encode_json_lines(found) == one_by_one(found)


extras = st.dictionaries(
    st.text(st.characters(codec="utf-8"), max_size=3), values | st.binary(max_size=4), max_size=3
)


@given(st.lists(extras | extras.map(encode_extra), max_size=5))
def test_extras_together_are_spelt_as_each_by_itself(found: list[Any]) -> None:
    each = [one if isinstance(one, str) else encode_extra(one) for one in found]

    assert _spell_extras(found) == each


def test_an_extra_that_json_cannot_say_is_refused_among_others() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        _spell_extras([{"license": "MIT"}, {"score": float("nan")}])
