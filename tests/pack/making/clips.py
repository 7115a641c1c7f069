"""Clips drawn here and encoded by FFmpeg, and ffprobe's word on every frame of them.

Those of the fixtures show a soft disc that moves; those of the golden folder carry the number of
each frame as a barcode of twelve bits, eight pixels wide and 32 high, the most significant first,
white for one.
"""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.pack.making.writing import FIXTURES, GOLDEN, write_json

VIDEOS = FIXTURES / "videos"
NUMBERED = GOLDEN / "cogvlm2_video"
_EXACT = ("-fflags", "+bitexact", "-flags:v", "+bitexact", "-map_metadata", "-1", "-threads", "1")
_H264 = (
    "-c:v",
    "libx264",
    "-preset",
    "veryslow",
    "-crf",
    "30",
    "-pix_fmt",
    "yuv420p",
    "-x264-params",
)
_H264_FRAMES = "keyint=12:min-keyint=12:scenecut=0:bframes=2:b-adapt=0"
_UNEVEN = "settb=1/1000,setpts='(N*0.04+0.003*N*N)/TB'"  # seconds: 0, 0.043, 0.092, 0.147 ...


def soft(count: int, height: int = 64, width: int = 96, seed: int = 0) -> NDArray[Any]:
    """Return frames with a disc that moves over a slope, without a sharp edge."""
    rows, columns = np.mgrid[:height, :width].astype(np.float64)
    frames = np.empty((count, height, width, 3), np.uint8)
    for number in range(count):
        x, y = (
            width * (0.2 + 0.6 * number / count),
            height * (0.5 + 0.3 * np.sin(number / 3 + seed)),
        )
        disc = 1 / (1 + np.exp((np.hypot(columns - x, rows - y) - height / 5) / 3))
        slope = (rows / height + columns / width) / 2
        frames[number] = np.stack([60 + 120 * disc, 90 + 80 * slope, 160 - 70 * disc * slope], -1)
    return frames


def numbered(count: int, height: int = 64, width: int = 96) -> NDArray[Any]:
    """Return frames that carry their number."""
    frames = soft(count, height, width)
    for number, frame in enumerate(frames):
        bits = [number >> bit & 1 for bit in reversed(range(12))]
        frame[:32] = np.repeat(np.array(bits, np.uint8) * 255, 8)[None, :, None]
    return frames


def encode(path: Path, frames: NDArray[Any], *options: str, rate: str = "25") -> None:
    """Encode frames with FFmpeg."""
    path.parent.mkdir(parents=True, exist_ok=True)
    size = f"{frames.shape[2]}x{frames.shape[1]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", rate, "-i", "-"]
    _run(["ffmpeg", "-y", *raw, *options, *_EXACT, str(path)], frames.tobytes())


def make() -> None:
    """Write all clips, ``ffprobe.json`` and ``video_frames.json``."""
    h264 = (*_H264, _H264_FRAMES)
    encode(VIDEOS / "steady.mp4", soft(30), *h264)
    encode(
        VIDEOS / "uneven.mp4",
        soft(24, seed=1),
        "-vf",
        _UNEVEN,
        "-vsync",
        "passthrough",
        "-enc_time_base",
        "-1",
        *h264,
    )
    encode(VIDEOS / "film.mkv", soft(26, seed=2), *h264, rate="24000/1001")
    encode(
        VIDEOS / "reordered.avi",
        soft(20, seed=3),
        "-c:v",
        "mpeg4",
        "-bf",
        "2",
        "-q:v",
        "9",
        "-g",
        "10",
    )
    encode(
        VIDEOS / "stills.avi",
        soft(8, seed=4),
        "-c:v",
        "mjpeg",
        "-q:v",
        "9",
        "-pix_fmt",
        "yuvj420p",
        rate="10",
    )
    encode(
        VIDEOS / "vp9.webm",
        soft(16, seed=5),
        "-c:v",
        "libvpx-vp9",
        "-b:v",
        "30k",
        "-g",
        "8",
        "-pix_fmt",
        "yuv420p",
        rate="12.5",
    )
    encode(VIDEOS / "turned.mov", soft(6, seed=6), *h264)
    _turn(VIDEOS / "turned.mov", width=64)
    _cut(VIDEOS / "steady.mp4", VIDEOS / "cut_in.mov")
    _join(VIDEOS / "steady.mp4", VIDEOS / "two_streams.mkv")
    encode(VIDEOS / "damaged.mp4", soft(15, seed=7), *_H264, "keyint=15:scenecut=0:bframes=0")
    _spoil(VIDEOS / "damaged.mp4")
    write_json(VIDEOS / "ffprobe.json", {path.name: told(path) for path in _clips(VIDEOS)})

    encode(NUMBERED / "videos/steady.mp4", numbered(48), *h264, rate="10")
    encode(NUMBERED / "videos/short.mp4", numbered(7), *h264, rate="30000/1001")
    encode(NUMBERED / "videos/reordered.avi", numbered(40), *h264, rate="15")
    encode(
        NUMBERED / "videos/uneven.mp4",
        numbered(30),
        "-vf",
        _UNEVEN,
        "-vsync",
        "passthrough",
        "-enc_time_base",
        "-1",
        *h264,
    )
    write_json(
        NUMBERED / "video_frames.json", [_sample(path) for path in _clips(NUMBERED / "videos")]
    )


