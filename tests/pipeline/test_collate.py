from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import mmdata.schema
import mmdata.video
from examples.synthetic import write_clip
from mmdata import image
from mmdata.errors import ConfigError, SampleError
from mmdata.pipeline import Stream
from mmdata.pipeline.encode import decode_views, num_views
from mmdata.schema import Conversation, Image, Media, assistant, replace, user
from mmdata.templates import PixelPlan, get
from tests.pipeline.words import (
    PER_VIEW,
    SIDE,
    Conversations,
    WordTemplate,
    filmed,
    picture,
    shown,
    text,
)
from tests.reference import files
from tests.stores import write
from tests.templates.families import FAMILIES, Family, conversations
from tests.vocabularies import published


def batch_of(samples: list[Conversation], template: Any = None, **options: Any) -> Any:
    settings = {"seq_length": 40, "batch_size": len(samples), "shuffle": False, "workers": 0}
    [batch] = Stream(Conversations(samples), template or WordTemplate(), **{**settings, **options})
    return batch


def test_a_row_is_its_sample_and_padding() -> None:
    template, sample = WordTemplate(), shown(5)
    encoded = template.encode(sample)

    batch = batch_of([sample])

    length = len(encoded)
    np.testing.assert_array_equal(batch["input_ids"][0, :length], encoded.input_ids)
    np.testing.assert_array_equal(batch["labels"][0, :length], encoded.labels)
    np.testing.assert_array_equal(batch["position_ids"][0, :length], encoded.position_ids)
    assert (batch["input_ids"][0, length:] == template.pad_id).all()
    assert (batch["labels"][0, length:] == -100).all()
    assert (batch["position_ids"][0, length:] == length - 1).all()
    assert batch["segment_ids"].tolist() == [[1] * length + [0] * (40 - length)]
    assert {array.dtype for name, array in batch.items() if name != "pixel_values"} == {
        np.dtype(np.int32)
    }


@pytest.mark.parametrize("layout", ["mmdata", "mindformers", "transformers"])
@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_padding_is_the_pad_id_of_the_family(family: Family, layout: str) -> None:
    template = family.template()
    squares = template.patches is None
    if layout == ("transformers" if squares else "mindformers"):
        with pytest.raises(ConfigError, match=f"the layout {layout} .*: take the layout mmdata"):
            batch_of([], template, layout=layout)
        return
    sample = Conversation("c", (user("Why?"), assistant("Because.")))
    encoded = template.encode(sample)

    batch = batch_of([sample], template, seq_length=3000, layout=layout)

    np.testing.assert_array_equal(batch["input_ids"][0, : len(encoded)], encoded.input_ids)
    assert set(batch["input_ids"][0, len(encoded) :].tolist()) == {template.pad_id}
    assert set(batch["labels"][0, len(encoded) :].tolist()) == {-100}


def test_pad_ids_can_tell_what_is_padded_with_zeros() -> None:
    assert len({family.template().pad_id for family in FAMILIES} - {0}) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES, ids=str)
@settings(max_examples=20)
@given(data=st.data())
def test_the_shapes_that_a_family_declares_are_those_of_what_it_encodes(
    family: Family, data: st.DataObject
) -> None:
    template = family.template()

    encoded = template.encode(data.draw(conversations(family, turns=2)))

    assert encoded.position_ids.shape[:-1] == template.position_axes
    for number, plan in enumerate(encoded.pixels):
        taken = sum(slot.length for slot in encoded.slots if slot.plan == number)
        assert plan.size == template.view_size > 0
        assert template.view_positions in (0, taken / num_views(plan))


@pytest.mark.parametrize("family", FAMILIES, ids=str)
def test_the_shapes_of_a_family_do_not_depend_on_how_long_a_text_may_be(family: Family) -> None:
    short, template = family.template(max_length=3), family.template()

    for name in ("position_axes", "view_size", "view_positions", "packs", "resizer", "tiling"):
        assert getattr(short, name) == getattr(template, name)


