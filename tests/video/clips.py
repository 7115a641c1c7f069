"""Tiny clips whose frames carry their own number, and readings of that number."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import wraps
from typing import ParamSpec

import av
import numpy as np
from numpy.typing import NDArray

BITS = 8
# A bit is a block of 8 x 24 pixels; two rows of blocks, the lower one inverted.
HEIGHT, WIDTH = 48, 64

ENCODERS = {
    "h264": "libx264",
    "hevc": "libx265",
    "mpeg4": "mpeg4",
    "vp9": "libvpx-vp9",
    "mjpeg": "mjpeg",
}
_OPTIONS = {
    "h264": {"preset": "ultrafast", "qp": "18"},
    "hevc": {"preset": "ultrafast", "x265-params": "log-level=none:pools=1:frame-threads=1"},
    "mpeg4": {"qscale": "2"},
    "vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0"},
    "mjpeg": {"qscale": "2"},
}


def picture(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """A picture that shows ``number`` in black and white blocks, (height, width, 3) uint8."""
    bits = np.array([number >> bit & 1 for bit in reversed(range(BITS))], np.uint8)
    blocks = np.stack([bits, 1 - bits]) * 235
    pixels = blocks.repeat(HEIGHT // 2, 0).repeat(WIDTH // BITS, 1)
    padded = np.pad(pixels, ((0, height - HEIGHT), (0, width - WIDTH)), mode="edge")
    return np.repeat(padded[:, :, None], 3, axis=2)


def number_in(pixels: NDArray[np.uint8]) -> int:
    """The number that a decoded picture shows; -1 if it cannot be read with certainty."""
    centres = (np.arange(BITS) * (WIDTH // BITS)) + WIDTH // BITS // 2
    upper = pixels[8:16, centres, :].mean((0, 2))
    lower = pixels[32:40, centres, :].mean((0, 2))
    if (np.abs(upper - lower) < 60).any():
        return -1
    return int((upper > lower) @ (1 << np.arange(BITS)[::-1]))


def numbers_in(pixels: NDArray[np.uint8]) -> list[int]:
    return [number_in(frame) for frame in pixels]


def slow_clip() -> bytes:
    """The bytes of an AVI that takes a tenth of a second to decode: far longer than a deadline of a
    tenth of a millisecond, however late a busy machine looks at the clock.
    """
    return clip("mjpeg", "avi", range(8), size=(1500, 2000))


Options = ParamSpec("Options")


def _kept(encode: Callable[Options, bytes]) -> Callable[Options, bytes]:
    """Encode each clip once a process: most are asked for again and again."""
    clips: dict[bytes, bytes] = {}

    @wraps(encode)
    def find_or_encode(*args: Options.args, **options: Options.kwargs) -> bytes:
        key = pickle.dumps((args, options))
        if key not in clips:
            clips[key] = encode(*args, **options)
        return clips[key]

    return find_or_encode


@_kept
def clip(
    codec: str,
    container: str,
    times: Sequence[int],
    *,
    rate: int | Fraction = 25,
    gop: int = 12,
    b_frames: int = 0,
    size: tuple[int, int] = (HEIGHT, WIDTH),
    first: int = 0,
    audio: float = 0.0,
    options: dict[str, str] | None = None,
    muxer: dict[str, str] | None = None,
    rotation: int = 0,
    pix_fmt: str = "",
    lasting: int | None = None,
) -> bytes:
    """The bytes of a clip with a frame at each of ``times``
    (in ticks of 1 / ``rate`` s), numbered from ``first``.

    ``audio`` adds that many seconds of silence. With ``lasting``, the packets say how long their
    frames are presented, where the container keeps that: until the next frame, the last one for so
    many ticks.
    """
    durations = dict(zip(times, [*np.diff(times).tolist(), lasting], strict=True))
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=muxer or {}) as output:
        stream = output.add_stream(ENCODERS.get(codec, codec), rate=rate)
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt or ("yuvj420p" if codec == "mjpeg" else "yuv420p")
        context = stream.codec_context
        context.time_base = Fraction(1, rate)
        context.thread_count = 1
        context.gop_size = gop
        context.options = _options(codec, b_frames, options or {})
        if codec != "vp9" and codec != "mjpeg":
            context.max_b_frames = b_frames
        if rotation:
            stream.set_display_rotation(rotation)
        sound = (
            output.add_stream("mp3" if container == "avi" else "aac", rate=44100) if audio else None
        )
        # Before the pictures, so that the muxer knows what delay of the sound to make up for.
        if sound is not None:
            _mux_silence(output, sound, audio)
        for number, time in enumerate(times, first):
            frame = av.VideoFrame.from_ndarray(picture(number, *size), format="rgb24").reformat(
                format=stream.pix_fmt
            )
            frame.pts, frame.time_base = time, Fraction(1, rate)
            output.mux(_lasting(stream.encode(frame), durations, lasting))
        output.mux(_lasting(stream.encode(None), durations, lasting))
    return file.getvalue()


def _lasting(
    packets: list[av.Packet[av.VideoStream]], durations: dict[int, int], lasting: int | None
) -> list[av.Packet[av.VideoStream]]:
    for packet in packets:
        if lasting is not None:
            assert packet.pts is not None
            packet.duration = durations[packet.pts]
    return packets


def _options(codec: str, b_frames: int, others: dict[str, str]) -> dict[str, str]:
    options = dict(_OPTIONS.get(codec, {}))
    if codec == "h264":
        options |= {"bf": str(b_frames), "b-adapt": "0", "sc_threshold": "0"}
    if codec == "hevc":
        options["x265-params"] += f":bframes={b_frames}:b-adapt=0:scenecut=0"
    return options | others


def _mux_silence(
    output: av.container.OutputContainer, stream: av.AudioStream, seconds: float
) -> None:
    size = stream.codec_context.frame_size or 1024
    for start in range(0, int(seconds * 44100), size):
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, size), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 44100, start
        output.mux(stream.encode(frame))
    output.mux(stream.encode(None))


def cut(
    source: bytes,
    container: str,
    *,
    keyframe: int,
    start: int,
    stop: int | None = None,
    rate: int | Fraction = 25,
) -> bytes:
    """``source`` stream-copied from its ``keyframe``-th keyframe on,
    to be presented from tick ``start`` to ``stop``.

    What comes before ``start`` is kept for others to refer to; only an edit list can hide it. What
    is presented at ``stop`` or later is left out: no frame before it may refer to it.
    """
    file = io.BytesIO()
    with av.open(io.BytesIO(source)) as opened, av.open(file, "w", format=container) as output:
        stream = opened.streams.video[0]
        copy = output.add_stream_from_template(stream)
        ticks = round(start / rate / stream.time_base)
        end = math.inf if stop is None else round(stop / rate / stream.time_base)
        seen = -1
        for packet in opened.demux(stream):
            seen += packet.size > 0 and packet.is_keyframe
            if seen >= keyframe and packet.size and packet.pts < end:
                packet.pts, packet.dts = packet.pts - ticks, packet.dts - ticks
                packet.stream = copy
                output.mux(packet)
    return file.getvalue()
