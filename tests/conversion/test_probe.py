"""What a file is, and into which of three classes it falls: sound, damaged, not decodable."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdata._tools.limits import Limits
from mmdata.conversion.probe import Level, check, probe
from mmdata.engine import local as isolate
from mmdata.errors import MediaError
from mmdata.schema import MediaType
from mmdata.video import sample
from tests.reference import clips
from tests.video.clips import clip


def png(height: int, width: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)).save(
        file, "png"
    )
    return file.getvalue()


@pytest.mark.parametrize("level", ["probe", "decode"])
def test_an_image_is_its_size(level: Level) -> None:
    found = check(png(20, 30), "image", level=level)

    assert (found.type, found.height, found.width, found.damage) == ("image", 20, 30, ())
    assert (found.duration, found.fps, found.num_frames, found.times) == (None,) * 4


@pytest.mark.parametrize("level", ["probe", "decode"])
def test_real_clips_are_what_ffprobe_says(fixtures: Path, level: Level) -> None:
    for path, truth in clips(fixtures).items():
        if truth["errors"]:
            continue
        found = check(path, "video", level=level)
        turned = truth["rotation"] % 180 != 0
        width, height = (
            (truth["height"], truth["width"]) if turned else (truth["width"], truth["height"])
        )
        assert (found.width, found.height, found.num_frames) == (
            width,
            height,
            truth["decoded_frames"],
        ), path


def test_a_damaged_clip_decodes_in_part(fixtures: Path) -> None:
    for path, truth in clips(fixtures).items():
        if truth["errors"]:
            found = probe(path, "video", level="decode")
            assert found.num_frames == truth["decoded_frames"]
            with pytest.raises(MediaError, match=str(truth["decoded_frames"])) as caught:
                check(path, "video", level="decode")
            assert caught.value.reason == "damaged_media"
            assert caught.value.path.endswith(path.name)


@pytest.mark.parametrize("type_", ["image", "video"])
def test_each_way_to_be_unusable_has_its_reason(tmp_path: Path, type_: MediaType) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not a picture at all\n" * 100)
    reasons = {
        "missing": "missing_media",
        "empty": "empty_media",
        "text": "unreadable_media",
        "folder": "unreadable_media",
    }

    for name, reason in reasons.items():
        with pytest.raises(MediaError, match=name) as caught:
            check(tmp_path / name, type_)
        assert caught.value.reason == reason
        assert name in caught.value.path


def test_a_picture_beyond_the_limit_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(MediaError, match="30x20 pixels are beyond") as caught:
        check(png(20, 30), "image", level="decode", limits=Limits(pixels=599))

    assert caught.value.reason == "media_limit"


def test_a_cut_picture_is_damaged() -> None:
    with pytest.raises(MediaError) as caught:
        check(png(64, 64)[:2000], "image", level="decode")

    assert caught.value.reason == "damaged_media"


def test_checks_run_in_another_process_as_in_this_one(tmp_path: Path) -> None:
    (tmp_path / "sound.png").write_bytes(png(20, 30))
    (tmp_path / "text.png").write_text("not a picture")

    with isolate.Pool(deadline=60) as pool:
        sound, missing, text = pool.map(
            check, [(tmp_path / f"{name}.png", "image") for name in ("sound", "no", "text")]
        )

    assert sound == check(tmp_path / "sound.png", "image")
    assert isinstance(missing, MediaError)
    assert missing.reason == "missing_media"
    assert isinstance(text, MediaError)
    assert text.reason == "unreadable_media"


def flip(data: bytes, seed: int) -> bytes:
    """A file in which a few bits are turned round, behind its headers."""
    draw, flipped = random.Random(seed), bytearray(data)
    for _ in range(draw.choice([1, 3, 10])):
        flipped[draw.randrange(len(data) // 8, len(data))] ^= 1 << draw.randrange(8)
    return bytes(flipped)


@pytest.mark.parametrize(
    ("codec", "container"), [("h264", "mp4"), ("mjpeg", "avi"), ("mpeg2video", "matroska")]
)
def test_what_passes_a_full_decode_is_not_refused_where_frames_are_sampled(
    codec: str, container: str
) -> None:
    whole = clip(codec, container, range(30), gop=10)
    passed = 0

    for seed in range(12):
        data = flip(whole, seed)
        try:
            found = check(data, "video", level="decode")
        except MediaError:
            continue
        passed += 1
        for strategy in ("every:1", f"frames:{(found.num_frames or 1) - 1}", "uniform:3"):
            sample(data, strategy)

    assert 0 < passed < 12