def _clips(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix != ".json")


def _cut(source: Path, target: Path) -> None:
    """Copy from the middle of a group of pictures on:
    the container hides what comes before (an edit list).
    """
    _run(["ffmpeg", "-y", "-ss", "0.6", "-i", str(source), "-c", "copy", *_EXACT, str(target)])


def _join(source: Path, target: Path) -> None:
    """Put a smaller second stream before a clip, which stays the one to play."""
    small = target.with_name("small.mp4")
    encode(small, soft(10, 32, 48), *_H264, _H264_FRAMES, rate="10")
    streams = ["-map", "0:v", "-map", "1:v", "-disposition:v:0", "0", "-disposition:v:1", "default"]
    _run(
        [
            "ffmpeg",
            "-y",
            "-i",
            str(small),
            "-i",
            str(source),
            *streams,
            "-c",
            "copy",
            *_EXACT,
            str(target),
        ]
    )
    small.unlink()


def _turn(path: Path, width: int) -> None:
    """Say in an MP4 or MOV file of one track that its pictures
    are shown turned by a quarter, ``width`` pixels wide.
    """
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44
    matrix = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, width << 16, 0, 1 << 30)
    content[start : start + len(matrix)] = matrix
    path.write_bytes(content)


def _spoil(path: Path) -> None:
    """Make the last packet of an MP4 file unreadable: its first unit says that it is 4 GB long."""
    last = _probe(path, "-show_packets", "-show_entries", "packet=pos,size")["packets"][-1]
    content = bytearray(path.read_bytes())
    content[int(last["pos"]) : int(last["pos"]) + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)


def told(path: Path) -> dict[str, Any]:
    """Return what ffprobe says of the stream that is played."""
    streams = [
        each for each in _probe(path, "-show_streams")["streams"] if each["codec_type"] == "video"
    ]
    stream = max(streams, key=lambda each: each["width"] * each["height"])
    index = stream["index"]
    frames = _probe(path, "-select_streams", str(index), "-show_frames", "-show_entries", _FRAME)[
        "frames"
    ]
    times = _times(path, stream, frames)
    rotation = next(
        (each["rotation"] for each in stream.get("side_data_list", ()) if "rotation" in each), 0
    )
    return {
        "codec": stream["codec_name"],
        "width": stream["width"],
        "height": stream["height"],
        "avg_frame_rate": stream["avg_frame_rate"],
        "pix_fmt": stream["pix_fmt"],
        "rotation": rotation,
        "decoded_frames": len(frames),
        "stream": index,
        "video_streams": len(streams),
        "times": [round(time, 6) for time in times],
        "keyframes": [number for number, frame in enumerate(frames) if frame["key_frame"]],
        "errors": _complaints(path),
    }


_FRAME = "frame=best_effort_timestamp_time,key_frame"


def _times(path: Path, stream: dict[str, Any], frames: Sequence[dict[str, Any]]) -> list[float]:
    """Return seconds since the first frame;
    AVI says no time of a frame, but its rate is that of the file.
    """
    if path.suffix == ".avi":
        above, below = map(int, stream["r_frame_rate"].split("/"))
        return [number * below / above for number in range(len(frames))]
    found = [float(frame["best_effort_timestamp_time"]) for frame in frames]
    return [time - found[0] for time in found]


def _complaints(path: Path) -> list[str]:
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-i", str(path), "-f", "null", "-"],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = (line.partition("] ")[2] or line for line in done.stderr.splitlines())
    return [line for line in lines if "NAL" in line][:1]


def _sample(path: Path) -> dict[str, Any]:
    """Return which frames CogVLM2-Video's three rules take, worked from ffprobe's times."""
    times = np.array(told(path)["times"], np.float32)
    count, even = len(times), path.stem != "uneven"
    seconds = range(round(float(times.max())) + 1)
    chat = [int(np.abs(times - np.float32(second)).argmin()) for second in seconds][:24]
    base = [int(each) for each in np.floor(np.linspace(0, count - 1, 24))]
    return {
        "file": f"videos/{path.name}",
        "frames": count,
        "timestamps_first_last": [float(times[0]), round(float(times[-1]), 6)],
        "hf_chat": chat,
        "hf_chat_seconds": [round(float(times[number]), 6) for number in chat],
        "hf_base": base,
        "mf_predict": chat[:-1] if even else None,
    }


def _probe(path: Path, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        _run(["ffprobe", "-v", "quiet", "-of", "json", *options, str(path)])
    )
    return found


def _run(command: Iterable[str], given: bytes | None = None) -> bytes:
    return subprocess.run(list(command), input=given, capture_output=True, check=True).stdout
