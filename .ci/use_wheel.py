"""Use an installed mmdata as a stranger would:
convert drawn clips, sample them, and sample the fixture clips, if any.

    python -I .ci/use_wheel.py FOLDER

Run by `.ci/matrix.py` in an environment that holds the wheel and what it depends on, and nothing
else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import av
import numpy as np

import mmdata
from mmdata.errors import VideoError

FRAMES = 24
SUFFIXES = {".avi", ".mkv", ".mov", ".mp4", ".webm"}


def main(folder: Path) -> None:
    """Raise where something is not as it should be."""
    assert "site-packages" in mmdata.__file__, f"{mmdata.__file__} is not an installed package"
    for number, label in enumerate(("Fight", "NonFight")):
        write_clip(folder / "RWF-2000" / "train" / label / f"{number}.mp4")
    command = [
        str(Path(sys.executable).with_name("mmdata")),
        "convert",
        "rwf2000",
        "RWF-2000",
        "-o",
        "store",
    ]
    subprocess.run(
        [*command, "--check", "decode"], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )
    store = mmdata.open(folder / "store")
    assert len(store) == store.manifest.records_in == 2
    for conversation in store:
        frames = mmdata.video.sample(
            store.locate(conversation.media[0]), "times:0,0.5,0.9", size=32
        )
        assert frames.pixels.shape == (3, 32, 32, 3)
        assert frames.numbers.tolist() == [0, 12, 22]
        np.testing.assert_allclose(frames.times, [0, 12 / FRAMES, 22 / FRAMES])
        assert np.diff(frames.pixels.mean(axis=(1, 2, 3))).min() > 20, "the clip grows brighter"
    print(
        f"Python {sys.version_info.major}.{sys.version_info.minor}: {len(store)} drawn clips",
        end="",
    )
    fixtures = os.environ.get("MMDATA_FIXTURES")
    if fixtures:
        sampled, refused = sample_all(Path(fixtures))
        print(f", {sampled} fixture clips sampled and {refused} refused as damaged", end="")
        assert sampled
    print(f", PyAV {av.__version__}, numpy {np.__version__}", flush=True)


def write_clip(path: Path) -> None:
    """Write a second of frames that grow brighter."""
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAMES)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for number in range(FRAMES):
            pixels = np.full((64, 64, 3), number * 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))


def sample_all(fixtures: Path) -> tuple[int, int]:
    """Sample every clip;
    return how many gave frames and how many were refused for what they are.
    """
    clips = [path for path in sorted((fixtures / "videos").iterdir()) if path.suffix in SUFFIXES]
    refused = 0
    for clip in clips:
        try:
            frames = mmdata.video.sample(clip, "uniform:4", size=32)
        except VideoError:
            refused += 1
            continue
        assert frames.pixels.shape == (len(frames.times), 32, 32, 3)
        assert 0 < len(frames.times) <= 4  # some hold fewer
    return len(clips) - refused, refused


if __name__ == "__main__":
    main(Path(sys.argv[1]))
