from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pictures

from mmdata.errors import UsageError
from mmdata.report import stats
from mmdata.report.histogram import Histogram
from mmdata.report.lengths import measure_lengths
from mmdata.report.plots import Distribution, distributions, draw_svg, write_plots
from mmdata.schema import Conversation, Media, Video, assistant, replace, user
from tests.stores import write
from tests.templates.families import FAMILIES, said

NO_VIDEO = (user("What?"), assistant("That."))
FEW = Distribution("turns", "turns of a row", "rows", Histogram.of(np.array([2, 2, 4])))


@given(values=st.lists(st.integers(-(10**6), 10**6), max_size=50))
def test_a_histogram_of_whole_numbers_counts_each_once_and_cuts_between_them(
    values: list[int],
) -> None:
    found = Histogram.of(np.array(values, np.int64))

    assert sum(found.counts) == len(values)
    assert len(found.counts) <= 30
    for low, high, count in zip(found.edges, found.edges[1:], found.counts, strict=False):
        assert low % 1 == 0.5
        assert count == sum(low < value < high for value in values)


@given(values=st.lists(st.floats(0, 1e6), max_size=50))
def test_a_histogram_of_other_numbers_counts_each_once(values: list[float]) -> None:
    found = Histogram.of(np.array(values))

    assert sum(found.counts) == len(values)
    if values:
        assert found.edges[0] == min(values)
        assert found.edges[-1] >= max(values)


def test_what_is_drawn_of_a_store_is_what_its_rows_and_media_have(tmp_path: Path) -> None:
    clip = Media("video", "a.mp4", width=64, height=48, duration=2.5, num_frames=60)
    rows = [replace(said("yes " * n), id=f"{n}") for n in range(1, 9)]
    filmed = Conversation("clip", (user(Video(0), "What?"), assistant("That.")), (clip,))
    store = write(tmp_path / "store", [*rows, filmed])
    lengths = measure_lengths(rows, FAMILIES[0].template())

    found = {each.name: each.histogram for each in distributions(stats(store), lengths)}

    assert {name: sum(each.counts) for name, each in found.items()} == {
        "turns": 9,
        "words": 9,
        "media_per_row": 9,
        "trained_characters": 9,
        "width": 1,
        "height": 1,
        "duration": 1,
        "num_frames": 1,
        "tokens": 8,
        "trained_tokens": 8,
    }
    assert 0 <= found["trained_tokens"].edges[0] <= found["trained_tokens"].edges[-1]

    texts = stats(write(tmp_path / "texts", [replace(filmed, messages=NO_VIDEO, media=())]))
    assert [each.name for each in distributions(texts, None)] == [
        "turns",
        "words",
        "media_per_row",
        "trained_characters",
    ]


def test_plots_are_pictures_and_the_same_each_time(tmp_path: Path) -> None:
    first = write_plots(tmp_path / "new" / "a", [FEW])
    second = write_plots(tmp_path / "b", [FEW])

    assert [path.name for path in first] == ["turns.svg", "turns.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert ElementTree.parse(first[0]).getroot().tag.endswith("svg")
    with Pictures.open(first[1]) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 3


def test_a_plot_that_is_there_is_left(tmp_path: Path) -> None:
    (tmp_path / "turns.png").write_text("mine")

    with pytest.raises(UsageError, match=r"turns\.png is there"):
        write_plots(tmp_path, [FEW])
    assert [path.name for path in tmp_path.iterdir()] == ["turns.png"]


def test_what_stands_on_a_page_refers_to_nothing_and_takes_its_colours() -> None:
    svg = draw_svg(FEW)

    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert not re.findall(r"href=|url\(|<style|<defs| id=", svg)
    assert "currentColor" in svg
    assert "fill: var(--accent)" in svg
    assert not re.findall("#[0-9a-f]{6}", svg)
