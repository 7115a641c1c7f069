"""24 frames of an hour of variable rate: of a file that nobody has seen, and of a known one."""

from __future__ import annotations

import functools
import io
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np

from benchmarks.decoders import SIDE, Decoder, installed
from benchmarks.measure import print_row
from mmdata import video

__all__ = ["measure", "write_hour"]

FRAMES = 24
HEIGHT, WIDTH = 360, 640
RATE = 25
SCENE = 30 * RATE  # frames that are encoded; the hour repeats them
SCENES = 120
TICK = Fraction(1, 15360)
STEPS = (20, 33, 33, 40, 50, 64)  # milliseconds from frame to frame, as they come
PEERS = ("torchcodec", "torchcodec, approximate", "decord", "opencv", "video-reader-rs")


class Taken(NamedTuple):
    """What a call took, in milliseconds."""

    cpu: float
    wall: float


def measure(runs: int, *, as_json: bool) -> None:
    """Make the hour and print what a first and a second sample of it take."""
    with tempfile.TemporaryDirectory() as folder:
        clip = str(Path(folder) / "hour.mp4")
        write_hour(Path(clip))
        known = video.index(clip).clock
        first, second = "ours, first sample", "ours, second sample"
        ways: dict[str, Callable[[], Any]] = {
            first: functools.partial(_sample, clip, None),
            second: functools.partial(_sample, clip, known),
        }
        peers: dict[str, Callable[[], Any]] = {
            name: functools.partial(_take, decoder, clip)
            for name, decoder in installed(PEERS).items()
        }
        taken = take_turns(ways | peers, runs)

    others = [name for name in peers if name in taken]
    for name in (first, second):
        for unit in ("cpu", "wall"):
            medians = {
                way: statistics.median(getattr(one, unit) for one in taken[way])
                for way in (name, *others)
            }
            ours = medians.pop(name)
            what = "ms CPU" if unit == "cpu" else "ms"
            print_row(
                f"hour, {name}", ours, medians, what, ["av"], more_is_better=False, as_json=as_json
            )
            _print_pairs(f"hour, {name}, pair by pair", taken, name, others, unit, as_json)


def _print_pairs(
    title: str,
    taken: dict[str, list[Taken]],
    name: str,
    peers: Sequence[str],
    unit: str,
    as_json: bool,
) -> None:
    """Print how many times longer each peer took than we, run by run: median, least and most."""
    ratios = {
        peer: [
            getattr(theirs, unit) / getattr(ours, unit)
            for ours, theirs in zip(taken[name], taken[peer], strict=True)
        ]
        for peer in peers
    }
    if as_json:
        print(json.dumps({"name": title, "unit": unit, "ratios": ratios}))
        return
    said = ", ".join(
        f"{peer} {statistics.median(each):.2f}x ({min(each):.2f} to {max(each):.2f})"
        for peer, each in ratios.items()
    )
    print(f"{title}, {unit}: {said}")


def take_turns(ways: dict[str, Callable[[], Any]], runs: int) -> dict[str, list[Taken]]:
    """Call every way in turn, once to warm up and then ``runs`` times, and return what each call
    took; of ways that fail nothing.
    """
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name in list(taken):
            cpu, wall = time.process_time(), time.perf_counter()
            try:
                ways[name]()
            except Exception as error:  # whatever a decoder raises, it did not do the work
                print(f"{name} cannot decode the hour: {str(error)[:80]!r}", file=sys.stderr)
                del taken[name]
                continue
            if run:
                took = time.process_time() - cpu, time.perf_counter() - wall
                taken[name].append(Taken(1e3 * took[0], 1e3 * took[1]))
    return taken


def _sample(clip: str, clock: video.Clock | None) -> Any:
    return video.sample(clip, f"middle:{FRAMES}", size=SIDE, clock=clock)


def _take(decoder: Decoder, clip: str) -> Any:
    # Not the last frame, which torchcodec's approximate mode looks for after the end.
    return decoder(clip, lambda count: [(2 * n + 1) * count // (2 * FRAMES) for n in range(FRAMES)])


def write_hour(path: Path) -> None:
    """Write an hour of H.264 whose frames come at irregular steps.

    Half a minute is encoded and its packets are repeated, each time at other times.
    """
    scene = io.BytesIO(_scene())
    chance = random.Random(7)
    steps = (chance.choice(STEPS) * TICK.denominator // 1000 for _ in range(SCENE * SCENES))
    times = list(accumulate(steps, initial=0))  # ticks, with the end of the last frame

    with av.open(scene) as source, av.open(str(path), "w", format="mp4") as output:
        stream = source.streams.video[0]
        copy = output.add_stream_from_template(stream)
        copy.time_base = TICK
        packets = [packet for packet in source.demux(stream) if packet.size]
        presented = sorted(packet.pts or 0 for packet in packets)
        number_at = {pts: number for number, pts in enumerate(presented)}
        # Packets that come before a frame that is presented before theirs.
        depth = max(place - number_at[packet.pts or 0] for place, packet in enumerate(packets))
        shortest = min(STEPS) * TICK.denominator // 1000

        for repeat in range(SCENES):
            for place, packet in enumerate(packets):
                number = repeat * SCENE + number_at[packet.pts or 0]
                before = repeat * SCENE + place - depth
                again = av.Packet(bytes(packet))
                again.pts, again.duration = times[number], times[number + 1] - times[number]
                again.dts = times[before] if before >= 0 else before * shortest
                again.time_base, again.is_keyframe, again.stream = TICK, packet.is_keyframe, copy
                output.mux(again)


def _scene() -> bytes:
    """Return half a minute of a picture that scrolls, with windows that come and go."""
    chance = np.random.default_rng(7)
    coarse = chance.integers(40, 215, (2 * HEIGHT // 8, 2 * WIDTH // 8), np.uint8)
    page = coarse.repeat(8, 0).repeat(8, 1)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.bit_rate, stream.codec_context.gop_size = 250_000, 250
        for number in range(SCENE):
            grey = np.roll(page, (-number, number // 3), (0, 1))[:HEIGHT, :WIDTH].copy()
            left = 5 * number % (WIDTH - 120)
            grey[100:200, left : left + 120] = number % 200
            pixels = np.stack([grey, np.roll(grey, 1, 0), np.roll(grey, 2, 1)], 2)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return file.getvalue()
