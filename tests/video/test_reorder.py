"""H.264 streams that do not say how many frames they reorder,
in containers that do not either: no frame is lost.
"""

from __future__ import annotations

import io
import itertools

import av
import numpy as np
import pytest

from mmdata import video
from mmdata._tools.limits import Limits
from mmdata.video.reader import reading
from tests.video.test_exact import COUNT, fully_decoded, moving

KIND = "h264 open gop, pyramid"
CONTAINERS = {"matroska": {}, "mp4": {"movflags": "frag_keyframe+empty_moov"}, "mpegts": {}}


def _golomb(bits: str, start: int) -> int:
    """The place after an Exp-Golomb code."""
    one = bits.index("1", start)
    return 2 * one - start + 1


def _without_vui(parameters: bytes) -> bytes:
    """A sequence parameter set of a frames-only High profile without its VUI,
    which tells how many are reordered.

    ITU-T H.264, 7.3.2.1.1.
    """
    bits = "".join(f"{byte:08b}" for byte in parameters.replace(b"\0\0\3", b"\0\0"))
    place = 32  # NAL header, profile, constraints, level
    for _ in range(4):  # identity, chroma format, bit depths
        place = _golomb(bits, place)
    place += 2  # lossless, scaling matrix
    for _ in range(4):  # frame number width, order count type 0 and width, references
        place = _golomb(bits, place)
    place = _golomb(bits, _golomb(bits, place + 1))  # gaps; width, height
    assert bits[place] == "1", "frames only"
    cropped = bits[place + 2] == "1"
    place += 3
    for _ in range(4 * cropped):
        place = _golomb(bits, place)
    kept = bits[:place] + "01"  # no VUI, stop bit
    return int(kept.ljust(-(-len(kept) // 8) * 8, "0"), 2).to_bytes(-(-len(kept) // 8), "big")


def silent(container: str) -> bytes:
    """The moving clip, its parameter set shortened."""
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(moving(KIND))) as source,
        av.open(file, "w", format=container, options=CONTAINERS[container]) as output,
    ):
        stream = source.streams.video[0]
        header = stream.codec_context.extradata or b""
        end = 8 + int.from_bytes(header[6:8], "big")
        shortened = _without_vui(header[8:end])
        copy = output.add_stream_from_template(stream)
        copy.codec_context.extradata = (
            header[:6] + len(shortened).to_bytes(2, "big") + shortened + header[end:]
        )
        for packet in itertools.takewhile(lambda packet: packet.size, source.demux(stream)):
            packet.stream = copy
            output.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_frame_comes_out_of_a_stream_that_does_not_say_how_many_it_reorders(
    container: str,
) -> None:
    frames = video.sample(silent(container), "every:1")

    assert len(frames) == COUNT
    np.testing.assert_array_equal(frames.pixels, fully_decoded(KIND))


def test_a_quick_opening_alone_would_lose_a_frame() -> None:
    """If FFmpeg learns to do without being told, telling it can go."""
    with reading(silent("matroska"), None, Limits()) as reader:
        reader._context.options |= {"has_b_frames": "0"}
        numbers = [number for number, _ in reader.frames(range(COUNT))]

    assert len(numbers) < COUNT