def test_two_axes_of_positions_stay_two() -> None:
    batch = batch_of([shown(1), text(2)], WordTemplate(axes=2))

    assert batch["position_ids"].shape == (2, 2, 40)
    assert (batch["position_ids"][:, 1, -1] > 0).all()  # padding is no prompt


def test_every_slot_finds_the_features_of_its_own_picture() -> None:
    samples = [shown(1, pictures=2), text(2), filmed(300), shown(700)]

    batch = batch_of(samples)

    # One row of features for each position: its colour.
    rows = np.repeat(batch["pixel_values"][:, 0, 0], PER_VIEW, 0)
    for number, sample in enumerate(samples):
        index = batch["media_index"][number]
        colors = [tuple(rows[place].tolist()) for place in index[index >= 0]]
        shows = int(sample.id[1:])
        wanted = {"p": [shows] * len(sample.media), "v": [shows, shows + 1], "t": []}[sample.id[0]]
        assert colors == [
            (color // 256, color % 256, 7) for color in wanted for _ in range(PER_VIEW)
        ]
        slots = [
            position
            for slot in WordTemplate().encode(sample).slots
            for position in range(slot.start, slot.stop)
        ]
        assert np.flatnonzero(index >= 0).tolist() == slots


def test_pixels_have_one_shape_where_room_is_given_and_at_least_one_view_where_not() -> None:
    samples = [shown(1), text(2), filmed(3)]

    fixed, free, words = batch_of(samples, max_views=2), batch_of(samples), batch_of([text(1)])

    assert fixed["pixel_values"].shape == (6, SIDE, SIDE, 3)
    assert fixed.media_mask.tolist() == [True] * 3 + [False] * 3
    assert not fixed["pixel_values"][3:].any()
    assert free["pixel_values"].shape == (3, SIDE, SIDE, 3)
    assert words["pixel_values"].shape == (1, SIDE, SIDE, 3)
    assert words.media_mask.tolist() == [False]


@pytest.mark.parametrize("packing", [False, True])
def test_room_for_more_views_than_there_are_changes_no_view(packing: bool) -> None:
    samples = [shown(1, pictures=2), text(2), filmed(300), shown(700), shown(5), filmed(8)]
    options: dict[str, Any] = {"batch_size": 2, "packing": packing, "workers": 2, "shuffle": False}

    tight = list(Stream(Conversations(samples), WordTemplate(), seq_length=40, **options))
    roomy = list(
        Stream(Conversations(samples), WordTemplate(), seq_length=40, max_views=9, **options)
    )

    for some, most in zip(tight, roomy, strict=True):
        np.testing.assert_array_equal(
            some["pixel_values"], most["pixel_values"][: len(some["pixel_values"])]
        )
        assert not most["pixel_values"][len(some["pixel_values"]) :].any()
        np.testing.assert_array_equal(some["media_index"], most["media_index"])


def test_pixels_are_decoded_to_where_the_batch_has_them() -> None:
    slab, plan = np.zeros((1, 3, SIDE, SIDE, 3), np.uint8), PixelPlan(0, "squeeze", SIDE, (0, 1, 0))
    medium = filmed(300).media[0]

    views = decode_views(medium, plan, slab[0])

    assert views.base is slab
    np.testing.assert_array_equal(slab[0], decode_views(medium, plan))


def test_a_dynamic_batch_is_as_long_as_its_longest_row() -> None:
    batch = batch_of([text(1, words=3), text(2, words=9)], dynamic=True)

    assert batch["input_ids"].shape == (2, 1 + 9 + 1)


def test_float32_pixels_are_normalised_and_channels_first() -> None:
    whole, made = batch_of([shown(1)]), batch_of([shown(1)], pixels="float32")

    np.testing.assert_array_equal(made["pixel_values"], image.normalize(whole["pixel_values"]))
    assert made["pixel_values"].shape == (1, 3, SIDE, SIDE)


def test_arrays_of_one_batch_are_never_those_of_another() -> None:
    stream = Stream(
        Conversations(map(shown, range(8))), WordTemplate(), seq_length=40, batch_size=2
    )
    batches = list(stream)
    copies = [{name: array.copy() for name, array in batch.items()} for batch in batches]

    for batch in batches[::2]:
        for array in batch.values():
            array[...] = 1

    for batch, copy in list(zip(batches, copies, strict=True))[1::2]:
        for name in batch:
            np.testing.assert_array_equal(batch[name], copy[name])


def test_the_columns_of_mindformers() -> None:
    samples = [shown(1, pictures=2), shown(2), text(3)]

    batch = batch_of(samples, layout="mindformers", max_views=3)

    assert list(batch) == ["input_ids", "images", "image_context_pos", "labels"]
    assert batch["input_ids"].shape == batch["labels"].shape == (3, 41)
    assert batch["images"].shape == (3, 3, 3, SIDE, SIDE)
    assert batch["images"].dtype == np.float32
    positions = batch["image_context_pos"]
    assert positions.shape == (3, 3, PER_VIEW, 2)
    assert (positions[..., 0] == np.arange(3)[:, None, None]).all()
    # The last one, repeated.
    assert positions[0, :, :, 1].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [4, 5, 6, 7]]
    np.testing.assert_array_equal(batch["images"][0, 1], batch["images"][0, 2])
    # No image: the end of the padding.
    assert positions[2, :, :, 1].tolist() == [[37, 38, 39, 40]] * 3


