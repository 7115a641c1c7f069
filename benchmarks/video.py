"""24 frames at 224 x 224 from each clip of a folder:
CPU time of ours beside other decoders, each on one thread.

    python -m benchmarks.video --videos DIR [--runs 5] [--json]

Needs the `bench` extra and FFmpeg's shared libraries (for torchcodec). All contestants take the
same 24 frames, evenly spread over the frames that they count; runs interleave, and a contestant's
figure for a clip is its fastest run. In a run each goes over the whole folder, so that none finds a
clip in the caches as the one before it left them. `torchcodec` scales by its own Resize (which
needs no torchvision, or a working one); `torchcodec, torch` gives full frames to torch's
antialiased bilinear interpolation, `torch aliased` to the one that drops pixels; `opencv` seeks as
MindFormers does; `pyav, all` decodes every frame and keeps those that are wanted.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks.measure import options, print_row
from mmdata import video
from mmdata.frame_cache import cache_frames, cached_frames
from mmdata.schema import Conversation, Media, Video, assistant, user
from mmdata.store import open as open_store
from mmdata.store.writer import Origin, StoreWriter

FRAMES, SIDE = 24, 224
STRATEGY = f"uniform:{FRAMES}"
SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm"}
PACKAGES = ("av", "decord", "torchcodec", "torch", "opencv-python-headless")

Contestant: TypeAlias = Callable[[str], Any]
# (contestant, clip) -> CPU seconds; inf if it fails
Seconds: TypeAlias = dict[tuple[str, str], float]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--videos", type=Path, required=True, help="a folder of clips")
    arguments = parser.parse_args()
    clips = [
        str(path) for path in sorted(arguments.videos.iterdir()) if path.suffix.lower() in SUFFIXES
    ]
    row = functools.partial(print_row, unit="ms CPU", more_is_better=False, as_json=arguments.json)
    with tempfile.TemporaryDirectory() as folder:
        ways = contestants(clips, Path(folder))
        taken = measure_all(ways, clips, arguments.runs)
    peers = [name for name in ways if not name.startswith("ours")]
    for clip in clips:
        figures = {
            name: 1e3 * taken[name, clip] for name in peers if math.isfinite(taken[name, clip])
        }
        row(Path(clip).name, 1e3 * taken["ours", clip], figures, packages=PACKAGES)
    for name in ("ours", "ours, as Pillow", "ours, keyframes", "ours, cached"):
        for peer in ("ours", *peers) if name == "ours, cached" else peers:
            mine, theirs = both(taken, name, peer, clips)
            if mine:
                row(f"all clips, {name}", mine, {peer: theirs}, packages=PACKAGES)


def both(taken: Seconds, name: str, peer: str, clips: list[str]) -> tuple[float, float]:
    """Return the milliseconds of two contestants over the clips that both can decode."""
    common = [
        clip
        for clip in clips
        if math.isfinite(taken[name, clip]) and math.isfinite(taken[peer, clip])
    ]
    return sum(1e3 * taken[name, clip] for clip in common), sum(
        1e3 * taken[peer, clip] for clip in common
    )


def measure_all(ways: dict[str, Contestant], clips: list[str], runs: int) -> Seconds:
    """Return the fastest of so many runs of every contestant on every clip."""
    taken: Seconds = {}
    for run in range(runs + 1):  # the first is to warm up
        for name, way in ways.items():
            for clip in clips:
                seconds = (
                    cpu_seconds(way, clip) if taken.get((name, clip)) != math.inf else math.inf
                )
                taken[name, clip] = seconds if run < 2 else min(seconds, taken[name, clip])
    return taken


def cpu_seconds(way: Contestant, clip: str) -> float:
    """Return what one call took, or infinity if it failed."""
    started = time.process_time()
    try:
        way(clip)
    except Exception as error:  # whatever a decoder raises, it did not do the work
        print(f"{way} cannot decode {Path(clip).name}: {str(error)[:80]!r}", file=sys.stderr)
        return math.inf
    return time.process_time() - started


def contestants(clips: list[str], folder: Path) -> dict[str, Contestant]:
    """Return every way to take the frames that is installed here."""
    ways: dict[str, Contestant] = {
        "ours": ours,
        "ours, as Pillow": as_pillow,
        "ours, keyframes": keyframes,
    }
    ways["ours, cached"] = cached(clips, folder)
    for name, way, module in (
        ("torchcodec", torchcodec, "torchcodec"),
        ("torchcodec, torch", torchcodec_torch, "torchcodec"),
        (
            "torchcodec, torch aliased",
            functools.partial(torchcodec_torch, antialias=False),
            "torchcodec",
        ),
        ("decord", decord, "decord"),
        ("opencv", opencv, "cv2"),
    ):
        with contextlib.suppress(ImportError):
            __import__(module)
            ways[name] = way
    return {**ways, "pyav, all": pyav}


def ours(clip: str) -> NDArray[np.uint8]:
    return video.sample(clip, STRATEGY, size=SIDE, on_damage="keep").pixels


def as_pillow(clip: str) -> NDArray[np.uint8]:
    return video.sample(clip, STRATEGY, size=SIDE, resize="squeeze", on_damage="keep").pixels


def keyframes(clip: str) -> NDArray[np.uint8]:
    return video.sample(clip, STRATEGY, size=SIDE, snap="keyframe", on_damage="keep").pixels


def cached(clips: list[str], folder: Path) -> Contestant:
    """Cache the frames of all clips as JPEG, and return the way to read them."""
    with StoreWriter(
        folder / "store", sources=[""], origin=Origin("benchmark", {}, media_root="/")
    ) as writer:
        for clip in clips:
            media = Media("video", str(Path(clip).resolve()))
            writer.write_conversations(
                [Conversation(clip, (user(Video(0)), assistant("-")), (media,))]
            )
    cache_frames(folder / "store", folder / "frames", STRATEGY, size=SIDE, on_damage="keep")
    store = open_store(folder / "frames")
    rows = {row.id: number for number, row in enumerate(store)}

    def cached(clip: str) -> NDArray[np.uint8]:
        return cached_frames(store[rows[clip]].media[0]).pixels

    return cached


def spread(count: int) -> list[int]:
    return list(map(int, np.unique(np.linspace(0, count - 1, FRAMES).astype(int))))


def torchcodec(clip: str) -> Any:
    from torchcodec.decoders import VideoDecoder
    from torchcodec.transforms import Resize

    decoder = VideoDecoder(
        clip, num_ffmpeg_threads=1, seek_mode="exact", transforms=[Resize((SIDE, SIDE))]
    )
    return decoder.get_frames_at(spread(len(decoder))).data.numpy()


def torchcodec_torch(clip: str, *, antialias: bool = True) -> Any:
    import torch
    from torchcodec.decoders import VideoDecoder

    torch.set_num_threads(1)
    decoder = VideoDecoder(clip, num_ffmpeg_threads=1, seek_mode="exact")
    frames = decoder.get_frames_at(spread(len(decoder))).data
    return torch.nn.functional.interpolate(
        frames, (SIDE, SIDE), mode="bilinear", antialias=antialias
    ).numpy()


def decord(clip: str) -> NDArray[np.uint8]:
    import decord as package

    reader = package.VideoReader(clip, num_threads=1, width=SIDE, height=SIDE)
    frames: NDArray[np.uint8] = reader.get_batch(spread(len(reader))).asnumpy()
    return frames


def opencv(clip: str) -> NDArray[np.uint8]:
    import cv2

    cv2.setNumThreads(1)
    capture = cv2.VideoCapture(clip, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    pictures = []
    for number in spread(int(capture.get(cv2.CAP_PROP_FRAME_COUNT))):
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        read, picture = capture.read()
        if not read:
            raise ValueError(f"frame {number} cannot be read")
        pictures.append(cv2.cvtColor(cv2.resize(picture, (SIDE, SIDE)), cv2.COLOR_BGR2RGB))
    return np.stack(pictures)


def pyav(clip: str) -> NDArray[np.uint8]:
    frames = list(_all_frames(clip))
    wanted = [frames[number] for number in spread(len(frames))]
    return np.stack([frame.to_ndarray(format="rgb24", width=SIDE, height=SIDE) for frame in wanted])


def _all_frames(clip: str) -> Iterator[Any]:
    import av

    with av.open(clip) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        yield from container.decode(stream)


if __name__ == "__main__":
    main()
