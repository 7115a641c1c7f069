"""The seconds that a model is told of a clip, beside those of the programs that tell it otherwise.

    python -m benchmarks.seconds --vocabularies DIR [--clips DIR] [--frames 16] [--json]

Every two frames of a clip stand in Qwen3-VL's text after their seconds. For each clip of a folder,
and some of variable rate that are drawn here, this prints by how much the seconds are off at most:
what is told of two frames, less the mean of when ffprobe presents these two. Each program chooses
frames as it does by default, or as many as it is told. transformers' processor and qwen-vl-utils
are run where they are installed (with torch, torchvision, torchcodec and the package tokenizers);
of LLaMA-Factory and MindSpeed-MM the published arithmetic stands here:

- LLaMA-Factory: ``Qwen2VLPlugin`` and ``Qwen3VLPlugin`` in ``src/llamafactory/data/mm_plugin.py``
  of hiyouga/LlamaFactory@76a35a8;
- MindSpeed-MM: ``Qwen3VLPlugin`` in ``mindspeed_mm/data/data_utils/func_utils/mm_plugin.py`` of
  Ascend/MindSpeed-MM@0f147b4, with the ``ProcessorArguments`` of ``model_args.py`` beside it.

Where there is no ffprobe, times are those of the frames as PyAV decodes them.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import av
import numpy as np

import mmdata.templates
from benchmarks.losses import build_processor
from benchmarks.measure import define_operators_of_torchvision, options
from mmdata.schema import Conversation, Media, Text, Video, user
from mmdata.templates import Template
from mmdata.tokenizers import Tokenizer

FAMILY = "qwen3_vl"
DEPTH = 2  # frames of a layer
RATE, MOST = 2.0, 128  # frames a second, and at most, that both published plugins take by default

Run: TypeAlias = "Callable[[Path], Told]"


@dataclass(frozen=True)
class Told:
    """What is told of a clip: seconds of each layer, and which frames (first and last, counted in
    the order of presentation) of which stream it shows; ``counted`` is how many frames the program
    takes the clip to have, if it says so.
    """

    seconds: tuple[float, ...]
    layers: tuple[tuple[int, int], ...]
    stream: int
    counted: int | None = None


@dataclass(frozen=True)
class Header:
    """What the header of a file says of its first stream of video: frames are 0, and the duration
    in seconds None, where it says nothing.
    """

    stream: int
    frames: int
    duration: float | None
    rate: float


@dataclass(frozen=True)
class Cell:
    """By how many seconds a program is off at most, or why it tells nothing."""

    off: float | None
    said: str


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--vocabularies", type=Path, required=True, help="folder of qwen.tiktoken")
    parser.add_argument("--clips", type=Path, help="folder of clips")
    parser.add_argument(
        "--frames", type=int, help="how many frames of a clip, in place of 2 a second"
    )
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.simplefilter("ignore")
    tokenizer = mmdata.templates.load_tokenizer(FAMILY, arguments.vocabularies)
    count = arguments.frames
    with tempfile.TemporaryDirectory() as folder:
        clips = sorted(arguments.clips.iterdir()) if arguments.clips else []
        films = [clip for clip in clips if clip.suffix in {".mp4", ".mov", ".mkv", ".avi"}]
        drawn = draw_clips(Path(folder))
        processors = peers(tokenizer, arguments.vocabularies, Path(folder), count)
        programs = formulas(tokenizer, count) | processors
        rows = {clip.name: compare(clip, programs) for clip in [*films, *drawn]}
    if arguments.json:
        for clip, cells in rows.items():
            off = {
                name: cell.said if cell.off is None else cell.off for name, cell in cells.items()
            }
            print(json.dumps({"clip": clip, "unit": "s", **off}))
    else:
        print(table(rows))


# --- the table
# --------------------------------------------------------------------------------------------------


def compare(clip: Path, programs: Mapping[str, Run]) -> dict[str, Cell]:
    """Return how far off each program is."""
    cells = {}
    for name, run in programs.items():
        try:
            told = run(clip)
        except Exception as error:  # whatever a program raises is what it says of the clip
            cells[name] = Cell(None, f"fails: {type(error).__name__}")
            continue
        true = presentation_times(clip, told.stream)
        off = largest_error(told, true)
        counted = told.counted is not None and told.counted != len(true)
        note = f" (counts {told.counted} of {len(true)} frames)" if counted else ""
        cells[name] = Cell(off, f"{off:.2f}{note}")
    return cells


def largest_error(told: Told, true: Sequence[float]) -> float:
    """Return by how many seconds what is told is off at most."""
    return max(
        abs(seconds - (true[min(first, len(true) - 1)] + true[min(last, len(true) - 1)]) / 2)
        for seconds, (first, last) in zip(told.seconds, told.layers, strict=True)
    )


def table(rows: Mapping[str, Mapping[str, Cell]]) -> str:
    """Return a table in Markdown, a line for each clip."""
    names = list(next(iter(rows.values())))
    lines = [["clip", *names], ["---"] * (len(names) + 1)]
    lines += [[clip, *(cells[name].said for name in names)] for clip, cells in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- true times
# --------------------------------------------------------------------------------------------------


def presentation_times(clip: Path, stream: int) -> list[float]:
    """Return when the frames of a stream are presented, in seconds since the first, in order."""
    ffprobe = shutil.which("ffprobe")
    found = _decoded_times(clip, stream) if ffprobe is None else _probed(ffprobe, clip, stream)
    return [time - min(found) for time in sorted(found)]


def _probed(ffprobe: str, clip: Path, stream: int) -> list[float]:
    shown = ["-select_streams", str(stream), "-show_entries", "frame=best_effort_timestamp_time"]
    call = [ffprobe, "-v", "quiet", *shown, "-of", "json", str(clip)]
    done = subprocess.run(call, check=True, capture_output=True)
    frames = json.loads(done.stdout)["frames"]
    return [
        float(frame["best_effort_timestamp_time"])
        for frame in frames
        if "best_effort_timestamp_time" in frame
    ]


def _decoded_times(clip: Path, stream: int) -> list[float]:
    with av.open(str(clip)) as container:
        frames = list(container.decode(container.streams[stream]))
    return [frame.time for frame in frames if frame.time is not None]


def best_stream(clip: Path) -> int:
    """Return the index of the stream of video that FFmpeg, and with it most readers, takes."""
    with av.open(str(clip)) as container:
        stream = container.streams.best("video")
        assert stream is not None, f"{clip} has no video"
        return int(stream.index)


def read_header(clip: Path) -> Header:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None, f"{clip} says no rate"
        assert stream.time_base is not None, f"{clip} says no unit of time"
        duration = None if stream.duration is None else float(stream.duration * stream.time_base)
        return Header(stream.index, stream.frames, duration, float(stream.average_rate))


# --- ours, and the published arithmetic
# --------------------------------------------------------------------------------------------------


def formulas(tokenizer: Tokenizer, frames: int | None = None) -> dict[str, Run]:
    """Return what needs no other package; ``frames`` is how many are taken of a clip."""
    strategy = {} if frames is None else {"frames": f"qwen_frames:{frames}"}
    template = mmdata.templates.make(FAMILY, tokenizer, strategy)
    most = MOST if frames is None else frames
    return {
        "mmdata": partial(ours, template),
        "LLaMA-Factory": lambda clip: llamafactory(read_header(clip), count_frames(clip), most),
        "MindSpeed-MM": lambda clip: mindspeed(read_header(clip), count_frames(clip), most),
    }


def ours(template: Template, clip: Path) -> Told:
    """Return what our template tells, as the model reads it."""
    asked = Conversation("clip", (user(Video(0), Text("When?")),), (Media("video", str(clip)),))
    prompt = template.prompt(asked)
    text = template.tokenizer.decode(prompt.input_ids.tolist())
    return Told(seconds_in(text), layers_of(prompt.pixels[0].frames), best_stream(clip))


def seconds_in(text: str) -> tuple[float, ...]:
    return tuple(float(seconds) for seconds in re.findall(r"<(\d+\.\d) seconds>", text))


def layers_of(numbers: Sequence[int]) -> tuple[tuple[int, int], ...]:
    """Return the first and the last frame of each layer; the last frame of all is repeated."""
    whole = [int(number) for number in numbers]
    whole += [whole[-1]] * (-len(whole) % DEPTH)
    return tuple((whole[at], whole[at + DEPTH - 1]) for at in range(0, len(whole), DEPTH))


def count_frames(clip: Path) -> int:
    """Return how many frames of the first stream of video decode."""
    with av.open(str(clip)) as container:
        return sum(1 for _ in container.decode(container.streams.video[0]))


def plugin_numbers(header: Header, count: int, most: int) -> list[int]:
    """Return the frames that both plugins take (``_get_video_sample_indices``) of ``count``: where
    the header says no number of frames the first ones.
    """
    if header.frames == 0:
        return list(range(min(most, count)))
    if header.duration is None:
        raise ValueError("the header says no duration, which the published arithmetic needs")
    wanted = min(header.frames, most, max(1, math.floor(header.duration * RATE)))
    numbers = np.linspace(0, header.frames - 1, wanted).astype(np.int32)
    return [int(number) for number in numbers if number < count]


def llamafactory(header: Header, count: int, most: int = MOST) -> Told:
    """Return what LLaMA-Factory tells: the number of a frame by the average rate of the header."""
    shown = plugin_numbers(header, count, most)
    times = [number / header.rate for number in shown]
    return Told(_rounded(times), layers_of(shown), header.stream)


def mindspeed(header: Header, count: int, most: int = MOST) -> Told:
    """Return what MindSpeed-MM tells: the ``k``-th frame that was taken is at ``k`` by the rate
    that was asked for, however far apart they are.
    """
    shown = plugin_numbers(header, count, most)
    shown += [shown[-1]] * (-len(shown) % DEPTH)
    return Told(_rounded([k / RATE for k in range(len(shown))]), layers_of(shown), header.stream)


def _rounded(times: Sequence[float]) -> tuple[float, ...]:
    """Return the seconds of layers as Qwen3-VL's processor writes them of those of frames."""
    whole = [*times, *[times[-1]] * (-len(times) % DEPTH)]
    return tuple(
        float(f"{(whole[at] + whole[at + DEPTH - 1]) / 2:.1f}")
        for at in range(0, len(whole), DEPTH)
    )


