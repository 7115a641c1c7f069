from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.schema import Conversation
from mmdata.store.decode import BatchView
from mmdata.store.encode import arrow_schema, encode, flatten
from tests.conversations import conversations, plain


@given(st.lists(conversations(), max_size=5))
def test_any_conversation_survives_arrow_unchanged(rows: list[Conversation]) -> None:
    batch = encode([flatten(rows)])

    batch.validate(full=True)
    view = BatchView(batch)
    assert [view[n] for n in range(len(rows))] == rows


@pytest.mark.slow
@given(st.lists(conversations(), min_size=2, max_size=5), st.data())
def test_a_slice_of_a_batch_reads_as_the_rows_it_slices(
    rows: list[Conversation], data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(rows) - 1))
    batch = encode([flatten(rows)]).slice(start)

    view = BatchView(batch)

    assert [view[n] for n in range(len(rows) - start)] == rows[start:]


def test_the_python_values_of_a_batch_are_those_of_the_schema_table() -> None:
    (row,) = encode([flatten([plain(7)])]).to_pylist()

    assert row["id"] == "c7"
    assert row["source"] == "numbers"
    assert row["split"] == "train"
    assert [part["type"] for part in row["messages"][0]["content"]] == ["image", "text"]
    assert row["messages"][0]["content"][0]["media"] == 0
    assert [message["train"] for message in row["messages"]] == [False, True]
    assert row["media"][0]["path"] == "images/000007.jpg"
    assert row["media"][0]["width"] is None
    assert row["extra"] == "{}"


def test_only_the_id_is_never_null() -> None:
    assert [field.name for field in arrow_schema() if not field.nullable] == ["id"]
