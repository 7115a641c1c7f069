"""What notebooks show of stores, rows, mixtures and frames."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from PIL import Image as Pictures

from mmdata.mixture import Mixture
from mmdata.schema import Conversation, Image, Media, Reasoning, ToolCall, assistant, user
from mmdata.video import Frames
from tests.conversations import conversations, plain
from tests.stores import numbered, write

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e</table>"


class Page(HTMLParser):
    """The tags and the text of a page, as a browser has them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.words = ""
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        if tag not in ("br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.slow
@given(conversations())
def test_any_row_is_a_table_that_is_whole_and_holds_its_text_as_text(row: Conversation) -> None:
    page = Page(row._repr_html_())

    assert not page.open
    assert page.tags <= {"div", "strong", "span", "table", "tr", "td"}


def test_a_row_shows_who_says_what_and_what_is_trained_on() -> None:
    call = ToolCall("weather", '{"city":"Rome"}')
    row = Conversation(
        "c1",
        (user(Image(0), "Where?"), assistant(Reasoning("hm"), "In Rome.", call)),
        (Media("image", "rome.jpg"),),
        tools="[]",
        rejected=(assistant("In Oslo."),),
    )
    words = Page(row._repr_html_()).words

    for shown in ("c1", "rome.jpg", "Where?", "assistant *", "hm", "In Rome.", "weather", "Rome",
                  "rejected: assistant *In Oslo."):  # fmt: skip
        assert shown in words


def test_hostile_text_is_inert_wherever_it_stands(tmp_path: Path) -> None:
    row = Conversation(
        HOSTILE, (user(HOSTILE), assistant(HOSTILE)), source=HOSTILE, extra={HOSTILE: HOSTILE}
    )
    store = write(tmp_path / "store", [row])

    for page in (row._repr_html_(), store._repr_html_(), store[:1]._repr_html_()):
        assert "script" not in Page(page).tags
        assert "\x1b" not in page
        assert "\u202e" not in page


def test_a_store_shows_what_it_holds_and_its_first_rows(tmp_path: Path) -> None:
    store = numbered(tmp_path / "store", 12)
    words = Page(store._repr_html_()).words

    assert "12 rows" in words
    assert plain(4).id in words
    assert "and 7 more" in words
    assert "and 7 more" in Page(store[:]._repr_html_()).words


def test_a_mixture_shows_what_it_takes_of_each_data_set(tmp_path: Path) -> None:
    numbered(tmp_path / "some", 10)
    (tmp_path / "mix.yaml").write_text(
        "datasets:\n  - {store: some, sampling_strategy: 'first:3'}\n"
    )
    words = Page(Mixture.from_yaml(tmp_path / "mix.yaml")._repr_html_()).words

    for shown in ("some", "first:3", "100.0%"):
        assert shown in words


@pytest.mark.parametrize("count", [0, 1, 70])
def test_frames_are_shown_as_pictures_with_their_times(count: int) -> None:
    pixels = np.full((count, 40, 400, 3), 200, np.uint8)
    numbers = np.arange(count)
    page = Frames(pixels, numbers / 2, numbers)._repr_html_()

    pictures = re.findall('base64,([^"]+)', page)
    assert len(pictures) == min(count, 64)
    assert ("and 6 more frames" in page) == (count == 70)
    if count:
        with Pictures.open(io.BytesIO(base64.b64decode(pictures[0]))) as first:
            assert first.size == (160, 16)
        assert "0.000 s" in page
