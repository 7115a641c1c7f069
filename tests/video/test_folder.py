"""A folder of pictures is a video of two frames a second."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmdata import video
from mmdata.conversion.probe import check
from mmdata.errors import UsageError, VideoError
from mmdata.image import resizers
from tests.video.clips import HEIGHT, WIDTH, numbers_in, picture


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine numbered pictures, and a file that is none."""
    for number in range(9):
        Image.fromarray(picture(number)).save(tmp_path / f"{number:03d}.png")
    (tmp_path / "notes.txt").touch()
    return tmp_path


def test_pictures_are_frames_in_the_order_of_their_names(folder: Path) -> None:
    frames = video.sample(folder, "uniform:5")

    assert numbers_in(frames.pixels) == frames.numbers.tolist() == [0, 2, 4, 6, 8]
    assert frames.times.tolist() == [0, 1, 2, 3, 4]
    assert frames.times_source == "derived"


def test_names_are_in_the_order_of_their_characters_whatever_the_order_of_making(
    tmp_path: Path,
) -> None:
    names = ["b.png", "a10.JPG", "a9.png", "A.Png", "c.JPEG", "10.png", "9.webp", "0.bmp"]
    for number, name in enumerate(sorted(names)):
        form = Path(name).suffix[1:].lower().replace("jpg", "jpeg")
        Image.fromarray(picture(number)).save(tmp_path / f"{number}.part", form, quality=95)
    for number, name in reversed(list(enumerate(sorted(names)))):
        (tmp_path / f"{number}.part").rename(tmp_path / name)

    assert numbers_in(video.sample(tmp_path, "every:1").pixels) == list(range(len(names)))


def test_pictures_are_resized_by_the_way_of_a_family(folder: Path) -> None:
    for name in ("squeeze", "crop", "pad", "crop_bilinear"):
        taken = video.sample(folder, "frames:3", size=30, resize=name).pixels[0]
        np.testing.assert_array_equal(taken, resizers.get(name)(picture(3), 30))


def test_a_clip_of_a_folder_has_the_bounds_that_are_asked_for(folder: Path) -> None:
    assert video.sample(folder, "every:1", start=1.0, end=3.0).numbers.tolist() == [2, 3, 4, 5]


def test_a_folder_is_indexed_and_checked_like_a_file(folder: Path) -> None:
    found = video.index(folder)

    assert (found.num_frames, found.height, found.width, found.duration) == (9, HEIGHT, WIDTH, 4.5)
    assert check(folder, "video", level="decode").num_frames == 9


@pytest.mark.parametrize(
    ("size", "resize", "shape"),
    [(20, "fast", (20, 20)), ((8, 12), "fast", (8, 12)), (30, "squeeze", (30, 30))],
)
def test_pictures_are_resized_as_frames_are(
    folder: Path, size: int | tuple[int, int], resize: str, shape: tuple[int, int]
) -> None:
    assert video.sample(folder, "uniform:2", size=size, resize=resize).pixels.shape[1:3] == shape


def test_a_picture_that_cannot_be_decoded_is_named(folder: Path) -> None:
    (folder / "004.png").write_text("no picture")

    with pytest.raises(VideoError, match=r"004\.png"):
        video.sample(folder, "uniform:5")
    with pytest.raises(VideoError, match=r"004\.png"):
        check(folder, "video", level="decode")


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no picture is in this folder"):
        video.index(tmp_path)


def test_many_clips_come_in_order_and_one_that_fails_costs_itself(folder: Path) -> None:
    (folder / "empty").mkdir()
    sources = [folder, folder / "empty", folder, folder / "absent.mp4", folder] * 5

    outcomes = list(video.sample_many(iter(sources), "uniform:3", threads=2, size=16))

    assert [isinstance(outcome, VideoError) for outcome in outcomes] == [
        False,
        True,
        False,
        True,
        False,
    ] * 5
    whole = outcomes[0]
    assert not isinstance(whole, VideoError)
    sound = [outcome for outcome in outcomes[::5] if not isinstance(outcome, VideoError)]
    assert len(sound) == 5
    assert all(np.array_equal(outcome.pixels, whole.pixels) for outcome in sound)


def test_many_clips_are_sampled_as_each_alone_is(folder: Path) -> None:
    options: dict[str, Any] = {
        "size": (20, 16),
        "start": 0.5,
        "end": 3.5,
        "pad": "repeat",
        "snap": "keyframe",
    }

    outcomes = list(video.sample_many([folder] * 3, "seconds:6", threads=2, **options))

    alone = video.sample(folder, "seconds:6", **options)
    for outcome in outcomes:
        assert not isinstance(outcome, VideoError)
        np.testing.assert_array_equal(outcome.pixels, alone.pixels)
        np.testing.assert_array_equal(outcome.numbers, alone.numbers)


def test_a_fault_of_the_call_is_not_an_outcome_of_a_clip(folder: Path) -> None:
    with pytest.raises(UsageError):
        list(video.sample_many([folder], "uniform:3", size=0))