# --- peers that are run
# --------------------------------------------------------------------------------------------------


def peers(
    tokenizer: Tokenizer, vocabularies: Path, folder: Path, frames: int | None
) -> dict[str, Run]:
    """Return the programs that are installed."""
    try:
        library = define_operators_of_torchvision()
        processor = build_processor(FAMILY, tokenizer, vocabularies, folder)
    except ImportError:
        return {}
    held = processor, library
    found: dict[str, Run] = {"transformers": partial(run_transformers, held, frames)}
    if importlib.util.find_spec("qwen_vl_utils") is None:
        return found
    return found | {"qwen-vl-utils": partial(run_utilities, held, frames)}


def run_transformers(held: tuple[Any, Any], frames: int | None, clip: Path) -> Told:
    """Return what transformers' processor tells of a file."""
    own = {} if frames is None else {"num_frames": frames, "fps": None}
    return process(held[0], clip, [str(clip)], **own)


def run_utilities(held: tuple[Any, Any], frames: int | None, clip: Path) -> Told:
    """Return what the same processor tells of what qwen-vl-utils read."""
    # By name: checkers of types know nothing of it.
    utilities = importlib.import_module("qwen_vl_utils")

    own = {} if frames is None else {"nframes": frames}
    asked = [{"role": "user", "content": [{"type": "video", "video": str(clip), **own}]}]
    _, videos, given = utilities.process_vision_info(
        asked, return_video_kwargs=True, return_video_metadata=True, image_patch_size=16
    )
    pixels, metadata = videos[0]
    return process(held[0], clip, [pixels], video_metadata=[metadata], do_resize=False, **given)


