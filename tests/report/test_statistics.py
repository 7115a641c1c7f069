from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import force_setattr

import mmdata
from mmdata.report import Spread, stats
from mmdata.schema import (
    Conversation,
    Media,
    Reasoning,
    Region,
    Text,
    Video,
    assistant,
    replace,
    user,
)
from tests.conversations import conversations, plain
from tests.stores import numbered, write


def texts_of(row: Conversation) -> list[tuple[str, bool]]:
    """The texts of a row's messages, and whether each is trained on."""
    return [
        (part.text, message.train if part.train is None else part.train)
        for message in row.messages
        for part in message.content
        if isinstance(part, (Text, Region, Reasoning))
    ]


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(rows=st.lists(conversations(), min_size=1, max_size=6), parquet=st.booleans())
def test_the_numbers_are_those_that_counting_row_by_row_gives(
    rows: list[Conversation], parquet: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [replace(row, id=f"{n}") for n, row in enumerate(rows)]
    store = write(tmp_path_factory.mktemp("stats") / "store", rows, parquet=parquet)

    found = stats(store)

    parts = [part for row in rows for message in row.messages for part in message.content]
    media = [medium for row in rows for medium in row.media]
    texts = [texts_of(row) for row in rows]
    assert found.rows == len(rows)
    assert found.counts["role"] == Counter(m.role for row in rows for m in row.messages)
    assert sum(found.counts["part"].values()) == len(parts)
    assert found.counts["media"] == Counter(medium.type for medium in media)
    assert found.counts["oddity"] == Counter(
        oddity for medium in media for oddity in medium.oddities or ()
    )
    assert found.spreads["turns"] == Spread.of(np.array([len(row.messages) for row in rows]))
    assert found.spreads["characters"] == Spread.of(
        np.array([sum(len(text) for text, _ in row) for row in texts])
    )
    assert found.spreads["media_per_row"] == Spread.of(np.array([len(row.media) for row in rows]))
    for name, histogram in found.histograms.items():
        if name in found.spreads:
            assert sum(histogram.counts) == found.spreads[name].count
    assert sum(found.histograms["trained_characters"].counts) == len(rows)
    assert found.spreads["duration"].count == sum(m.duration is not None for m in media)
    assert found.numbers["pairs"] == sum(row.rejected is not None for row in rows)
    assert found.numbers["judged_good"] == sum(row.desirable is True for row in rows)
    assert found.numbers["judged_bad"] == sum(row.desirable is False for row in rows)
    assert found.numbers["with_tools"] == sum(row.tools is not None for row in rows)
    assert found.numbers["media_bytes"] == sum(
        len(medium.bytes or b"") + sum(map(len, medium.frames or ())) for medium in media
    )
    trained = sum(len(text) for row in texts for text, train in row if train)
    total = sum(len(text) for row in texts for text, _ in row)
    assert found.trained_characters == pytest.approx(trained / max(total, 1))


@pytest.mark.parametrize(
    ("text", "words"), [("two words", 2), ("  spread \n out ", 2), ("你好 world", 3), ("", 0)]
)
def test_a_word_stands_between_blanks_or_is_a_character_of_a_script_without_them(
    text: str, words: int, tmp_path: Path
) -> None:
    row = Conversation("c", (user(text), assistant("")))

    assert stats(write(tmp_path / "store", [row])).spreads["words"].largest == words


def test_a_row_that_says_what_another_says_is_a_duplicate_whatever_it_is_called(
    tmp_path: Path,
) -> None:
    row = plain(0)
    other = replace(row, id="other", source="elsewhere", split="val", extra={"a": 1})
    changed = replace(row, id="changed", messages=(user("Else?"), assistant("Yes.")))

    found = stats(write(tmp_path / "store", [row, other, changed]))

    assert found.numbers["duplicates"] == 1


def test_a_duration_that_is_no_number_is_not_known(tmp_path: Path) -> None:
    clips = tuple(Media("video", "a.mp4") for _ in range(5))
    for clip, length in zip(clips, [math.nan, 2.0, math.inf, None, 4.0], strict=True):
        for name in ("duration", "fps"):  # as stores of before hold them
            force_setattr(clip, name, length)
    shown = tuple(map(Video, range(len(clips))))
    store = write(tmp_path / "store", [Conversation("1", (user(*shown), assistant("a")), clips)])

    found = stats(store)

    assert found.spreads["duration"] == Spread(2, 2.0, 3.0, 3.0, 3.9, 4.0)
    assert sum(found.histograms["fps"].counts) == 2


def test_sizes_are_those_that_are_most_frequent(tmp_path: Path) -> None:
    def seen(number: int, width: int) -> Conversation:
        return replace(plain(number), media=(Media("image", "a.png", width=width, height=10),))

    rows = [seen(n, width) for n, width in enumerate([20, 30, 30])]

    assert stats(write(tmp_path / "store", rows)).sizes == ((30, 10, 2), (20, 10, 1))


def test_numbers_of_several_batches_are_those_of_one(tmp_path: Path) -> None:
    many = numbered(tmp_path / "store", 9000)

    found = mmdata.stats(many.path)

    assert found.rows == found.spreads["turns"].count == 9000
    assert found.numbers["duplicates"] == 0
    assert len(list(many.batches())) > 1