def test_an_image_that_is_missing_is_white_for_mindformers() -> None:
    batch = batch_of([text(1), shown(2)], layout="mindformers", max_views=2)

    white = image.normalize(np.full((1, SIDE, SIDE, 3), 255, np.uint8))[0]
    np.testing.assert_array_equal(batch["images"][0], [white, white])
    assert not np.array_equal(batch["images"][1, 0], white)


def test_rows_of_mindformers_count_through_the_global_batch() -> None:
    stream = Stream(
        Conversations(map(shown, range(4))), WordTemplate(), seq_length=40, batch_size=2,
        rank=1, world_size=2, layout="mindformers", workers=0,
    )  # fmt: skip

    [batch] = stream

    assert batch["image_context_pos"][:, 0, 0, 0].tolist() == [2, 3]


def test_a_text_that_mindformers_would_overwrite_is_refused() -> None:
    with pytest.raises(
        SampleError,
        match="sample 't1' has no image and 39 tokens: MindFormers overwrites 4 positions",
    ):
        batch_of([text(1, words=37)], layout="mindformers")


def test_clips_and_pictures_of_files_come_as_their_family_resizes_them(
    fixtures: Path, tmp_path: Path
) -> None:
    file = min(files(fixtures / "videos", "*.mp4"), key=lambda path: path.stat().st_size)
    index = mmdata.video.index(file)
    clip = Media("video", file.name, num_frames=index.num_frames, fps=index.fps)
    sample = Conversation(
        "clip", (user(mmdata.schema.Video(0), "what?"), assistant("this")), (clip,)
    )
    store = write(tmp_path / "store", [sample], media_root=str(file.parent))

    [batch] = Stream(store, WordTemplate(frames=3), seq_length=40, batch_size=1)

    expected = mmdata.video.sample(file, "frames:0,1,2", size=SIDE, resize="squeeze")
    np.testing.assert_array_equal(batch["pixel_values"], expected.pixels)


@pytest.mark.parametrize("resize", ["crop", "squeeze"])
def test_fast_frames_are_nearly_the_exact_ones(fixtures: Path, resize: Any) -> None:
    file = min(files(fixtures / "videos", "*.mp4"), key=lambda path: path.stat().st_size)
    index = mmdata.video.index(file)
    clip, plan = (
        Media("video", str(file), width=index.width, height=index.height),
        PixelPlan(0, resize, 112, (0, 3)),
    )

    exact, fast = decode_views(clip, plan).astype(int), decode_views(clip, plan, fast=True)

    assert exact.shape == fast.shape == (2, 112, 112, 3)
    assert np.abs(exact - fast).mean() < 8  # whatever the clip; it is 1 to 3 for filmed ones


