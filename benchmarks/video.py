"""Frames of videos beside other decoders: of short clips, of an hour, and of a file that is known;
and how fast clips are probed.

    python -m benchmarks.video --videos DIR [--part clips hour probes] [--runs 5] [--json]

Needs the `bench` extra and FFmpeg's shared libraries (for torchcodec), and `video-reader-rs` where
that is to be measured; what is not installed is named. All work on one thread, in turn, so that
what the machine does besides falls on all alike. CPU milliseconds, and those of the clock on the
wall.

`clips` takes 24 frames at 224 x 224, evenly spread over the frames that a contestant counts, from
each clip of the folder. A contestant's figure for a clip is its fastest run; in a run each goes
over the whole folder, so that none finds a clip in the caches as the one before it left them.
`opencv` seeks as MindFormers does, `forward` grabs frame by frame; `pyav, all` decodes every frame
and keeps those that are wanted. The floor is what FFmpeg needs for no more than the frames that
others refer to, none of them scaled. Sums are over the clips that are sound. At the end our times
of every clip's frames are held against decord's and torchcodec's.

`hour` takes 24 frames of an hour of variable rate at 640 x 360, which is made: as a file that
nobody has seen, and as one whose clock is known. Medians, and those of the ratios pair by pair.

`probes` looks into 1,000 files, copies of the clips: in this process, and isolated as `convert
--check probe` does it, on one core and on two.
"""

from __future__ import annotations

import functools
import math
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from benchmarks import clocks, hour, probes
from benchmarks.decoders import SIDE, Decoder, installed
from benchmarks.measure import options, print_row
from mmdata import video
from mmdata.frame_cache import cache_frames, cached_frames
from mmdata.schema import Conversation, Media, Video, assistant, user
from mmdata.store import open as open_store
from mmdata.store.writer import Origin, StoreWriter

FRAMES = 24
STRATEGY = f"uniform:{FRAMES}"
SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm"}
PACKAGES = ("av",)
PEERS = (
    "torchcodec",
    "torchcodec, torch",
    "torchcodec, torch aliased",
    "decord",
    "opencv",
    "opencv, forward",
    "video-reader-rs",
    "pyav, all",
)
OURS = ("ours", "ours, as Pillow", "ours, keyframes", "ours, known", "ours, cached")
FLOOR = "floor"

Contestant: TypeAlias = Callable[[str], Any]


class Taken(NamedTuple):
    """What one call took in seconds; infinity if it failed."""

    cpu: float
    wall: float


# (contestant, clip) -> its fastest run
Times: TypeAlias = dict[tuple[str, str], Taken]


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--videos", type=Path, required=True, help="a folder of clips")
    parser.add_argument(
        "--part",
        nargs="+",
        choices=("clips", "hour", "probes"),
        default=("clips", "hour", "probes"),
    )
    arguments = parser.parse_args()
    clips = [
        str(path) for path in sorted(arguments.videos.iterdir()) if path.suffix.lower() in SUFFIXES
    ]
    if "clips" in arguments.part:
        measure_clips(clips, arguments.runs, as_json=arguments.json)
        clocks.print_differences(clips, as_json=arguments.json)
    if "hour" in arguments.part:
        hour.measure(arguments.runs, as_json=arguments.json)
    if "probes" in arguments.part:
        probes.measure(clips, arguments.runs, as_json=arguments.json)


def measure_clips(clips: list[str], runs: int, *, as_json: bool) -> None:
    """Print a row for each clip, and the sums over all of them."""
    row = functools.partial(print_row, packages=PACKAGES, more_is_better=False, as_json=as_json)
    with tempfile.TemporaryDirectory() as folder:
        ways = contestants(clips, Path(folder))
        taken = measure_all(ways, clips, runs)
    peers = [name for name in ways if name not in (*OURS, FLOOR)]
    # What decodes without a fault; of damaged ones we decode all, more than once, to keep the rest.
    sound = [clip for clip in clips if math.isfinite(taken[FLOOR, clip].cpu)]
    all_of_them = f"all {len(sound)} clips"

    for clip in clips:
        figures = {name: 1e3 * taken[name, clip].cpu for name in peers}
        figures = {name: figure for name, figure in figures.items() if math.isfinite(figure)}
        row(Path(clip).name, 1e3 * taken["ours", clip].cpu, figures, unit="ms CPU")
    for name in OURS:
        for peer in ("ours", *peers) if name in ("ours, cached", "ours, known") else peers:
            ours, others = both(taken, name, peer, sound)
            if ours.cpu:
                row(f"{all_of_them}, {name}", ours.cpu, {peer: others.cpu}, unit="ms CPU")
                row(f"{all_of_them}, {name}", ours.wall, {peer: others.wall}, unit="ms")
    ours, floor = both(taken, "ours", FLOOR, sound)
    row(f"{all_of_them}, ours over the floor", ours.cpu / floor.cpu, {}, unit="times the CPU time")
    row(f"{all_of_them}, the floor", floor.cpu, {}, unit="ms CPU")


