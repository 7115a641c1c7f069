"""A folder of pictures is a video of two frames a second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmdata import video
from mmdata.conversion.probe import check
from mmdata.errors import VideoError
from mmdata.image.families import ResizeName
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


def test_a_folder_is_indexed_and_checked_like_a_file(folder: Path) -> None:
    found = video.index(folder)

    assert (found.num_frames, found.height, found.width, found.duration) == (9, HEIGHT, WIDTH, 4.5)
    assert check(folder, "video", level="decode").num_frames == 9


@pytest.mark.parametrize(
    ("size", "resize", "shape"), [(20, "fast", (20, 20)), ((8, 12), "fast", (8, 12)), (30, "qwen_vl", (30, 30))]
)
def test_pictures_are_resized_as_frames_are(
    folder: Path, size: int | tuple[int, int], resize: ResizeName, shape: tuple[int, int]
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

    assert [isinstance(outcome, VideoError) for outcome in outcomes] == [False, True, False, True, False] * 5
    whole = outcomes[0]
    assert not isinstance(whole, VideoError)
    sound = [outcome for outcome in outcomes[::5] if not isinstance(outcome, VideoError)]
    assert len(sound) == 5
    assert all(np.array_equal(outcome.pixels, whole.pixels) for outcome in sound)