@pytest.mark.parametrize("resize", ["crop", "crop_bilinear"])
@pytest.mark.parametrize(("width", "height"), [(160, 64), (64, 160)])
def test_fast_frames_show_the_same_part_of_the_picture(
    width: int, height: int, resize: Any, tmp_path: Path
) -> None:
    bands = np.linspace(0, 250, max(width, height), dtype=np.uint8)
    frame = np.broadcast_to(
        bands[None, :, None] if width > height else bands[:, None, None], (height, width, 3)
    )
    write_clip(
        tmp_path / "bands.mp4", iter([np.ascontiguousarray(frame)] * 3), rate=5, codec="h264"
    )
    clip, plan = (
        Media("video", str(tmp_path / "bands.mp4"), width=width, height=height),
        PixelPlan(0, resize, 56, (0,)),
    )

    exact, fast = decode_views(clip, plan).astype(int), decode_views(clip, plan, fast=True)

    assert np.abs(exact - fast).mean() < 8
    assert np.ptp(exact) < 0.6 * 250  # it is a part, of which there could be others


@pytest.fixture(scope="module")
def llava(fixtures: Path) -> Any:
    return get("llava_next_video")(tokenizer=published("llama2", fixtures))


@pytest.mark.mindspore
@pytest.mark.parametrize(
    ("height", "width"), [(8, 8), (480, 640), (100, 1000), (396, 704), (700, 333)]
)
def test_tiles_of_llava_stand_where_the_model_expects_them(
    llava: Any, height: int, width: int
) -> None:
    from tests.models.anyres import best_resolution, unpad

    media = (Media("image", bytes=picture(3), width=width, height=height),)
    sample = Conversation("c", (user(Image(0), "what?"), assistant("this")), media)
    wide = Stream(Conversations([sample]), llava, seq_length=4000, batch_size=1, workers=0)
    index = next(iter(wide))["media_index"][0]

    side, rows = 24, 24**2 + 12**2 + 1
    best = best_resolution(height, width, [list(pinpoint) for pinpoint in llava.pinpoints])
    down, across = best[0] // 336, best[1] // 336
    map_: NDArray[np.int64] = np.empty((down * side, across * side), np.int64)
    for tile in range(down * across):
        top, left = tile // across * side, tile % across * side
        map_[top : top + side, left : left + side] = (tile + 1) * rows + np.arange(side**2).reshape(
            side, side
        )
    kept = map_[unpad(len(map_), map_.shape[1], height, width)]
    lines = np.concatenate([kept, np.full((len(kept), 1), rows - 1)], 1)
    np.testing.assert_array_equal(
        index[index >= 0], np.concatenate([np.arange(side**2), lines.ravel()])
    )


@pytest.mark.parametrize("size", [(300, 100), (100, 300)])
def test_a_picture_that_was_not_probed_is_measured(llava: Any, size: tuple[int, int]) -> None:
    file = io.BytesIO()
    PIL.Image.new("RGB", size).save(file, "PNG")
    probed = Media("image", bytes=file.getvalue(), width=size[0], height=size[1])
    question = (user(Image(0), "what?"), assistant("this"))

    batches = [
        batch_of([Conversation("p", question, (medium,))], llava, seq_length=4000)
        for medium in (probed, replace(probed, width=None, height=None))
    ]

    for name, array in batches[0].items():
        np.testing.assert_array_equal(batches[1][name], array)


@pytest.mark.parametrize("newline", ["no_token", "one_token", "frame", "grid"])
def test_frames_of_llava_take_the_pooled_grid_and_newlines_where_there_are_any(
    llava: Any, newline: str
) -> None:
    import dataclasses

    template = dataclasses.replace(llava, video_newline=newline, frames="uniform:2")
    batch = batch_of([filmed(3)], template, seq_length=700)
    index = batch["media_index"][0]
    index = index[index >= 0]

    rows, pooled = 24**2 + 12**2 + 1, 24**2 + np.arange(144)
    grid = index[~np.isin(index % rows, [rows - 1])]
    np.testing.assert_array_equal(grid, np.concatenate([pooled, rows + pooled]))
    assert (
        len(index) - len(grid) == {"no_token": 0, "one_token": 1, "frame": 2, "grid": 24}[newline]
    )