def both(taken: Times, name: str, peer: str, clips: list[str]) -> tuple[Taken, Taken]:
    """Return the milliseconds of two contestants over the clips that both can decode."""
    common = [
        clip
        for clip in clips
        if math.isfinite(taken[name, clip].cpu) and math.isfinite(taken[peer, clip].cpu)
    ]
    ours, others = (
        Taken(
            sum(1e3 * taken[way, clip].cpu for clip in common),
            sum(1e3 * taken[way, clip].wall for clip in common),
        )
        for way in (name, peer)
    )
    return ours, others


def measure_all(ways: dict[str, Contestant], clips: list[str], runs: int) -> Times:
    """Return the fastest of so many runs of every contestant on every clip."""
    taken: Times = {}
    failed: set[tuple[str, str]] = set()
    for run in range(runs + 1):  # the first is to warm up
        for name, way in ways.items():
            for clip in clips:
                if (name, clip) in failed:
                    continue
                now = time_call(way, clip)
                if math.isinf(now.cpu):
                    failed.add((name, clip))
                best = now if run < 2 else taken[name, clip]
                taken[name, clip] = Taken(min(now.cpu, best.cpu), min(now.wall, best.wall))
    return taken | dict.fromkeys(failed, Taken(math.inf, math.inf))


def time_call(way: Contestant, clip: str) -> Taken:
    """Return what one call took, or infinity if it failed."""
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        way(clip)
    except Exception as error:  # whatever a decoder raises, it did not do the work
        print(f"{way} cannot decode {Path(clip).name}: {str(error)[:80]!r}", file=sys.stderr)
        return Taken(math.inf, math.inf)
    return Taken(time.process_time() - cpu, time.perf_counter() - wall)


def contestants(clips: list[str], folder: Path) -> dict[str, Contestant]:
    """Return every way to take the frames that is installed here."""
    ways: dict[str, Contestant] = {
        "ours": ours,
        "ours, as Pillow": as_pillow,
        "ours, keyframes": keyframes,
        "ours, known": known(clips),
        "ours, cached": cached(clips, folder),
        FLOOR: floor,
    }
    return ways | {name: functools.partial(peer, way) for name, way in installed(PEERS).items()}


def peer(decoder: Decoder, clip: str) -> Any:
    return decoder(clip, spread)


def ours(clip: str) -> NDArray[np.uint8]:
    return video.sample(clip, STRATEGY, size=SIDE, on_damage="keep").pixels


def as_pillow(clip: str) -> NDArray[np.uint8]:
    return video.sample(clip, STRATEGY, size=SIDE, resize="squeeze", on_damage="keep").pixels


def keyframes(clip: str) -> NDArray[np.uint8]:
    return video.sample(clip, STRATEGY, size=SIDE, snap="keyframe", on_damage="keep").pixels


def known(clips: list[str]) -> Contestant:
    """Learn the clocks of all clips, and return the way to sample by them."""
    found = {clip: video.sample(clip, "frames:0", on_damage="keep").clock for clip in clips}

    def known(clip: str) -> NDArray[np.uint8]:
        return video.sample(clip, STRATEGY, size=SIDE, clock=found[clip], on_damage="keep").pixels

    return known


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


def floor(clip: str) -> None:
    """Decode the frames that others refer to, and no more."""
    import av

    with av.open(clip) as container:
        stream = container.streams.best("video")
        assert isinstance(stream, av.VideoStream)
        stream.codec_context.thread_count = 1
        stream.codec_context.skip_frame = "NONREF"
        for packet in container.demux(stream):
            stream.codec_context.decode(packet)


def spread(count: int) -> list[int]:
    return list(map(int, np.unique(np.linspace(0, count - 1, FRAMES).astype(int))))


if __name__ == "__main__":
    main()
