"""Batches of families that cut media into patches of any grid."""

from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL.Image import fromarray

import mmdata.templates
from mmdata.errors import ConfigError, SampleError, UsageError
from mmdata.image.patches import Patches, PatchGrid, cut, normalize_rows
from mmdata.image.resizers import get as get_resizer
from mmdata.pipeline import Stream, mindspore_dataset, torch_dataset
from mmdata.schema import (
    CompactTimes,
    Conversation,
    Image,
    Media,
    Message,
    Reasoning,
    Text,
    Video,
    assistant,
    system,
    user,
)
from mmdata.store import Store
from mmdata.templates import PixelPlan
from tests.pipeline.words import Conversations
from tests.stores import write
from tests.vocabularies import small

FACTOR = 32
PATCHES = Patches(2, 2, 2, (0.5, 0.25, 0.0), (0.5, 0.25, 1.0))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two pictures and a text, a clip of five frames, a text."""
    folder = tmp_path_factory.mktemp("patches")
    chance = np.random.default_rng(0)

    def noise(name: str, rows: int, columns: int) -> str:
        shape = rows * FACTOR, columns * FACTOR, 3
        fromarray(chance.integers(0, 256, shape, np.uint8)).save(folder / name)
        return str(folder / name)

    pictures = [
        Media("image", noise(f"{n}.png", *size), height=size[0] * FACTOR, width=size[1] * FACTOR)
        for n, size in enumerate([(2, 3), (4, 2)])
    ]
    clip = Media(
        "video",
        frame_paths=tuple(noise(f"f{number}.png", 2, 2) for number in range(5)),
        height=2 * FACTOR,
        width=2 * FACTOR,
        num_frames=5,
        fps=2.0,
        duration=2.5,
        clock=CompactTimes(step=0.5),
    )
    shown = user(Image(0), "What?"), assistant("A cat."), user(Image(1), "And?"), assistant("B.")
    rows = [
        Conversation("pictures", shown, tuple(pictures)),
        Conversation("clip", (user("look ", Video(0), "What?"), assistant("It falls.")), (clip,)),
        Conversation("text", (user("hm"), assistant("no."))),
    ]
    return write(folder / "store", rows)


def template_of(**options: Any) -> Any:
    own = {"min_pixels": 1024, "frames": "every:1", **options}
    return mmdata.templates.get("qwen3_vl")(tokenizer=small("qwen3"), **own)


def batches(store: Store, **options: Any) -> list[Any]:
    settings = {"seq_length": 512, "batch_size": 3, "shuffle": False, "workers": 0, **options}
    return list(Stream(store, template_of(), **settings))


def test_patches_go_by_blocks_and_hold_colours_frames_rows_and_columns() -> None:
    grid = PatchGrid(PATCHES, 1, 4, 4)
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    frames[1, 5, 2, 2] = 7  # second frame, row 5, column 2, blue

    blocks = cut(frames, grid)

    # Row 5 and column 2 are in the patch (2, 1): the block (1, 0), in it the patch (0, 1).
    assert blocks.shape == (4, 4, 24)
    [place] = np.argwhere(blocks).tolist()
    assert place[:2] == [2, 1]
    assert np.unravel_index(place[2], (3, 2, 2, 2)) == (2, 1, 1, 0)


def test_the_last_frame_fills_the_last_layer_and_a_picture_its_own() -> None:
    frames = np.stack([np.full((4, 4, 3), level, np.uint8) for level in (1, 2, 3)])

    clip = cut(frames, PatchGrid(PATCHES, 2, 2, 2)).reshape(2, 4, 3, 2, 4)
    picture = cut(frames[:1], PatchGrid(PATCHES, 1, 2, 2))

    assert clip[0, 0, 0, :, 0].tolist() == [1, 2]
    assert clip[1, 0, 0, :, 0].tolist() == [3, 3]
    assert set(picture.ravel().tolist()) == {1}


def test_each_colour_has_its_own_mean_and_deviation() -> None:
    frames = np.full((1, 4, 4, 3), 255, np.uint8)

    rows = normalize_rows(cut(frames, PatchGrid(PATCHES, 1, 2, 2)), PATCHES)

    assert rows.shape == (4, 24)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows.reshape(4, 3, 8)[0, :, 0], [1.0, 3.0, 1.0], rtol=1e-6)


def test_only_some_resizers_make_rectangles() -> None:
    pixels = np.zeros((10, 20, 3), np.uint8)

    assert get_resizer("squeeze")(pixels, (4, 6)).shape == (4, 6, 3)
    with pytest.raises(UsageError, match="makes squares"):
        get_resizer("crop")(pixels, (4, 6))


def test_a_batch_holds_the_patches_of_all_media_and_their_grids(store: Store) -> None:
    [batch] = batches(store)

    assert batch["grid_thw"].tolist() == [[1, 4, 6], [1, 8, 4], [3, 4, 4]]
    assert batch["pixel_values"].shape == (24 + 32 + 48, 1536)
    assert batch["pixel_values"].dtype == np.uint8
    assert batch["position_ids"].shape == (3, 3, 512)
    index = batch["media_index"]
    assert index[index >= 0].tolist() == [*range(6), *range(6, 14), *range(14, 26)]
    assert "cu_seqlens" not in batch


def test_every_placeholder_takes_the_patches_of_its_own_place(store: Store) -> None:
    [batch] = batches(store)
    template = template_of()

    first = 0
    for row, conversation in enumerate(store):
        encoded = template.encode(conversation)
        for slot in encoded.slots:
            taken = batch["media_index"][row, slot.start : slot.stop]
            assert taken.tolist() == [*range(first, first + slot.length)]
            first += slot.length
    assert first * 4 == len(batch["pixel_values"])


def test_floats_are_the_same_pixels_normalised(store: Store) -> None:
    [as_bytes], [as_floats] = batches(store), batches(store, pixels="float32")

    expected = as_bytes["pixel_values"].astype(np.float64) / 127.5 - 1
    np.testing.assert_allclose(as_floats["pixel_values"], expected, atol=1e-6)


@pytest.mark.parametrize("workers", [0, 2])
def test_room_for_more_gives_every_batch_one_shape_and_the_same_pixels(
    store: Store, workers: int
) -> None:
    [exact] = batches(store)
    [padded] = batches(store, max_views=20, workers=workers)

    taken = len(exact["pixel_values"])
    assert padded["pixel_values"].shape == (3 * 20 * 4, 1536)
    assert padded["grid_thw"].shape == (60, 3)
    assert np.array_equal(padded["pixel_values"][:taken], exact["pixel_values"])
    assert np.array_equal(padded["grid_thw"][:3], exact["grid_thw"])
    assert not padded["pixel_values"][taken:].any()
    assert not padded["grid_thw"][3:].any()
    assert padded.media_mask.sum() == taken / 4


def test_decoding_in_other_processes_changes_nothing(store: Store) -> None:
    [here], [apart] = batches(store), batches(store, workers=1, isolated=True)

    assert all(np.array_equal(here[name], apart[name]) for name in here)


def test_packed_rows_say_where_samples_begin(store: Store) -> None:
    [batch] = batches(store, packing=True, batch_size=1)

    segments, borders = batch["segment_ids"].ravel(), batch["cu_seqlens"]
    assert borders[0] == 0
    assert borders[-1] == segments.size
    for start, stop in pairwise(borders):
        assert len(set(segments[start:stop].tolist())) == 1
    assert len(borders) == len(set(segments.tolist())) + 1
    starts = borders[:-1][segments[borders[:-1]] > 0]
    assert (batch["position_ids"][0, :, starts] == 0).all()


def test_transformers_takes_its_own_names_and_axes(store: Store) -> None:
    [own], [batch] = batches(store), batches(store, layout="transformers")

    assert list(batch) == [
        "input_ids",
        "attention_mask",
        "labels",
        "position_ids",
        "pixel_values",
        "image_grid_thw",
        "pixel_values_videos",
        "video_grid_thw",
    ]
    assert np.array_equal(batch["position_ids"], own["position_ids"].transpose(1, 0, 2))
    assert np.array_equal(batch["attention_mask"], own["segment_ids"] > 0)
    assert batch["image_grid_thw"].tolist() == [[1, 4, 6], [1, 8, 4]]
    assert batch["video_grid_thw"].tolist() == [[3, 4, 4]]
    assert batch["pixel_values"].shape == (56, 1536)
    assert batch["pixel_values_videos"].shape == (48, 1536)
    whole = np.concatenate([batch["pixel_values"], batch["pixel_values_videos"]])
    np.testing.assert_allclose(whole, own["pixel_values"] / 127.5 - 1, atol=1e-6)


def test_a_batch_without_media_has_no_empty_arrays_of_them(store: Store) -> None:
    [pictures, clip, text] = batches(store, layout="transformers", batch_size=1)

    assert "pixel_values_videos" not in pictures
    assert "pixel_values" not in clip
    assert list(text) == ["input_ids", "attention_mask", "labels", "position_ids"]


def test_packed_samples_are_told_apart_by_positions_in_transformers(store: Store) -> None:
    [own] = batches(store, packing=True, batch_size=1)
    [batch] = batches(store, packing=True, batch_size=1, layout="transformers")

    words, *places = batch["position_ids"]
    starts = own["cu_seqlens"][:-1]
    assert (words[0, starts] == 0).all()
    assert np.flatnonzero(words[0] == 0).tolist() == starts.tolist()
    assert np.array_equal(np.stack(places)[:, 0], own["position_ids"][0])
    assert "attention_mask" not in batch


def test_mindspeed_mm_takes_the_same_in_rows_of_a_multiple_of_eight(store: Store) -> None:
    ours = batches(store, layout="transformers", batch_size=1, dynamic=True)
    theirs = batches(store, layout="mindspeed_mm", batch_size=1, dynamic=True)

    for own, batch in zip(ours[:2], theirs[:2], strict=True):
        length = own["input_ids"].shape[1]
        assert 0 <= batch["input_ids"].shape[1] - length < 8
        assert batch["input_ids"].shape[1] % 8 == 0
        assert list(batch) == list(own)
        for name in batch:
            words = batch[name][..., :length] if name in WORDS else batch[name]
            assert np.array_equal(words, own[name]), name
        assert not batch["attention_mask"][:, length:].any()
        assert (batch["labels"][:, length:] == -100).all()


WORDS = {"input_ids", "labels", "attention_mask", "position_ids"}


def test_mindspeed_mm_gets_a_picture_that_nobody_sees_with_texts_alone(store: Store) -> None:
    *_, own = batches(store, layout="transformers", batch_size=1)
    *_, batch = batches(store, layout="mindspeed_mm", batch_size=1)

    special = template_of().tokenizer.special
    names = "<|vision_start|>", "<|image_pad|>", "<|vision_end|>"
    at = int(own["attention_mask"].sum())
    assert batch["input_ids"][0, at : at + 3].tolist() == [special[name] for name in names]
    assert np.array_equal(batch["attention_mask"], own["attention_mask"])
    assert np.array_equal(batch["labels"], own["labels"])
    assert batch["image_grid_thw"].tolist() == [[1, 2, 2]]
    assert batch["pixel_values"].shape == (4, 1536)
    assert (batch["pixel_values"] == 1).all()


def test_a_text_that_leaves_no_room_for_a_picture_is_refused(store: Store) -> None:
    length = len(template_of().encode(store[2]))

    for room in (length, length + 7):
        stream = Stream(
            Conversations([store[2]]),
            template_of(),
            seq_length=room,
            batch_size=1,
            layout="mindspeed_mm",
        )
        if -(-room // 8) * 8 >= length + 3:
            assert len(list(stream)) == 1
        else:
            with pytest.raises(SampleError, match="smaller max_length"):
                list(stream)


def test_pictures_beside_clips_are_refused_where_the_trainer_would_lose_them(store: Store) -> None:
    with pytest.raises(ConfigError, match="pictures, clip, text has pictures and clips"):
        batches(store, layout="mindspeed_mm")

    found = batches(store, layout="mindspeed_mm", batch_size=1, group_by="modality")
    assert [("pixel_values" in batch) for batch in found].count(True) == 2


def test_rows_that_nothing_tells_apart_are_not_packed(store: Store) -> None:
    with pytest.raises(ConfigError, match="the layout mindspeed_mm has no column"):
        batches(store, layout="mindspeed_mm", packing=True)


def test_a_stream_counts_what_is_left_unsaid(caplog: pytest.LogCaptureFixture) -> None:
    thinks = Message("assistant", (Reasoning("so"), Text("ok")), True)
    rows = [
        Conversation("a", (user("hm"), thinks, system("new"), user("and"), assistant("yes"))),
        Conversation("b", (user("hm"), thinks)),
        Conversation("c", (user("hm"), assistant("yes"))),
    ]
    template = template_of(unsaid="drop")
    stream = Stream(
        Conversations(rows),
        template,
        seq_length=64,
        batch_size=2,
        shuffle=False,
        drop_last=False,
        workers=0,
    )

    with caplog.at_level(logging.WARNING, "mmdata"):
        found = [dict(batch.unsaid) for batch in stream]

    # The last batch is filled with a row that was there before, which does not count again.
    assert found == [{"reasoning": 2, "a later system message": 1}, {}]
    assert caplog.messages == [
        "epoch 0: left out of samples, for the model family has no way to say it: "
        "reasoning 2, a later system message 1"
    ]


def test_torch_gets_tensors_of_whatever_a_batch_has(store: Store) -> None:
    torch = pytest.importorskip("torch")
    stream = Stream(
        store,
        template_of(),
        seq_length=512,
        batch_size=1,
        shuffle=False,
        layout="transformers",
        workers=0,
    )

    found = list(torch_dataset(stream))

    names = ("image_grid_thw", "video_grid_thw")
    has = [tuple(name in batch for name in names) for batch in found]
    assert has == [(True, False), (False, True), (False, False)]
    assert found[0]["labels"].dtype == torch.int64


@pytest.mark.parametrize("layout", ["transformers", "mindspeed_mm"])
def test_a_mindspore_data_set_has_fixed_columns(store: Store, layout: Any) -> None:
    stream = Stream(store, template_of(), seq_length=512, layout=layout)

    with pytest.raises(ConfigError, match="take the layout mmdata"):
        mindspore_dataset(stream)


def test_a_grid_counts_the_positions_that_its_medium_takes(tmp_path: Path) -> None:
    grid = PatchGrid(PATCHES, 3, 4, 6)

    assert grid.merged == (3, 2, 3)
    assert grid.num_features == 18
    assert grid.size == (8, 12)
    assert PixelPlan(0, "squeeze", 2, grid=grid).grid == grid
