from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmdata.rejects import Reason, Reject
from mmdata.schema import Conversation
from mmdata.store.batch import ConversationBatch
from tests.conversations import conversations


@pytest.mark.slow
@given(st.lists(st.lists(conversations(), max_size=3), min_size=1, max_size=4))
def test_batches_joined_say_what_they_said_and_account_for_all(
    groups: list[list[Conversation]],
) -> None:
    missing = Reject(0, "a.json", None, Reason.MISSING_MEDIA, "there is none")
    batches = [ConversationBatch.from_conversations(rows) for rows in groups]
    batches = [replace(batch, rejects=[(len(batch), missing)]) for batch in batches]

    joined = ConversationBatch.concatenate(batches)

    assert list(joined.conversations()) == [row for rows in groups for row in rows]
    assert joined.num_records == sum(batch.num_records for batch in batches)
    places = [*joined.positions, *(position for position, _ in joined.rejects)]
    assert sorted(places) == list(range(joined.num_records))
