from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdata.report.lengths import measure_lengths
from mmdata.schema import Media
from tests.templates.families import FAMILIES, Family, conversations, said

every_family = pytest.mark.parametrize("family", FAMILIES, ids=str)


@pytest.mark.slow
@every_family
@settings(max_examples=20)
@given(data=st.data())
def test_lengths_are_those_of_the_samples(family: Family, data: st.DataObject) -> None:
    store = data.draw(st.lists(conversations(family, turns=2), max_size=4))
    template = family.template()

    found = measure_lengths(store, family.template(max_length=1))

    samples = [template.encode(conversation) for conversation in store]
    assert found.tokens.tolist() == [len(sample) for sample in samples]
    assert found.trained.tolist() == [sample.trained for sample in samples]
    assert found.visual.tolist() == [
        sum(slot.length for slot in sample.slots) for sample in samples
    ]
    assert sum(count for _, _, count in found.histogram()) == len(store)
    assert not found.failed


def test_the_histogram_holds_every_length_and_the_text_says_what_is_over() -> None:
    store = [said("yes " * number) for number in range(50)]
    found = measure_lengths(store, FAMILIES[0].template())

    rows = found.histogram(bins=7)

    assert len(rows) <= 7
    assert (rows[0][0], rows[-1][1] >= found.tokens.max()) == (found.tokens.min(), True)
    for low, high, count in rows:
        assert count == sum(low <= length <= high for length in found.tokens)
    limit = int(found.tokens[24])
    assert found.over(limit) == 25
    assert f"25 samples have more than {limit} tokens" in found.as_text(limit)


def test_what_cannot_be_encoded_is_counted_with_its_reason() -> None:
    store = [said("yes"), said("yes", "What?", Media("video", "a.mp4"))]

    found = measure_lengths(store, FAMILIES[0].template())

    assert len(found.tokens) == 1
    assert found.failed[0][0] == 1
    assert "1 cannot be encoded; the first is number 1" in found.as_text()


def test_an_empty_store_has_no_lengths() -> None:
    found = measure_lengths([], FAMILIES[0].template())

    assert found.histogram() == []
    assert "0 samples" in found.as_text()
