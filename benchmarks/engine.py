"""What workers gain, and what engines cost: clips probed and decoded, and text converted, by
processes of this machine and by Ray; beside Ray Data and Daft decoding the same clips.

    python -m benchmarks.engine [--clips 1000] [--decoded 200] [--records 200000] [--json]

The clips are generated: 4 seconds of moving noise, 320 x 240, H.264, each with a name of its own.
Ours probes (what each file is, when each of its frames is) or decodes them whole, in isolated
processes, and writes a store. The peers decode them with PyAV and count the frames. Engines are
warm: started, and used once, before the clock runs. The runs interleave; medians of seconds.

Text: LLaVA-shaped records without media, 250 MB at the default, with one worker and with two.
"""

from __future__ import annotations

import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np

import mmdata
from benchmarks.measure import options, print_row
from mmdata.engine.engine import Engine
from mmdata.engine.open import open_engine

_FRAMES = 100
_WORKERS = 2


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--clips", type=int, default=1000, help="clips that are probed; 0: none")
    parser.add_argument("--decoded", type=int, default=200, help="clips that are decoded; 0: none")
    parser.add_argument("--records", type=int, default=200_000, help="records of text; 0: none")
    arguments = parser.parse_args()
    row = partial(print_row, unit="s", more_is_better=False, as_json=arguments.json)

    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_clips(folder, max(arguments.clips, arguments.decoded))
        clusters = {}
        if importlib.util.find_spec("ray"):
            engine = open_engine("ray", workers=_WORKERS)
            clusters["ray, 2 workers"] = stack.enter_context(engine)

        for check, count in (("probe", arguments.clips), ("decode", arguments.decoded)):
            if not count:
                continue
            source = write_source(folder, count)
            ways = ours(folder, source, check, clusters)
            others = peers(folder, count) if check == "decode" and clusters else {}
            taken = measure({**ways, **others}, arguments.runs)
            beside = {each: taken[each] for each in others}
            for way in ways:
                row(f"{check} {count} clips, {way}", taken[way], beside, packages=["av"])
            print_ratios(taken, f"{check} {count} clips", as_json=arguments.json)

        if arguments.records:
            text = write_text(folder, arguments.records)
            taken = measure(
                {
                    f"local, {workers} workers": partial(
                        convert, text, folder / "store", check="none", workers=workers
                    )
                    for workers in (1, 2)
                },
                arguments.runs,
            )
            for way, seconds in taken.items():
                row(f"convert {arguments.records} texts, {way}", seconds, {}, packages=[])
            print_ratios(taken, "convert texts", as_json=arguments.json)


def print_ratios(taken: Mapping[str, float], what: str, *, as_json: bool) -> None:
    """Print what two workers gain over one, and how long Ray takes beside them."""
    row = partial(print_row, peers={}, packages=["av"], as_json=as_json)
    two = taken["local, 2 workers"]
    gain = taken["local, 1 workers"] / two
    row(f"{what}, two workers over one", gain, unit="times as fast", more_is_better=True)
    if (ray := taken.get("ray, 2 workers")) is not None:
        row(f"{what}, ray over local", ray / two, unit="times as long", more_is_better=False)


def measure(ways: Mapping[str, Callable[[], object]], runs: int) -> dict[str, float]:
    """Return the median seconds of each way, all of them in turn; the first round warms up."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(runs + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if number:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def ours(
    folder: Path, source: Path, check: str, clusters: Mapping[str, Engine]
) -> dict[str, Callable[[], object]]:
    """Return how we convert a source: with workers of this machine, and on clusters."""
    store = folder / "store"
    ways: dict[str, Callable[[], object]] = {
        f"local, {workers} workers": partial(convert, source, store, check=check, workers=workers)
        for workers in (1, 2)
    }
    for name, engine in clusters.items():
        ways[name] = partial(convert, source, store, check=check, engine=engine)
    return ways


def convert(source: Path, store: Path, **options: Any) -> None:
    report = mmdata.convert("llava", source, store, overwrite=True, **options)
    assert not report.rejects


# --- peers
# --------------------------------------------------------------------------------------------------


def peers(folder: Path, count: int) -> dict[str, Callable[[], object]]:
    """Return how others decode the same clips, those that are installed."""
    clips = [str(folder / f"{number:04}.mp4") for number in range(count)]
    found: dict[str, Callable[[], object]] = {"Ray Data": partial(decode_with_ray_data, clips)}
    if importlib.util.find_spec("daft"):
        import daft

        daft.set_runner_native()  # once: beside Ray it would take that
        found["Daft"] = partial(decode_with_daft, clips)
    return found


def count_frames(clip: str) -> int:
    """Decode a clip whole, to pixels, on one thread."""
    with av.open(clip) as container:
        container.streams.video[0].thread_type = "NONE"
        return sum(len(frame.to_ndarray(format="rgb24")) > 0 for frame in container.decode(video=0))


def decode_with_ray_data(clips: Sequence[str]) -> None:
    import ray.data

    rows = ray.data.from_items([{"clip": clip} for clip in clips], override_num_blocks=8)
    decoded = rows.map(lambda row: {"frames": count_frames(row["clip"])})
    assert sum(row["frames"] for row in decoded.take_all()) == _FRAMES * len(clips)


def decode_with_daft(clips: Sequence[str]) -> None:
    import daft

    decode = daft.func(count_frames, return_dtype=daft.DataType.int64(), use_process=True)
    frames = daft.from_pydict({"clip": list(clips)}).select(decode(daft.col("clip")))
    assert sum(frames.to_pydict()["clip"]) == _FRAMES * len(clips)


# --- data
# --------------------------------------------------------------------------------------------------


def write_clips(folder: Path, count: int) -> None:
    """Write ten clips, and links to them under other names."""
    for number in range(min(count, 10)):
        write_clip(folder / f"clip{number}.mp4", seed=number)
    for number in range(count):
        (folder / f"{number:04}.mp4").symlink_to(folder / f"clip{number % 10}.mp4")


def write_clip(place: Path, seed: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 255, (60, 80, 3), np.uint8)
    picture = noise.repeat(4, 0).repeat(4, 1)  # (height, width, 3) uint8
    with av.open(str(place), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(_FRAMES):
            frame = av.VideoFrame.from_ndarray(np.roll(picture, 3 * number, 1), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def records(count: int, question: str, **fields: str) -> Iterator[str]:
    for number in range(count):
        turns = [
            {"from": "human", "value": f"{question} What is number {number}?"},
            {"from": "gpt", "value": "It moves from left to right, again and again. " * 20},
        ]
        named = {name: value.format(number) for name, value in fields.items()}
        yield json.dumps({"id": f"r{number}", **named, "conversations": turns}) + "\n"


def write_source(folder: Path, count: int) -> Path:
    place = folder / f"clips{count}.jsonl"
    with place.open("w") as opened:
        opened.writelines(records(count, "<video>\n", video="{:04}.mp4"))
    return place


def write_text(folder: Path, count: int) -> Path:
    place = folder / "text.jsonl"
    with place.open("w") as opened:
        opened.writelines(records(count, "Tell."))
    return place


if __name__ == "__main__":
    main()
