"""What a stream allows a file to cost, and what it makes of a damaged one, in its own threads and
in processes alike.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mmdata
from mmdata.conversion import Check
from mmdata.errors import SampleError
from mmdata.image import resizers
from mmdata.pipeline import Stream
from mmdata.schema import Conversation, Media, Video, assistant, user
from mmdata.store import Store
from mmdata.video import sample
from tests.pipeline.words import SIDE
from tests.stores import write
from tests.video.clips import clip, slow_clip
from tests.video.told import ToldTemplate


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A sound clip of 64x48 and one that is cut short, of which nobody looked into either."""
    whole = clip("h264", "mp4", range(60), gop=10, muxer={"movflags": "frag_keyframe+empty_moov"})
    (tmp_path / "sound.mp4").write_bytes(whole)
    (tmp_path / "cut.mp4").write_bytes(whole[: len(whole) * 2 // 3])
    rows = [
        Conversation(
            name, (user(Video(0), "What?"), assistant("That.")), (Media("video", f"{name}.mp4"),)
        )
        for name in ("sound", "cut")
    ]
    return write(tmp_path / "store", rows, media_root=str(tmp_path))


def stream(store: Store, **options: Any) -> Stream:
    settings: dict[str, Any] = {"seq_length": 256, "batch_size": 1, "shuffle": False, "workers": 1}
    return Stream(store, ToldTemplate(strategy="uniform:4"), **{**settings, **options})


def shown(batches: Stream) -> dict[str, Any]:
    return {batch.ids[0][0]: np.array(batch["pixel_values"]) for batch in batches}


@pytest.mark.parametrize("isolated", [False, True])
def test_a_damaged_clip_is_skipped_or_what_decodes_of_it_is_shown(
    store: Store, isolated: bool, caplog: pytest.LogCaptureFixture
) -> None:
    skipping = shown(stream(store, on_error="skip", isolated=isolated))
    keeping = shown(stream(store, on_damage="keep", isolated=isolated))

    assert skipping.keys() == {"sound"}
    np.testing.assert_array_equal(keeping["sound"], skipping["sound"])
    expected = sample(store.located(1).media[0].path or "", "uniform:4", on_damage="keep").pixels
    squeeze = resizers.get("squeeze")
    views = np.stack([squeeze(frame, SIDE) for frame in expected])
    np.testing.assert_array_equal(keeping["cut"].reshape(views.shape), views)
    if not isolated:
        with caplog.at_level(logging.WARNING, "mmdata"):
            shown(stream(store, on_damage="keep"))
        assert [line for line in caplog.messages if line.startswith("kept: ")]


@pytest.mark.parametrize("level", ["exists", "probe", "decode"])
def test_a_damaged_clip_that_was_kept_by_converting_is_told_as_it_is_shown(
    store: Store, tmp_path: Path, level: Check
) -> None:
    said = [{"from": "human", "value": "<video>What?"}, {"from": "gpt", "value": "That."}]
    record = {"id": "cut", "video": "cut.mp4", "conversations": said}
    (tmp_path / "cut.json").write_text(json.dumps([record]))
    mmdata.convert(
        "llava",
        tmp_path / "cut.json",
        tmp_path / "kept",
        check=level,
        on_damage="keep",
    )

    found = shown(stream(mmdata.open(tmp_path / "kept"), on_damage="keep"))

    np.testing.assert_array_equal(found["cut"], shown(stream(store, on_damage="keep"))["cut"])


@pytest.mark.parametrize("isolated", [False, True])
def test_pixels_beyond_the_limit_cost_the_sample(store: Store, isolated: bool) -> None:
    sound = write(store.path.parent / "one", [store[0]], media_root=str(store.media_root))
    assert shown(stream(sound, isolated=isolated, max_pixels=64 * 48)).keys() == {"sound"}

    with pytest.raises(SampleError, match=r"sound\.mp4.*raise max_pixels") as found:
        shown(stream(sound, isolated=isolated, max_pixels=64 * 48 - 1))

    assert found.value.reason == "media_limit"
    assert found.value.path.endswith("sound.mp4")


def test_memory_beyond_the_limit_costs_the_sample(store: Store, tmp_path: Path) -> None:
    (tmp_path / "sound.mp4").write_bytes(slow_clip())
    sound = write(tmp_path / "one", [store[0]], media_root=str(tmp_path))
    assert shown(stream(sound, isolated=True)).keys() == {"sound"}

    with pytest.raises(SampleError, match=r"sound\.mp4.*raise memory \(--memory") as found:
        shown(stream(sound, isolated=True, memory=56 << 20))

    assert found.value.reason == "media_limit"


def test_a_sample_that_is_late_names_its_file_and_the_option(store: Store, tmp_path: Path) -> None:
    (tmp_path / "sound.mp4").write_bytes(slow_clip())
    sound = write(tmp_path / "one", [store[0]], media_root=str(tmp_path))

    with pytest.raises(
        SampleError, match=r"sound\.mp4\) was not read within .*--deadline"
    ) as found:
        shown(stream(sound, deadline=1e-4))

    assert (found.value.id, found.value.reason) == ("sound", "late")
    assert found.value.path.endswith("sound.mp4")
