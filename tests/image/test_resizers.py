"""Ways to resize by name, and those of other packages."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import mmdata.video
from examples.synthetic import write_clip
from mmdata.errors import UnknownNameError, UsageError
from mmdata.image import resizers
from mmdata.image.resizers import Resizer
from mmdata.pipeline.encode import decode_views
from mmdata.schema import Media
from mmdata.templates import PixelPlan

OURS = ("crop", "crop_bilinear", "pad", "squeeze")
SIDES = st.integers(1, 60)


def grey(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A square of the mean colour."""
    return np.full((size, size, 3), pixels.mean(), np.uint8)


@pytest.fixture
def of_another_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A resizer that an installed package brings with an entry point."""
    point = EntryPoint("grey", "tests.image.test_resizers:GREY", "mmdata.image.resizers")
    monkeypatch.setattr(
        "importlib.metadata.entry_points", lambda group: [point] if group == point.group else []
    )
    yield "grey"
    resizers._registry._entries.pop("grey", None)


GREY = Resizer(grey)


@pytest.mark.slow
@pytest.mark.parametrize("name", OURS)
@given(height=SIDES, width=SIDES, size=SIDES)
def test_every_resizer_makes_squares_of_any_picture(
    name: str, height: int, width: int, size: int
) -> None:
    resized = resizers.get(name)(np.full((height, width, 3), 200, np.uint8), size)

    assert resized.shape == (size, size, 3)
    assert resized.dtype == np.uint8


def test_all_names_can_be_asked_for() -> None:
    assert set(OURS) <= set(resizers.names())
    with pytest.raises(UnknownNameError, match=r"'squeez'\. Did you mean 'squeeze'\?.*crop"):
        resizers.get("squeez")


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="'crop' is registered twice"):
        resizers.register("crop")(grey)


def test_what_a_resizer_shows_is_checked() -> None:
    with pytest.raises(UsageError, match="shows must be one of all, center, other"):
        Resizer(grey, shows="everything")  # type: ignore[arg-type]


def test_a_resizer_of_another_package_is_found_by_its_entry_point(of_another_package: str) -> None:
    assert of_another_package in resizers.names()
    assert resizers.get(of_another_package) is GREY


def test_a_resizer_of_another_package_is_never_replaced_by_a_fast_one(
    of_another_package: str, tmp_path: Path
) -> None:
    ramp = np.broadcast_to(np.linspace(0, 250, 64, dtype=np.uint8)[None, :, None], (48, 64, 3))
    write_clip(tmp_path / "ramp.mp4", iter([np.ascontiguousarray(ramp)] * 3), rate=5, codec="h264")
    clip = Media("video", str(tmp_path / "ramp.mp4"), width=64, height=48)

    exact = mmdata.video.sample(
        tmp_path / "ramp.mp4", "frames:0,2", size=16, resize=of_another_package
    ).pixels
    fast = decode_views(clip, PixelPlan(0, of_another_package, 16, (0, 2)), fast=True)

    np.testing.assert_array_equal(fast, exact)
    assert np.ptp(fast) == 0
