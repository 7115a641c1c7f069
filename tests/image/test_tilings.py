"""Ways to tile by name, and those of other packages."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from dataclasses import replace as altered
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from PIL.Image import fromarray

from mmdata.errors import PluginError, UnknownNameError
from mmdata.image import anyres, tilings
from mmdata.image.tilings import Tiling
from mmdata.pipeline import Stream
from mmdata.pipeline.encode import decode_views, num_views
from mmdata.schema import Conversation, Media, replace
from mmdata.templates import Encoded, PixelPlan
from mmdata.templates.toolkit import Medium, Run, build_encoded, sequential_positions
from tests.pipeline.words import PER_VIEW, SIDE, Conversations, WordTemplate, shown

if TYPE_CHECKING:
    from mmdata.image.anyres import Size, Views

CANVASES = ((8, 16), (16, 8), (16, 16))


def strips(
    picture: Image.Image,
    side: int,
    canvases: Sequence[Size],
    out: Views | None = None,
    *,
    fast: bool = False,
) -> Views:
    """The squares of the first canvas, without a view of the whole."""
    height, width = canvases[0]
    pixels = np.asarray(picture.resize((width, height)))
    rows = pixels.reshape(height // side, side, width // side, side, 3)
    return np.ascontiguousarray(rows.swapaxes(1, 2).reshape(-1, side, side, 3))


def count_strips(side: int, canvases: Sequence[Size]) -> int:
    height, width = canvases[0]
    return height // side * (width // side)


STRIPS = Tiling(strips, count_strips)
WRONG = Tiling(strips, lambda side, canvases: 1)


def broken(
    picture: Image.Image, side: int, canvases: Sequence[Size], out: Views | None, *, fast: bool
) -> Views:
    raise KeyError("oops")


BROKEN = Tiling(broken, count_strips)


@pytest.fixture(autouse=True)
def of_another_package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tilings that an installed package brings with entry points."""
    points = [
        EntryPoint(name, f"tests.image.test_tilings:{name.upper()}", "mmdata.image.tilings")
        for name in ("strips", "wrong", "broken")
    ]
    monkeypatch.setattr(
        "importlib.metadata.entry_points",
        lambda group: points if group == "mmdata.image.tilings" else [],
    )
    monkeypatch.setattr(tilings._registry, "_entries", dict(tilings._registry._entries))
    yield


@dataclass(frozen=True, kw_only=True)
class Tiled(WordTemplate):
    """Pictures as strips, four positions each."""

    tiling: ClassVar[str] = "strips"

    def encode(self, conversation: Conversation) -> Encoded:
        plan = PixelPlan(0, self.tiling, SIDE, canvases=((SIDE, 3 * SIDE),))
        length = PER_VIEW * num_views(plan)
        picture = Medium(plan, [2] * length, ((0, length),))
        return build_encoded([picture, Run([1], trained=True)], sequential_positions)


def picture(height: int, width: int) -> Image.Image:
    return fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


def medium(height: int, width: int) -> Media:
    file = io.BytesIO()
    picture(height, width).save(file, "PNG")
    return Media("image", bytes=file.getvalue(), width=width, height=height)


@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_a_tiling_makes_at_most_the_views_that_it_counts(height: int, width: int) -> None:
    views = tilings.get("anyres")(picture(height, width), 8, CANVASES)

    assert views.shape[1:] == (8, 8, 3)
    assert 1 < len(views) <= tilings.get("anyres").max_views(8, CANVASES) == 5


def test_all_names_can_be_asked_for() -> None:
    assert tilings.names() == ["anyres", "broken", "strips", "wrong"]
    with pytest.raises(UnknownNameError, match=r"no way to tile named 'anyre'\. Did you mean"):
        tilings.get("anyre")


def test_a_name_is_taken_once() -> None:
    with pytest.raises(ValueError, match="'anyres' is registered twice"):
        tilings.register("anyres", count=count_strips)(strips)


def test_a_plan_that_is_tiled_is_decoded_by_the_tiling_that_it_names() -> None:
    plan = PixelPlan(0, "anyres", 8, canvases=CANVASES)
    other = altered(plan, resize="strips")
    media = medium(20, 30)

    np.testing.assert_array_equal(
        decode_views(media, plan), anyres.views(picture(20, 30), 8, CANVASES)
    )
    np.testing.assert_array_equal(decode_views(media, other), strips(picture(20, 30), 8, CANVASES))
    assert (num_views(plan), num_views(other)) == (5, 2)


def test_a_stream_reads_pictures_by_the_tiling_of_another_package() -> None:
    samples = Conversations([replace(shown(number), media=(medium(9, 31),)) for number in (1, 2)])

    stream = Stream(samples, Tiled(), seq_length=16, batch_size=2, max_views=4, workers=0)
    [batch] = stream

    wanted = strips(picture(9, 31), SIDE, ((SIDE, 3 * SIDE),))
    np.testing.assert_array_equal(batch["pixel_values"][:3], wanted)
    np.testing.assert_array_equal(batch["pixel_values"][3:6], wanted)
    assert not batch["pixel_values"][6:].any()
    assert batch["media_index"][1, :12].tolist() == [*range(12, 24)]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("broken", "KeyError: 'oops'"),
        ("wrong", r"a tiling must return \(1 to 1, 8, 8, 3\) uint8, found \(2, 8, 8, 3\) uint8"),
    ],
)
def test_a_fault_in_a_tiling_of_another_package_names_it(name: str, fault: str) -> None:
    plan = PixelPlan(0, name, 8, canvases=CANVASES)

    with pytest.raises(PluginError, match=f"the way to tile '{name}' of .* is at fault: .*{fault}"):
        decode_views(medium(20, 30), plan)
