from __future__ import annotations

import numpy as np

import mmdata.templates
from mmdata.templates import IGNORE, Encoded, MediaSlot, attention_mask


def test_everything_that_is_exported_is_there() -> None:
    assert all(hasattr(mmdata.templates, name) for name in mmdata.templates.__all__)


def test_what_is_trained_is_what_has_a_label() -> None:
    labels = np.array([IGNORE, 5, 6, IGNORE], np.int32)

    encoded = Encoded(np.arange(4, dtype=np.int32), labels, np.arange(4, dtype=np.int32))

    assert (len(encoded), encoded.trained) == (4, 2)


def test_a_slot_ends_where_its_length_says() -> None:
    assert MediaSlot(media=0, start=3, length=4, plan=0).stop == 7


def test_without_a_prefix_the_mask_is_causal() -> None:
    assert (attention_mask(0, 5) == np.tril(np.ones((5, 5), bool))).all()


def test_all_tokens_see_the_prefix() -> None:
    mask = attention_mask(3, 5)

    assert mask[:, :3].all()
    assert (mask[3:, 3:] == np.tril(np.ones((2, 2), bool))).all()
    assert not mask[:3, 3:].any()