def process(processor: Any, clip: Path, videos: list[Any], **options: Any) -> Told:
    block = "<|vision_start|><|video_pad|><|vision_end|>"
    found = processor(text=[block], videos=videos, return_metadata=True, **options)
    metadata = found["video_metadata"][0]
    text = processor.tokenizer.decode(found["input_ids"][0])
    numbers = [int(number) for number in metadata.frames_indices]
    counted = int(metadata.total_num_frames)
    return Told(seconds_in(text), layers_of(numbers), best_stream(clip), counted)


# --- clips of variable rate
# --------------------------------------------------------------------------------------------------


def draw_clips(folder: Path) -> list[Path]:
    """Draw clips as telephones, recorders of screens and cameras make them."""
    clips = {
        "constant_25.mp4": steps(250 * [40]),
        # A telephone that goes into the dark exposes for longer.
        "telephone_30_to_10.mp4": steps(90 * [33] + 60 * [100]),
        # A recorder of a screen writes a frame where something changes.
        "screen.mp4": steps((40 * [33] + [4000]) * 3),
        # A camera over a network loses frames, and Matroska says no number of them.
        "network.mkv": steps((25 * [40] + [1500] + 10 * [120]) * 4),
    }
    for name, times in clips.items():
        draw_clip(folder / name, times)
    return [folder / name for name in clips]


def steps(milliseconds: Sequence[int]) -> list[int]:
    """Return the times of frames that last so long each."""
    return [sum(milliseconds[:number]) for number in range(len(milliseconds))]


def draw_clip(path: Path, times: Sequence[int], side: int = 64) -> None:
    """Write a clip of grey frames at these milliseconds."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, time in enumerate(times):
            pixels = np.full((side, side, 3), number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
