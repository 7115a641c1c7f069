"""Every codec in every container made in every way: what a model is told is when it is shown, at
every level of looking, of files and of their cached frames, by every strategy.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import av
import numpy as np
import pytest

import mmdata
from mmdata import video
from mmdata.errors import VideoError
from mmdata.frame_cache import cache_frames
from mmdata.pipeline.encode import decode_views
from mmdata.schema import Conversation
from mmdata.store import Store
from mmdata.templates import PixelPlan
from tests.video.clips import ENCODERS, clip, cut, number_in, numbers_in
from tests.video.told import STRATEGIES, batches, plan

RATE = 25
COUNT = 30
SIDE = 64
Level: TypeAlias = Literal["exists", "probe", "decode"]
LEVELS: tuple[Level, ...] = get_args(Level)
CONTAINERS = {
    "mp4": "mp4",
    "mov": "mov",
    "mkv": "matroska",
    "webm": "webm",
    "ts": "mpegts",
    "avi": "avi",
}
CACHED = "uniform:4"
EXACT: Final = 1e-3  # seconds

CONSTANT = list(range(COUNT))
VARIABLE = np.cumsum([0, *[1, 2, 1, 9, 3, 20] * 5])[:COUNT].tolist()
DROPPED = [tick for tick in range(COUNT * 2) if tick % 5 and tick % 7]


# --- the ways in which a clip is made
# ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """The bytes of a clip, and the ``ticks`` of the frames that were encoded, by their numbers."""

    data: bytes
    ticks: Sequence[int]
    is_damaged: bool = False


def constant(codec: str, container: str) -> Made:
    return Made(clip(codec, container, CONSTANT), CONSTANT)


def variable(codec: str, container: str) -> Made:
    return Made(clip(codec, container, VARIABLE), VARIABLE)


def dropped_frames(codec: str, container: str) -> Made:
    return Made(clip(codec, container, DROPPED), DROPPED)


def b_frames(codec: str, container: str) -> Made:
    return Made(clip(codec, container, CONSTANT, b_frames=3), CONSTANT)


def start_offset(codec: str, container: str) -> Made:
    return Made(clip(codec, container, range(50, 50 + COUNT), b_frames=1), CONSTANT)


def edit_list_by_copy(codec: str, container: str) -> Made:
    whole = clip(codec, container, CONSTANT, b_frames=2, gop=10)
    return Made(cut(whole, container, keyframe=1, start=14), CONSTANT)


def edit_list_in_place(codec: str, container: str) -> Made:
    """An MP4 that ends after 0.8 s by its edit list alone, as a phone trims."""
    whole = clip(codec, container, CONSTANT, b_frames=2)
    place = whole.index(b"elst") + 12  # past the version and the number of entries
    return Made(whole[:place] + (800).to_bytes(4, "big") + whole[place + 4 :], CONSTANT)


def cut_between_keyframes(codec: str, container: str) -> Made:
    whole = clip(codec, container, CONSTANT, b_frames=2, gop=10)
    if container == "mpegts":
        packets = len(whole) // 188  # of which the first two tell what is in the file
        return Made(whole[: 2 * 188] + whole[packets // 3 * 188 :], CONSTANT)
    return Made(without_first(whole, container, packets=4), CONSTANT)


def clock_set_back(codec: str, container: str) -> Made:
    """Two transport streams end to end, the second of which begins before the first has ended."""
    parts = [clip(codec, container, range(start, start + COUNT)) for start in (0, 10)]
    return Made(b"".join(parts), CONSTANT, is_damaged=True)


def fields(codec: str, container: str) -> Made:
    options = {"x264-params": "tff=1"} if codec == "h264" else {"flags": "+ildct+ilme"}
    return Made(clip(codec, container, CONSTANT, options=options), CONSTANT)


def without_first(whole: bytes, container: str, *, packets: int) -> bytes:
    """``whole`` copied from its packet ``packets`` on, at the times that it has."""
    file = io.BytesIO()
    with av.open(io.BytesIO(whole)) as opened, av.open(file, "w", format=container) as output:
        stream = opened.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for number, packet in enumerate(opened.demux(stream)):
            if packet.size and number >= packets:
                packet.stream = copy
                output.mux(packet)
    return file.getvalue()


KINDS: tuple[Callable[[str, str], Made], ...] = (
    *(constant, variable, dropped_frames, b_frames, start_offset),
    *(edit_list_by_copy, edit_list_in_place, cut_between_keyframes, clock_set_back, fields),
)


class Combination(NamedTuple):
    codec: str
    suffix: str
    kind: Callable[[str, str], Made]

    @property
    def name(self) -> str:
        return f"{self.codec}_{self.kind.__name__}.{self.suffix}"


def why_not(combination: Combination) -> str | None:
    """Why there is no such clip; None where there is."""
    codec, suffix, kind = combination
    if suffix == "webm" and codec != "vp9":
        return "WebM holds VP8, VP9 and AV1 alone"
    if (codec, suffix) in {("hevc", "avi"), ("vp9", "mov")}:
        return "FFmpeg's muxer refuses this codec"
    if suffix == "ts" and codec in ("mjpeg", "vp9"):
        return "transport streams have no type for this codec"
    if kind is b_frames and codec in ("mjpeg", "vp9"):
        return "the encoder has no B-frames"
    if kind in (edit_list_by_copy, edit_list_in_place) and suffix not in ("mp4", "mov"):
        return "the container has no edit lists"
    if kind is cut_between_keyframes and codec == "mjpeg":
        return "every frame is a keyframe"
    if kind is clock_set_back and suffix != "ts":
        return "only transport streams can be joined end to end"
    if kind is fields and codec not in ("h264", "mpeg4"):
        return "the encoder codes no fields, or presents each as a frame"
    return None


ALL = [Combination(*one) for one in product(ENCODERS, CONTAINERS, KINDS)]


# --- the matrix
# ---------------------------------------------------------------------------------------------


class Shown(NamedTuple):
    """What a full decode shows of a clip."""

    made: Made
    frames: video.Frames
    numbers: list[int]


@pytest.mark.slow
@pytest.mark.parametrize("codec", ENCODERS)
def test_what_is_told_is_what_is_shown(codec: str, tmp_path: Path) -> None:
    clips = {
        combination.name: combination.kind(codec, CONTAINERS[combination.suffix])
        for combination in ALL
        if combination.codec == codec and why_not(combination) is None
    }
    truth = {name: show(made) for name, made in clips.items() if not made.is_damaged}
    held: set[tuple[str, PixelPlan]] = set()
    for name, one in truth.items():
        # What has lost its keyframe comes out grey.
        assert cut_between_keyframes.__name__ in name or -1 not in one.numbers

    for level in LEVELS:
        direct = convert(clips, tmp_path, level)
        # Without looking, what is damaged is found by those who use it.
        assert names(direct) == ([*clips] if level == "exists" else [*truth])
        cache_frames(direct.path, tmp_path / f"{level}_frames", CACHED, codec="webp")
        cached = mmdata.open(tmp_path / f"{level}_frames")
        assert names(cached) == [*truth]

        for row, name in enumerate(names(direct)):
            if name in truth:
                assert_told(direct.located(row), truth[name], name, held)
        for row, name in enumerate(names(cached)):
            assert_told(cached.located(row), truth[name], name, None)
        assert list(batches(direct, CACHED)) == list(batches(cached, CACHED))


def convert(clips: dict[str, Made], folder: Path, level: Level) -> Store:
    """A store with a row for each clip, looked into at a level."""
    records = []
    for name, made in clips.items():
        (folder / name).write_bytes(made.data)
        turns = [("user", "<video>What?"), ("assistant", "That.")]
        messages = [{"role": role, "content": content} for role, content in turns]
        records.append({"messages": messages, "videos": [name]})
    (folder / "all.json").write_text(json.dumps(records))
    mmdata.convert("swift", folder / "all.json", folder / level, check=level)
    return mmdata.open(folder / level)


def names(store: Store) -> list[str]:
    return [Path(store[row].media[0].path or "").name for row in range(len(store))]


def show(made: Made) -> Shown:
    frames = video.sample(made.data, "every:1")
    numbers = numbers_in(frames.pixels)
    assert numbers == decoded_numbers(made.data)
    return Shown(made, frames, numbers)


def decoded_numbers(data: bytes) -> list[int]:
    """The numbers that PyAV shows, which decodes all of a clip."""
    found: dict[int | None, int] = {}
    with av.open(io.BytesIO(data)) as opened:
        for packet in opened.demux(video=0):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                assert not found, "only what begins between keyframes has packets that are refused"
                continue
            for frame in frames:
                # MPEG-4 without its keyframe gives a grey frame at the time of a later one.
                found.pop(frame.pts, None)
                found[frame.pts] = number_in(frame.to_ndarray(format="rgb24"))
    return list(found.values())


def assert_told(
    conversation: Conversation, truth: Shown, name: str, held: set[tuple[str, PixelPlan]] | None
) -> None:
    """Hold what a model is told of a clip against what it is shown, by every strategy.

    ``held`` are the plans of files for which that was done: the same plan shows the same again.
    None says that the frames are those of a cache, which are numbered by themselves.
    """
    whole = truth.frames
    for strategy in STRATEGIES:
        try:
            told = plan(conversation, strategy, side=SIDE).pixels
        except VideoError as error:
            assert "hf_num_frames" in str(error) or "frames a second" in str(error), error
            continue
        if held is not None and (name, told) in held:
            continue

        views = decode_views(conversation.media[0], told)
        times = np.array(told.told)  # seconds of the file
        places = [int(np.abs(whole.times - time).argmin()) for time in times]
        np.testing.assert_allclose(whole.times[places], times, atol=EXACT, err_msg=name)
        assert numbers_in(views) == [truth.numbers[place] for place in places], (name, strategy)
        if held is not None:
            assert places == list(told.frames), (name, strategy)
            held.add((name, told))


def test_what_cannot_be_made_is_counted_and_its_reason_named() -> None:
    reasons = Counter(filter(None, map(why_not, ALL)))

    assert len(ALL) == 300
    assert sum(reasons.values()) == 149
    assert all(count >= 4 for count in reasons.values())


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("h264", "webm"), ("mjpeg", "webm"), ("hevc", "avi"), ("vp9", "mov")],
)
def test_a_muxer_refuses_what_is_said_to_be_refused(codec: str, suffix: str) -> None:
    assert why_not(Combination(codec, suffix, constant))
    with pytest.raises((av.FFmpegError, ValueError)):
        constant(codec, CONTAINERS[suffix])


def test_the_clock_that_a_clip_was_made_by_is_the_one_that_is_found() -> None:
    for kind in (constant, variable, dropped_frames, start_offset):
        for codec, suffix in (("h264", "mp4"), ("hevc", "mkv"), ("vp9", "webm"), ("mpeg4", "ts")):
            made = kind(codec, CONTAINERS[suffix])
            expected = (np.array(made.ticks) - made.ticks[0]) / RATE
            np.testing.assert_allclose(video.index(made.data).times, expected, atol=EXACT)
