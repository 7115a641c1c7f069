"""What workers gain, and what engines cost: clips probed and decoded, their frames kept, and text
converted, by processes of this machine and by Ray; beside Ray Data and Daft doing the same.

    python -m benchmarks.engine [--clips 1000] [--decoded 200] [--records 200000] [--json]

The clips are generated: 4 seconds of moving noise, 320 x 240, H.264, each with a name of its own.
All engines are warm: started, and used once, before the clock runs. "cold" is a conversion that
starts its own processes, as the command does. The runs interleave; medians, of ratios those of
runs of one round. Wall seconds are those of a machine that may have other work; processor seconds
are of all processes together.

decode: every frame of each clip, by a strict decoder; ours finds when each frame is and a hash of
the file, and writes a store. The peers' task is the same: PyAV, one thread a clip, the same strict
decoder, the hash of the file, and the times of all frames, which are held against our store; they
write Parquet. Nobody converts frames to RGB but the first, from which one learns that they can be.

frames: 16 frames of each clip, evenly spread, 224 x 224, as JPEG, with their times. The peers are
told which frames, decode each clip on one thread, by the same steps of swscale and Pillow, and
write Parquet; their pictures are held against ours.

The bound: processes that decode the same clips, and do nothing else, two beside one, at the same
moment. No engine can gain more from a second worker.

Text: LLaVA-shaped records without media, 250 MB at the default, with one worker and with two.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import av
import numpy as np
import pyarrow.parquet as pq

import mmdata
from benchmarks.clips import FRAMES, KEPT, QUALITY, SIZE, count_frames, look_into, take_frames
from benchmarks.measure import options, print_row, processor_seconds
from mmdata.engine.engine import Engine, run_jobs
from mmdata.engine.open import open_engine
from mmdata.frame_cache import cache_frames

_WORKERS: Final = 2
_PARTITIONS: Final = 8

Ways: TypeAlias = dict[str, Callable[[], object]]
"""Contestants by name."""


class Taken(NamedTuple):
    """Seconds of a run: by the clock, and of processors."""

    wall: float
    processor: float


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--clips", type=int, default=1000, help="clips that are probed; 0: none")
    parser.add_argument("--decoded", type=int, default=200, help="clips that are decoded; 0: none")
    parser.add_argument("--records", type=int, default=200_000, help="records of text; 0: none")
    arguments = parser.parse_args()
    runs, as_json = arguments.runs, arguments.json

    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_clips(folder, max(arguments.clips, arguments.decoded))
        engines = {
            f"local, {workers} workers": stack.enter_context(open_engine("local", workers=workers))
            for workers in (1, 2)
        }
        if importlib.util.find_spec("ray"):
            engines["ray, 2 workers"] = stack.enter_context(open_engine("ray", workers=_WORKERS))

        if importlib.util.find_spec("daft"):
            import daft

            daft.set_runner_native()  # once: beside Ray it would take that

        if arguments.clips:
            source = write_source(folder, arguments.clips)
            taken = measure(ways_to_convert(folder, source, "probe", engines), runs)
            print_taken(f"probe {arguments.clips} clips", taken, as_json=as_json)
        if count := arguments.decoded:
            source = write_source(folder, count)
            clips = [str(folder / f"{number:04}.mp4") for number in range(count)]
            bound: Ways = {
                f"bound, {name}": partial(decode_alone, engine, clips)
                for name, engine in engines.items()
                if name.startswith("local")
            }
            others = peers(folder, look_into, clips)
            ours = ways_to_convert(folder, source, "decode", engines)
            taken = measure({**ours, **bound, **others}, runs)
            print_taken(f"decode {count} clips", taken, as_json=as_json)
            for other in others:
                check_times(folder / "store", folder / other)

            others = peers(folder, take_frames, clips)
            taken = measure({**ways_to_cache(folder, engines), **others}, runs)
            print_taken(f"frames of {count} clips", taken, as_json=as_json)
            for other in others:
                check_pictures(folder / "frames", folder / other)
        if arguments.records:
            text = write_text(folder, arguments.records)
            ways: Ways = {
                f"local, {workers} workers": partial(
                    convert, text, folder / "store", check="none", workers=workers
                )
                for workers in (1, 2)
            }
            taken = measure(ways, runs)
            print_taken(f"convert {arguments.records} texts", taken, as_json=as_json)


def print_taken(what: str, taken: Mapping[str, Sequence[Taken]], *, as_json: bool) -> None:
    """Print what each way took beside the peers, what two workers gain over one, and how long Ray
    takes beside processes of this machine.
    """
    row = partial(print_row, packages=["av"], as_json=as_json, more_is_better=False)
    medians = {
        name: Taken(*map(statistics.median, zip(*each, strict=True)))
        for name, each in taken.items()
    }
    others = {name: each for name, each in medians.items() if name in ("Ray Data", "Daft")}
    for name, each in medians.items():
        if name not in others:
            wall = {other: theirs.wall for other, theirs in others.items()}
            processor = {other: theirs.processor for other, theirs in others.items()}
            row(f"{what}, {name}", each.wall, wall, unit="s")
            row(f"{what}, {name}", each.processor, processor, unit="processor s")

    gain = partial(print_row, packages=["av"], as_json=as_json, more_is_better=True, peers={})
    for prefix in ("", "cold, ", "bound, "):
        one, two = (f"{prefix}local, {workers} workers" for workers in (1, 2))
        if {one, two} <= taken.keys():
            ratio = compare(taken[one], taken[two])
            gain(f"{what}, {prefix}two workers over one", ratio, unit="times as fast")
    if (ray := taken.get("ray, 2 workers")) is not None:
        ratio = compare(ray, taken["local, 2 workers"])
        row(f"{what}, ray over local", ratio, {}, unit="times as long")


def compare(some: Sequence[Taken], others: Sequence[Taken]) -> float:
    """Return how many times as long some runs take as others: the median over the rounds, for the
    machine may be slower in one than in the next.
    """
    return statistics.median(one.wall / two.wall for one, two in zip(some, others, strict=True))


def measure(ways: Ways, runs: int) -> dict[str, list[Taken]]:
    """Return the seconds of each way in each round, all of them in turn; the first warms up."""
    taken: dict[str, list[Taken]] = {name: [] for name in ways}
    for number in range(runs + 1):
        for name, way in ways.items():
            started, before = time.perf_counter(), processor_seconds()
            way()
            if number:
                wall = time.perf_counter() - started
                taken[name].append(Taken(wall, processor_seconds() - before))
    return taken


# --- ours
# --------------------------------------------------------------------------------------------------


def ways_to_convert(folder: Path, source: Path, check: str, engines: Mapping[str, Engine]) -> Ways:
    """Return how we convert a source: on engines, and with processes that are started for it."""
    store = folder / "store"
    ways: Ways = {
        name: partial(convert, source, store, check=check, engine=engine)
        for name, engine in engines.items()
    }
    for workers in (1, 2):
        way = partial(convert, source, store, check=check, workers=workers)
        ways[f"cold, local, {workers} workers"] = way
    return ways


def convert(source: Path, store: Path, **options: Any) -> None:
    report = mmdata.convert("llava", source, store, overwrite=True, **options)
    assert not report.rejects


def ways_to_cache(folder: Path, engines: Mapping[str, Engine]) -> Ways:
    """Return how we keep frames of the clips of a store: likewise."""
    ways: Ways = {name: partial(cache, folder, engine=engine) for name, engine in engines.items()}
    for workers in (1, 2):
        ways[f"cold, local, {workers} workers"] = partial(cache, folder, workers=workers)
    return ways


def cache(folder: Path, **options: Any) -> None:
    report = cache_frames(
        folder / "store",
        folder / "frames",
        f"uniform:{KEPT}",
        size=SIZE,
        quality=QUALITY,
        overwrite=True,
        **options,
    )
    assert not report.rejects


def decode_alone(engine: Engine, clips: Sequence[str]) -> None:
    """Decode clips in as many processes as an engine has, each its share, in one job."""
    shares = [(list(clips[number :: engine.workers]),) for number in range(engine.workers)]
    counts: list[Any] = list(run_jobs(engine, count_frames, shares))
    assert sum(counts) == FRAMES * len(clips)


# --- peers
# --------------------------------------------------------------------------------------------------


def peers(folder: Path, task: Callable[[str], Any], clips: Sequence[str]) -> Ways:
    """Return how others do a task for each of the clips, and keep the answers: those that are
    installed.
    """
    found: Ways = {}
    if importlib.util.find_spec("ray"):
        found["Ray Data"] = partial(use_ray_data, folder / "Ray Data", task, clips)
    if importlib.util.find_spec("daft"):
        found["Daft"] = partial(use_daft, folder / "Daft", task, clips)
    return found


def use_ray_data(target: Path, task: Callable[[str], Any], clips: Sequence[str]) -> None:
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    shutil.rmtree(target, ignore_errors=True)
    rows = ray.data.from_items([{"clip": clip} for clip in clips], override_num_blocks=_PARTITIONS)
    rows.map(lambda row: {**row, **task(row["clip"])}).write_parquet(str(target))


def use_daft(target: Path, task: Callable[[str], Any], clips: Sequence[str]) -> None:
    import daft

    numbers = daft.DataType.list(daft.DataType.float64())
    answer = {
        "hash": daft.DataType.string(),
        "times": numbers,
        "pictures": daft.DataType.list(daft.DataType.binary()),
    }
    work = daft.func(task, return_dtype=daft.DataType.struct(answer), use_process=True)
    shutil.rmtree(target, ignore_errors=True)
    answers = daft.from_pydict({"clip": list(clips)}).with_column("answer", work(daft.col("clip")))
    fields = [daft.col("answer")[name].alias(name) for name in answer]
    answers.select("clip", *fields).write_parquet(str(target))


def check_times(store: Path, answers: Path) -> None:
    """Hold what another found of the clips against our store: the same times, the same hashes."""
    for medium, row in zip(*media_and_rows(store, answers), strict=True):
        times = np.array(row["times"])
        assert medium.num_frames == len(times) == FRAMES
        assert np.allclose(times - times[0], np.arange(FRAMES) * medium.clock.step, atol=1e-9)
        assert medium.hash == row["hash"]


def check_pictures(store: Path, answers: Path) -> None:
    """Hold the pictures that another kept of the clips against ours: the same bytes."""
    for medium, row in zip(*media_and_rows(store, answers), strict=True):
        assert np.allclose(medium.frame_times, row["times"], atol=1e-9)
        assert list(medium.frames) == row["pictures"]


def media_and_rows(store: Path, answers: Path) -> tuple[list[Any], list[dict[str, Any]]]:
    rows = pq.read_table(answers).to_pylist()
    media = [conversation.media[0] for conversation in mmdata.open(store)]
    return media, sorted(rows, key=lambda row: str(row["clip"]))


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
        for number in range(FRAMES):
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
